# SPDX-License-Identifier: Apache-2.0
"""Thousands of edits: nothing grows. 300 in one process and 20 processes in every run; with XDPTUI_SOAK=1
10,000 and 1,000. XDPTUI_SOAK_EDITS and XDPTUI_SOAK_PROCESSES say how many instead, also in the lab.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from tests.kernel.chains import LINKAGES, change, look_at
from tests.stress.children import Outcome, run_cli
from tests.stress.holdings import Holdings, holdings, resident_bytes
from tests.stress.scale import LAB, scaled
from xdpchain.change.plan import make_plan
from xdpchain.editing import apply
from xdpchain.model.actions import ActionSet
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.slot import Slot
from xdpchain.objects.components import keep_maps, load_component
from xdpchain.observe.counters import open_counters
from xdpchain.testing import frames
from xdpchain.testing.playground import Playground
from xdpchain.trial.run import run_trial

EDITS = int(os.environ.get("XDPTUI_SOAK_EDITS") or scaled(300, 10_000, 24))
PROCESSES = int(os.environ.get("XDPTUI_SOAK_PROCESSES") or scaled(20, 1_000, 6))
ROOT = Path(__file__).parents[2]
GROWTH_PER_EDIT = 64
"""Bytes of memory that an edit may leave. A leaked object would be hundreds: this leaves no room for even
one.
"""
SLACK = 1 << 20
"""Bytes by which the bookkeeping of allocator and interpreter may still grow after the warm-up."""
WARM, CACHES = 900, 3 << 20
"""Edits until the caches of decoded data are full, and bytes they may take until then."""


def cycle(samples: Path, start: Chain) -> Iterator[Chain | None]:
    """Edits of every kind; after the last the chain is as before the first. None: read it again."""
    scripted = str(samples / "scripted.o")
    counter = load_component(str(samples / "counter.o"))
    newer = load_component(str(samples / "counter_v2.o"))
    chain = start
    chain = yield chain.add(Slot.of(load_component(scripted, name="scripted_1")), 0)
    chain = yield chain.move(0, 2)
    chain = yield chain.retune(1, actions=ActionSet.parse("PDT"))
    first = next(i for i, slot in enumerate(chain.slots) if slot.name == "xdp_counter")
    chain = yield chain.substitute(first, keep_maps(newer, chain.slots[first].component))
    chain = yield chain.add(Slot.of(load_component(str(samples / "tailcalls.o"))))
    chain = yield chain.substitute(first, keep_maps(counter, chain.slots[first].component))
    chain = yield chain.remove(
        [i for i, s in enumerate(chain.slots) if s.name in ("scripted_1", "xdp_tailcalls")]
    )
    chain = yield Chain(linkage=start.linkage)
    yield start


def everything(samples: Path, linkage: Linkage) -> Chain:
    """All kinds of maps: hashes, per-CPU, global data, maps in maps, a program array."""
    chain = Chain(linkage=linkage)
    for name in ("counter", "firewall", "globals", "mapinmap", "tailcalls"):
        chain = chain.add(Slot.of(load_component(str(samples / f"{name}.o"))))
    return chain


def steady(playground: Playground, bpffs: Path) -> Holdings:
    """What is held, once the kernel has freed what it frees after a grace period."""
    before = holdings(playground, bpffs)
    while True:
        time.sleep(0.05)
        now = holdings(playground, bpffs)
        if now.counts == before.counts:
            return now
        before = now


@pytest.mark.parametrize("linkage", LINKAGES)
@pytest.mark.timeout(14400)
def test_many_edits_in_one_process(
    playground: Playground, samples: Path, own_bpffs: Path, linkage: Linkage
) -> None:
    start = everything(samples, linkage)
    frame = frames.udp(frames.PEER, frames.NEAR, 53)
    done, memory, held = 0, [], []
    began = time.monotonic()
    change(playground, start)
    while done < EDITS:
        edits = cycle(samples, start)
        candidate = next(edits)
        while candidate is not None:
            running = change(playground, candidate)
            done += 1
            if done % 10 == 0 and running.chain is not None:  # what a screen does between two edits
                reader = open_counters(running)
                if reader is not None:
                    with reader:
                        reader.read()
                if linkage is Linkage.STATIC:
                    run_trial(running.chain, [frame])
            refused(playground, samples, done)
            try:
                candidate = edits.send(running.chain or Chain(linkage=linkage))  # type: ignore[attr-defined]
            except StopIteration:
                candidate = None
        memory.append(resident_bytes())
        held.append(steady(playground, own_bpffs).counts)
    seconds = time.monotonic() - began
    settled = len(held) // 3
    assert all(counts == held[settled] for counts in held[settled:]), (held[settled], held[-1])
    assert held[-1]["programs"] < 20
    edits_after = done * (len(memory) - 1 - settled) // len(memory)
    grown, step = growth(memory[settled:])
    if edits_after > 100:  # otherwise the warm-up is not over
        room = SLACK + GROWTH_PER_EDIT * edits_after + (CACHES if done - edits_after < WARM else 0)
        assert grown < room, f"{grown} bytes in {edits_after} edits"
    change(playground, Chain())
    after = steady(playground, own_bpffs)
    assert after.counts == {**held[-1], "programs": 0, "maps": 0, "links": 0, "pins": 0}
    print(
        f"{linkage}: {done} edits in {seconds:.0f} s ({1000 * seconds / done:.1f} ms each), held {held[-1]}, "
        f"{grown} bytes more memory in the last {edits_after}, and {step} at once"
    )


def growth(memory: Sequence[int]) -> tuple[int, int]:
    """By how many bytes memory grew little by little, and in its largest step, which does not count as
    growth: once in tens of thousands of new names, which pathlib interns, Python moves its table of interned
    strings, and takes up to 2 MiB for that. A leak takes many steps.
    """
    steps = [after - before for before, after in pairwise(memory)]
    largest = max([0, *steps])
    return sum(steps) - largest, largest


def refused(playground: Playground, samples: Path, number: int) -> None:
    """Every seventh edit fails: failures must not leave anything behind either."""
    if number % 7:
        return
    running = look_at(playground)
    bad = Slot.of(load_component(str(samples / "refused.o")))
    with pytest.raises(Exception, match="verifier"):
        apply(make_plan(running, (running.chain or Chain()).add(bad)))


@pytest.mark.parametrize("linkage", LINKAGES)
@pytest.mark.timeout(14400)
def test_many_processes_of_one_edit_each(
    playground: Playground, samples: Path, own_bpffs: Path, linkage: Linkage
) -> None:
    """The command line as a script would call it."""
    change(playground, everything(samples, linkage))
    where = [playground.ifname, "--netns", playground.netns]
    tailcalls, scripted = str(samples / "tailcalls.o"), str(samples / "scripted.o")
    edits = [
        ["load", *where, scripted, "-n", "scripted_1", "--at", "0"],
        ["set", *where, "scripted_1", "-A", "PDT"],
        ["move", *where, "scripted_1", "2"],
        ["load", *where, tailcalls, "--at", "0"],
        ["unload", *where, "0"],
        ["unload", *where, "scripted_1"],
    ]
    held = []
    began = time.monotonic()
    for index in range(PROCESSES):
        done = run(edits[index % len(edits)])
        assert done.code == 0, (index, done)
        if index % len(edits) == len(edits) - 1:
            held.append(steady(playground, own_bpffs).counts)
    seconds = time.monotonic() - began
    assert all(counts == held[0] for counts in held), (held[0], held[-1])
    change(playground, Chain())
    assert steady(playground, own_bpffs).counts == {
        "programs": 0, "maps": 0, "links": 0, "pins": 0, "descriptors": held[0]["descriptors"]
    }  # fmt: skip
    print(f"{linkage}: {PROCESSES} processes in {seconds:.0f} s, held {held[-1]}")


def run(arguments: list[str]) -> Outcome:
    """The command in a new interpreter; in a forked child under emulation, where an interpreter takes
    seconds."""
    if LAB:
        return run_cli(*arguments)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'core'}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "xdptui", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    return Outcome(done.returncode, done.stdout, done.stderr)
