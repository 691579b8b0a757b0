# SPDX-License-Identifier: Apache-2.0
"""Captures and hex dumps are read as the tools that write them intend, and damaged ones give a
clear error.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdpchain.errors import InvalidInput, NotFound
from xdpchain.model.interface import Interface
from xdpchain.model.link_layer import ETHERNET
from xdpchain.testing.frames import NEAR, PEER, tcp_syn, udp
from xdpchain.trial.packets import sources
from xdpchain.trial.packets.builtin import builtin
from xdpchain.trial.packets.describe import describe, flow
from xdpchain.trial.packets.frames import tagged
from xdpchain.trial.packets.hexdump import read_hex
from xdpchain.trial.packets.pcap import is_capture, read_capture
from xdpchain.trial.packets.rewriting import Rewriting, compare

FRAMES = [packet.data for packet in builtin(NEAR, PEER, ETHERNET)]
FRAME = st.binary(min_size=14, max_size=200)
ORDERS = st.sampled_from("<>")


def pcap(frames: Sequence[bytes], order: str = "<", magic: int = 0xA1B2C3D4, link: int = 1) -> bytes:
    head = struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 65535, link)
    return head + b"".join(struct.pack(f"{order}IIII", 1, 2, len(f), len(f)) + f for f in frames)


def block(order: str, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    length = len(body) + 12
    return struct.pack(f"{order}II", kind, length) + body + struct.pack(f"{order}I", length)


def section(order: str) -> bytes:
    return block(order, 0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1))


def described(order: str, link: int = 1, options: bytes = b"", snap: int = 0) -> bytes:
    return block(order, 1, struct.pack(f"{order}HHI", link, 0, snap) + options)


def enhanced(order: str, frame: bytes, index: int = 0, length: int | None = None) -> bytes:
    wire = len(frame) if length is None else length
    return block(order, 6, struct.pack(f"{order}IIIII", index, 0, 0, len(frame), wire) + frame)


def key(frame: bytes) -> object:
    return flow(frame, ETHERNET)


def frames_of(data: bytes) -> list[bytes]:
    return [captured.data for captured in read_capture(data, "it", ETHERNET)]


@given(st.lists(FRAME, max_size=5), ORDERS, st.sampled_from([0xA1B2C3D4, 0xA1B23C4D]))
def test_pcap(frames: list[bytes], order: str, magic: int) -> None:
    data = pcap(frames, order, magic)
    assert is_capture(data)
    assert frames_of(data) == frames


@given(st.lists(FRAME, max_size=5), ORDERS, ORDERS)
def test_pcapng_with_sections_of_both_orders(frames: list[bytes], first: str, second: str) -> None:
    data = b"".join(
        section(order)
        + described(order)
        + block(order, 5, bytes(8))
        + b"".join(enhanced(order, f) for f in frames)
        for order in (first, second)
    )
    assert is_capture(data)
    assert frames_of(data) == frames * 2


def test_pcapng_with_interfaces_of_several_kinds() -> None:
    check = struct.pack("<HHBxxx", 13, 1, 4) + struct.pack("<HH", 0, 0)
    data = section("<") + described("<", 101) + described("<", 1, check) + described("<", 1, snap=20)
    data += enhanced("<", b"raw IP", 0) + enhanced("<", FRAMES[0] + b"sums", 1) + enhanced("<", FRAMES[1], 2)
    data += block("<", 2, struct.pack("<HHIIII", 2, 0, 0, 0, 60, 60) + FRAMES[2][:60])
    assert frames_of(data) == [FRAMES[0], FRAMES[1], FRAMES[2][:60]]
    simple = section(">") + described(">", snap=20) + block(">", 3, struct.pack(">I", 60) + FRAMES[0][:20])
    assert list(read_capture(simple, "it", ETHERNET)) == [(FRAMES[0][:20], 60)]


def test_what_a_capture_left_out_is_known() -> None:
    data = pcap([]) + struct.pack("<IIII", 0, 0, 60, 1514) + FRAMES[0][:60]
    supply = sources.read_packets(data, "it", ETHERNET)
    assert supply.packets[0].cut
    assert supply.packets[0].length == 1514


def test_a_frame_check_sequence_is_no_part_of_the_frame() -> None:
    data = pcap([FRAMES[0] + b"sums"], link=1 | 0x04000000 | 2 << 28)
    assert frames_of(data) == [FRAMES[0]]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (pcap(FRAMES)[:-1], "it ends in packet 20"),
        (pcap(FRAMES[:1])[:30], "it ends in the header of packet 1"),
        (pcap([])[:20], "it ends in its header"),
        (pcap([]) + struct.pack("<IIII", 0, 0, 1 << 31, 60), "packet 1 claims to have 2147483648 bytes"),
        (pcap(FRAMES, link=113), "link type Linux cooked"),
        (pcap(FRAMES, magic=0xA1B2CD34), "obsolete variant of pcap"),
        (section("<") + described("<", 276) + enhanced("<", b"x"), "link type Linux cooked v2"),
        (section("<") + enhanced("<", FRAMES[0]), "interface 0, which is not described"),
        (section("<")[:-4] + bytes(4), "has different lengths"),
        (section("<") + described("<") + enhanced("<", FRAMES[0])[:-5], "it ends in block 3"),
        (section("<") + struct.pack("<III", 6, 13, 0), "claims to have 13 bytes"),
        (b"\x0a\x0d\x0d\x0a" + bytes(24), "has no byte order"),
        (b"\x1f\x8b" + bytes(30), "compressed (gzip)"),
    ],
)
def test_what_can_not_be_read(data: bytes, why: str) -> None:
    assert is_capture(data)
    with pytest.raises(InvalidInput) as caught:
        sources.read_packets(data, "it", ETHERNET)
    assert why in str(caught.value)


WHOLE = [
    pcap(FRAMES),
    pcap(FRAMES, ">"),
    section("<") + described("<") + b"".join(enhanced("<", frame) for frame in FRAMES),
    "\n".join(frame.hex(":") for frame in FRAMES).encode(),
]


@given(st.sampled_from(WHOLE), st.data())
def test_damage_is_an_error_and_nothing_else(whole: bytes, draw: st.DataObject) -> None:
    data = bytearray(whole)
    for _ in range(draw.draw(st.integers(1, 4))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    del data[draw.draw(st.integers(0, len(data))) :]
    try:
        found = sources.read_packets(bytes(data), "it", ETHERNET)
    except InvalidInput:
        return
    assert found.packets


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    try:
        for packet in sources.read_packets(data, "it", ETHERNET).packets:
            flow(packet.data, ETHERNET)
    except InvalidInput:
        pass


@pytest.mark.skipif(shutil.which("editcap") is None, reason="editcap is not installed (make dev)")
@pytest.mark.parametrize("kind", ["pcap", "nsecpcap", "pcapng"])
def test_what_wireshark_writes(kind: str, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(pcap(FRAMES, ">"))
    subprocess.run(["editcap", "-F", kind, tmp_path / "in", tmp_path / "out"], check=True)
    supply = sources.read_packets((tmp_path / "out").read_bytes(), "out", ETHERNET)
    assert [packet.data for packet in supply.packets] == FRAMES


@pytest.mark.parametrize(
    "line",
    ["{}", "0x{}", "  {}  # a remark", "{:}", "{-}", "{ }", "{upper}"],
)
def test_a_packet_a_line(line: str) -> None:
    def form(frame: bytes) -> str:
        forms = {":": frame.hex(":"), "-": frame.hex("-"), " ": frame.hex(" "), "upper": frame.hex().upper()}
        word = line[line.index("{") + 1 : line.index("}")]
        return line.replace("{" + word + "}", forms.get(word, frame.hex()))

    text = "# frames\n\n" + "\n".join(form(frame) for frame in FRAMES)
    assert list(read_hex(text, "it")) == FRAMES


def dump(command: Sequence[str], frames: Sequence[bytes]) -> str:
    return "".join(
        subprocess.run(command, input=f, capture_output=True, check=True).stdout.decode() for f in frames
    )


@pytest.mark.parametrize(
    "command",
    [["xxd"], ["xxd", "-g", "1"], ["xxd", "-c", "32"], ["xxd", "-p", "-c", "0"], ["hexdump", "-C", "-v"]],
    ids=" ".join,
)
def test_what_dumps_write(command: Sequence[str]) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    readable = [bytes(range(0x20, 0x7F)), b"  |abcd  0000: |  ".ljust(64, b"."), *FRAMES]
    assert list(read_hex(dump(command, readable), "it")) == readable


@pytest.mark.skipif(shutil.which("tcpdump") is None, reason="tcpdump is not installed (make dev)")
def test_what_tcpdump_and_wireshark_print(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(pcap(FRAMES))
    shown = subprocess.run(["tcpdump", "-XX", "-t", "-r", tmp_path / "in"], capture_output=True, check=True)
    lines = [line for line in shown.stdout.decode().splitlines() if line.startswith("\t0x")]
    assert list(read_hex("\n".join(lines), "it")) == FRAMES
    if shutil.which("tshark"):
        words = ["tshark", "-x", "-r", tmp_path / "in"]
        shown = subprocess.run(words, capture_output=True, check=True)
        assert list(read_hex(shown.stdout.decode(), "it")) == FRAMES


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("hello", "line 1 of it"),
        ("00 11 2", "an odd number of digits (5)"),
        ("0000: 0011\n0004: 22", "its offset is 0x4, expected 0x2"),
        ("00000000  00 11  |..|\n*\n", "hexdump -v"),
        ("", "it has no packets"),
        ("# nothing\n", "it has no packets"),
    ],
)
def test_hex_that_is_none(text: str, why: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        sources.read_packets(text.encode(), "it", ETHERNET)
    assert why in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    where = Interface("none", 1)
    with pytest.raises(NotFound):
        sources.packets_of(str(tmp_path / "none"), where)
    with pytest.raises(InvalidInput):
        sources.packets_of(str(tmp_path), where)


def test_only_so_many_packets_of_a_file() -> None:
    supply = sources.read_packets(pcap([bytes(14)] * (sources.MOST + 1)), "it", ETHERNET)
    assert len(supply.packets) == sources.MOST
    assert supply.notes == ("it: only the first 10000 packets",)
    assert sources.read_packets(pcap([bytes(14)] * sources.MOST), "it", ETHERNET).notes == ()


@pytest.mark.parametrize("form", [pcap, lambda frames: "\n".join(f.hex() for f in frames).encode()])
def test_only_the_beginning_of_a_large_file(
    form: Callable[[Sequence[bytes]], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "LARGEST", 1000)
    (tmp_path / "large").write_bytes(form([bytes(99)] * 50))
    supply = sources.packets_of(str(tmp_path / "large"), Interface("none", 1))
    count = len(supply.packets)
    assert 3 < count < 10
    assert supply.notes == (f"{tmp_path}/large: only the first {count} packets",)
    monkeypatch.setattr(sources, "LARGEST", 20)
    with pytest.raises(InvalidInput):
        sources.packets_of(str(tmp_path / "large"), Interface("none", 1))


def test_packets_in_words() -> None:
    words = [describe(frame, ETHERNET) for frame in FRAMES]
    assert words[0] == "ARP 192.0.2.1 asked by 192.0.2.2"
    assert words[1] == "ARP reply from 192.0.2.2"
    assert words[4] == "ICMP echo request from 192.0.2.2"
    assert words[9] == "TCP 192.0.2.2:443 > 40000 SYN/ACK"
    assert words[12] == "ICMPv6 neighbor solicitation from 2001:db8::2"
    assert words[18] == "UDP [2001:db8::2]:40000 > 9"
    assert words[19] == "ethertype 0x88b5"
    assert describe(tagged(FRAMES[0], 7), ETHERNET) == "VLAN 7 ARP 192.0.2.1 asked by 192.0.2.2"


@given(st.binary(max_size=120))
def test_words_for_any_frame(frame: bytes) -> None:
    assert describe(frame, ETHERNET)
    flow(frame, ETHERNET)


def test_what_a_receiver_goes_by() -> None:
    frame = tcp_syn(PEER, NEAR, 22)
    assert key(frame) == key(frame + b"padding")
    assert key(frame) == key(frame[:22] + b"\x05" + frame[23:])  # the TTL
    assert key(frame) != key(tcp_syn(PEER, NEAR, 23))
    assert key(frame) != key(b"\x02" * 6 + frame[6:])
    assert key(frame) != key(tagged(frame, 1))
    assert key(udp(PEER, NEAR, 9, payload=b"a")) != key(udp(PEER, NEAR, 9, payload=b"b"))


def test_bytes_that_changed() -> None:
    frame = bytes(range(64))
    assert not compare(frame, frame)
    assert compare(frame, b"\xff\xff" + frame[2:10] + b"\xff" + frame[11:]) == Rewriting(((0, 1), (10, 10)))
    assert compare(frame, frame + b"end") == Rewriting(tail=3)
    assert compare(frame, frame[:-4]) == Rewriting(tail=-4)
    assert compare(frame, b"head" + frame) == Rewriting(head=4)
    assert compare(frame, frame[14:]) == Rewriting(head=-14)
    pushed = compare(frame, frame[:12] + b"\x81\x00\x00\x05" + frame[12:] + b"!")
    assert (pushed.head, pushed.tail) == (4, 1)
    assert pushed.count <= 12


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_any_change_of_bytes_adds_up(before: bytes, after: bytes) -> None:
    found = compare(before, after)
    assert found.head + found.tail == len(after) - len(before)
    assert bool(found) == (before != after)
    rebuilt = bytearray(after)
    for first, last in found.ranges:
        for at in range(first, last + 1):
            assert after[at] != before[at - found.head]
            rebuilt[at] = before[at - found.head]
    start, stop = max(0, found.head), min(len(after), len(before) + found.head)
    if start < stop:
        assert rebuilt[start:stop] == before[start - found.head : stop - found.head]
