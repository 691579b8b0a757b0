# SPDX-License-Identifier: Apache-2.0
"""BPF instructions: reading, moving and writing them. Pure."""
