# SPDX-License-Identifier: Apache-2.0
"""Packets through chains that are attached to nothing."""
