# SPDX-License-Identifier: Apache-2.0
"""A recording instead of the kernel: answers the screens from a file."""

from __future__ import annotations

from xdptui.workers.replay.feed import Replay

__all__ = ["Replay"]
