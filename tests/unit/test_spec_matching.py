# SPDX-License-Identifier: Apache-2.0
"""A spec compared with what runs: what is already right stays, and an applied spec shows no differences."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xdpchain.change.differences import ChangeKind
from xdpchain.change.plan import Plan, make_plan
from xdpchain.errors import InvalidInput, NotFound
from xdpchain.model.actions import Action, ActionSet
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.component import Component, GlobalValue, MapRef, ObjectRef
from xdpchain.model.interface import Interface, Mode, WantedMode
from xdpchain.model.policy import Policy
from xdpchain.model.routes import Route
from xdpchain.model.runconfig import RunConfig
from xdpchain.model.running import Device, DispatcherInfo, Hook, Owner, Running
from xdpchain.model.slot import Slot, order_key
from xdpchain.spec.matching import candidate
from xdpchain.spec.taking import merged, spec_of
from xdpchain.spec.values import InterfaceSpec, SlotSpec

DECLARED = RunConfig(30, ActionSet.parse("PD"))
FILES = {hashlib.sha256(bytes([n])).hexdigest(): f"/lib/{name}.o" for n, name in enumerate("aab")}
"""Two versions of a.o, and b.o."""
ONE, TWO, OTHER = FILES

numbers = itertools.count(1000)


def component(slot: SlotSpec) -> Component | None:
    """What reading the slot's object file gives."""
    if slot.object is None:
        return None
    assert slot.sha256 is not None
    return Component(
        slot.program,
        ObjectRef(slot.sha256, 10, slot.object, data=b"x"),
        declared=DECLARED,
        pin_root=slot.pin_path,
        instance=f"fresh{next(numbers)}",
        globals=tuple(GlobalValue(name, ".rodata", 0, text.encode(), text) for name, text in slot.globals),
        map_entries=slot.map_entries,
    )


def loaded(chain: Chain) -> Running:
    """The running chain after applying it: new parts have ids, their own maps or those they named, and
    siblings share.
    """
    siblings: dict[str, dict[str, int]] = {}
    slots = []
    for slot in chain.slots:
        one = slot.component
        have = {ref.name: ref.id for ref in one.maps}
        if one.id is None:
            group = siblings.setdefault(one.instance, {}) if one.instance else {}
            for name in ("m", "n"):
                have[name] = have.get(name) or group.get(name) or next(numbers)
            group.update(have)
            maps = tuple(MapRef(name, number) for name, number in have.items())
            source = one.object and replace(one.object, data=None, map_id=next(numbers))
            at = next(numbers)
            one = replace(one, id=at, tag=f"{at:016x}", loaded_at=at, maps=maps, object=source)
        elif one.instance:
            siblings.setdefault(one.instance, {}).update(have)
        slots.append(replace(slot, component=one))
    return running(replace(chain, slots=tuple(slots)))


def running(chain: Chain | None) -> Running:
    device = Device(Interface("eth0", 2), True, "up", 1500, "veth", None)
    if chain is None or not chain.slots:
        return Running(device)
    hooks = (Hook(chain.mode, next(numbers), "xdptui_chain", ""),)
    return Running(
        device, hooks, Owner.XDPTUI, chain.linkage, DispatcherInfo(hooks[0].prog_id, 3), chain, counters_map=1
    )


def planned(spec: InterfaceSpec, now: Running, *, fresh_maps: bool = False) -> Plan:
    linkage = spec.linkage or (now.chain.linkage if now.chain else Linkage.STATIC)
    components = [component(slot) for slot in spec.slots]
    return make_plan(now, candidate(spec, components, now, linkage, fresh_maps=fresh_maps))


actions = st.builds(ActionSet, st.integers(0, 31))
few_priorities = st.sampled_from((10, 20, 30))
labels = st.sampled_from((None, None, "x", "y"))
programs = st.sampled_from(("filter", "monitor"))
slot_specs = st.builds(
    lambda sha256, **rest: SlotSpec(object=FILES[sha256], sha256=sha256, **rest),
    sha256=st.sampled_from(tuple(FILES)),
    program=programs,
    priority=st.none() | few_priorities,
    actions=st.none() | actions,
    pin_path=st.sampled_from((None, None, "/pins")),
    instance=labels,
    globals=st.sampled_from(((), (("limit", "1"),), (("limit", "2"),))),
    map_entries=st.sampled_from(((), (), (("senders", 5),))),
)
specs = st.builds(
    InterfaceSpec,
    names=st.just(("eth0",)),
    slots=st.lists(slot_specs, max_size=5).map(tuple),
    linkage=st.none() | st.sampled_from((Linkage.STATIC, Linkage.FREPLACE)),
    counters=st.booleans(),
)


