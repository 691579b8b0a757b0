# SPDX-License-Identifier: Apache-2.0
"""The sum of what the CPUs counted."""

from __future__ import annotations

import mmap
import struct

from hypothesis import given
from hypothesis import strategies as st

from xdpchain.sys.cpus import added_up

MOST_CPUS = 256
ROW = struct.Struct("=3Q")
BETWEEN = struct.Struct("=Q")
STRIDE = ROW.size + BETWEEN.size
count = st.integers(0, (1 << 64) // MOST_CPUS - 1)


@given(st.lists(st.tuples(count, count, count), max_size=MOST_CPUS))
def test_each_word_is_the_sum_over_the_cpus(cpus: list[tuple[int, ...]]) -> None:
    with mmap.mmap(-1, MOST_CPUS * STRIDE) as view:
        for cpu, words in enumerate(cpus):
            ROW.pack_into(view, cpu * STRIDE, *words)
            BETWEEN.pack_into(view, cpu * STRIDE + ROW.size, (1 << 64) - 1)  # not counted
        total = ROW.unpack(added_up(view, range(0, len(cpus) * STRIDE, STRIDE), ROW.size))
    assert total == tuple(sum(words[which] for words in cpus) for which in range(3))


def test_what_overflows_changes_no_size() -> None:
    """Only who may write the map can bring that about."""
    with mmap.mmap(-1, 2 * STRIDE) as view:
        view[:] = b"\xff" * len(view)
        assert len(added_up(view, (0, STRIDE), ROW.size)) == ROW.size
