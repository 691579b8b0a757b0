# SPDX-License-Identifier: Apache-2.0
"""Slots in shadow between two editors: xdp-loader, which has no such concept, sees a component that continues
after every action, and what it rebuilds continues as before.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.libxdp import Loader, agreed
from tests.kernel.chains import change, look_at, run_through
from tests.kernel.test_contract import CODES_TRIED
from tests.kernel.tracing import coded_object
from xdpchain.model.actions import ActionSet
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.running import Owner, Running
from xdpchain.model.slot import Slot
from xdpchain.objects.components import load_component
from xdpchain.testing.frames import scripted
from xdpchain.testing.playground import Playground

pytestmark = pytest.mark.vm

ODD = ActionSet.parse("PT")


def coded_chain() -> Chain:
    """coded_0 in shadow, then coded_1: byte N of the payload says what they return."""
    chain = Chain(linkage=Linkage.FREPLACE)
    for number, actions in enumerate((ODD, ActionSet.parse("P"))):
        component = load_component(str(coded_object()), name=f"coded_{number}")
        chain = chain.add(Slot.of(component, 5 + number, actions, shadow=number == 0))
    return chain


def shadows(running: Running) -> list[tuple[str, bool]]:
    assert running.chain is not None, running.note
    return [(slot.name, slot.shadow) for slot in running.chain]


def test_xdp_loader_edits_a_chain_with_a_slot_in_shadow(
    playground: Playground, samples: Path, loader: Loader
) -> None:
    change(playground, coded_chain())
    assert agreed(playground).owner is Owner.XDPTUI
    loader.load(samples / "counter.o")
    theirs = agreed(playground)
    assert theirs.owner is Owner.LIBXDP  # they rebuilt the dispatcher
    assert shadows(theirs) == [("coded_0", True), ("coded_1", False), ("xdp_counter", False)]
    assert (theirs.chain or Chain()).slots[0].actions == ODD
    for code in CODES_TRIED:
        got = run_through(theirs, scripted(bytes([code, 3])))
        # Their configuration can't express codes beyond 31: only the lowest six bits count.
        assert got.code == (3 if code % 64 < 32 else code)
    # Ours again, with other actions in shadow: the newer ones are read, also by their dispatcher.
    again = change(playground, (theirs.chain or Chain()).retune(0, actions=ActionSet.parse("D")))
    assert again.owner is Owner.XDPTUI
    loader.unload((again.chain or Chain()).slots[2].id or 0)
    assert (agreed(playground).chain or Chain()).slots[0].actions == ActionSet.parse("D")
    assert shadows(look_at(playground)) == [("coded_0", True), ("coded_1", False)]


def test_left_alone_by_xdp_loader_it_decides_and_that_is_said(playground: Playground, loader: Loader) -> None:
    running = change(playground, coded_chain())
    loader.unload((running.chain or Chain()).slots[1].id or 0)
    alone = look_at(playground)
    assert shadows(alone) == [("coded_0", False)]
    assert "was in shadow" in alone.note
    assert (alone.chain or Chain()).slots[0].actions == ODD
    assert run_through(alone, scripted(b"\1")).code == 1  # libxdp put it in the dispatcher's place
    back = change(playground, (alone.chain or Chain()).retune(0, shadow=True))
    assert run_through(back, scripted(b"\1")).code == 2
    assert (shadows(back), back.note) == ([("coded_0", True)], "")


def test_a_component_of_theirs_in_shadow(playground: Playground, loader: Loader) -> None:
    """It has no note of ours at first, and gets one while it runs."""
    loader.load(coded_object(), name="coded_0", priority=5, actions="XDP_TX")
    theirs = look_at(playground).chain or Chain()
    running = change(playground, theirs.retune(0, shadow=True))
    assert run_through(running, scripted(b"\1")).code == 2
    slot = (agreed(playground).chain or Chain()).slots[0]
    assert (slot.shadow, slot.actions, slot.id) == (True, ActionSet.parse("T"), theirs.slots[0].id)
