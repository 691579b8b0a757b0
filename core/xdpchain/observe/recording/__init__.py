# SPDX-License-Identifier: Apache-2.0
"""Recordings: what ran and what it counted, in a bounded file of JSON lines, to be looked at anywhere.

`lines` and `states` are pure; `writer` and `reader` touch a file and nothing else, so that a recording can be
read where there is no BPF at all.
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
