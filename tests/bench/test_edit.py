# SPDX-License-Identifier: Apache-2.0
"""One edit of a running chain of three against `bpftool prog loadall` of the same three objects.

Beside them the swap alone, between two programs of two instructions: the kernel waits in it for an RCU
grace period (bpf_dispatcher_change_prog() in dev_xdp_install()), which takes several milliseconds whatever
the programs are.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.bench.rounds import alternate
from tests.kernel.chains import chain_of, change, look_at
from xdpchain.change.plan import make_plan
from xdpchain.editing import apply
from xdpchain.observe.permissions import RETURN_PASS
from xdpchain.sys import bpf, bpffs
from xdpchain.sys.netlink import Netlink
from xdpchain.testing.playground import Playground

pytestmark = pytest.mark.bench

NAMES = ("firewall", "ratelimit", "monitor")
ROUNDS = 20
TARGET_RATIO = 1.5


@contextlib.contextmanager
def bare_swap() -> Iterator[Callable[[], None]]:
    """On a playground of its own: each call puts one of two minimal programs in the other's place."""
    with contextlib.ExitStack() as held:
        playground = held.enter_context(Playground())
        netlink = held.enter_context(Netlink(playground.netns))
        pair = [held.enter_context(bpf.prog_load(6, RETURN_PASS, name="bare")) for _ in range(2)]
        netlink.attach_xdp(playground.ifindex, pair[0].fileno(), "native", None)

        def swap() -> None:
            netlink.attach_xdp(playground.ifindex, pair[1].fileno(), "native", pair[0].fileno())
            pair.reverse()

        yield swap


def timed(action: Callable[[], object]) -> float:
    """Milliseconds that ``action`` takes."""
    start = time.perf_counter()
    action()
    return (time.perf_counter() - start) * 1e3


def test_an_edit_against_loading_the_objects(playground: Playground, samples: Path) -> None:
    change(playground, chain_of(samples, *NAMES))
    pins = bpffs.find() / f"bench-{os.getpid()}"

    def edit() -> None:
        running = look_at(playground)
        assert running.chain is not None
        apply(make_plan(running, running.chain.move(2, 0)))

    def load_all() -> None:
        for name in NAMES:
            target = pins / name
            subprocess.run(
                ["bpftool", "prog", "loadall", str(samples / f"{name}.o"), str(target)],
                check=True,
                stderr=subprocess.DEVNULL,
            )

    def unpin() -> None:
        for directory in pins.iterdir():
            for pin in directory.iterdir():
                pin.unlink()
            directory.rmdir()

    def load_and_unpin() -> float:
        taken = timed(load_all)
        unpin()
        return taken

    steps: dict[str, float] = {}

    def step(name: str) -> None:
        steps[name] = time.perf_counter()

    pins.mkdir()
    try:
        with bare_swap() as swap_once:
            taken = alternate(
                {
                    "edit": lambda: timed(edit),
                    "swap": lambda: timed(swap_once),
                    "bpftool": load_and_unpin,
                },
                ROUNDS,
            )
        running = look_at(playground)
        assert running.chain is not None
        apply(make_plan(running, running.chain.move(2, 0)), progress=step)
        done = time.perf_counter()
    finally:
        pins.rmdir()
    ours = taken["edit"].median - taken["swap"].median
    ratio = ours / taken["bpftool"].median
    started = next(at for name, at in steps.items() if name.startswith("load and link"))
    link = (steps["swap it in"] - started) * 1e3
    swap = (steps["release the old chain"] - steps["swap it in"]) * 1e3
    rest = (done - steps["release the old chain"]) * 1e3
    print(f"\nms: an edit {taken['edit']}; the kernel's swap alone {taken['swap']}")
    print(f"ms: bpftool prog loadall, three times {taken['bpftool']}")
    print(f"ms, of one edit: linking {link:.1f}, the swap {swap:.1f}, after it {rest:.1f}")
    print(f"an edit but for the swap: {ratio:.2f} of bpftool's time (target {TARGET_RATIO})")
    assert ratio <= TARGET_RATIO
