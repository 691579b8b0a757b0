# SPDX-License-Identifier: Apache-2.0
"""What the programs behind those of an interface return, for repeated readings."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from xdpchain.closing import Closing
from xdpchain.frozen import frozen
from xdpchain.model.counts import Sample
from xdpchain.model.running import Identity, Running
from xdpchain.observe.behind import Behind, maps_of_programs, programs_in
from xdptui.words.rates import Rates, between

if TYPE_CHECKING:
    from xdpchain.observe.trace import RedirectTracer

__all__ = ["BehindMeter", "BehindReading"]


@frozen
class BehindReading:
    """A program in a map, and what it returned since counting began: in total, and per second (None in a
    first reading). ``why`` it is not counted, with ``totals`` None.
    """

    behind: Behind
    totals: Rates | None = None
    rates: Rates | None = None
    why: str = ""


class BehindMeter(Closing):
    """Keeps the programs behind each interface counted, from its first reading until it is left or closed."""

    def __init__(self) -> None:
        self._maps: dict[int, tuple[Identity, tuple[int, ...]]] = {}
        self._tracers: dict[int, RedirectTracer] = {}
        self._last: dict[int, Sample] = {}

    def read(self, running: Running) -> tuple[BehindReading, ...]:
        """The programs there now, in the order of their maps."""
        ifindex = running.interface.ifindex
        found = programs_in(self._maps_of(running))
        if ifindex not in self._tracers:
            if not found:
                return ()
            from xdpchain.observe.trace import RedirectTracer

            self._tracers[ifindex] = RedirectTracer()
        tracer = self._tracers[ifindex]
        tracer.follow(found)
        sample = tracer.read()
        reading = between(self._last.get(ifindex), sample)
        self._last[ifindex] = sample
        return tuple(
            BehindReading(
                behind,
                totals := reading.totals.get(str(behind.prog_id)),
                reading.rates.get(str(behind.prog_id)),
                "" if totals else tracer.why(behind),
            )
            for behind in found
        )

    def leave_all_but(self, runnings: Iterable[Running]) -> None:
        """Stop counting behind other interfaces."""
        here = {running.interface.ifindex for running in runnings}
        for gone in self._maps.keys() - here:
            del self._maps[gone]
            self._last.pop(gone, None)
            if (tracer := self._tracers.pop(gone, None)) is not None:
                tracer.close()

    def _maps_of(self, running: Running) -> tuple[int, ...]:
        """Looked up once per chain: most have none."""
        known = self._maps.get(running.interface.ifindex)
        if known is None or known[0] != running.identity:
            known = running.identity, maps_of_programs(running)
            self._maps[running.interface.ifindex] = known
        return known[1]

    def close(self) -> None:
        with contextlib.ExitStack() as all_of_them:
            for tracer in self._tracers.values():
                all_of_them.callback(tracer.close)
        self._tracers.clear()
