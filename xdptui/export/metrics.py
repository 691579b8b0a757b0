# SPDX-License-Identifier: Apache-2.0
"""The exported metrics: their names, labels and help, and how readings become samples. Pure.

A series keeps its labels for the life of its slot. A slot's position, priority and program ids change with
edits, so they are labels of an info metric, not of counters: an edit starts no new series and resets no
counter. ``key`` distinguishes slots of the same program; it stays with a slot through every edit by anybody,
and is never reused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal, NamedTuple, Self

from xdpchain.frozen import frozen
from xdpchain.model.actions import ALL_ACTIONS
from xdpchain.model.counts import Sample, SiteCounts, SlotCounts
from xdpchain.model.running import Running
from xdpchain.model.slot import Slot
from xdpchain.observe.memory import ChainMemory
from xdpchain.observe.site_shares import Share, SlotReasons, shares

__all__ = [
    "LOST_METRICS", "MAP_METRICS", "METRICS", "TIME_METRICS", "ChainRows", "Family", "Metric", "Row",
    "memory_values", "slot_labels", "values", "where",
]  # fmt: skip

Traffic = tuple[tuple[int, int], tuple[int, int]]
"""Received packets and bytes, and sent ones."""

_WHERE: Final = ("netns", "interface")
_SLOT: Final = (*_WHERE, "component", "key")
ACTIONS: Final = (*(action.xdp_name for action in ALL_ACTIONS), "other")


@frozen
class Metric:
    """A family: counters are exported as ``name`` plus ``_total``."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    labels: tuple[str, ...]

    @property
    def exported(self) -> str:
        """The name to use in queries."""
        return f"{self.name}_total" if self.kind == "counter" else self.name

    @property
    def whole(self) -> bool:
        """Whether all its numbers are integers."""
        return self.kind == "counter" and not self.name.endswith("_seconds")


