# SPDX-License-Identifier: Apache-2.0
"""Assemble the records of a packet's stages into packets. Pure.

One CPU writes all records of a packet, one after the other. If the ring buffer is full, records are missing.
Their sequence numbers show that: such a packet is counted as lost, and never shown with a gap or with another
packet's stages.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from xdpchain.bytecode.sites import VerdictSite, only_site
from xdpchain.frozen import frozen
from xdpchain.linkage.threaded import SITE_SHIFT
from xdpchain.model.link_layer import ETHERNET, LinkLayer

from .followed import Followed, Step, View, changes

__all__ = ["FIXED", "HEAD", "Assembly", "Record"]

ENTRY, VERDICT = 0, 255
FIXED = struct.Struct("=QQIIIIIi")
HEAD = struct.Struct("=II")
"""``struct follow_record`` up to its head, and the head without its bytes."""


@frozen
class Record:
    """``struct follow_record`` of bpf/include/follow.h. ``site``: which verdict site decided, if known."""

    at: int
    ns: int
    cpu: int
    packet: int
    order: int
    stage: int
    code: int
    moved: int
    view: View | None
    site: int | None = None

    @classmethod
    def decode(cls, data: bytes) -> Record:
        """Raises struct.error if it is too short."""
        at, ns, cpu, packet, order, whole, code, moved = FIXED.unpack_from(data)
        stage, site = whole & (1 << SITE_SHIFT) - 1, whole >> SITE_SHIFT
        view = None
        if stage != VERDICT:
            length, captured = HEAD.unpack_from(data, FIXED.size)
            start = FIXED.size + HEAD.size
            view = View(length, data[start : start + min(captured, length)])
        return cls(at, ns, cpu, packet, order, stage, code, moved, view, site - 1 if site else None)


@dataclass
class Assembly:
    """Assembles records. ``slots`` are (key, name) by stage, ``sites`` their verdict sites; ``clock`` is
    added to the records' time to get ns since 1970. ``lost`` counts packets with a missing record.
    """

    ifindex: int
    slots: Mapping[int, tuple[str, str]]
    clock: int
    layer: LinkLayer = ETHERNET
    sites: Mapping[int, Sequence[VerdictSite]] = field(default_factory=dict)
    lost: int = 0
    _number: int = 0
    _open: dict[int, list[Record]] = field(default_factory=dict)

    def add(self, records: Iterable[Record]) -> Iterator[Followed]:
        """The packets that these records complete."""
        for record in records:
            if record.stage == ENTRY:
                if record.cpu in self._open:
                    self.lost += 1
                self._open[record.cpu] = [record]
                continue
            known = self._open.get(record.cpu)
            if known is None:
                continue  # the rest of a lost packet
            if record.packet != known[0].packet or record.order != len(known):
                del self._open[record.cpu]
                self.lost += 1
                continue
            known.append(record)
            if record.stage == VERDICT:
                yield self._packet(self._open.pop(record.cpu))

    def _packet(self, records: list[Record]) -> Followed:
        first, *between, last = records
        assert first.view is not None
        view, steps = first.view, []
        for record in between:
            assert record.view is not None
            key, name = self.slots.get(record.stage, ("", f"slot {record.stage - 1}"))
            steps.append(
                Step(
                    key,
                    name,
                    record.code,
                    record.ns,
                    record.view,
                    record.moved,
                    changes(view, record.view, record.moved),
                    record.view.length - view.length,
                    self._site(record),
                )
            )
            view = record.view
        self._number += 1
        return Followed(
            self._number,
            first.at + self.clock,
            first.cpu,
            self.ifindex,
            first.view,
            tuple(steps),
            last.code,
            last.at - first.at,
            first.ns,
            self.layer,
            first.code,
            first.packet,
        )

    def _site(self, record: Record) -> VerdictSite | None:
        """Where a slot's code was decided: as recorded, or the only site that can have decided it."""
        sites = self.sites.get(record.stage, ())
        index = record.site if record.site is not None else only_site(sites, record.code)
        return sites[index] if index is not None and index < len(sites) else None
