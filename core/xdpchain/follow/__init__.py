# SPDX-License-Identifier: Apache-2.0
"""Follow packets through a running chain: what each slot returned and changed, and how long it took."""

from __future__ import annotations

from .followed import ByteChange, Followed, Step, View
from .follower import DEFAULT_RATE, MOST_RATE, SIFTED_RATE, Follower, compile_filter, follow
from .inside import take_back_left_over
from .tapping import FollowTally

__all__ = [
    "DEFAULT_RATE",
    "MOST_RATE",
    "SIFTED_RATE",
    "ByteChange",
    "FollowTally",
    "Followed",
    "Follower",
    "Step",
    "View",
    "compile_filter",
    "follow",
    "take_back_left_over",
]
