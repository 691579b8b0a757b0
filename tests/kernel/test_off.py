# SPDX-License-Identifier: Apache-2.0
"""Slots that are off: they don't run, but keep their place, id, maps and counts; the same in all linkages."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernel.arming import LATER, arm, no_guardian_survives
from tests.kernel.chains import LINKAGES, change, look_at, run_through, scripted_chain, slots_of
from tests.kernel.test_contract import PASS_ON
from xdpchain.change.confirm.by_hand import roll_back
from xdpchain.model.actions import Action, ActionSet
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.running import Running
from xdpchain.model.slot import Slot
from xdpchain.observe.counters import open_counters
from xdpchain.sys import bpf, bpffs
from xdpchain.testing.frames import scripted
from xdpchain.testing.playground import Playground

linkages = pytest.mark.parametrize("linkage", LINKAGES)
own_linkages = pytest.mark.parametrize("linkage", [Linkage.STATIC, Linkage.TAILCALL])


def switched(running: Running, **places: bool) -> Chain:
    chain = running.chain
    assert chain is not None
    for name, off in places.items():
        chain = chain.retune(next(i for i, slot in enumerate(chain) if slot.name == name), off=off)
    return chain


def kept(slot: Slot) -> tuple[object, ...]:
    """What a slot keeps while it is off."""
    return slot.key, slot.id, slot.config, {ref.name: ref.id for ref in slot.component.maps}


def ran(running: Running, script: bytes = b"\2\2\2") -> str:
    got = run_through(running, scripted(script), arrived=True)
    assert got.code == 2
    return got.data[60:].decode()


@own_linkages
@pytest.mark.parametrize("place", [0, 2])
def test_it_does_not_run_and_keeps_all_else(
    playground: Playground, samples: Path, linkage: Linkage, place: int
) -> None:
    first = change(playground, scripted_chain(samples, [PASS_ON] * 3, linkage))
    before = [kept(slot) for slot in slots_of(first)]
    name, others = f"scripted_{place}", "012".replace(str(place), "")
    off = change(playground, switched(first, **{name: True}))
    for seen in (off, look_at(playground)):
        assert [slot.off for slot in slots_of(seen)] == [i == place for i in range(3)]
        assert [kept(slot) for slot in slots_of(seen)] == before
    # What it would return decides nothing; the others run as before.
    assert ran(off, bytes(1 if i == place else 2 for i in range(3))) == others
    # Also through an edit of another slot, and of its own actions.
    other = (place + 1) % 3
    edited = switched(off).retune(place, actions=ActionSet.parse("PD")).retune(other, priority=7 + 10 * other)
    edited_off = change(playground, edited)
    assert ran(edited_off) == others
    on = change(playground, switched(edited_off, **{name: False}))
    assert (kept(slots_of(on)[place])[:2], slots_of(on)[place].actions) == (
        before[place][:2], ActionSet.parse("PD"),
    )  # fmt: skip
    assert kept(slots_of(on)[place])[3] == before[place][3]
    assert ran(on) == "012"


@own_linkages
def test_all_off_passes_everything(playground: Playground, samples: Path, linkage: Linkage) -> None:
    first = change(playground, scripted_chain(samples, [PASS_ON] * 2, linkage))
    off = change(playground, switched(first, scripted_0=True, scripted_1=True))
    with open_counters(off) as reader:  # type: ignore[union-attr]
        before = reader.read()
        assert [ran(off, bytes([code, code])) for code in (0, 1, 3)] == ["", "", ""]
        after = reader.read()
    assert after.verdict.since(before.verdict).packets == (0, 0, 3, 0, 0, 0)
    assert [slot.off for slot in slots_of(look_at(playground))] == [True, True]
    on = change(playground, switched(off, scripted_1=False))
    assert ran(on) == "1"
    empty = change(playground, Chain())
    assert empty.hook is None


@own_linkages
def test_a_single_slot(playground: Playground, samples: Path, linkage: Linkage) -> None:
    drops = scripted_chain(samples, [ActionSet.parse("D")], linkage)
    off = change(playground, drops.retune(0, off=True))  # off from the start
    (slot,) = slots_of(off)
    assert (slot.off, slot.actions, slot.id is not None) == (True, ActionSet.parse("D"), True)
    assert run_through(off, scripted(b"\1"), arrived=True).code == 2
    on = change(playground, switched(off, scripted_0=False))
    assert slots_of(on)[0].id == slot.id
    assert run_through(on, scripted(b"\3"), arrived=True).code == 3
    assert run_through(on, scripted(b"\1"), arrived=True).code == 2


@own_linkages
def test_counts_stay_and_routes_lead_past_it(playground: Playground, samples: Path, linkage: Linkage) -> None:
    chain = scripted_chain(samples, [PASS_ON] * 4, linkage)
    chain = chain.route(0, Action.DROP, chain.slots[2].key)
    first = change(playground, chain)
    assert playground.send([scripted(b"\1\2\2\2")] * 3) == 3
    key = slots_of(first)[2].key
    off = change(playground, switched(first, scripted_2=True))
    assert playground.send([scripted(b"\1\2\2\2")] * 5) == 5
    with open_counters(off) as reader:  # type: ignore[union-attr]
        assert sum(reader.read().slots[key].packets) == 3
    assert ran(off, b"\1\2\2\2") == "03"
    assert ran(off, b"\2\2\2\2") == "013"
    on = change(playground, switched(off, scripted_2=False))
    assert ran(on, b"\1\2\2\2") == "023"
    with open_counters(on) as reader:  # type: ignore[union-attr]
        assert sum(reader.read().slots[key].packets) == 4


@own_linkages
def test_in_shadow_and_off(playground: Playground, samples: Path, linkage: Linkage) -> None:
    chain = scripted_chain(samples, [PASS_ON] * 2, linkage).retune(0, shadow=True, off=True)
    off = change(playground, chain)
    assert ran(off, b"\1\2") == "1"
    on = change(playground, switched(off, scripted_0=False))
    assert slots_of(on)[0].shadow
    assert ran(on, b"\1\2") == "01"


@linkages
def test_roll_back_brings_back_what_was_off(playground: Playground, samples: Path, linkage: Linkage) -> None:
    first = change(playground, scripted_chain(samples, [PASS_ON] * 2, linkage).retune(0, off=True))
    before = kept(slots_of(first)[0])
    with no_guardian_survives(playground):
        pending = arm(playground, switched(first, scripted_0=False), LATER)
        assert ran(pending) == "01"
        roll_back(playground.links[0].ifname, playground.netns)
    back = look_at(playground)
    assert ran(back) == "1"
    assert kept(slots_of(back)[0]) == before
    on = change(playground, switched(back, scripted_0=False))
    assert (kept(slots_of(on)[0]), ran(on)) == (before, "01")


@pytest.mark.vm
def test_under_freplace_it_is_pinned_by_its_stand_in(playground: Playground, samples: Path) -> None:
    before = own_pins()
    chain = scripted_chain(samples, [PASS_ON] * 2, Linkage.FREPLACE).retune(0, shadow=True)
    first = slots_of(change(playground, chain))[0]
    off = change(playground, switched(look_at(playground), scripted_0=True))
    slot = slots_of(off)[0]
    assert (kept(slot), slot.shadow, slot.off) == (kept(first), True, True)
    assert own_pins() - before == {f"{slot.program}/{slot.id}"}
    assert ran(off, b"\1\2") == "1"
    again = change(playground, switched(off).retune(1, priority=99).retune(0, actions=ActionSet.parse("D")))
    slot = slots_of(again)[0]
    assert (slot.id, slot.actions, ran(again, b"\1\2")) == (first.id, ActionSet.parse("D"), "1")
    assert own_pins() - before == {f"{slot.program}/{slot.id}"}
    on = change(playground, switched(again, scripted_0=False))
    assert own_pins() == before
    assert (slots_of(on)[0].id, slots_of(on)[0].shadow, ran(on, b"\1\2")) == (first.id, True, "01")
    # Somebody removed its pin: the component is reloaded, with its maps.
    slot = slots_of(change(playground, switched(on, scripted_0=True)))[0]
    (bpffs.find() / "xdptui" / str(slot.program) / str(slot.id)).unlink()
    on = change(playground, switched(look_at(playground), scripted_0=False))
    assert (kept(slots_of(on)[0])[3], ran(on)) == (kept(first)[3], "01")
    change(playground, switched(on, scripted_0=True))
    change(playground, Chain())
    assert own_pins() == before


def own_pins() -> set[str]:
    folder = bpffs.find() / "xdptui"
    return {
        f"{path.parent.name}/{path.name}"
        for path in folder.glob("*/*")
        if path.parent.name.isdecimal() and bpf.prog_lives(int(path.parent.name))
    }
