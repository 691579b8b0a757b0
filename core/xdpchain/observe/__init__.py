# SPDX-License-Identifier: Apache-2.0
"""Observe what runs on an interface and what it does."""
