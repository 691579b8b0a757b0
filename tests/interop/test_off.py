# SPDX-License-Identifier: Apache-2.0
"""Slots that are off, between two editors: what xdp-loader rebuilds leaves them off."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.interop.libxdp import Loader
from tests.kernel.chains import change, look_at, run_through, slots_of
from tests.kernel.tracing import coded_object
from xdpchain.model.actions import ActionSet
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.running import Owner
from xdpchain.model.slot import Slot
from xdpchain.objects.components import load_component
from xdpchain.testing.frames import scripted
from xdpchain.testing.playground import Playground

pytestmark = pytest.mark.vm

ODD = ActionSet.parse("PT")


def test_xdp_loader_edits_a_chain_with_a_slot_that_is_off(
    playground: Playground, samples: Path, loader: Loader
) -> None:
    chain = Chain(linkage=Linkage.FREPLACE)
    for number, actions in enumerate((ODD, ActionSet.parse("P"))):
        component = load_component(str(coded_object()), name=f"coded_{number}")
        slot = Slot.of(component, 5 + number, actions, off=number == 0)
        chain = chain.add(replace(slot, labels=(("team", "edge"),)))
    made = change(playground, chain)
    first = slots_of(change(playground, (made.chain or Chain()).label(1, {"team": "core"})))
    loader.load(samples / "counter.o")
    theirs = look_at(playground)
    assert theirs.owner is Owner.LIBXDP  # they rebuilt the dispatcher
    found = [(slot.name, slot.off, slot.id) for slot in slots_of(theirs)[:2]]
    assert found == [("coded_0", True, first[0].id), ("coded_1", False, first[1].id)]
    assert slots_of(theirs)[0].actions == ODD
    assert [slot.labels for slot in slots_of(theirs)] == [(("team", "edge"),), (("team", "core"),), ()]
    assert run_through(theirs, scripted(b"\1\3")).code == 3
    # Alone, it lets packets pass; switched on, it decides.
    loader.unload(slots_of(theirs)[2].id or 0)
    loader.unload(first[1].id or 0)
    alone = look_at(playground)
    assert [(slot.name, slot.off) for slot in slots_of(alone)] == [("coded_0", True)]
    assert run_through(alone, scripted(b"\1")).code == 2
    on = change(playground, (alone.chain or Chain()).retune(0, off=False))
    assert slots_of(on)[0].id == first[0].id
    assert run_through(on, scripted(b"\1")).code == 1


def test_a_component_of_theirs_is_switched_off_and_on(playground: Playground, loader: Loader) -> None:
    loader.load(coded_object(), name="coded_0", priority=5, actions="XDP_TX")
    theirs = look_at(playground).chain or Chain()
    off = change(playground, theirs.retune(0, off=True))
    assert run_through(off, scripted(b"\1")).code == 2
    on = change(playground, (look_at(playground).chain or Chain()).retune(0, off=False))
    (slot,) = slots_of(on)
    assert (slot.id, slot.key, slot.actions) == (
        theirs.slots[0].id,
        theirs.slots[0].key,
        ActionSet.parse("T"),
    )
    assert run_through(on, scripted(b"\1")).code == 1
