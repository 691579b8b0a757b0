# SPDX-License-Identifier: Apache-2.0
"""A recording in place of the kernel: what the screens ask, answered from a file."""

from __future__ import annotations

from xdptui.workers.replay.feed import Replay

__all__ = ["Replay"]
