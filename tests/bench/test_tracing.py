# SPDX-License-Identifier: Apache-2.0
"""What a packet pays for counting by fexit: while somebody looks, and nothing afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.rounds import summary
from tests.kernel.chains import chain_of, change
from tests.kernel.tracing import unloading
from xdpchain.model.chain import Linkage
from xdpchain.observe.trace import trace
from xdpchain.observe.trace.cost import measure_counting
from xdpchain.sys import bpf
from xdpchain.testing.playground import Playground

pytestmark = [pytest.mark.bench, pytest.mark.vm]

SLOTS, ROUNDS, REPEAT = 3, 15, 20_000


@pytest.mark.parametrize("slots", [1, 2, 5, 10])
def test_what_a_counted_packet_pays(root: None, slots: int) -> None:
    cost = measure_counting(slots)
    print(f"\n{slots} slots: {cost.plain_ns} ns a packet, {cost.counted_ns} ns while it is counted")
    assert cost.extra_ns > 0


def test_a_chain_costs_what_it_did_once_nobody_looks(playground: Playground, samples: Path) -> None:
    with unloading(playground):
        running = change(playground, chain_of(samples, *["pass"] * SLOTS, linkage=Linkage.FREPLACE))
        assert running.hook is not None
        with bpf.prog_by_id(running.hook.prog_id) as program:

            def rounds() -> list[float]:
                return [float(bpf.prog_test_run(program, bytes(64), REPEAT).ns) for _ in range(ROUNDS)]

            rounds()  # to warm up
            before = summary(rounds())
            with trace(running):
                while_traced = summary(rounds())
            after = summary(rounds())
    # Packets of a test run come from lo: the tracer examines and skips them.
    print(f"\n{SLOTS} slots: before {before} ns, traced {while_traced} ns, after {after} ns")
    assert after.median < (before.median + while_traced.median) / 2
