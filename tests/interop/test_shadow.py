# SPDX-License-Identifier: Apache-2.0
"""Slots in shadow between two editors: xdp-loader, which knows of no such thing, sees a component that goes
on after every action, and what it builds anew goes on as before.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.libxdp import Loader, agreed
from tests.kernel.chains import change, look_at, run_through, scripted_chain
from tests.kernel.test_contract import CODES_TRIED
from xdpchain.actions import ActionSet
from xdpchain.chain import Chain, Linkage
from xdpchain.running import Owner, Running
from xdptui.demo.frames import scripted
from xdptui.demo.playground import Playground

pytestmark = pytest.mark.vm

ODD = ActionSet.parse("PT")


def shadows(running: Running) -> list[tuple[str, bool]]:
    assert running.chain is not None, running.note
    return [(slot.name, slot.shadow) for slot in running.chain]


def test_xdp_loader_edits_a_chain_with_a_slot_in_shadow(
    playground: Playground, samples: Path, loader: Loader
) -> None:
    chain = scripted_chain(samples, [ODD, ActionSet.parse("P")], Linkage.FREPLACE)
    change(playground, chain.retune(0, priority=5, shadow=True))
    assert agreed(playground).owner is Owner.XDPTUI
    loader.load(samples / "counter.o")
    theirs = agreed(playground)
    assert theirs.owner is Owner.LIBXDP  # they built the dispatcher anew
    assert shadows(theirs) == [("scripted_0", True), ("scripted_1", False), ("xdp_counter", False)]
    assert (theirs.chain or Chain()).slots[0].actions == ODD
    for code in CODES_TRIED:
        got = run_through(theirs, scripted(bytes([code, 2])))
        # Codes beyond 31 can't be said in their configuration: what counts are the lowest six bits.
        assert (got.code, got.data[60:]) == ((2, b"01") if code % 64 < 32 else (code, b"0")), code
    # Ours again, with other actions in shadow: the newer ones are read, by their dispatcher too.
    again = change(playground, (theirs.chain or Chain()).retune(0, actions=ActionSet.parse("D")))
    assert again.owner is Owner.XDPTUI
    loader.unload((again.chain or Chain()).slots[2].id or 0)
    assert (agreed(playground).chain or Chain()).slots[0].actions == ActionSet.parse("D")
    assert shadows(look_at(playground)) == [("scripted_0", True), ("scripted_1", False)]


def test_left_alone_by_xdp_loader_it_decides_and_that_is_said(
    playground: Playground, samples: Path, loader: Loader
) -> None:
    chain = scripted_chain(samples, [ODD, ActionSet.parse("P")], Linkage.FREPLACE)
    running = change(playground, chain.retune(0, priority=5, shadow=True))
    loader.unload((running.chain or Chain()).slots[1].id or 0)
    alone = look_at(playground)
    assert shadows(alone) == [("scripted_0", False)]
    assert "was in shadow" in alone.note
    assert (alone.chain or Chain()).slots[0].actions == ODD
    assert run_through(alone, scripted(b"\1")).code == 1  # libxdp put it in the dispatcher's place
    back = change(playground, (alone.chain or Chain()).retune(0, shadow=True))
    assert run_through(back, scripted(b"\1")).code == 2
    assert (shadows(back), back.note) == ([("scripted_0", True)], "")


def test_a_component_of_theirs_in_shadow(playground: Playground, samples: Path, loader: Loader) -> None:
    """It has no note of ours to begin with, and gets one while it runs."""
    loader.load(samples / "scripted.o", name="scripted_0", priority=5, actions="XDP_TX")
    theirs = look_at(playground).chain or Chain()
    running = change(playground, theirs.retune(0, shadow=True))
    assert run_through(running, scripted(b"\1")).code == 2
    slot = (agreed(playground).chain or Chain()).slots[0]
    assert (slot.shadow, slot.actions, slot.id) == (True, ActionSet.parse("T"), theirs.slots[0].id)
