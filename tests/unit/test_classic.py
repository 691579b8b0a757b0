# SPDX-License-Identifier: Apache-2.0
"""Classic BPF translated to eBPF gives the same results as libpcap's own interpreter."""

from __future__ import annotations

import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.unit.ebpf import run_filter
from xdpchain.bytecode.classic import HEAD, Classic, translate, unpack
from xdpchain.errors import InvalidInput
from xdpchain.model.link_layer import ETHERNET
from xdpchain.sys.pcap import compile_expression, run_offline
from xdptui.workers.trial_frames import NAMED_FRAMES

EXPRESSIONS = [
    "",
    "arp",
    "icmp",
    "ip6",
    "icmp6",
    "udp port 53",
    "tcp port 80",
    "tcp dst port 443 or udp src port 40000",
    "host 192.0.2.1",
    "net 192.0.2.0/25 and not port 53",
    "ip6 host 2001:db8::2",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
    "icmp[icmptype] = icmp-echo",
    "vlan 5 and udp",
    "ether host 02:00:00:00:00:02",
    "ether multicast",
    "less 61",
    "greater 100",
    "len > 60 and len <= 1000",
    "ip[6:2] & 0x1fff != 0",
    "ip[8] * 2 > 100",
    "ether[0] / 2 = 1 or ether[1] % 3 = 0",
    "udp[8:4] = 0x78787878",
    "ether[255] = 1",
    "ether[300] = 1",
    "ether[ether[0]:2] > 1",
    "1 << ether[20] > 3",
    "tcp portrange 1-1000",
    "mpls",
    "ip proto 50",
    "not (ip or ip6)",
    "host 192.0.2.1 or host 192.0.2.2 or host 192.0.2.3 or port 1 or port 2 or port 3 or net 10.0.0.0/8",
]


def head(frame: bytes, length: int | None = None) -> bytes:
    """``struct follow_head``: the input of a filter."""
    captured = frame[:HEAD]
    return struct.pack("=II", len(frame) if length is None else length, len(captured)) + captured.ljust(HEAD)


def agree(classic: bytes, frame: bytes) -> bool:
    """Whether the packet matches; fails unless both agree."""
    found = run_filter(translate(unpack(classic)).instructions, head(frame))
    wanted = run_offline(classic, frame[:HEAD], len(frame))
    assert bool(found) == bool(wanted), (unpack(classic), frame)
    return bool(found)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_expressions_on_packets_of_all_kinds(expression: str) -> None:
    classic = compile_expression(expression, ETHERNET.dlt)
    frames = [frame for _, frame in NAMED_FRAMES]
    for frame in frames:
        agree(classic, frame)
        for length in (0, 1, 13, 14, 15, 20, 23, 24, 33, 34, 35, 38, 54, 55):
            agree(classic, frame[:length])
        agree(classic, frame.ljust(1500, b"\1"))


def test_the_expressions_tell_packets_apart() -> None:
    """Otherwise the test above would prove nothing."""
    matched = {
        expression: [agree(compile_expression(expression, ETHERNET.dlt), frame) for _, frame in NAMED_FRAMES]
        for expression in EXPRESSIONS
    }
    assert all(matched[""])
    for expression in ("arp", "icmp", "ip6", "udp port 53", "tcp port 80", "host 192.0.2.1"):
        assert any(matched[expression]), expression
        assert not all(matched[expression]), expression


@settings(deadline=None)
@given(st.sampled_from(EXPRESSIONS), st.binary(max_size=300))
def test_expressions_on_any_bytes(expression: str, frame: bytes) -> None:
    agree(compile_expression(expression, ETHERNET.dlt), frame)


