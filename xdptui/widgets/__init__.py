# SPDX-License-Identifier: Apache-2.0
"""Widgets of the terminal program: they draw what they are given and post what the user did."""
