# SPDX-License-Identifier: Apache-2.0
"""Which verdict site decided, told at a program's exit from the deciding edges that were passed. Pure.

For each return code the last edge counts that decides for it: one that is passed later, by those whose code
was decided before, is for another code and changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdpchain.model.actions import Action

from .deciding import Code
from .sites import VerdictSite
from .unfolding import Exit, Marks

__all__ = ["NOWHERE", "ExitSites", "exit_sites"]

_NOT_CONSTANT = 1 << 32
"""The subject of sites whose code is none that is known."""


@dataclass(frozen=True, slots=True)
class ExitSites:
    """``marks``: edges to be remembered by `unfolding`. ``others``: by subject, the sites that no edge
    decides. ``silent``: codes whose edges are not remembered.
    """

    marks: Marks
    others: dict[int, tuple[int, ...]]
    silent: frozenset[int] = frozenset()

    def site(self, end: Exit, code: int | None) -> int | None:
        """The index of the site that decided ``code`` at this exit (None: some code that is not told); None:
        not known.
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
"""Nothing is known."""


def exit_sites(sites: Sequence[VerdictSite]) -> tuple[ExitSites, ...]:
    """What to try, in this order: all sites; all but those of XDP_PASS, of which programs have most, and
    which are asked for least.
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
