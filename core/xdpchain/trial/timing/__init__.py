# SPDX-License-Identifier: Apache-2.0
"""Measure how long a chain takes: as a whole on incoming packets (`run_time`), and by slot on test packets
with copies of its maps (`slot_times`). Neither adds anything to the running chain.
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
