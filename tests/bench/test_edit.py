# SPDX-License-Identifier: Apache-2.0
"""One edit of a running chain of three, compared with `bpftool prog loadall` of the same three objects.

The edit is judged without the kernel's swap, which waits for an RCU grace period
(bpf_dispatcher_change_prog() in dev_xdp_install()): several milliseconds whatever the programs, and different
in every edit. So the swap is measured within each edit; beside them the swap alone, between two programs of
two instructions. Processor time is shown too: other work on the machine affects it less.
"""

from __future__ import annotations

import contextlib
import os
import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import xdpchain
from tests.bench.rounds import alternate
from tests.kernel.chains import chain_of, change
from xdpchain.observe.permissions import RETURN_PASS
from xdpchain.sys import bpf, bpffs
from xdpchain.sys.netlink import Netlink
from xdpchain.testing.playground import Playground

pytestmark = pytest.mark.bench

NAMES = ("firewall", "ratelimit", "monitor")
ROUNDS = 40
TARGET_RATIO = 1.5


@contextlib.contextmanager
def bare_swap() -> Iterator[Callable[[], float]]:
    """On a separate playground: each call replaces one of two minimal programs with the other, and returns
    the milliseconds it takes.
    """
    with contextlib.ExitStack() as held:
        playground = held.enter_context(Playground())
        netlink = held.enter_context(Netlink(playground.netns))
        pair = [held.enter_context(bpf.prog_load(6, RETURN_PASS, name="bare")) for _ in range(2)]
        netlink.attach_xdp(playground.ifindex, pair[0].fileno(), "native", None)

        def swap() -> float:
            began = time.perf_counter()
            netlink.attach_xdp(playground.ifindex, pair[1].fileno(), "native", pair[0].fileno())
            pair.reverse()
            return (time.perf_counter() - began) * 1e3

        yield swap


def processor_time(whose: int) -> float:
    """Milliseconds of processor time of this process, or of its reaped children."""
    found = resource.getrusage(whose)
    return (found.ru_utime + found.ru_stime) * 1e3


def test_an_edit_against_loading_the_objects(playground: Playground, samples: Path) -> None:
    change(playground, chain_of(samples, *NAMES))
    pins = bpffs.find() / f"bench-{os.getpid()}"
    spent: dict[str, list[float]] = {"edit": [], "bpftool": []}
    parts: dict[str, list[float]] = {"load and link": [], "swap it in": [], "release the old chain": []}

    def edit() -> float:
        """An edit without its swap."""
        steps: list[tuple[str, float]] = []
        began, used = time.perf_counter(), processor_time(resource.RUSAGE_SELF)
        xdpchain.edit(
            playground.ifname,
            lambda running: xdpchain.chain_of(running).move(2, 0),
            netns=playground.netns,
            progress=lambda step: steps.append((step, time.perf_counter())),
        )
        done = time.perf_counter()
        spent["edit"].append(processor_time(resource.RUSAGE_SELF) - used)
        ends = [at for _, at in steps[1:]] + [done]
        taken = {step: (end - at) * 1e3 for (step, at), end in zip(steps, ends, strict=True)}
        for part, found in parts.items():
            found += [some for step, some in taken.items() if step.startswith(part)]
        return (done - began) * 1e3 - taken["swap it in"]

    def load_all() -> float:
        began, used = time.perf_counter(), processor_time(resource.RUSAGE_CHILDREN)
        for name in NAMES:
            subprocess.run(
                ["bpftool", "prog", "loadall", str(samples / f"{name}.o"), str(pins / name)],
                check=True,
                stderr=subprocess.DEVNULL,
            )
        taken = (time.perf_counter() - began) * 1e3
        spent["bpftool"].append(processor_time(resource.RUSAGE_CHILDREN) - used)
        for directory in pins.iterdir():
            for pin in directory.iterdir():
                pin.unlink()
            directory.rmdir()
        return taken

    pins.mkdir()
    try:
        with bare_swap() as swap_once:
            taken = alternate({"edit": edit, "swap": swap_once, "bpftool": load_all}, ROUNDS)
    finally:
        pins.rmdir()
    ratio = taken["edit"].median / taken["bpftool"].median
    link, swap, rest = (statistics.median(found) for found in parts.values())
    cpu, tools = (statistics.median(found) for found in spent.values())
    print(f"\nms: an edit but for its swap {taken['edit']}; a swap alone {taken['swap']}")
    print(f"ms: bpftool prog loadall, three times {taken['bpftool']}")
    print(f"ms, of an edit: linking {link:.1f}, its swap {swap:.1f}, after it {rest:.1f}")
    print(f"ms of a processor: an edit {cpu:.1f}, bpftool {tools:.1f}: {cpu / tools:.2f} times")
    print(f"an edit but for the swap: {ratio:.2f} of bpftool's time (target {TARGET_RATIO})")
    assert ratio <= TARGET_RATIO
    assert cpu / tools <= TARGET_RATIO
