# SPDX-License-Identifier: Apache-2.0
"""How long a chain takes: the whole of it on the packets that come in (`run_time`), and each slot on test
packets over copies of its maps (`slot_times`). Nothing is added to the chain for either.
"""

from __future__ import annotations

from .run_time import LookingCost, RunTime, RunTimes, hold_statistics, runs_of
from .slot_times import FrameTime, SlotTimes, slot_times

__all__ = [
    "FrameTime",
    "LookingCost",
    "RunTime",
    "RunTimes",
    "SlotTimes",
    "hold_statistics",
    "runs_of",
    "slot_times",
]
