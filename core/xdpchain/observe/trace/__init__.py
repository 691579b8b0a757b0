# SPDX-License-Identifier: Apache-2.0
"""Counters for programs without their own: freplace chains of any tool, and single foreign programs.

`trace` counts while a reader is open, `trace_on` until `trace_off`, `RedirectTracer` what is in devmaps and
cpumaps. `fexit` attaches the counting programs,
`targets` selects what to count, `cost` measures the overhead.
"""

from __future__ import annotations

from .cost import CountingCost, counting_cost
from .pins import is_traced, retrace, sweep_traces, trace_off, trace_on
from .redirected import RedirectTracer
from .targets import VERDICT, targets
from .tracer import Tracer, trace

__all__ = [
    "VERDICT",
    "CountingCost",
    "RedirectTracer",
    "Tracer",
    "counting_cost",
    "is_traced",
    "retrace",
    "sweep_traces",
    "targets",
    "trace",
    "trace_off",
    "trace_on",
]
