# SPDX-License-Identifier: Apache-2.0
"""Recordings: what ran and its counters, in a JSON lines file of limited size, readable on any machine.

`lines` and `states` are pure; `writer` and `reader` only access a file, so recordings can be read without
BPF.
"""

from __future__ import annotations

from .lines import FORMAT, Counted, Happened, Header, RecordedReading
from .reader import Recording
from .writer import DEFAULT_SIZE, LEAST_SIZE, Writer

__all__ = [
    "DEFAULT_SIZE",
    "FORMAT",
    "LEAST_SIZE",
    "Counted",
    "Happened",
    "Header",
    "RecordedReading",
    "Recording",
    "Writer",
]
