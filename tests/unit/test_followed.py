# SPDX-License-Identifier: Apache-2.0
"""Records become packets, complete ones only; and what changed between two heads."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xdpchain.follow.followed import ByteChange, Followed, View, changes
from xdpchain.follow.records import ENTRY, VERDICT, Assembly, Record

SLOTS = {1: ("k1", "first"), 2: ("k2", "second")}


def record(
    packet: int, order: int, stage: int, *, cpu: int = 0, code: int = 2, data: bytes = b"abc", at: int = 0
) -> Record:
    raw = struct.pack("=QQIIIIIi", at, 7, cpu, packet, order, stage, code, 0)
    if stage != VERDICT:
        raw += struct.pack("=II", len(data), len(data)) + data.ljust(256, b"\0")
    return Record.decode(raw)


def whole(packet: int, cpu: int = 0, data: bytes = b"abc") -> list[Record]:
    return [
        record(packet, 0, ENTRY, cpu=cpu, data=data, at=100),
        record(packet, 1, 1, cpu=cpu, data=data),
        record(packet, 2, 2, cpu=cpu, data=data + b"!", code=1),
        record(packet, 3, VERDICT, cpu=cpu, code=1, at=160),
    ]


def test_a_packet() -> None:
    (packet,) = Assembly(4, SLOTS, 1000).add(whole(1))
    assert (packet.number, packet.ifindex, packet.time, packet.ns, packet.clock_ns) == (1, 4, 1100, 60, 7)
    assert (packet.verdict, packet.entry) == (1, View(3, b"abc"))
    first, second = packet.steps
    assert (first.slot, first.name, first.code, first.changes, first.resized) == ("k1", "first", 2, (), 0)
    assert (second.name, second.code, second.resized) == ("second", 1, 1)
    assert second.changes == (ByteChange(3, b"", 3, b"!"),)
    assert packet.final == View(4, b"abc!")


def test_a_packet_that_no_slot_saw() -> None:
    (packet,) = Assembly(4, SLOTS, 0).add([record(1, 0, ENTRY), record(1, 1, VERDICT)])
    assert packet.steps == ()
    assert packet.final == packet.entry


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.sets(st.integers(0, 3))), max_size=12),
    st.randoms(use_true_random=False),
    st.integers(1, 7),
)
def test_packets_of_several_cpus_are_never_mixed(
    packets: list[tuple[int, set[int]]], random: object, piece: int
) -> None:
    """Each CPU's records are in order, interleaved with the others', and any of them may be missing."""
    queues: dict[int, list[Record]] = {}
    for number, (cpu, missing) in enumerate(packets, 1):
        records = whole(number, cpu, b"%d" % number)
        queues.setdefault(cpu, []).extend(r for i, r in enumerate(records) if i not in missing)
    mixed = []
    while any(queues.values()):
        cpu = random.choice([cpu for cpu, queue in queues.items() if queue])  # type: ignore[attr-defined]
        mixed.append(queues[cpu].pop(0))
    assembly = Assembly(1, SLOTS, 0)
    found: list[Followed] = []
    for at in range(0, len(mixed), piece):
        found += assembly.add(mixed[at : at + piece])
    complete = [number for number, (_, missing) in enumerate(packets, 1) if not missing]
    assert sorted(int(packet.entry.head) for packet in found) == complete
    assert [packet.number for packet in found] == list(range(1, len(found) + 1))
    for packet in found:
        assert [step.view.head for step in packet.steps] == [packet.entry.head, packet.entry.head + b"!"]
    # Packets that began but are incomplete are lost; but the last one of a CPU may still be under way.
    broken = sum(bool(missing) and 0 not in missing for _, missing in packets)
    assert broken - len(queues) <= assembly.lost <= broken


def test_too_short_a_record() -> None:
    with pytest.raises(struct.error):
        Record.decode(b"\0" * 12)


def view(data: bytes, length: int | None = None) -> View:
    return View(len(data) if length is None else length, data)


@pytest.mark.parametrize(
    ("before", "after", "moved", "wanted"),
    [
        (b"abcdef", b"abcdef", 0, []),
        (b"abcdef", b"aXcdYZ", 0, [(1, b"b", 1, b"X"), (4, b"ef", 4, b"YZ")]),
        (b"abcdef", b"cdef", 2, [(0, b"ab", 0, b"")]),
        (b"abcdef", b"12abcdef", -2, [(0, b"", 0, b"12")]),
        (b"abcdef", b"1Xbcdef", -1, [(0, b"", 0, b"1"), (0, b"a", 1, b"X")]),
        (b"abcdef", b"abcd", 0, [(4, b"ef", 4, b"")]),
        (b"abcdef", b"abcdefgh", 0, [(6, b"", 6, b"gh")]),
        (b"abcdef", b"cXe", 2, [(0, b"ab", 0, b""), (3, b"d", 1, b"X"), (5, b"f", 3, b"")]),
        (b"", b"", 0, []),
        # Something was inserted or removed between unchanged parts.
        (b"abcdef", b"abc12def", -2, [(3, b"", 3, b"12")]),
        (b"abc12def", b"abcdef", 2, [(3, b"12", 3, b"")]),
        (b"abcdefghij", b"abc12defXhij", -2, [(3, b"", 3, b"12"), (6, b"g", 8, b"X")]),
    ],
)
def test_what_changed(
    before: bytes, after: bytes, moved: int, wanted: list[tuple[int, bytes, int, bytes]]
) -> None:
    assert changes(view(before), view(after), moved) == tuple(ByteChange(*one) for one in wanted)


def test_beyond_the_heads_nothing_is_claimed() -> None:
    assert changes(View(300, b"a" * 256), View(301, b"a" * 256), 0) == ()
    assert changes(View(300, b"a" * 256), View(296, b"a" * 256), 4) == (ByteChange(0, b"aaaa", 0, b""),)


@given(st.binary(max_size=40), st.binary(max_size=40), st.integers(-8, 8))
def test_changes_turn_the_one_into_the_other(before: bytes, after: bytes, moved: int) -> None:
    if moved > len(before) or -moved > len(after):
        return
    rebuilt = bytearray(before)
    for change in reversed(changes(view(before), view(after), moved)):
        assert bytes(rebuilt[change.at : change.at + len(change.before)]) == change.before
        assert after[change.at_after : change.at_after + len(change.after)] == change.after
        rebuilt[change.at : change.at + len(change.before)] = change.after
    assert bytes(rebuilt) == after
