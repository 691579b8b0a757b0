# SPDX-License-Identifier: Apache-2.0
"""What the XDP tracepoints report: decoded, explained, and as lines; pure."""

from __future__ import annotations

import errno
import struct

import pytest

from xdpchain.observe.tracepoints.happenings import (
    EVENT_SIZE,
    PLACE_SIZE,
    TALLY_SIZE,
    LossPlace,
    Row,
    Sample,
    Tracepoint,
    TracepointTally,
    decode_event,
    decode_place,
    decode_states,
    decode_tallies,
)
from xdpchain.observe.tracepoints.reasons import reason
from xdptui.words.packet_events import Happened, PacketEvents, Told, packet_event_lines

PLACE = struct.pack("=IiIIiIIIIi", 2, -errno.ENETDOWN, 7, 8, 9, 10, 14, 11, 12, 13)


def tally(times: int, sent: int, lost: int, device: bytes = b"", target: bytes = b"") -> bytes:
    return struct.pack("=QQQ16s16s", times, sent, lost, device, target)


def test_a_place() -> None:
    place = decode_place(PLACE)
    assert place == LossPlace(Tracepoint.REDIRECT_ERR, -errno.ENETDOWN, 7, 8, 9, 10, 14, 11, 12, 13)
    assert place.errno == errno.ENETDOWN
    assert (PLACE_SIZE, TALLY_SIZE, EVENT_SIZE) == (40, 56, 104)
    assert LossPlace(Tracepoint.EXCEPTION, -3).errno == 0


def test_cpus_are_summed_and_names_taken_where_they_are() -> None:
    place = decode_place(PLACE)
    row = decode_tallies(place, tally(1, 2, 3) + tally(10, 20, 30, b"eth0", b"eth1"))
    assert row == Row(place, TracepointTally(11, 22, 33), "eth0", "eth1")


def test_an_event() -> None:
    event = decode_event(struct.pack("=Q", 1_500_000_000) + PLACE + tally(1, 0, 1, b"a\xff") + bytes(3))
    assert event.at == 1.5
    assert event.row.device == "a�"


def test_states() -> None:
    cpu = struct.pack("=QQQ8Q", 1, 2, 5, 0, 1, 2, 0, 0, 0, 0, 0)
    assert decode_states(cpu * 2) == (10, {Tracepoint.EXCEPTION: 2, Tracepoint.REDIRECT_ERR: 4})


def test_what_concerns_whom() -> None:
    def row(**fields: int) -> Row:
        return Row(LossPlace(Tracepoint.DEVMAP_XMIT, **fields), TracepointTally(1, 1, 0))

    here = row(netns=1, ifindex=2, target_netns=1, target=3)
    there = row(netns=5, ifindex=2)
    cpu = row(map=77, map_type=16, entry=1)
    sample = Sample(0.0, (here, there, cpu))
    assert sample.about(1).rows == (here,)
    assert sample.about(1, [2]).rows == sample.about(1, [3]).rows == (here,)
    assert sample.about(1, [4]).rows == ()
    assert sample.about(5, [2], [77]).rows == (there, cpu)
    assert sample.about(0).rows == ()


@pytest.mark.parametrize("kind", Tracepoint)
@pytest.mark.parametrize("code", [0, 1, 4, 5, -1, -errno.ENETDOWN, -errno.ENOSPC, -12345, -(1 << 31)])
@pytest.mark.parametrize("map_type", [0, 14, 16, 17])
def test_there_is_a_reason_for_everything(kind: Tracepoint, code: int, map_type: int) -> None:
    found = reason(LossPlace(kind, code, map_type=map_type))
    assert found.words
    assert str(found)
    assert found.words == found.words.rstrip(".")


def test_reasons_that_depend_on_the_map() -> None:
    assert "AF_XDP" in reason(LossPlace(Tracepoint.REDIRECT_ERR, -errno.ENOSPC, map_type=17)).words
    assert "CPU" in reason(LossPlace(Tracepoint.REDIRECT_ERR, -errno.ENOSPC, map_type=16)).words
    assert reason(LossPlace(Tracepoint.EXCEPTION, -1)).name == "code 4294967295"


def told(**fields: object) -> Told:
    values: dict[str, object] = dict.fromkeys(Told.__slots__, "")
    values |= {"times": 1, "sent": 0, "lost": 0, "sent_rate": 0.0, "lost_rate": 0.0, "target_sent": None}
    return Told(**{**values, "interface": "eth0", "tracepoint": "xdp_exception", **fields})  # type: ignore[arg-type]


def text(found: PacketEvents, width: int = 76) -> list[str]:
    return ["".join(part for part, _ in line).rstrip() for line in packet_event_lines(found, width)]


@pytest.mark.parametrize("width", [60, 76, 114])
def test_lines_fit(width: int) -> None:
    long = told(target="x" * 40, name="ENETDOWN", words="why " * 40, todo="do " * 50, lost=3, via="m" * 16)
    sent = told(sent=4, target="eth1", target_sent=4)
    found = PacketEvents(0.0, 1.0, (long,), (sent,), unplaced=3, untold=2)
    assert all(len(line) <= width for line in text(found, width)[:-2])


def test_events_that_repeat_take_one_line() -> None:
    def happened(at: float, name: str, lost: int = 1) -> Happened:
        return Happened(at, "eth0", "", "", name, "words", lost)

    found = PacketEvents(
        0.0, 1.0, events=(happened(1.0, "A"), happened(2.0, "B", 3), happened(2.5, "B"), happened(3.0, "A"))
    )
    lines = text(found)
    at = lines.index("Last events")
    assert [line.split(" ", 3)[-1].strip() for line in lines[at + 1 :]] == [
        "eth0  A: words",
        "eth0  4 × B: words",
        "eth0  A: words",
    ]
    assert ":02.500 " in lines[at + 2]


def test_what_is_missing_is_said() -> None:
    lines = "\n".join(text(PacketEvents(0.0, 1.0, untold=1, unplaced=2, missed=3)))
    assert "1 more events" in lines
    assert "2 packets had no row" in lines
    assert "skipped 3 calls" in lines


def test_names_cannot_steer_the_terminal() -> None:
    found = PacketEvents(0.0, 1.0, (told(interface="e\x1b[2J", name="X", words="w", lost=1),))
    assert "\x1b" not in "\n".join(text(found))
