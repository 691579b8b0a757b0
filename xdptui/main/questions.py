# SPDX-License-Identifier: Apache-2.0
"""What to ask before a plan is applied. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from xdpchain.change.differences import ChangeKind
from xdpchain.change.plan import Plan

if TYPE_CHECKING:
    from xdpchain.trial.ssh_guard import Judgement

__all__ = ["questions"]

CUT = "cut it"
"""What must be typed to cut our own connection without a rollback."""


def questions(
    plan: Plan, *, own: bool = False, confirm: float | None = None, judged: Judgement | None = None
) -> tuple[tuple[str, ...], str, str]:
    """What to ask before a plan is applied: the text, the label of the yes button, and what must be typed.

    ``own``: the interface carries the operator's own connection; ``judged`` is the result of trying it. The
    text is empty if nothing can be lost.
    """
    text, yes, demand = _removals(plan)
    if not own:
        return text, yes, demand
    where = plan.running.interface.name
    cut: tuple[str, ...] = ()
    if judged is not None and judged.lost:
        if confirm is None:
            lines = (
                f"This would cut your own ssh connection through {where}.",
                f"Of its packets, tried on the candidate: {judged.text}.",
                "You could not undo that from here. Press w to make it roll back unless confirmed.",
            )
            return (*lines, *text), "Cut it", CUT
        cut = (f"It would cut it: {judged.text}.",)
    elif judged is not None and judged.unchecked:
        cut = (f"Could not check whether this cuts it: {judged.unchecked}.",)
        if confirm is None:
            last = (
                "If it does, you could not undo it from here. Press w to make it roll back unless confirmed."
            )
            return (f"Your own connection may arrive through {where}.", *cut, last, *text), "Apply", CUT
    back = "If this cuts it, you could not undo it from here. Press w to make it roll back unless confirmed."
    if confirm is not None:
        back = f"Unless you confirm it (C) within {confirm:.0f} s, it rolls back by itself."
    return (f"Your own connection arrives through {where}.", *cut, back, *text), yes or "Apply", where


def _removals(plan: Plan) -> tuple[tuple[str, ...], str, str]:
    gone = [change.name for change in plan.changes if change.kind is ChangeKind.REMOVE]
    where = plan.running.interface.name
    if not gone:
        return (), "", ""
    names = ", ".join(f"{count} × {name}" if count > 1 else name for name, count in Counter(gone).items())
    if not plan.candidate.slots:
        text = (
            f"{where} will no longer run any XDP program.",
            f"Removed: {names}. {_maps(plan, gone)}.",
        )
        return text, "Remove all", where
    text = (
        f"{len(gone)} program{'s' * (len(gone) != 1)} will be removed from {where}.",
        f"Removed: {names}. {_maps(plan, gone)}; the rest keeps running.",
    )
    return text, "Apply", ""


def _maps(plan: Plan, gone: list[str]) -> str:
    whose = "Its" if len(gone) == 1 else "Their"
    if plan.keep_maps:
        return f"{whose} maps and their contents are kept for at most a week"
    return f"{whose} maps and their contents are removed too"
