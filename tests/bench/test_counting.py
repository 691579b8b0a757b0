# SPDX-License-Identifier: Apache-2.0
"""What counting costs on freplace chains, as a ratio to the same chain without counters in the same run.

Where only the lab's kernels accept EXT programs, both are emulated: the ratio is then one of instructions,
not of time on hardware.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench.rounds import alternate
from tests.kernel.chains import chain_of, change
from xdpchain.model.chain import Chain, Linkage
from xdpchain.sys import bpf
from xdpchain.testing import frames
from xdpchain.testing.playground import Playground

pytestmark = [pytest.mark.bench, pytest.mark.vm]

PACKET = frames.tcp_syn(frames.PEER, frames.NEAR, 81).ljust(64, b"\0")
SLOTS, REPEAT, ROUNDS = 5, 10_000, 25
TARGET = 1.5
EMPTY_TARGET = 3.0
"""Components that do nothing: emulated, one costs less than counting it."""


@pytest.mark.parametrize(("sample", "target"), [("firewall", TARGET), ("pass", EMPTY_TARGET)])
def test_components_that_count_over_the_same_without(
    root: None, samples: Path, sample: str, target: float
) -> None:
    chain = chain_of(samples, *[sample] * SLOTS, linkage=Linkage.FREPLACE)
    with contextlib.ExitStack() as held:

        def ns_of(candidate: Chain) -> Callable[[], float]:
            running = change(held.enter_context(Playground()), candidate)
            assert running.hook is not None
            assert (running.counting is not None) == candidate.counters
            program = held.enter_context(bpf.prog_by_id(running.hook.prog_id))
            return lambda: float(bpf.prog_test_run(program, PACKET, REPEAT).ns)

        taken = alternate({some: ns_of(replace(chain, counters=some)) for some in (False, True)}, ROUNDS)
    ratio = taken[True].least / taken[False].least
    print(f"\n{SLOTS} times {sample}: {taken[False]} ns, {taken[True]} with counters: {ratio:.2f} times")
    assert ratio <= target
