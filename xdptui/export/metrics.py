# SPDX-License-Identifier: Apache-2.0
"""What is exported: names, labels and help of the metrics, and how readings become samples of them. Pure.

A series keeps its labels for as long as its slot lives. Where a slot stands, its priority and the ids of its
program change with edits, so they are labels of an info metric, and not of counters: an edit makes no new
series, and no counter falls back. ``key`` tells slots of the same program apart; it stays with a slot through
every edit, whoever makes it, and is never given again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from xdpchain.model.actions import ALL_ACTIONS
from xdpchain.model.counts import Sample, SlotCounts
from xdpchain.model.running import Running

__all__ = ["METRICS", "Metric", "Value", "values"]

_WHERE: Final = ("netns", "interface")
_SLOT: Final = (*_WHERE, "component", "key")
ACTIONS: Final = (*(action.xdp_name for action in ALL_ACTIONS), "other")


@dataclass(frozen=True, slots=True)
class Metric:
    """A family: counters are exported as ``name`` with ``_total`` behind it."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    labels: tuple[str, ...]

    @property
    def exported(self) -> str:
        """The name that a query uses."""
        return f"{self.name}_total" if self.kind == "counter" else self.name


SLOT_PACKETS: Final = Metric(
    "xdp_slot_packets", "counter", "Packets by what a slot's program returned.", (*_SLOT, "action")
)
SLOT_BYTES: Final = Metric(
    "xdp_slot_bytes", "counter", "Bytes of packets by what a slot's program returned.", (*_SLOT, "action")
)
CHAIN_PACKETS: Final = Metric(
    "xdp_chain_packets", "counter", "Packets by what the chain returned in the end.", (*_WHERE, "action")
)
CHAIN_BYTES: Final = Metric(
    "xdp_chain_bytes",
    "counter",
    "Bytes of packets by what the chain returned in the end.",
    (*_WHERE, "action"),
)
SLOT_INFO: Final = Metric(
    "xdp_slot_info",
    "gauge",
    "1, with what may change about a slot: join it by netns, interface, component and key.",
    (*_SLOT, "slot", "priority", "actions", "shadow", "prog_id", "tag"),
)
CHAIN_INFO: Final = Metric(
    "xdp_chain_info",
    "gauge",
    "1, with what runs on an interface.",
    (*_WHERE, "owner", "linkage", "mode", "program", "prog_id", "tag"),
)
SLOTS: Final = Metric("xdp_chain_slots", "gauge", "Slots of the chain.", _WHERE)
COUNTED: Final = Metric(
    "xdp_chain_counted", "gauge", "1 if the packets of what runs are counted, 0 if not.", _WHERE
)
RECEIVED: Final = Metric(
    "xdp_interface_receive_packets", "counter", "Packets received, by the interface's own counter.", _WHERE
)
RECEIVED_BYTES: Final = Metric(
    "xdp_interface_receive_bytes", "counter", "Bytes received, by the interface's own counter.", _WHERE
)
SENT: Final = Metric(
    "xdp_interface_transmit_packets", "counter", "Packets sent, by the interface's own counter.", _WHERE
)
SENT_BYTES: Final = Metric(
    "xdp_interface_transmit_bytes", "counter", "Bytes sent, by the interface's own counter.", _WHERE
)
UP: Final = Metric("xdptui_up", "gauge", "1 if the kernel could be read, 0 if not.", ())
SECONDS: Final = Metric("xdptui_scrape_seconds", "gauge", "How long reading the kernel took.", ())

METRICS: Final = (
    SLOT_PACKETS, SLOT_BYTES, CHAIN_PACKETS, CHAIN_BYTES, SLOT_INFO, CHAIN_INFO, SLOTS, COUNTED,
    RECEIVED, RECEIVED_BYTES, SENT, SENT_BYTES, UP, SECONDS,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Value:
    """One sample of a family."""

    metric: Metric
    labels: tuple[str, ...]
    value: float


def values(read: Iterable[tuple[Running, Sample | None]]) -> Iterator[Value]:
    """The samples of interfaces with what was counted there. Those without a program have no chain."""
    for running, sample in read:
        device, interface = running.device, running.interface
        where = (interface.netns or "", interface.name)
        for metric, number in (
            (RECEIVED, device.rx[0]),
            (RECEIVED_BYTES, device.rx[1]),
            (SENT, device.tx[0]),
            (SENT_BYTES, device.tx[1]),
        ):
            yield Value(metric, where, number)
        if running.hook is None:
            continue
        yield from _chain(running, where)
        yield Value(COUNTED, where, float(sample is not None))
        if sample is not None and sample.verdict is not None:
            yield from _counts(CHAIN_PACKETS, CHAIN_BYTES, where, sample.verdict)
        for place, slot in enumerate(running.chain or running.shown or ()):
            component = slot.component
            labels = (*where, slot.name, slot.key)
            shown = (
                str(place), str(slot.priority), "".join(action.letter for action in slot.actions) or "none",
                str(slot.shadow).lower(), "" if slot.id is None else str(slot.id), component.tag or "",
            )  # fmt: skip
            yield Value(SLOT_INFO, (*labels, *shown), 1)
            counts = sample.slots.get(slot.key) if sample else None
            if counts is not None:
                yield from _counts(SLOT_PACKETS, SLOT_BYTES, labels, counts)


def _chain(running: Running, where: tuple[str, ...]) -> Iterator[Value]:
    hook = running.hook
    assert hook is not None
    words = (
        str(running.owner or ""), str(running.linkage or ""), str(running.mode or ""), hook.name,
        str(hook.prog_id), hook.tag,
    )  # fmt: skip
    yield Value(CHAIN_INFO, (*where, *words), 1)
    yield Value(SLOTS, where, len(running.chain or running.shown or ()))


def _counts(packets: Metric, octets: Metric, labels: tuple[str, ...], counts: SlotCounts) -> Iterator[Value]:
    for action, number, size in zip(ACTIONS, counts.packets, counts.bytes, strict=True):
        yield Value(packets, (*labels, action), number)
        yield Value(octets, (*labels, action), size)
