# SPDX-License-Identifier: Apache-2.0
"""Count what programs in devmaps and cpumaps return, while somebody looks.

The kernel calls such a program like one on a hook, so an fexit program sees its return code. It counts every
packet that reaches the program: from any interface, for any element of a map that names it. (Which interface
a packet came from is not known there before kernel 6.12, ca9984c5f0ab.) A program that is tail-called is
entered past the place where tracing attaches, and can't be counted.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable

from xdpchain.closing import Closing
from xdpchain.errors import XdpChainError
from xdpchain.frozen import frozen
from xdpchain.linkage.counting import make_counters
from xdpchain.model.counts import Sample
from xdpchain.observe.behind import Behind
from xdpchain.observe.counter_rows import CounterRows
from xdpchain.sys import bpf

from .fexit import count_targets
from .targets import Place

__all__ = ["RedirectTracer"]

MOST_PROGRAMS = 32
"""Most programs that are counted at once: each is traced by a program of its own."""

ROW = 1
ANYWHERE = Place(0, 0)


@frozen
class _Counted:
    link: bpf.Fd
    rows: CounterRows

    def close(self) -> None:
        self.link.close()
        self.rows.close()


class RedirectTracer(Closing):
    """Counts the programs given to `follow`, until it is closed. Nothing is pinned: the kernel detaches all
    of it with this process.
    """

    def __init__(self) -> None:
        self._counted: dict[int, _Counted] = {}
        self._refused: dict[int, str] = {}

    def follow(self, found: Iterable[Behind]) -> None:
        """Count these from now on, or go on counting them, and let go of all others. Takes some milliseconds
        for each new one. Refusals are kept for `why`, not raised.
        """
        wanted = dict.fromkeys(behind.prog_id for behind in found if behind.traceable)
        for prog_id in self._counted.keys() - wanted:
            self._counted.pop(prog_id).close()
        self._refused = {prog_id: why for prog_id, why in self._refused.items() if prog_id in wanted}
        for prog_id in wanted:
            if prog_id in self._counted or prog_id in self._refused or len(self._counted) == MOST_PROGRAMS:
                continue
            try:
                self._counted[prog_id] = _count(prog_id)
            except XdpChainError as error:
                self._refused[prog_id] = error.why or error.what

    def why(self, behind: Behind) -> str:
        """Why a program has no counts."""
        if not behind.traceable:
            return behind.uncounted
        return self._refused.get(behind.prog_id, f"{MOST_PROGRAMS} programs are counted at most")

    def read(self) -> Sample:
        """What each counted program has returned since it is counted, under its ID as key."""
        counts = {str(prog_id): counted.rows.counts(ROW) for prog_id, counted in self._counted.items()}
        return Sample(time.monotonic(), counts, None)

    def close(self) -> None:
        while self._counted:
            self._counted.popitem()[1].close()


def _count(prog_id: int) -> _Counted:
    with make_counters() as counters, contextlib.ExitStack() as undo:
        rows = CounterRows(counters)
        undo.callback(rows.close)
        (link,) = count_targets({prog_id: ROW}, counters, ANYWHERE).values()
        undo.pop_all()
        return _Counted(link, rows)
