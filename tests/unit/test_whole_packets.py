# SPDX-License-Identifier: Apache-2.0
"""Whole packets and their records come together, whatever is lost."""

from __future__ import annotations

import struct

from xdpchain.follow.records import FIXED, HEAD, Record
from xdpchain.follow.whole_packets import MOST_WAITING, WholePackets


def record(packet: int, order: int, length: int, head: bytes, *, cpu: int = 0) -> bytes:
    return FIXED.pack(1, 2, cpu, packet, order, 1, 2, 0) + HEAD.pack(length, len(head)) + head


def sample(packet: int, order: int, data: bytes, *, cpu: int = 0) -> bytes:
    return struct.pack("=IIII", cpu, packet, order, 0) + data.ljust(-(-len(data) // 8) * 8, b"\0")


def head(data: bytes) -> bytes:
    view = Record.decode(data).view
    assert view is not None
    return view.head


def test_a_record_gets_its_own_packet_as_far_as_it_is_kept() -> None:
    whole, data = WholePackets(16), bytes(range(21))
    whole.take([sample(1, 0, data), sample(1, 0, b"other", cpu=1), sample(1, 1, data[:9])])
    assert head(whole.complete(record(1, 0, 21, data[:4]))) == data[:16]
    assert head(whole.complete(record(1, 1, 9, b""))) == data[:9], "padding is left out"
    assert head(whole.complete(record(1, 0, 5, b"", cpu=1))) == b"other"
    assert head(whole.complete(record(2, 0, 21, data[:4]))) == data[:4], "nothing was handed out"


def test_a_verdict_has_no_bytes() -> None:
    verdict = FIXED.pack(1, 2, 0, 1, 3, 255, 2, 0)
    assert WholePackets(16).complete(verdict) == verdict


def test_what_has_lost_its_record_is_forgotten() -> None:
    whole = WholePackets(64)
    for packet in range(3 * MOST_WAITING):
        whole.take([sample(packet, 0, b"lost")])
    assert len(whole._waiting) == MOST_WAITING
