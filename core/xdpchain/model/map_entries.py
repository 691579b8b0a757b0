# SPDX-License-Identifier: Apache-2.0
"""Map entries that a slot shall have before it runs: what is meant, as text by the map's types. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby

__all__ = ["MapEntry", "by_map", "entries_text"]

NAMED = 3
"""Entries of a map that a plan names; of more it says the number."""


@dataclass(frozen=True, slots=True)
class MapEntry:
    """``key`` and ``value`` are as `maps.text` reads them; ``old`` is the value that runs (None: there is
    none, or nobody looked).
    """

    map: str
    key: str
    value: str
    old: str | None = field(default=None, compare=False)

    def __str__(self) -> str:
        before = "" if self.old is None else f"{self.old} → "
        return f"{self.key} = {before}{self.value}"


def by_map(entries: Iterable[MapEntry]) -> dict[str, tuple[MapEntry, ...]]:
    """The entries of each map, in the order in which they are."""
    found: dict[str, tuple[MapEntry, ...]] = {}
    for name, some in groupby(entries, key=lambda entry: entry.map):
        found[name] = (*found.get(name, ()), *some)
    return found


def entries_text(entries: tuple[MapEntry, ...]) -> str:
    """``2 entries set: 10.0.0.1 = 1, 10.0.0.2 = 0 → 1``."""
    count = len(entries)
    more = f" and {count - NAMED} more" if count > NAMED else ""
    named = ", ".join(map(str, entries[:NAMED]))
    return f"{count} entr{'y' if count == 1 else 'ies'} set: {named}{more}"
