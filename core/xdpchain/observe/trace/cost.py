# SPDX-License-Identifier: Apache-2.0
"""Measure the cost of counting by fexit on this machine.

The running chain is not used: test packets would be counted and change its components' state. Instead, a
separate unattached dispatcher with as many slots runs BPF_PROG_TEST_RUN with and without the fexit programs
of such a chain.
"""

from __future__ import annotations

import contextlib
from functools import cache

from xdpchain.errors import KernelRefused
from xdpchain.frozen import frozen
from xdpchain.linkage.counting import make_counters
from xdpchain.linkage.dispatcher.config import DispatcherConfig, SlotConfig
from xdpchain.linkage.dispatcher.emit import MAIN, load_dispatcher
from xdpchain.model.actions import ALL_ACTIONS
from xdpchain.model.running import Running
from xdpchain.observe.counter_rows import CounterRows
from xdpchain.sys import bpf, netns

from .fexit import Aim, TracedFunction, attach
from .targets import VERDICT, Place, targets

__all__ = ["CountingCost", "counting_cost", "measure_counting"]

PACKET = bytes(64)
LOOPBACK = 1  # where test runs happen: the kernel gives lo this ifindex in every namespace
ROUNDS = 5
ROUND_NS = 4_000_000


@frozen
class CountingCost:
    """Nanoseconds per packet through all slots of a chain, without and with counting."""

    slots: int
    plain_ns: int
    counted_ns: int

    @property
    def extra_ns(self) -> int:
        """What counting adds to a packet that passes all slots; less if it leaves earlier."""
        return max(0, self.counted_ns - self.plain_ns)


def counting_cost(running: Running) -> CountingCost | None:
    """The cost of counting on this interface while traced; None if nothing needs tracing.

    Measured once per process and chain length, in about 50 ms. Raises what `measure_counting` raises.
    """
    found = targets(running)
    # If the components have their own counters, only one program is traced, at the cost of a single one.
    return measure_counting(max(1, sum(target.key != VERDICT for target in found))) if found else None


@cache
def measure_counting(slots: int) -> CountingCost:
    """Measure for a chain of 1 to 10 slots (1: also a single program). Raises PermissionDenied, Unsupported
    and KernelRefused if counting can't be attached.
    """
    mask = (1 << len(ALL_ACTIONS)) - 1
    config = DispatcherConfig(2, (SlotConfig(mask, 50),) * slots)
    with contextlib.ExitStack() as held:
        program = held.enter_context(load_dispatcher(config))
        counters = held.enter_context(make_counters())
        rows = CounterRows(counters)
        held.callback(rows.close)
        names = [f"prog{i}" for i in range(slots)] + [MAIN] * (slots > 1)
        aims = [Aim(program, TracedFunction(name), row) for row, name in enumerate(names)]
        plain = _fastest(program)
        links = attach(aims, counters, Place(LOOPBACK, netns.inode()))
        try:
            counted = _fastest(program)
        finally:
            for link in links.values():
                link.close()
        if not all(rows.counts(aim.row).total_packets for aim in aims):
            raise KernelRefused(
                "the cost of counting can't be measured", "the kernel did not count test packets"
            )
        return CountingCost(slots, min(plain, _fastest(program)), counted)


def _fastest(program: bpf.Fd) -> int:
    """Nanoseconds per run in the fastest of several rounds, the least disturbed one."""
    repeat = max(1, ROUND_NS // max(1, bpf.prog_test_run(program, PACKET, 1000).ns))
    return min(bpf.prog_test_run(program, PACKET, repeat).ns for _ in range(ROUNDS))
