# SPDX-License-Identifier: Apache-2.0
"""What happens to packets after their program returned: exceptions, failed redirects, and what was sent or
lost by the devices and CPUs that packets were redirected to.

The kernel reports it through its ``xdp`` tracepoints (include/trace/events/xdp.h), to which our programs are
attached while a listener is open (`listen`). `happenings` are the values, `reasons` explain the kernel's
error codes, `names` resolve IDs.
"""

from __future__ import annotations

from .concerns import cpumaps_used
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
    "cpumaps_used",
    "listen",
    "reason",
]
