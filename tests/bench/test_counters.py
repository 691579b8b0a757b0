# SPDX-License-Identifier: Apache-2.0
"""Reading the counters of 100 chains of ten slots, compared with one `bpftool map dump` of one of them."""

from __future__ import annotations

import contextlib
import subprocess
import time
from pathlib import Path

import pytest

from tests.bench.rounds import alternate
from tests.kernel.chains import chain_of
from xdpchain.linkage.static import StaticLinker
from xdpchain.model.manifest import Author
from xdpchain.observe.counters import DispatcherCounters
from xdpchain.trial.run import NOWHERE

pytestmark = pytest.mark.bench

CHAINS, SLOTS, ROUNDS = 100, 10, 30
TARGET_RATIO = 1.3


def test_reading_a_hundred_chains(root: None, samples: Path) -> None:
    with contextlib.ExitStack() as held:
        readers = []
        one_map = 0
        for _ in range(CHAINS):
            built = StaticLinker().build(
                chain_of(samples, *["pass"] * SLOTS), NOWHERE, Author("", 0, "bench", 0.0)
            )
            held.callback(built.close)
            assert built.counting is not None
            one_map = built.counting.origin
            readers.append(held.enter_context(DispatcherCounters(built.counting, built.chain)))

        def read_all() -> float:
            start = time.perf_counter()
            for reader in readers:
                reader.read()
            return (time.perf_counter() - start) * 1e3

        def bpftool() -> float:
            start = time.perf_counter()
            subprocess.run(
                ["bpftool", "-j", "map", "dump", "id", str(one_map)], stdout=subprocess.DEVNULL, check=True
            )
            return (time.perf_counter() - start) * 1e3

        taken = alternate({"all": read_all, "bpftool": bpftool}, ROUNDS)
    print(
        f"\n{CHAINS} chains of {SLOTS} slots: {taken['all']} ms; "
        f"bpftool map dump of one: {taken['bpftool']} ms"
    )
    ratio = taken["all"].least / taken["bpftool"].least  # other work can only add time
    print(f"ratio {ratio:.2f} (target {TARGET_RATIO})")
    assert ratio <= TARGET_RATIO
