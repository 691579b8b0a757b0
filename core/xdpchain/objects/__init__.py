# SPDX-License-Identifier: Apache-2.0
"""Read object files without the kernel. Pure."""
