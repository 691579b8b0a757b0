# SPDX-License-Identifier: Apache-2.0
"""The engine of xdptui: chains of XDP programs on one network interface."""
