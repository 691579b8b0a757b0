# SPDX-License-Identifier: Apache-2.0
"""Which verdict site decided, as known at a program's exit from the deciding edges that were passed. Pure.

For each return code, the last edge that decides it counts. Edges passed later by paths whose code was already
decided are for other codes and change nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdpchain.frozen import frozen
from xdpchain.model.actions import Action

from .code_values import Code
from .sites import VerdictSite
from .unfolding import Exit, Marks

__all__ = ["NOWHERE", "ExitSites", "exit_sites"]

_NOT_CONSTANT = 1 << 32
"""The subject of sites whose code is not a known constant."""


@frozen
class ExitSites:
    """``marks``: edges that `unfolding` must remember. ``others``: by subject, the sites that no edge
    decides. ``silent``: codes whose edges are not remembered.
    """

    marks: Marks
    others: dict[int, tuple[int, ...]]
    silent: frozenset[int] = frozenset()

    def site(self, end: Exit, code: int | None) -> int | None:
        """The index of the site that decided ``code`` (None: any code not listed) at this exit; None if
        unknown.
        """
        if code is None or code in self.silent:
            return None
        passed = dict(end.marks)
        exact, vague = passed.get(code), passed.get(_NOT_CONSTANT)
        if exact is not None or vague is not None:
            return exact if vague is None else vague if exact is None else None
        able = self.others.get(code) or self.others.get(_NOT_CONSTANT, ())
        return able[0] if len(able) == 1 else None


NOWHERE = ExitSites({}, {})
"""No sites are known."""


def exit_sites(sites: Sequence[VerdictSite]) -> tuple[ExitSites, ...]:
    """What to try, in this order: all sites; then all except those of XDP_PASS, which are the most numerous
    and the least wanted.
    """
    return _of(sites, frozenset()), _of(sites, frozenset((int(Action.PASS),)))


def _of(sites: Sequence[VerdictSite], silent: frozenset[int]) -> ExitSites:
    marks: dict[tuple[int, int], list[tuple[int, int]]] = {}
    others: dict[int, tuple[int, ...]] = {}
    for index, site in enumerate(sites):
        subject = _subject(site.code)
        if subject in silent:
            continue
        for edge in site.edges:
            marks.setdefault(edge, []).append((subject, index))
        if not site.edges:
            others[subject] = (*others.get(subject, ()), index)
    return ExitSites(marks, others, silent)


def _subject(code: Code) -> int:
    return code if isinstance(code, int) else _NOT_CONSTANT
