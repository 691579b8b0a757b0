# SPDX-License-Identifier: Apache-2.0
"""Shared by tests of running chains: build one on a playground, query it, and what it should do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from xdpchain.change.plan import make_plan
from xdpchain.editing import apply
from xdpchain.model.actions import ActionSet
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.interface import Mode
from xdpchain.model.running import Running
from xdpchain.model.slot import Slot
from xdpchain.objects.components import load_component
from xdpchain.observe.discover import look
from xdpchain.sys import bpf, netns
from xdpchain.testing.playground import Playground

LINKAGES = [
    pytest.param(linkage, id=linkage.value, marks=[pytest.mark.vm] * linkage.facts.libxdp)
    for linkage in Linkage
]
"""Every linkage, as a test's parameter; freplace in the kernel lab where this kernel refuses it."""

UNREPLACED = 31
AT_MOST_PASS = (ActionSet.parse("none"), ActionSet.parse("P"))


@dataclass(frozen=True)
class Expected:
    """What the contract says about one packet: the slots that ran with what each returned, and the
    verdict.
    """

    returned: tuple[int, ...]
    verdict: int


def expected(
    actions: Sequence[ActionSet], script: Sequence[int], linkage: Linkage = Linkage.STATIC
) -> Expected:
    """The contract: slots run in order, on while the code is among the slot's actions, XDP_PASS after the
    last. Code 31 always continues: it is what an unreplaced stub returns.

    A single freplace program that continues after XDP_PASS at most replaces the dispatcher itself, as in
    libxdp: the same, except that code 31 then is the verdict.
    """
    if linkage is Linkage.FREPLACE and len(actions) == 1 and actions[0] in AT_MOST_PASS:
        return Expected(tuple(script[:1]), script[0])
    returned = []
    for chosen, code in zip(actions, script, strict=False):
        returned.append(code)
        if code not in chosen and code != UNREPLACED:
            return Expected(tuple(returned), code)
    return Expected(tuple(returned), 2)


def look_at(playground: Playground, link: int = 0) -> Running:
    return look(playground.links[link].ifname, playground.netns)


def slots_of(running: Running) -> tuple[Slot, ...]:
    assert running.chain is not None, running.note
    return running.chain.slots


def change(playground: Playground, candidate: Chain, link: int = 0) -> Running:
    """Make ``candidate`` run on the playground."""
    return apply(make_plan(look_at(playground, link), candidate))


def scripted_chain(
    samples: Path,
    actions: Sequence[ActionSet],
    linkage: Linkage,
    mode: Mode = Mode.NATIVE,
    counters: bool = True,
) -> Chain:
    """Slot i runs the sample scripted_i: it returns byte i of the packet's payload, and appends its digit."""
    chain = Chain(linkage=linkage, mode=mode, counters=counters)
    for number, chosen in enumerate(actions):
        component = load_component(str(samples / "scripted.o"), name=f"scripted_{number}", instance="script")
        chain = chain.add(Slot.of(component, 10 * number, chosen))
    return chain


def chain_of(
    samples: Path, *names: str, linkage: Linkage = Linkage.STATIC, mode: Mode = Mode.NATIVE
) -> Chain:
    """The first program of each of these samples, as declared."""
    chain = Chain(linkage=linkage, mode=mode)
    for name in names:
        chain = chain.add(Slot.of(load_component(str(samples / f"{name}.o"))))
    return chain


def run_through(running: Running, frame: bytes, *, arrived: bool = False) -> bpf.TestRun:
    """One packet through the attached dispatcher, without the interface; or ``arrived``, as if it came in
    there (native mode only): counting from outside accepts no other.
    """
    hook, interface = running.hook, running.interface
    assert hook is not None
    ingress = interface.ifindex if arrived else 0
    with bpf.prog_by_id(hook.prog_id) as program:
        return netns.run(interface.netns, lambda: bpf.prog_test_run(program, frame, ingress=ingress))
