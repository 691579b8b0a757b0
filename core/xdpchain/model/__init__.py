# SPDX-License-Identifier: Apache-2.0
"""Chains and their parts as frozen values. Pure."""
