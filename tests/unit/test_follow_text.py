# SPDX-License-Identifier: Apache-2.0
"""Followed packets as text, as rows on the screen, and as blocks in a file."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from xdpchain.errors import Unsupported
from xdpchain.follow.followed import ByteChange, Followed, Step, View, changes
from xdpchain.follow.pcapng import file_header, packet_blocks, way
from xdpchain.model.link_layer import ETHERNET
from xdpchain.sys import pcap
from xdpchain.trial.packets.describe import describe
from xdptui.render.follow_text import packet_document, packet_text
from xdptui.view.follow_lines import detail_lines, packet_cells, packet_head
from xdptui.words.follow_words import change_lines, change_text
from xdptui.workers.trial_frames import NAMED_FRAMES

FRAME = next(frame for name, frame in NAMED_FRAMES if "ICMP echo" in name and frame[12:14] == b"\x08\x00")


def step(name: str, code: int, before: bytes, after: bytes, ns: int = 120) -> Step:
    old, new = View(len(before), before), View(len(after), after)
    return Step(f"key {name}", name, code, ns, new, 0, changes(old, new, 0), len(after) - len(before))


def packet(*steps: Step, verdict: int = 2) -> Followed:
    return Followed(1, 1_795_249_987_820_129_152, 0, 4, View(len(FRAME), FRAME), steps, verdict, 900, 40)


TTL = FRAME[:22] + b"\x3f" + FRAME[23:]
SHORT = packet(step("a", 2, FRAME, FRAME), step("b", 1, FRAME, TTL), verdict=1)
LONG = packet(*(step(f"component_number_{i}", 2, FRAME, FRAME) for i in range(10)))
ODD = packet(step("esc\x1b[31m", 77, FRAME, FRAME + b"!"), verdict=77)


def test_a_line_and_what_changed_below() -> None:
    first, second, *rest = packet_text(SHORT).splitlines()
    assert first == f"  1 {describe(FRAME, ETHERNET)}, {len(FRAME)} B, queue 0"
    assert second == "    a PASS 120 ns → b DROP ✂ 120 ns = DROP"
    assert rest == ["      ✂ b: byte 22: 40 → 3f"]
    wide = packet_text(SHORT, 120).splitlines()
    assert wide[0] == f"{first}  {second.strip()}"


@pytest.mark.parametrize("followed", [SHORT, LONG, ODD, packet()])
@pytest.mark.parametrize("width", [80, 120])
def test_everything_fits_and_nothing_steers_a_terminal(followed: Followed, width: int) -> None:
    for line in packet_text(followed, width).splitlines():
        assert len(line) <= width
        assert line.isprintable()
    assert sum(len(cell.text) for cell in packet_cells(followed, width)) == width
    assert sum(len(cell.text) for cell in packet_head(width, "1-9 of 99")) == width
    for parts in detail_lines(followed, width):
        text = "".join(part for part, _ in parts)
        assert len(text) <= width
        assert text.isprintable()


def test_words_for_changes() -> None:
    assert change_text(ByteChange(0, b"", 0, b"\1\2")) == "2 bytes added at 0: 01 02"
    assert change_text(ByteChange(9, b"\1", 9, b"")) == "1 byte removed at 9: 01"
    assert change_text(ByteChange(3, b"\1\2", 5, b"\3\4")) == "bytes 5-6: 01 02 → 03 04"
    assert change_text(ByteChange(0, b"", 0, bytes(9))).endswith("00 …")
    many = step("many", 2, bytes(40), bytes(i % 2 for i in range(40)))
    assert len(many.changes) == 20
    assert change_lines(many)[-1] == "and 16 more places"
    beyond = Step("k", "n", 2, 1, View(1401, bytes(256)), 0, (), 1)
    assert change_lines(beyond) == ["length 1400 B → 1401 B"]


def test_the_document_has_all_bytes() -> None:
    document = packet_document(SHORT)
    assert bytes.fromhex(document["head"]) == FRAME
    assert [slot["action"] for slot in document["slots"]] == ["PASS", "DROP"]
    assert document["slots"][1]["changes"] == [{"at": 22, "before": "40", "at_after": 22, "after": "3f"}]
    assert packet_document(ODD)["verdict_action"] == "code 77"


def blocks(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, body) of each block, as the format's specification defines them."""
    while data:
        kind, length = struct.unpack_from("=II", data)
        assert length % 4 == 0
        assert struct.unpack_from("=I", data, length - 4)[0] == length
        yield kind, data[8 : length - 4]
        data = data[length:]


def test_blocks_of_a_file() -> None:
    assert [kind for kind, _ in blocks(file_header("eth0", ["a", "b"], ETHERNET))] == [0x0A0D0D0A, 1, 1, 1]
    found = [body for _, body in blocks(packet_blocks(SHORT, ["key a", "key b"]))]
    interfaces = [struct.unpack_from("=5I", body) for body in found]
    assert [interface[0] for interface in interfaces] == [0, 2], "as it came in, and as slot 1 left it"
    high, low = interfaces[0][1:3]
    assert high << 32 | low == SHORT.time
    size = len(FRAME)
    assert [interface[3:] for interface in interfaces] == [(size, size)] * 2
    assert found[0][20 : 20 + size] == FRAME
    assert found[1][20 : 20 + size] == TTL
    assert way(SHORT).encode() in found[0]
    assert way(SHORT) == "a PASS 120 ns -> b DROP changed 120 ns; verdict DROP"
    assert b"b: at 22: 40 -> 3f" in found[1]


def test_without_libpcap_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pcap, "LIBRARIES", ("libno-such-library.so.0",))
    pcap._library.cache_clear()
    try:
        with pytest.raises(Unsupported, match="is not installed") as caught:
            pcap.compile_expression("icmp", ETHERNET.dlt)
        assert "libpcap0.8" in caught.value.todo
    finally:
        pcap._library.cache_clear()