@st.composite
def runnings(draw: st.DrawFn) -> Running:
    """A chain as any tool or sequence of edits may have left it."""
    slots = []
    for _ in range(draw(st.integers(0, 5))):
        number = next(numbers)
        source = draw(st.sampled_from((*FILES, None)))
        maps = draw(st.lists(st.integers(1, 4), max_size=2, unique=True))
        one = Component(
            draw(programs),
            None
            if source is None
            else ObjectRef(source, 10, draw(st.sampled_from((FILES[source], "/else.o", None)))),
            declared=DECLARED,
            pin_root=draw(st.sampled_from((None, None, "/pins"))),
            instance="" if source is None else draw(st.sampled_from(("i", "k", f"own{number}"))),
            id=number,
            tag=f"{number:016x}",
            loaded_at=number,
            maps=tuple(MapRef(f"m{i}", i) for i in maps),
            globals=draw(st.sampled_from(((), (GlobalValue("limit", ".rodata", 0, b"1", "1"),))))
            if source
            else (),
        )
        slots.append(Slot(one, RunConfig(draw(few_priorities), draw(actions)), f"key{number}", number))
    if draw(st.booleans()):
        slots.sort(key=order_key)
    linkage = draw(st.sampled_from((Linkage.STATIC, Linkage.FREPLACE)))
    counters = linkage is Linkage.FREPLACE or draw(st.booleans())
    if linkage is Linkage.STATIC:
        slots = [
            replace(
                one,
                shadow=draw(st.booleans()),
                off=draw(st.booleans()),
                policy=draw(st.sampled_from((None, Policy(ActionSet.parse("PD"))))) if counters else None,
                routes=tuple(
                    Route(code, draw(st.sampled_from(slots[i + 1 :])).key)
                    for code in draw(st.sets(st.sampled_from((Action.DROP, Action.TX))))
                    if i + 1 < len(slots)
                ),
            )
            for i, one in enumerate(slots)
        ]
    mode = draw(st.sampled_from((Mode.NATIVE, Mode.GENERIC)))
    return running(Chain(tuple(slots), linkage, mode, counters))


@settings(deadline=None)
@given(runnings())
def test_what_was_saved_differs_in_nothing_from_what_runs(now: Running) -> None:
    spec = spec_of(now.chain, "eth0", paths=FILES)
    plan = planned(spec, now)
    assert plan.empty, plan.changes
    assert plan.candidate == (now.chain or plan.candidate)


@settings(deadline=None)
@given(specs, runnings())
def test_what_was_applied_differs_in_nothing(spec: InterfaceSpec, now: Running) -> None:
    if now.mode is not None:
        spec = replace(spec, mode=WantedMode(now.mode.value))
    then = loaded(planned(spec, now).candidate)
    again = planned(spec, then)
    assert again.empty, again.changes


@settings(deadline=None)
@given(specs, runnings())
def test_a_chain_from_a_spec_is_what_the_spec_says(spec: InterfaceSpec, now: Running) -> None:
    if now.mode is not None:
        spec = replace(spec, mode=WantedMode(now.mode.value))
    made = planned(spec, now).candidate

    def facts(slot_spec: SlotSpec) -> tuple[object, ...]:
        priority = DECLARED.priority if slot_spec.priority is None else slot_spec.priority
        returned = DECLARED.actions if slot_spec.actions is None else slot_spec.actions
        return (
            slot_spec.program,
            slot_spec.sha256,
            slot_spec.pin_path,
            priority,
            returned.mask,
            slot_spec.globals,
            slot_spec.map_entries,
        )

    wanted = sorted(map(repr, map(facts, spec.slots)))
    assert sorted(repr(facts(slot_spec)) for slot_spec in spec_of(made, "eth0").slots) == wanted
    assert [(s.priority, s.name) for s in made] == sorted(
        (s.priority, s.name) for s in made
    ) or now.chain == made
    assert len({slot.key for slot in made}) == len(made)


@settings(deadline=None)
@given(specs, runnings())
def test_saving_what_a_spec_made_makes_the_same_elsewhere(spec: InterfaceSpec, now: Running) -> None:
    """A chain's way to another machine: what is saved there is what was saved here."""
    here = loaded(planned(replace(spec, mode=WantedMode((now.mode or Mode.NATIVE).value)), now).candidate)
    saved = spec_of(here.chain, "eth0", paths=FILES)
    there = loaded(planned(saved, running(None)).candidate)
    assert spec_of(there.chain, "eth0", paths=FILES) == saved


def spec(*slots: SlotSpec, **more: object) -> InterfaceSpec:
    return replace(InterfaceSpec(("eth0",), slots), **more)  # type: ignore[arg-type]


def slot(program: str, sha256: str = ONE, priority: int | None = 10, **more: object) -> SlotSpec:
    return SlotSpec(FILES[sha256], sha256, program, priority=priority, **more)  # type: ignore[arg-type]


