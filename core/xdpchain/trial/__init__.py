# SPDX-License-Identifier: Apache-2.0
"""Run packets through chains that are not attached."""
