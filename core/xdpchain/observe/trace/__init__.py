# SPDX-License-Identifier: Apache-2.0
"""Counters where the chain has none of its own: freplace chains, whoever built them, and single programs of
somebody else.

`trace` counts for as long as somebody looks, `trace_on` until `trace_off`. `fexit` attaches the programs
that count, `targets` says to what, `cost` measures what that costs.
"""

from __future__ import annotations

from .cost import CountingCost, counting_cost
from .pins import is_traced, retrace, sweep_traces, trace_off, trace_on
from .targets import VERDICT, targets
from .tracer import Tracer, trace

__all__ = [
    "VERDICT",
    "CountingCost",
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