def kinds(plan: Plan) -> list[tuple[ChangeKind, str]]:
    return [(change.kind, change.name) for change in plan.changes]


def applied(*slots: SlotSpec) -> Running:
    return loaded(planned(spec(*slots), running(None)).candidate)


def test_a_slot_keeps_its_key_and_maps_through_a_retune() -> None:
    now = applied(slot("filter"), slot("monitor", OTHER, 20))
    plan = planned(spec(slot("filter", priority=40), slot("monitor", OTHER, 20)), now)
    assert kinds(plan) == [(ChangeKind.MOVE, "filter"), (ChangeKind.RETUNE, "filter")]
    assert now.chain is not None
    assert {one.key for one in plan.candidate} == {one.key for one in now.chain}
    assert {one.id for one in plan.candidate} == {one.id for one in now.chain}


def test_a_new_version_takes_the_slot_and_its_maps() -> None:
    now = applied(slot("filter"))
    assert now.chain is not None
    plan = planned(spec(slot("filter", TWO)), now)
    assert kinds(plan) == [(ChangeKind.REPLACE, "filter")]
    assert plan.candidate.slots[0].key == now.chain.slots[0].key
    assert plan.candidate.slots[0].component.maps == now.chain.slots[0].component.maps
    assert planned(spec(slot("filter", TWO)), now, fresh_maps=True).candidate.slots[0].component.maps == ()


def test_constants_are_those_of_the_code_and_of_the_spec() -> None:
    now = applied(slot("filter", globals=(("limit", "1"),)))
    assert now.chain is not None
    runs = now.chain.slots[0].component
    with_constants = replace(runs, maps=(*runs.maps, MapRef(".rodata", 7)))
    now = running(replace(now.chain, slots=(replace(now.chain.slots[0], component=with_constants),)))

    def kept(plan: Plan) -> set[str]:
        return {ref.name for ref in plan.candidate.slots[0].component.maps}

    assert planned(spec(slot("filter", globals=(("limit", "1"),))), now).empty
    other = planned(spec(slot("filter", globals=(("limit", "2"),))), now)
    assert kinds(other) == [(ChangeKind.REPLACE, "filter")]
    assert kept(other) == {"m", "n"}
    assert kept(planned(spec(slot("filter", TWO, globals=(("limit", "1"),))), now)) == {"m", "n"}


def test_what_has_become_of_a_variable_goes_on() -> None:
    def component_with(text: str, sha256: str) -> Component:
        made = component(slot("filter", sha256))
        assert made is not None
        return replace(made, globals=(GlobalValue("total", ".data", 0, text.encode(), text),))

    one = replace(component_with("5", ONE), id=9, instance="i", maps=(MapRef(".data", 3), MapRef("m", 4)))
    now = running(Chain((Slot(one, RunConfig(10)),)))
    wanted = spec(slot("filter", TWO))
    made = candidate(wanted, [component_with("5", TWO)], now, Linkage.STATIC)
    assert {ref.name for ref in made.slots[0].component.maps} == {".data", "m"}
    with pytest.raises(InvalidInput, match="can't be given a value"):
        candidate(wanted, [component_with("6", TWO)], now, Linkage.STATIC)
    fresh = candidate(wanted, [component_with("6", TWO)], now, Linkage.STATIC, fresh_maps=True)
    assert fresh.slots[0].component.maps == ()


def test_pins_elsewhere_are_other_maps() -> None:
    now = applied(slot("filter"))
    plan = planned(spec(slot("filter", pin_path="/pins")), now)
    assert kinds(plan) == [(ChangeKind.REPLACE, "filter")]
    assert plan.candidate.slots[0].component.maps == ()


def test_of_twins_the_one_that_is_right_stays() -> None:
    now = applied(slot("filter", priority=10), slot("filter", priority=20))
    assert now.chain is not None
    plan = planned(spec(slot("filter", priority=20)), now)
    assert kinds(plan) == [(ChangeKind.REMOVE, "filter")]
    assert plan.candidate.slots[0].key == now.chain.slots[1].key


def test_an_empty_spec_takes_everything_off() -> None:
    now = applied(slot("filter"), slot("monitor"))
    assert kinds(planned(spec(), now)) == [(ChangeKind.REMOVE, "filter"), (ChangeKind.REMOVE, "monitor")]
    assert planned(spec(), running(None)).empty


def maps(slots: Sequence[Slot]) -> list[set[int]]:
    return [{ref.id for ref in one.component.maps} for one in slots]


