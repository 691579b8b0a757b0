# SPDX-License-Identifier: Apache-2.0
"""Counters of freplace chains and single foreign programs, attached while a reader is open.

A tracer uses fexit programs (see `trace.fexit`) on each component and on the dispatcher's main function.
Their links belong to this process, so the kernel removes them however it ends. A component that another tool
re-attaches in a rebuilt chain continues to be counted; new components and the new dispatcher's verdict are
counted after `Tracer.follow`.

What pinned counters (`trace.pins`) cover is read from there, not counted twice.

The kernel keeps traced programs and their maps alive until the next `Tracer.follow`, even after they left the
chain.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping
from dataclasses import replace

from xdpchain.closing import Closing
from xdpchain.errors import Unsupported
from xdpchain.frozen import frozen
from xdpchain.linkage.counting import ROWS, clear_rows, make_counters
from xdpchain.model.counts import Sample, SlotCounts
from xdpchain.model.running import Running
from xdpchain.observe.counter_rows import CounterRows
from xdpchain.sys import bpf

from .fexit import count_targets
from .pins import Pinned, open_pinned
from .targets import VERDICT, Place, Target, place_of, targets

__all__ = ["Tracer", "trace"]


_NOTHING = SlotCounts()


@frozen
class _Source:
    """A row in which a program is counted, and an offset to add: earlier counts from elsewhere, less what the
    row already had.
    """

    rows: CounterRows
    row: int
    offset: SlotCounts = _NOTHING


@frozen
class _View:
    """What a reading uses; replaced as a whole, so that readers in other threads need no lock."""

    slots: Mapping[str, _Source]
    verdict: _Source | None

    def read(self) -> Sample:
        sources = dict(self.slots)
        if self.verdict is not None:
            sources[VERDICT] = self.verdict
        counts: dict[str, SlotCounts] = {}
        for rows in {source.rows for source in sources.values()}:
            there = {key: source for key, source in sources.items() if source.rows is rows}
            found = rows.read(tuple(source.row for source in there.values()))
            counts |= {
                key: counts_there.plus(there[key].offset)
                for key, counts_there in zip(there, found, strict=True)
            }
        return Sample(time.monotonic(), {key: counts[key] for key in self.slots}, counts.get(VERDICT))


@frozen
class _Traced:
    """A counted program: its row, its link, and the row's initial counts (None: it was already counted)."""

    source: _Source
    link: bpf.Fd
    start: SlotCounts | None = None

    def following(self, before: _Source, counted: SlotCounts) -> _Source:
        """This program's row, continuing from ``before`` at ``counted``."""
        if (before.rows, before.row) == (self.source.rows, self.source.row):
            return before
        start = self.source.rows.counts(self.source.row) if self.start is None else self.start
        return replace(self.source, offset=counted.since(start))


