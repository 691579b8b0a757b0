# SPDX-License-Identifier: Apache-2.0
"""What was read of a program or map is kept while it exists, and no longer."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from xdpchain.sys import bpf
from xdpchain.sys.while_it_lives import KeptById, while_it_lives


@pytest.fixture(autouse=True)
def small(root: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xdpchain.sys.while_it_lives.LEAST_ROOM", 4)


def make(held: ExitStack) -> int:
    return bpf.map_info(held.enter_context(bpf.map_create(bpf.MapType.ARRAY, 4, 8, 1, name="kept"))).id


def test_what_exists_is_read_once_and_what_is_gone_is_forgotten() -> None:
    read: list[int] = []
    kept = KeptById(bpf.map_by_id)

    def of(map_id: int) -> str:
        return kept.of(map_id, None, lambda: read.append(map_id) or f"map {map_id}")

    with ExitStack() as held:
        living = [make(held) for _ in range(3)]
        for _ in range(100):
            with ExitStack() as brief:
                gone = make(brief)
                assert of(gone) == f"map {gone}"
            assert [of(map_id) for map_id in living] == [f"map {map_id}" for map_id in living]
            assert len(kept._known) <= 2 * (len(living) + 1)
        assert [map_id for map_id in read if map_id in living] == living


def test_another_argument_replaces_what_was_kept() -> None:
    read: list[tuple[int, int]] = []

    @while_it_lives(bpf.map_by_id)
    def double(map_id: int, number: int) -> int:
        read.append((map_id, number))
        return 2 * number

    with ExitStack() as held:
        one, other = make(held), make(held)
        assert [double(one, 1), double(one, 1), double(other, 1), double(one, 2), double(one, 1)] == [
            2,
            2,
            2,
            4,
            2,
        ]
    assert read == [(one, 1), (other, 1), (one, 2), (one, 1)]