SLOT_PACKETS: Final = Metric(
    "xdp_slot_packets", "counter", "Packets by what a slot's program returned.", (*_SLOT, "action")
)
SLOT_BYTES: Final = Metric(
    "xdp_slot_bytes", "counter", "Bytes of packets by what a slot's program returned.", (*_SLOT, "action")
)
SITE_PACKETS: Final = Metric(
    "xdp_site_packets",
    "counter",
    "Packets by the source line that decided what a slot's program returned (--sites).",
    (*_SLOT, "action", "function", "file", "line"),
)
CHAIN_PACKETS: Final = Metric(
    "xdp_chain_packets", "counter", "Packets by what the chain returned.", (*_WHERE, "action")
)
CHAIN_BYTES: Final = Metric(
    "xdp_chain_bytes",
    "counter",
    "Bytes of packets by what the chain returned.",
    (*_WHERE, "action"),
)
SLOT_INFO: Final = Metric(
    "xdp_slot_info",
    "gauge",
    "1, with a slot's changeable settings: join by netns, interface, component and key.",
    (*_SLOT, "slot", "priority", "actions", "shadow", "prog_id", "tag"),
)
SLOT_ON: Final = Metric("xdp_slot_on", "gauge", "1 if the slot runs, 0 if it is off.", _SLOT)
SLOT_LABEL: Final = Metric(
    "xdp_slot_label", "gauge", "1, for each label that the slot has.", (*_SLOT, "label", "value")
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
EMPTIED: Final = Metric(
    "xdp_chain_emptied",
    "gauge",
    "1 if the chain's arrays were emptied: only its first slot runs.",
    _WHERE,
)
PENDING: Final = Metric(
    "xdp_change_pending_seconds",
    "gauge",
    "Seconds until an unconfirmed change is rolled back.",
    (*_WHERE, "state"),
)
SETTLED: Final = Metric(
    "xdp_change_settled_timestamp_seconds",
    "gauge",
    "When and how the last pending change ended; until the next change.",
    (*_WHERE, "outcome"),
)
CHAIN_MEMORY: Final = Metric(
    "xdp_chain_memory_bytes", "gauge", "Kernel memory of the program on the hook.", _WHERE
)
SLOT_MEMORY: Final = Metric(
    "xdp_slot_memory_bytes",
    "gauge",
    "Kernel memory of a slot: its own program, where it has one, and the maps that it uses.",
    (*_SLOT, "part"),
)
CHAIN_RUNS: Final = Metric(
    "xdp_chain_runs", "counter", "Runs of the program on the hook while the kernel timed them.", _WHERE
)
CHAIN_RUN_SECONDS: Final = Metric(
    "xdp_chain_run_seconds", "counter", "CPU time of these runs, with all slots.", _WHERE
)
SLOT_RUN_SECONDS: Final = Metric(
    "xdp_slot_run_seconds",
    "gauge",
    "CPU time of a slot per packet: the median over test packets.",
    _SLOT,
)
LOST: Final = Metric(
    "xdp_lost_packets",
    "counter",
    "Packets lost after their program returned, by the kernel's reason.",
    (*_WHERE, "tracepoint", "reason"),
)
MAP_VALUE: Final = Metric(
    "xdp_map_value",
    "gauge",
    "A number in a map named by --map.",
    (*_SLOT, "map", "entry", "member"),
)
MAP_COMPLETE: Final = Metric(
    "xdp_map_complete",
    "gauge",
    "1 if all numbers of the map are exported, 0 if it holds more than that.",
    (*_SLOT, "map"),
)
UP: Final = Metric("xdptui_up", "gauge", "1 if the kernel could be read, 0 if not.", ())
SECONDS: Final = Metric("xdptui_scrape_seconds", "gauge", "How long reading the kernel took.", ())

METRICS: Final = (
    SLOT_PACKETS, SLOT_BYTES, CHAIN_PACKETS, CHAIN_BYTES, SLOT_INFO, SLOT_ON, SLOT_LABEL, CHAIN_INFO, SLOTS,
    COUNTED, RECEIVED, RECEIVED_BYTES, SENT, SENT_BYTES, EMPTIED, PENDING, SETTLED, CHAIN_MEMORY, SLOT_MEMORY,
    UP, SECONDS,
)  # fmt: skip
"""The metrics that are always exported. The others need options of `xdptui export`."""

TIME_METRICS: Final = (CHAIN_RUNS, CHAIN_RUN_SECONDS, SLOT_RUN_SECONDS)
LOST_METRICS: Final = (LOST,)
MAP_METRICS: Final = (MAP_VALUE, MAP_COMPLETE)
SITE_METRICS: Final = (SITE_PACKETS,)

MOST_SITES: Final = 64
"""Series for a slot's sites; further sites share one per action."""


class Row(NamedTuple):
    """Samples of a family: the labels' values of each, and their numbers. What comes together scrape after
    scrape should be one row, since its text is kept but for the numbers.
    """

    metric: Metric
    series: tuple[tuple[str, ...], ...]
    numbers: Sequence[float]

    @classmethod
    def of(cls, metric: Metric, labels: tuple[str, ...], number: float) -> Self:
        """A row of one sample."""
        return cls(metric, (labels,), (number,))


class Family(NamedTuple):
    """A metric with its samples."""

    metric: Metric
    rows: list[Row]

    @property
    def name(self) -> str:
        return self.metric.name

    @property
    def samples(self) -> dict[tuple[str, ...], float]:
        """The numbers by the labels' values."""
        return {
            labels: number
            for row in self.rows
            for labels, number in zip(row.series, row.numbers, strict=True)
        }


def where(running: Running) -> tuple[str, str]:
    """The labels of an interface."""
    return running.interface.netns or "", running.interface.name


def slot_labels(running: Running, slot: Slot) -> tuple[str, ...]:
    """The labels that never change for a slot."""
    return *where(running), slot.name, slot.key


@frozen
class ChainRows:
    """The rows of a chain that follow from what runs, and the labels of its slots by key."""

    fixed: tuple[Row, ...]
    slots: Mapping[str, tuple[str, ...]]
    by_action: tuple[tuple[str, ...], ...]
    """Each slot's labels, by action."""

    @classmethod
    def of(cls, running: Running) -> ChainRows:
        """Of an interface where something runs."""
        hook = running.hook
        assert hook is not None
        place, slots = where(running), tuple(running.chain or running.shown or ())
        words = (
            str(running.owner or ""), str(running.linkage or ""), str(running.mode or ""), hook.name,
            str(hook.prog_id), hook.tag,
        )  # fmt: skip
        named = {slot.key: slot_labels(running, slot) for slot in slots}
        labels = tuple(named.values())
        infos = tuple((*named[slot.key], *_settings(index, slot)) for index, slot in enumerate(slots))
        labelled = tuple((*named[slot.key], *label) for slot in slots for label in slot.labels)
        fixed = (
            Row.of(CHAIN_INFO, (*place, *words), 1),
            Row.of(SLOTS, place, len(slots)),
            Row.of(EMPTIED, place, float(running.emptied)),
            Row(SLOT_INFO, infos, (1,) * len(slots)),
            Row(SLOT_ON, labels, tuple(float(not slot.off) for slot in slots)),
            Row(SLOT_LABEL, labelled, (1,) * len(labelled)),
        )
        return cls(tuple(row for row in fixed if row.series), named, _by_action(labels))


def _settings(index: int, slot: Slot) -> tuple[str, ...]:
    """What can change without the slot being another."""
    return (
        str(index), str(slot.priority), "".join(action.letter for action in slot.actions) or "none",
        str(slot.shadow).lower(), "" if slot.id is None else str(slot.id), slot.component.tag or "",
    )  # fmt: skip


def values(
    read: Iterable[tuple[Running, Sample | None]],
    traffic: Mapping[int, Traffic],
    now: float = 0.0,
    rows_of: Callable[[Running], ChainRows] = ChainRows.of,
) -> Iterator[Row]:
    """The samples of interfaces and their counts. Interfaces without a program have no chain. ``traffic`` is
    what each interface counts, by ifindex; ``now`` is in seconds of `sys.boot_clock`; ``rows_of`` may keep
    the rows of what is unchanged.
    """
    together = _Together()
    for running, sample in read:
        place = where(running)
        if (counted := traffic.get(running.interface.ifindex)) is not None:
            (received, received_bytes), (sent, sent_bytes) = counted
            together.add(RECEIVED, place, received)
            together.add(RECEIVED_BYTES, place, received_bytes)
            together.add(SENT, place, sent)
            together.add(SENT_BYTES, place, sent_bytes)
        if running.pending is not None or running.settled is not None:
            yield from _confirmed(running, now)
        if running.hook is None:
            continue
        rows = rows_of(running)
        yield from rows.fixed
        verdict = sample.verdict if sample is not None else None
        together.add(COUNTED, place, float(verdict is not None))
        if verdict is not None:
            yield from _counts(CHAIN_PACKETS, CHAIN_BYTES, _by_action((place,)), [verdict])
        if sample is not None:
            counts = {key: sample.slots[key] for key in rows.slots if key in sample.slots}
            whole = len(counts) == len(rows.slots)
            series = rows.by_action if whole else _by_action(tuple(rows.slots[key] for key in counts))
            yield from _counts(SLOT_PACKETS, SLOT_BYTES, series, counts.values())
    yield from together.rows()


class _Together:
    """Rows of what each interface or chain has once."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[Metric, dict[tuple[str, ...], float]]] = {}

    def add(self, metric: Metric, labels: tuple[str, ...], number: float) -> None:
        self._rows.setdefault(metric.name, (metric, {}))[1][labels] = number

    def rows(self) -> Iterator[Row]:
        for metric, found in self._rows.values():
            yield Row(metric, tuple(found), tuple(found.values()))


def _confirmed(running: Running, now: float) -> Iterator[Row]:
    """A pending change, and the outcome of the last one."""
    if running.pending is not None:
        labels = (*where(running), running.pending.state.value)
        yield Row.of(PENDING, labels, running.pending.seconds_left(now))
    if running.settled is not None:
        yield Row.of(SETTLED, (*where(running), running.settled.outcome.value), running.settled.at)


def memory_values(running: Running, memory: ChainMemory) -> Iterator[Row]:
    """The memory a chain takes."""
    yield Row.of(CHAIN_MEMORY, where(running), memory.programs)
    taken: dict[tuple[str, ...], float] = {}
    for slot in running.chain or running.shown or ():
        parts, labels = memory.slots[slot.key], slot_labels(running, slot)
        if parts.programs is not None:
            taken[(*labels, "program")] = parts.programs
        taken[(*labels, "maps")] = parts.maps
    yield Row(SLOT_MEMORY, tuple(taken), tuple(taken.values()))


def site_values(running: Running, sample: Sample, reasons: Iterable[SlotReasons]) -> Iterator[Row]:
    """Counts by source line."""
    names = {slot.key: slot_labels(running, slot) for slot in running.chain or running.shown or ()}
    for reason in reasons:
        if reason.key in names and reason.key in sample.slots:
            counted = sample.sites.get(reason.key, {})
            yield from _sites(names[reason.key], reason, sample.slots[reason.key], counted)


def _sites(
    labels: tuple[str, ...], slot: SlotReasons, counts: SlotCounts, counted: SiteCounts
) -> Iterator[Row]:
    """Packets of an unknown site get no sample; sites on one line share a series."""
    found: dict[tuple[str, ...], int] = {}
    parts = shares(slot.sites, counts.packets, {which: some for which, (some, _) in counted.items()})
    amounts = {Share(code, (site,)): 0 for site, code in counted} | {p: int(n) for p, n in parts.items()}
    for part, amount in sorted(amounts.items()):
        line: tuple[str, ...] = ("", "", "")
        if len(part.sites) == 1:
            site = slot.sites[part.sites[0]]
            where = (site.line.file, str(site.line.number)) if site.line else ("", f"insn {site.insn}")
            line = site.function, *where
        series = ACTIONS[part.code], *line
        if series not in found and len(found) >= MOST_SITES:
            series = ACTIONS[part.code], "", "", "others"
        found[series] = found.get(series, 0) + amount
    for series, total in found.items():
        yield Row.of(SITE_PACKETS, (*labels, *series), total)


def _by_action(labels: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
    return tuple((*each, action) for each in labels for action in ACTIONS)


def _counts(
    packets: Metric, octets: Metric, series: tuple[tuple[str, ...], ...], counts: Collection[SlotCounts]
) -> Iterator[Row]:
    """``series``: `_by_action` of what each of these counts is about."""
    yield Row(packets, series, [number for each in counts for number in each.packets])
    yield Row(octets, series, [number for each in counts for number in each.bytes])
