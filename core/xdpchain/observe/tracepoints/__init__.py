# SPDX-License-Identifier: Apache-2.0
"""What becomes of packets after their program has spoken: exceptions, failed redirects, and what was sent or
lost by the devices and CPUs that packets were redirected to.

The kernel tells it by its ``xdp`` tracepoints (include/trace/events/xdp.h), on which programs of ours
listen while somebody looks (`listen`). `happenings` are the values, `reasons` the kernel's error codes in
words, `names` who it was that they speak of.
"""

from __future__ import annotations

from .concerns import maps_used
from .happenings import Event, LossPlace, Row, Sample, Tracepoint, TracepointTally
from .listener import Listener, Scope, listen
from .names import Names
from .reasons import Reason, reason
from .transmit import Transmitted

__all__ = [
    "Event",
    "Listener",
    "LossPlace",
    "Names",
    "Reason",
    "Row",
    "Sample",
    "Scope",
    "Tracepoint",
    "TracepointTally",
    "Transmitted",
    "listen",
    "maps_used",
    "reason",
]
