# SPDX-License-Identifier: Apache-2.0
"""Numbers from chosen maps (`xdptui export --map SLOT:NAME`), up to a limit per map."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from xdpchain.closing import Closing
from xdpchain.errors import InvalidInput, NotFound
from xdpchain.frozen import frozen
from xdpchain.maps import MapTable, Plain, map_refs, open_map
from xdpchain.model.component import MapRef
from xdpchain.model.running import Running
from xdpchain.model.slot import Slot
from xdptui.export.metrics import MAP_COMPLETE, MAP_METRICS, MAP_VALUE, Row, slot_labels

__all__ = ["MOST_NUMBERS", "ChosenMap", "MapValues", "numbers"]

MOST_NUMBERS: Final = 256
"""Maximum series per map."""


@frozen
class ChosenMap:
    """A slot, by number or name, and the name of one of its maps."""

    slot: str
    name: str

    @classmethod
    def parse(cls, text: str) -> ChosenMap:
        """Parse ``SLOT:NAME``. Raises InvalidInput."""
        slot, _, name = text.partition(":")
        if not (slot and name):
            todo = "Write SLOT:NAME, such as xdp_firewall:blocked; `xdptui maps IF` lists them"
            raise InvalidInput(f"{text!r} names no map", "expected a slot and a map", todo)
        return cls(slot, name)

    def __str__(self) -> str:
        return f"{self.slot}:{self.name}"

    def found(self, running: Running) -> Iterator[tuple[int, Slot, MapRef]]:
        """The matching slots of an interface, with their positions and maps."""
        for index, slot in enumerate(running.chain or running.shown or ()):
            if self.slot in (str(index), slot.name):
                for ref in map_refs(running, index):
                    if ref.name == self.name:
                        yield index, slot, ref


class MapValues(Closing):
    """Keeps the maps open between scrapes while their slots run."""

    metrics = MAP_METRICS

    def __init__(self, chosen: Sequence[ChosenMap]) -> None:
        self._chosen = chosen
        self._open: dict[tuple[int, str, int], MapTable] = {}

    def read(self, runnings: Sequence[Running]) -> Iterator[Row]:
        """Their current contents; skips maps that can't be browsed. Raises PermissionDenied."""
        wanted = {
            (running.interface.ifindex, slot.key, ref.id): (running, index, slot)
            for running in runnings
            for chosen in self._chosen
            for index, slot, ref in chosen.found(running)
        }
        for gone in self._open.keys() - wanted.keys():
            self._open.pop(gone).close()
        for key, (running, index, slot) in wanted.items():
            try:
                if key not in self._open:
                    self._open[key] = open_map(running, index, str(key[2]))
            except NotFound:  # it went away meanwhile
                continue
            yield from _values(self._open[key], slot_labels(running, slot))

    def absent(self, runnings: Iterable[Running]) -> list[ChosenMap]:
        """The chosen maps that no chain has now."""
        here = tuple(runnings)
        return [chosen for chosen in self._chosen if not any(any(chosen.found(running)) for running in here)]

    def close(self) -> None:
        for table in self._open.values():
            table.close()
        self._open.clear()


def _values(table: MapTable, labels: tuple[str, ...]) -> Iterator[Row]:
    labels = (*labels, table.shape.name)
    entries = [] if table.shape.closed else list(table.entries(MOST_NUMBERS + 1))
    found = [
        ((*labels, entry.label, member), number)
        for entry in entries
        for member, number in islice(numbers(entry.value), MOST_NUMBERS + 1)
    ]
    series, amounts = zip(*found[:MOST_NUMBERS], strict=True) if found else ((), ())
    yield Row(MAP_VALUE, series, amounts)
    whole = not table.shape.closed and max(len(entries), len(found)) <= MOST_NUMBERS
    yield Row.of(MAP_COMPLETE, labels, float(whole))


def numbers(value: Plain | None, member: str = "") -> Iterator[tuple[str, float]]:
    """The numbers in a value by member: ``packets``, ``by_port[2].bytes``; "" if the value itself is a
    number. Text, addresses and enumerator names are not numbers.
    """
    match value:
        case int() | float():
            yield member, float(value)
        case dict():
            for name, inner in value.items():
                yield from numbers(inner, f"{member}.{name}" if member else name)
        case list():
            for i, inner in enumerate(value):
                yield from numbers(inner, f"{member}[{i}]")
