# SPDX-License-Identifier: Apache-2.0
"""What an object file says, without the kernel. Pure."""
