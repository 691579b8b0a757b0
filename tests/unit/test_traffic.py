# SPDX-License-Identifier: Apache-2.0
"""The generator's promises: the composition of its traffic, and its limits."""

from __future__ import annotations

import struct
from collections import Counter

import pytest

from xdpchain.testing import traffic


def kind(frame: bytes) -> tuple[int, int]:
    """(ethertype, IP protocol or 0)"""
    ethertype = struct.unpack_from("!H", frame, 12)[0]
    return ethertype, {0x0800: frame[23], 0x86DD: frame[20]}.get(ethertype, 0)


def test_the_mixture_has_every_kind_of_packet() -> None:
    kinds = Counter(map(kind, traffic.mixture()))
    for wanted in [
        (0x0806, 0),
        (0x0800, 1),
        (0x0800, 6),
        (0x0800, 17),
        (0x86DD, 6),
        (0x86DD, 17),
        (0x86DD, 58),
    ]:
        assert kinds[wanted] >= 8
    assert sum(kinds.values()) == len(traffic.mixture())


def test_the_mixture_is_the_same_each_time() -> None:
    assert traffic.mixture() == traffic.mixture()


def test_one_source_sends_more_than_the_others() -> None:
    sources = Counter(frame[26:30] for frame in traffic.mixture() if kind(frame)[0] == 0x0800)
    (_, most), (_, next_most) = sources.most_common(2)
    assert most > 5 * next_most


@pytest.mark.parametrize("rate", [1, 50, 999, traffic.MAX_RATE])
@pytest.mark.parametrize("seconds", [1, 40, traffic.MAX_SECONDS])
def test_the_schedule_stays_within_its_rate_and_time(rate: int, seconds: int) -> None:
    counts = list(traffic.schedule(rate, seconds))
    assert len(counts) == seconds / traffic.TICK
    assert max(counts) <= rate * traffic.TICK + 1
    # at least half of the rate, at most all of it, and rounding loses less than one packet
    assert rate * seconds / 2 - 1 <= sum(counts) <= rate * seconds


@pytest.mark.parametrize(
    "bound", [["--rate", "2001"], ["--rate", "0"], ["--seconds", "601"], ["--rate", "many"]]
)
def test_bounds_can_not_be_exceeded(bound: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        traffic.main(["namespace", "xdp0", *bound])
    assert refused.value.code == 2
    assert "not" in capsys.readouterr().err


def test_a_namespace_that_is_not_there_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert traffic.main(["no-such-namespace", "xdp0", "--seconds", "1"]) == 1
    assert "no-such-namespace" in capsys.readouterr().err
