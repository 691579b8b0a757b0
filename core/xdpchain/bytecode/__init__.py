# SPDX-License-Identifier: Apache-2.0
"""Read, move and write BPF instructions. Pure."""
