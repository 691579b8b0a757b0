# SPDX-License-Identifier: Apache-2.0
"""The changes of a plan, for reading. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby

from xdpchain.change.differences import Change, ChangeKind

__all__ = ["grouped"]

PLACED = re.compile(r"slot (\d+), (.*)", re.DOTALL)
"""How `plan.changes_between` describes an added or removed slot."""


def grouped(changes: Iterable[Change]) -> tuple[Change, ...]:
    """The changes, with adjacent slots added or removed merged into one if they differ only in position."""
    found: list[Change] = []
    for _, run in groupby(changes, key=_kin):
        same = list(run)
        places = [PLACED.fullmatch(change.text) for change in same]
        first, last = places[0], places[-1]
        if len(same) == 1 or first is None or last is None:
            found += same
            continue
        text = f"slots {first[1]} to {last[1]}, {first[2]}"
        found.append(replace(same[0], name=f"{len(same)} × {same[0].name}", text=text, key=""))
    return tuple(found)


def _kin(change: Change) -> tuple[object, ...]:
    placed = PLACED.fullmatch(change.text)
    if placed is None or change.kind not in (ChangeKind.ADD, ChangeKind.REMOVE):
        return (change.key, change.kind, change.text)
    return (change.kind, change.name, placed[2])