class _Tracing:
    """This process's tracing of an interface, shared by all its tracers."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.users = 0
        self.lock = threading.Lock()
        self.view = _View({}, None)
        self._counters: bpf.Fd | None = None
        self._rows: CounterRows | None = None
        self._free = list(range(1, ROWS))
        self._pinned: CounterRows | None = None
        self._pinned_id = 0
        self._traced: dict[int, _Traced] = {}
        self._retired: list[CounterRows] = []

    def follow(self, wanted: tuple[Target, ...], pinned: Pinned | None) -> None:
        """Trace what is wanted, continue existing counts, release the rest. Nothing changes if it raises."""
        before, counted = self.view, self.view.read()
        new = self._adopt({target.prog_id for target in wanted}, pinned)
        new |= self._attach({t.prog_id: t.key for t in wanted if t.prog_id not in {**self._traced, **new}})
        traced = {**self._traced, **new}
        slots = {}
        for key, found in ((t.key, traced[t.prog_id]) for t in wanted if t.key != VERDICT):
            slots[key] = found.source
            if key in before.slots:
                slots[key] = found.following(before.slots[key], counted.slots[key])
        # No program for the verdict: the only component replaced the dispatcher's main function.
        main = next((traced.get(t.prog_id) for t in wanted if t.key == VERDICT), None)
        if main is None and len(slots) == 1:
            main = traced[wanted[0].prog_id]
        elif main is None and wanted:
            raise Unsupported(
                "this chain can't be counted",
                "its only component is not known",
                "Its pins may be gone: reload it",
            )
        verdict = main.source if main is not None else None
        if main is not None and before.verdict is not None and counted.verdict is not None:
            verdict = main.following(before.verdict, counted.verdict)
        elif main is not None and self._pinned is not None and main.source.rows is not self._pinned:
            verdict = main.following(_Source(self._pinned, 0), self._pinned.counts(0))
        self.view = _View(slots, verdict)
        self._release(traced, {target.prog_id for target in wanted})

    def _adopt(self, wanted: set[int], pinned: Pinned | None) -> dict[int, _Traced]:
        """What the pinned counters cover. Their links are held in case they are unpinned meanwhile."""
        if pinned is None:
            return {}
        if self._pinned is None or self._pinned_id != pinned.map_id:
            if self._pinned is not None:
                self._retired.append(self._pinned)  # a reading may be under way there
            self._pinned, self._pinned_id = CounterRows(pinned.counters), pinned.map_id
        adopted = {}
        for prog_id in wanted & pinned.links.keys():
            held = self._traced.get(prog_id)
            if held is None or held.source.rows is not self._pinned:
                row, link = pinned.links[prog_id]
                adopted[prog_id] = _Traced(_Source(self._pinned, row), link.duplicate())
        return adopted

    def _attach(self, missing: Mapping[int, str]) -> dict[int, _Traced]:
        if not missing:
            return {}
        if self._counters is None or self._rows is None:
            self._counters = make_counters()
            self._rows = CounterRows(self._counters)
        free = iter(self._free)
        rows = {prog_id: 0 if key == VERDICT else next(free) for prog_id, key in missing.items()}
        clear_rows(self._counters, [row for row in rows.values() if row])
        starts = {prog_id: self._rows.counts(row) for prog_id, row in rows.items()}
        links = count_targets(rows, self._counters, self.place)
        self._free = [row for row in self._free if row not in rows.values()]
        return {n: _Traced(_Source(self._rows, rows[n]), link, starts[n]) for n, link in links.items()}

    def _release(self, traced: Mapping[int, _Traced], wanted: set[int]) -> None:
        for prog_id, held in list(self._traced.items()):
            if traced[prog_id] is not held or prog_id not in wanted:
                held.link.close()
                if held.source.rows is self._rows and held.source.row:
                    self._free.append(held.source.row)  # the row that has been free longest is reused first
        self._traced = {n: replace(held, start=None) for n, held in traced.items() if n in wanted}

    def read_cpus(self) -> tuple[SlotCounts, ...]:
        return ()  # its rows are summed over CPUs

    def close(self) -> None:
        self._release(self._traced, set())
        for rows in (self._rows, self._pinned, *self._retired):
            if rows is not None:
                rows.close()
        if self._counters is not None:
            self._counters.close()


_open: dict[tuple[int, int], _Tracing] = {}
_open_lock = threading.Lock()


class Tracer(Closing):
    """Counts an interface's programs until it is closed (see `xdpchain.observe.counters.CounterReader`).

    All tracers of an interface in this process share the fexit programs, and the last one removes them: two
    cost no more than one, and a tracer opened before its predecessor is closed continues its counts.
    """

    def __init__(self, running: Running) -> None:
        """Use `trace` instead."""
        place = place_of(running)
        key = (running.interface.ifindex, place.netns)
        with _open_lock:
            self._key = key
            self._tracing: _Tracing | None = _open.setdefault(key, _Tracing(place))
            self._tracing.users += 1
        try:
            self.follow(running)
        except BaseException:
            self.close()
            raise

    def read(self) -> Sample:
        """All counters, summed over CPUs, by the slot keys of the last followed chain."""
        return self._shared().view.read()

    def follow(self, running: Running) -> None:
        """Switch to what runs now. Components that stayed keep their counts and miss no packet.

        Raises NotFound if one of the programs is gone by now (look again), and what `trace` raises; tracing
        then continues as before.
        """
        tracing = self._shared()
        with tracing.lock, contextlib.ExitStack() as held:
            pinned = open_pinned(running.interface.ifindex, tracing.place.netns)
            if pinned is not None:
                held.callback(pinned.close)
            tracing.follow(targets(running), pinned)

    def _shared(self) -> _Tracing:
        if self._tracing is None:
            raise ValueError("the tracer is closed")
        return self._tracing

    def read_cpus(self) -> tuple[SlotCounts, ...]:
        return ()  # its rows are summed over CPUs

    def close(self) -> None:
        with _open_lock:
            tracing, self._tracing = self._tracing, None
            if tracing is None:
                return
            tracing.users -= 1
            if tracing.users:
                return
            del _open[self._key]
        with tracing.lock:
            tracing.close()


def trace(running: Running) -> Tracer:
    """Count what runs on an interface from now on, or continue from an open tracer of this process.

    Takes milliseconds; `counting_cost` measures the cost per packet until the tracer is closed. Raises
    NotFound (the chain changed: look again), PermissionDenied, Unsupported and KernelRefused, each with the
    kernel's reason.
    """
    return Tracer(running)
