# SPDX-License-Identifier: Apache-2.0
"""Map entries to set before a slot runs, as text in the map's types. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field
from itertools import groupby

from xdpchain.frozen import frozen

__all__ = ["MapEntry", "by_map", "entries_text"]

NAMED = 3
"""Most entries of a map that a plan lists; of the rest it gives the number."""


@frozen
class MapEntry:
    """``key`` and ``value`` are text for `maps.text`; ``old`` is the running value (None: absent, or not
    read).
    """

    map: str
    key: str
    value: str
    old: str | None = field(default=None, compare=False)

    def __str__(self) -> str:
        before = "" if self.old is None else f"{self.old} → "
        return f"{self.key} = {before}{self.value}"


def by_map(entries: Iterable[MapEntry]) -> dict[str, tuple[MapEntry, ...]]:
    """The entries by map, in their order."""
    grouped: dict[str, tuple[MapEntry, ...]] = {}
    for name, some in groupby(entries, key=lambda entry: entry.map):
        grouped[name] = (*grouped.get(name, ()), *some)
    return grouped


def entries_text(entries: tuple[MapEntry, ...]) -> str:
    """``2 entries set: 10.0.0.1 = 1, 10.0.0.2 = 0 → 1``."""
    count = len(entries)
    more = f" and {count - NAMED} more" if count > NAMED else ""
    named = ", ".join(map(str, entries[:NAMED]))
    return f"{count} entr{'y' if count == 1 else 'ies'} set: {named}{more}"