WORD = st.integers(0, (1 << 32) - 1)
OFFSET = st.one_of(st.integers(0, 40), st.integers(240, 270), WORD)
LOADS = [0x20, 0x28, 0x30, 0x40, 0x48, 0x50]
INSTRUCTION = st.one_of(
    st.builds(Classic, st.sampled_from(LOADS), st.just(0), st.just(0), OFFSET),
    st.builds(Classic, st.sampled_from([0x00, 0x01, 0x80, 0x81]), st.just(0), st.just(0), WORD),
    st.builds(Classic, st.just(0xB1), st.just(0), st.just(0), OFFSET),
    st.builds(Classic, st.sampled_from([0x02, 0x03, 0x60, 0x61]), st.just(0), st.just(0), st.integers(0, 15)),
    st.builds(
        Classic,
        st.sampled_from([0x04, 0x14, 0x24, 0x34, 0x44, 0x54, 0x94, 0xA4]),
        st.just(0),
        st.just(0),
        st.integers(1, (1 << 32) - 1),
    ),
    st.builds(Classic, st.sampled_from([0x64, 0x74]), st.just(0), st.just(0), st.integers(0, 31)),
    st.builds(
        Classic,
        st.sampled_from([0x0C, 0x1C, 0x2C, 0x3C, 0x4C, 0x5C, 0x6C, 0x7C, 0x9C, 0xAC, 0x84, 0x07, 0x87]),
        st.just(0),
        st.just(0),
        st.just(0),
    ),
    st.builds(
        Classic,
        st.sampled_from([0x15, 0x25, 0x35, 0x45, 0x1D, 0x2D, 0x3D, 0x4D]),
        st.integers(0, 255),
        st.integers(0, 255),
        st.one_of(st.integers(0, 300), WORD),
    ),
    st.builds(Classic, st.just(0x05), st.just(0), st.just(0), st.integers(0, 8)),
    st.builds(Classic, st.sampled_from([0x06, 0x16]), st.just(0), st.just(0), WORD),
)


def valid(drawn: list[Classic]) -> list[Classic]:
    """With every word of the memory set (libpcap's interpreter leaves them as they were), and jumps that stay
    inside.
    """
    program = [Classic(0x02, 0, 0, word) for word in range(16)] + drawn + [Classic(0x16, 0, 0, 0)]
    for index, one in enumerate(program):
        room = len(program) - index - 1
        if one.code == 0x05:
            program[index] = one._replace(k=one.k % room)
        elif one.code & 7 == 5:
            program[index] = one._replace(if_true=one.if_true % room, if_false=one.if_false % room)
    return program


@settings(max_examples=400, deadline=None)
@given(st.lists(INSTRUCTION, max_size=24).map(valid), st.binary(max_size=300))
@example([Classic(1, 0, 0, 32), Classic(0, 0, 0, 1), Classic(0x6C, 0, 0, 0), Classic(0x16, 0, 0, 0)], b"")
@example([Classic(0x00, 0, 0, 9), Classic(0x3C, 0, 0, 0), Classic(0x06, 0, 0, 1)], b"")
@example([Classic(0x01, 0, 0, 0xFFFFFFFF), Classic(0x50, 0, 0, 2), Classic(0x06, 0, 0, 1)], b"12345")
def test_any_program_on_any_bytes(program: list[Classic], frame: bytes) -> None:
    classic = b"".join(struct.pack("=HBBI", *one) for one in program)
    found = run_filter(translate(program).instructions, head(frame))
    assert found == run_offline(classic, frame[:HEAD], len(frame))


def test_what_it_needs_and_what_lies_beyond() -> None:
    def known(expression: str) -> tuple[int, tuple[int, ...]]:
        found = translate(unpack(compile_expression(expression, ETHERNET.dlt)))
        return found.needs, found.beyond

    assert known("") == (0, ())
    assert known("icmp") == (24, ())
    assert known("ether[255] = 1") == (256, ())
    assert known("ether[256] = 1") == (0, (256,))
    assert known("udp port 53")[0] == 256, "behind options, wherever they end"


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ([], "end with a return"),
        ([Classic(0x00, 0, 0, 1)], "end with a return"),
        ([Classic(0xFF, 0, 0, 0), Classic(0x06, 0, 0, 0)], "not known"),
        ([Classic(0x60, 0, 0, 16), Classic(0x06, 0, 0, 0)], "no word 16"),
        ([Classic(0x15, 1, 0, 0), Classic(0x06, 0, 0, 0)], "out of itself"),
        ([Classic(0x05, 0, 0, 7), Classic(0x06, 0, 0, 0)], "out of itself"),
    ],
)
def test_what_is_no_filter(program: list[Classic], why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        translate(program)


def test_too_long_a_filter() -> None:
    jump = [Classic(0x05, 0, 0, 40000)]
    with pytest.raises(InvalidInput, match="too long"):
        translate([*jump, *[Classic(0x00, 0, 0, 1)] * 40000, Classic(0x06, 0, 0, 0)])


@pytest.mark.parametrize("expression", ["host and host", "port no-such-name", "(", "port 99999", "\0"])
def test_words_for_a_bad_expression(expression: str) -> None:
    with pytest.raises(InvalidInput, match="can't be read") as caught:
        compile_expression(expression, ETHERNET.dlt)
    assert caught.value.why
