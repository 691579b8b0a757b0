# SPDX-License-Identifier: Apache-2.0
"""Packets for trials: built ones, those of a capture or a hex dump, and those of one's own ssh connection.

Pure, but for `sources`, which reads files and asks the kernel for an interface's addresses.
"""
