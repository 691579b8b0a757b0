# SPDX-License-Identifier: Apache-2.0
"""Plan a change, apply it, and undo it."""