def test_a_new_sibling_shares_the_maps_that_run() -> None:
    now = applied(slot("filter", instance="x"))
    both = spec(slot("filter", instance="x"), slot("monitor", priority=20, instance="x"))
    plan = planned(both, now)
    assert kinds(plan) == [(ChangeKind.ADD, "monitor")]
    then = loaded(plan.candidate).chain
    assert then is not None
    shared = maps(then.slots)
    assert shared[0] == shared[1]
    assert now.chain is not None
    assert shared[0] == maps(now.chain.slots)[0]


def test_siblings_part_when_the_spec_parts_them() -> None:
    now = applied(slot("filter", instance="x"), slot("monitor", priority=20, instance="x"))
    plan = planned(spec(slot("filter"), slot("monitor", priority=20)), now)
    assert kinds(plan) == [(ChangeKind.REPLACE, "monitor")]
    then = loaded(plan.candidate).chain
    assert then is not None
    apart = maps(then.slots)
    assert not apart[0] & apart[1]


def test_a_component_of_another_tool_is_kept_by_its_tag_and_not_made() -> None:
    other = Component("theirs", id=7, tag="ab" * 8, loaded_at=7, declared=DECLARED)
    now = running(Chain((Slot(other, RunConfig(10), "prog:7"),), Linkage.FREPLACE))
    saved = spec_of(now.chain, "eth0")
    assert saved.slots[0].tag == "ab" * 8
    assert saved.slots[0].object is None
    assert planned(saved, now).empty
    # Its object file, once known, proves nothing by its hash, but the tag does.
    named = replace(saved, slots=(replace(saved.slots[0], object=FILES[ONE], sha256=ONE),))
    assert planned(named, now).empty
    assert kinds(planned(named, running(None))) == [(ChangeKind.ADD, "theirs")]
    with pytest.raises(NotFound, match="can't be loaded"):
        planned(saved, running(None))


def test_routes_shadow_and_policies_are_those_of_the_spec() -> None:
    now = applied(slot("filter"), slot("monitor", OTHER, 20))
    policy = Policy(ActionSet.parse("PD"))
    wanted = spec(
        slot("filter", routes=((Action.DROP, "last"),), shadow=True),
        slot("monitor", OTHER, 20, policy=policy, given_name="last"),
    )
    plan = planned(wanted, now)
    assert kinds(plan) == [(ChangeKind.RETUNE, "filter"), (ChangeKind.RETUNE, "monitor")]
    first, last = plan.candidate.slots
    assert (first.shadow, last.shadow, last.policy) == (True, False, policy)
    assert first.routes == (Route(Action.DROP, last.key),)
    then = loaded(plan.candidate)
    assert planned(wanted, then).empty
    assert kinds(planned(spec(slot("filter"), slot("monitor", OTHER, 20)), then)) == kinds(plan)
    # Named by its program, if that is unambiguous.
    saved = spec_of(then.chain, "eth0")
    assert saved.slots[0].routes == ((Action.DROP, "monitor"),)
    assert planned(saved, then).empty


def test_counters_are_switched_under_freplace_too() -> None:
    now = loaded(planned(spec(slot("filter"), linkage=Linkage.FREPLACE), running(None)).candidate)
    plan = planned(spec(slot("filter"), counters=False), now)
    assert [change.text for change in plan.changes] == ["counters off"]


def test_interfaces_that_run_the_same_are_one_entry() -> None:
    one, two = spec(slot("filter")), spec(slot("filter"))
    other = spec(slot("monitor"))
    named = [replace(entry, names=(name,)) for entry, name in ((one, "a"), (other, "b"), (two, "c"))]
    assert [entry.names for entry in merged(named)] == [("a", "c"), ("b",)]
    apart = [replace(named[0], netns="blue"), named[2]]
    assert len(merged(apart)) == 2


WRITTEN = {
    Chain: {"slots", "linkage", "mode", "counters", "dispatcher_version"},
    Slot: {"component", "config", "routes", "shadow", "off", "policy", "entries", "labels"},
    Component: {
        "name",
        "object",
        "section",
        "pin_root",
        "instance",
        "globals",
        "map_entries",
        "shares",
        "tag",
    },
}  # fmt: skip
FOUND_AGAIN = {
    Chain: {"bare"},
    Slot: {"key", "row", "program"},
    Component: {
        "declared", "frags", "licence", "callees", "uses", "id", "loaded_at", "instructions", "maps",
        "unit_map", "bound",
    },
}  # fmt: skip
"""What the object file or the kernel supplies again, wherever a chain is made from a spec."""


@pytest.mark.parametrize("kind", WRITTEN)
def test_nothing_that_a_chain_says_is_forgotten(kind: type) -> None:
    """A field added to a chain belongs in the spec, or in the list above."""
    assert {field.name for field in fields(kind)} == WRITTEN[kind] | FOUND_AGAIN.get(kind, set())
