# SPDX-License-Identifier: Apache-2.0
"""Packets for trials: built-in ones, from a capture or hex dump, and those of the operator's ssh connection.

Pure, except `sources` and `own`, which read files and ask the kernel about addresses and connections.
"""
