# SPDX-License-Identifier: Apache-2.0
"""What plans warn about: chains that do what nobody intends, and edits that lose something."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.objects.compile import compile_text
from xdpchain.change.lint import MapFact, Neighbour, Surroundings, Warning, lint
from xdpchain.change.plan import make_plan
from xdpchain.model.actions import ActionSet
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.component import Component, MapRef, ObjectRef
from xdpchain.model.counting import Counting
from xdpchain.model.interface import Interface, Mode
from xdpchain.model.running import Device, Hook, Owner, Running
from xdpchain.model.slot import Slot
from xdpchain.objects.components import component_of, keep_maps, load_component
from xdpchain.objects.objfile import ObjectFile
from xdpchain.objects.redirects import redirect_use

FEATURES = frozenset({"basic", "redirect", "ndo-xmit", "rx-sg"})
DEVICE = Device(Interface("eth7", 7), True, "up", 1500, "veth", FEATURES)


def chain_of(*actions: str, **facts: object) -> Chain:
    chain = Chain()
    for i, (name, text) in enumerate(zip("abcdefghij", actions, strict=False)):
        component = Component(name, id=100 + i, **facts)  # type: ignore[arg-type]
        chain = chain.add(Slot.of(component, 10 * (i + 1), ActionSet.parse(text)))
    return chain


def running(chain: Chain, device: Device = DEVICE, counters: int | None = None) -> Running:
    hook = Hook(chain.mode, 40, "xdptui_chain", "00")
    counting = None if counters is None else Counting(counters, counters, ())
    return Running(
        device, (hook,), Owner.XDPTUI, chain.linkage, chain=chain, counters_map=counters, counting=counting
    )


def said(found: tuple[Warning, ...], words: str) -> list[Warning]:
    return [warning for warning in found if words in warning.text]


@pytest.mark.parametrize(
    ("actions", "slot", "words"),
    [
        (["none", "P", "P"], 0, "a always ends the chain: b, c never run"),
        (["P", "none", "P"], 1, "c never runs"),
        (["PD", "P"], 0, "XDP_DROP: a later slot decides"),
        (["P", "PD"], 1, "XDP_PASS ends the chain"),
        (["P", "PT"], 1, "XDP_TX becomes XDP_PASS"),
        (["P", "PTR"], 1, "XDP_TX and XDP_REDIRECT becomes XDP_PASS"),
        (["PR", "P"], 0, "XDP_REDIRECT: a later slot's verdict replaces it"),
        (["A", "P"], 0, "XDP_ABORTED"),
    ],
)
def test_verdicts_that_go_on(actions: list[str], slot: int, words: str) -> None:
    found = lint(chain_of(*actions))
    assert [warning.slot for warning in said(found, words)] == [slot], found


def test_an_ordinary_chain_has_no_warnings() -> None:
    chain = chain_of("P", "P", "P")
    assert lint(chain) == ()
    assert lint(Chain()) == ()
    assert lint(chain, running(chain)) == ()
    assert lint(chain_of("none")) == (), "nothing comes after it"


def test_names_that_decide_the_order() -> None:
    slots = [Slot.of(Component(name, id=i), 50) for i, name in enumerate("ab")]
    found = lint(Chain((*slots, Slot.of(Component("c", id=9), 60))))
    assert [(w.slot, w.text) for w in found] == [
        (0, "a and b have the same priority (50): they run in order of their names")
    ]


def test_a_program_that_runs_twice() -> None:
    source = ObjectRef("5f" * 32, 100)
    slot = Slot.of(Component("a", source, id=1), 10)
    again = Slot.of(Component("a", source, id=2), 30)
    other = Slot.of(Component("a", ObjectRef("60" * 32, 100), id=3), 40)
    found = lint(Chain((slot, again, other)))
    assert [(w.slot, "slots 0 and 1" in w.text) for w in found] == [(1, True)]
    by_tag = [Slot.of(Component("x", id=i, tag="ab" * 8), 10 * i) for i in (1, 2)]
    assert said(lint(Chain(tuple(by_tag))), "runs twice")


def test_fragments_are_weighed_against_the_mtu() -> None:
    able = Slot.of(Component("able", frags=True, id=1), 10)
    unable = Slot.of(Component("unable", id=2), 20)
    mixed = Chain((able, unable))
    (small,) = lint(mixed, running(mixed))
    assert (small.slot, "because of unable; MTU 1500 needs none" in small.text) == (1, True)
    jumbo = replace(DEVICE, mtu=9000)
    (large,) = lint(mixed, running(mixed, jumbo))
    assert large.slot == 1
    assert "MTU 9000" in large.text
    assert "Lower the MTU to 3498" in large.text
    assert lint(Chain((able,)), running(Chain((able,)), jumbo)) == ()
    without = replace(jumbo, features=frozenset({"basic"}))
    assert said(lint(Chain((able,)), running(Chain((able,)), without)), "does not have for XDP")
    assert lint(Chain((able,)), running(Chain((able,)), replace(jumbo, features=None))) == ()
    generic = replace(mixed, mode=Mode.GENERIC)
    assert lint(generic, running(generic, jumbo)) == (), "there the kernel makes one piece of a packet"


def devmap(samples: Path) -> Component:
    return load_component(str(samples / "redirect.o"), name="redirect_out")


def test_what_redirects_is_read_from_the_object(samples: Path) -> None:
    assert redirect_use(devmap(samples), {}).devices == ("out",)
    assert not redirect_use(load_component(str(samples / "redirect.o"), name="redirect_back"), {})
    assert not redirect_use(load_component(str(samples / "firewall.o")), {})
    loaded = Component("x", id=3, maps=(MapRef("a", 1), MapRef("b", 2), MapRef("c", 3)))
    use = redirect_use(loaded, {1: "devmap_hash", 2: "xskmap", 3: "hash"})
    assert (use.devices, use.others, use.anywhere) == (("a",), ("b",), False)
    assert not redirect_use(loaded, {})


def test_a_target_that_the_program_chooses_itself() -> None:
    source = """
        #define SEC(name) __attribute__((section(name), used))
        struct xdp_md { int data; };
        static long (*redirect)(unsigned ifindex, unsigned long flags) = (void *)23;
        static __attribute__((noinline)) int away(int where) { return redirect(where, 0); }
        SEC("xdp") int fixed(struct xdp_md *ctx) { return redirect(3, 0); }
        SEC("xdp") int inside(struct xdp_md *ctx) { return away(ctx->data & 7); }
        SEC("xdp") int stays(struct xdp_md *ctx) { return 2; }
        char licence[] SEC("license") = "GPL";
    """
    data = compile_text(source)
    components = {one: component_of(ObjectFile.parse(data), name=one) for one in ("fixed", "inside", "stays")}
    assert [name for name, component in components.items() if redirect_use(component, {}).anywhere] == [
        "fixed",
        "inside",
    ]
    chain = Chain().add(Slot.of(components["inside"]))
    (warned,) = lint(chain, running(Chain()), Surroundings(neighbours=AROUND))
    assert "its targets are not known: eth8 would lose them" in warned.text


AROUND = (
    Neighbour(8, "eth8", frozenset({"basic"})),
    Neighbour(9, "eth9", FEATURES),
    Neighbour(10, "x", None),
)


def test_targets_that_take_no_packets(samples: Path) -> None:
    chain = Chain().add(Slot.of(devmap(samples)))
    (fresh,) = lint(chain, running(Chain()), Surroundings(neighbours=AROUND))
    assert fresh.slot == 0
    assert "the targets in out are not set yet: eth8 would lose them" in fresh.text
    component = Component("redirect_out", id=5, maps=(MapRef("out", 77),))
    loaded = Chain().add(Slot.of(component))

    def aim(*targets: int) -> tuple[Warning, ...]:
        around = Surroundings({77: MapFact("devmap", len(targets), targets)}, AROUND)
        return lint(loaded, running(loaded), around)

    assert aim(9) == aim(10) == ()
    assert said(aim(8, 9), "redirects to eth8: no ndo-xmit feature")
    assert said(aim(99), "ifindex 99, which is not in this namespace")
    generic = replace(chain, mode=Mode.GENERIC)
    assert lint(generic, running(Chain()), Surroundings(neighbours=AROUND)) == ()


def test_a_device_that_can_not_redirect(samples: Path) -> None:
    chain = Chain().add(Slot.of(devmap(samples)))
    unable = replace(DEVICE, features=frozenset({"basic"}))
    assert said(lint(chain, Running(unable)), "veth of eth7 does not support")
    assert lint(chain, Running(DEVICE)) == ()


MAPS = (MapRef("buckets", 11), MapRef(".bss", 12), MapRef(".rodata", 13), MapRef("calls", 14))
FACTS = {
    11: MapFact("lru_hash", 34),
    12: MapFact("array", 1),
    13: MapFact("array", 1),
    14: MapFact("prog_array", 2),
}


def limited() -> tuple[Chain, Slot]:
    limit = Slot.of(Component("limit", ObjectRef("aa" * 32, 1), id=1, maps=MAPS), 10)
    return Chain((limit, Slot.of(Component("b", id=2, maps=(MapRef("shared", 20),)), 20))), limit


def test_state_that_goes_with_a_slot_is_named() -> None:
    chain, _ = limited()
    (lost,) = lint(chain.remove([0]), running(chain), Surroundings(FACTS))
    assert lost.slot is None
    assert lost.text == (
        "limit is removed, and the contents of its maps are lost: buckets (lru_hash, 34 entries), .bss "
        "(array)"
    )
    (unseen,) = lint(chain.remove([0]), running(chain))
    assert unseen.text.endswith("buckets, .bss, calls"), "without a look at the kernel their names are known"
    everything = lint(Chain(), running(chain), Surroundings(FACTS))
    assert [w.text.split()[0] for w in everything] == ["limit", "b"]


def test_state_that_stays_is_not_mourned() -> None:
    chain, limit = limited()
    sharer = Slot.of(Component("sharer", id=3, maps=MAPS[:2]), 30)
    both = chain.add(sharer)
    assert lint(both.remove([0]), running(both), Surroundings(FACTS)) == (), "sharer has them still"
    pinned = FACTS | {11: MapFact("lru_hash", 34, pinned=True), 12: MapFact("array", pinned=True)}
    assert lint(chain.remove([0]), running(chain), Surroundings(pinned)) == ()
    empty = {11: MapFact("lru_hash", 0), 12: FACTS[12]}
    (lost,) = lint(chain.remove([0]), running(chain), Surroundings(FACTS | empty))
    assert "buckets" not in lost.text
    assert lint(chain.move(0, 1), running(chain), Surroundings(FACTS)) == ()
    assert lint(chain.relink(Linkage.FREPLACE), running(chain), Surroundings(FACTS)) == ()
    assert limit.component.maps == MAPS


def test_kept_maps_are_not_lost() -> None:
    chain, limit = limited()
    new = chain.substitute(0, replace(limit.component, id=None, maps=()))
    assert lint(chain.remove([0]), running(chain), Surroundings(FACTS), keep_maps=True) == ()
    assert said(lint(new, running(chain), Surroundings(FACTS), keep_maps=True), "is replaced"), (
        "its slot stays"
    )


def test_a_new_version_keeps_the_maps_that_it_knows() -> None:
    chain, limit = limited()
    new = Component("limit", ObjectRef("bb" * 32, 1), uses=("buckets", ".bss", ".rodata", "calls"))
    same = chain.substitute(0, keep_maps(new, limit.component))
    assert lint(same, running(chain), Surroundings(FACTS)) == ()
    renamed = replace(new, uses=("rates", ".bss"))
    found = lint(
        chain.substitute(0, keep_maps(renamed, limit.component)), running(chain), Surroundings(FACTS)
    )
    assert [(w.slot, w.text) for w in found] == [
        (0, "limit is replaced, and the contents of its maps are lost: buckets (lru_hash, 34 entries)")
    ]
    assert said(lint(chain.substitute(0, new), running(chain), Surroundings(FACTS)), ".bss (array)")


def test_counts_that_end() -> None:
    chain, _ = limited()
    assert said(lint(chain.relink(Linkage.FREPLACE), running(chain, counters=5)), "does not continue")
    assert said(lint(replace(chain, counters=False), running(chain, counters=5)), "turned off")
    assert lint(chain, running(chain, counters=5)) == ()
    assert lint(replace(chain, counters=False), running(replace(chain, counters=False))) == ()


def test_a_plan_carries_the_warnings() -> None:
    chain, _ = limited()
    plan = make_plan(running(chain), chain.remove([0]))
    assert said(plan.warnings, "limit is removed")


def test_a_slot_in_shadow_stops_nothing_and_lets_nothing_pass() -> None:
    chain = chain_of("none", "PD", "P")
    assert len(lint(chain)) == 2
    assert lint(chain.retune(0, shadow=True).retune(1, shadow=True)) == ()
