# SPDX-License-Identifier: Apache-2.0
"""What packets pay while somebody listens to the tracepoints or times the chain, and that they pay nothing
afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bench.rounds import Timing, summary
from tests.kernel.chains import chain_of, change
from tests.kernel.mishaps import live, redirecting, to_ifindex
from xdpchain.observe.tracepoints import Scope, listen
from xdpchain.sys import bpf, netns
from xdpchain.testing.playground import Playground
from xdpchain.trial.timing import RunTimes

pytestmark = pytest.mark.bench

ROUNDS = 15
NOISE = 1.3
"""How much rounds of the same thing may differ on a machine with other work."""


def test_redirected_packets(root: None) -> None:
    """A round without a listener, then one with each kind; repeated, so that all meet the same machine."""
    packets, batch = 20_000, 64
    with Playground(links=2, peer_takes_xdp=True) as net:
        running = redirecting(net, "by_ifindex")
        frame = to_ifindex(net.links[1].ifindex)
        home = netns.inode(net.netns)

        def taken() -> float:
            """Nanoseconds per packet."""
            start = time.perf_counter_ns()
            live(net, running, frame, packets, batch)
            return (time.perf_counter_ns() - start) / packets

        try:
            taken()
        except bpf.BpfError as error:
            pytest.skip(f"this kernel has no test runs with live packets ({error})")
        rounds: dict[str, list[float]] = {"before": [], "failures": [], "all": [], "after": []}
        for _ in range(ROUNDS):
            rounds["before"].append(taken())
            with listen(Scope.FAILURES, home):
                rounds["failures"].append(taken())
            with listen(Scope.ALL, home):
                rounds["all"].append(taken())
            rounds["after"].append(taken())
    found = {name: summary(values) for name, values in rounds.items()}
    print("\na redirected packet: " + ", ".join(f"{name} {timing} ns" for name, timing in found.items()))
    assert found["failures"].low < NOISE * found["before"].low, "packets that fare well pay nothing"
    assert found["after"].low < NOISE * found["before"].low
    assert found["all"].low < 3 * found["before"].low


def test_a_timed_chain(playground: Playground, samples: Path) -> None:
    running = change(playground, chain_of(samples, *["pass"] * 3))
    assert running.hook is not None
    with bpf.prog_by_id(running.hook.prog_id) as program:

        def rounds() -> Timing:
            return summary([float(bpf.prog_test_run(program, bytes(64), 50_000).ns) for _ in range(ROUNDS)])

        def warmed(measure: Callable[[], Timing]) -> Timing:
            measure()
            return measure()

        before = warmed(rounds)
        with RunTimes(running) as times:
            timed = rounds()
        after = rounds()
    print(f"\n3 slots: before {before} ns, timed {timed} ns, after {after} ns; said {times.cost.extra_ns} ns")
    assert timed.median > before.median
    assert after.median < (before.median + timed.median) / 2
