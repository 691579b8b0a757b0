# SPDX-License-Identifier: Apache-2.0
"""Screens and dialogs of the terminal program."""
