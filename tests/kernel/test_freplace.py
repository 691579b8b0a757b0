# SPDX-License-Identifier: Apache-2.0
"""freplace linkage: what is loaded, what is merely attached again, what a component carries along, and what
is left when a change fails. The contract of all linkages is in test_contract, libxdp's view in tests/interop.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.kernel.chains import chain_of, change, look_at, run_through, slots_of
from tests.objects.compile import compile_text
from xdpchain.change.plan import make_plan
from xdpchain.change.stale import clean
from xdpchain.editing import apply, edit
from xdpchain.errors import Cancelled, KernelRefused, LinkRefused, RaceLost
from xdpchain.linkage.dispatcher.config import DispatcherConfig, SlotConfig
from xdpchain.linkage.dispatcher.emit import function_ids, load_dispatcher
from xdpchain.linkage.linkable_slots import object_bytes
from xdpchain.linkage.probe import default_linkage, probe_freplace
from xdpchain.model.actions import ActionSet
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.component import Component, MapRef
from xdpchain.model.interface import Mode
from xdpchain.model.running import Owner, Running
from xdpchain.model.slot import Slot
from xdpchain.objects.components import keep_maps, load_component
from xdpchain.observe.discover import look
from xdpchain.observe.hook import author_of
from xdpchain.sys import all_netns, bpf, bpffs
from xdpchain.sys.cpus import possible_cpus
from xdpchain.sys.netlink import Netlink
from xdpchain.testing import frames
from xdpchain.testing.playground import LET_PASS, Playground

pytestmark = [pytest.mark.vm, pytest.mark.usefixtures("own_bpffs")]

FREPLACE = Linkage.FREPLACE


def names_of(running: Running) -> list[str]:
    return [slot.name for slot in slots_of(running)]


def contents(ref: MapRef) -> dict[bytes, bytes]:
    with bpf.map_by_id(ref.id) as fd:
        info = bpf.map_info(fd)
        each = "percpu" in bpf.map_type_name(info.type)
        size = (info.value_size + 7 & ~7) * possible_cpus() if each else info.value_size
        return {key: bpf.map_lookup(fd, key, size) for key in bpf.map_keys(fd, info.key_size)}


def pins(path: Path) -> list[str]:
    return sorted(str(one.relative_to(path)) for one in path.rglob("*") if one.name not in ("xdp", "xdptui"))


# What it is


def test_components_have_ids_of_their_own(playground: Playground, samples: Path) -> None:
    running = change(playground, chain_of(samples, "firewall", "monitor", linkage=FREPLACE))
    assert (running.owner, running.linkage) == (Owner.XDPTUI, FREPLACE)
    assert running.hook is not None
    assert running.hook.name == "xdp_dispatcher"
    for slot in slots_of(running):
        with bpf.prog_by_id(slot.id or 0) as program:
            info = bpf.prog_info(program)
        assert info.type == bpf.ProgType.EXT
        assert (info.tag, info.load_time) == (slot.component.tag, slot.component.loaded_at)
        assert slot.name.startswith(info.name)
    with bpf.prog_by_id(running.hook.prog_id) as dispatcher:
        assert len(bpf.prog_map_ids(dispatcher)) == 1  # one more, and libxdp would not know it


LONG_NAMES = """
#define SEC(name) __attribute__((section(name), used))
struct xdp_md { unsigned int data, data_end; };
SEC("xdp") int a_name_that_is_too_long(struct xdp_md *ctx) { return 2; }
SEC("xdp") int a_name_that_is_too_short(struct xdp_md *ctx) { return 2; }
SEC("license") char licence[] = "GPL";
"""


def test_names_longer_than_the_kernels(playground: Playground, tmp_path: Path) -> None:
    """The kernel keeps 15 characters, the same for both here; BTF has the full names."""
    file = tmp_path / "long.o"
    file.write_bytes(compile_text(LONG_NAMES))
    names = ["a_name_that_is_too_long", "a_name_that_is_too_short"]
    chain = Chain(linkage=FREPLACE)
    for name in names:
        chain = chain.add(Slot.of(load_component(str(file), name=name)))
    assert names_of(change(playground, chain)) == names


def test_a_component_carries_where_it_comes_from(playground: Playground, samples: Path) -> None:
    file = samples / "firewall.o"
    change(playground, chain_of(samples, "firewall", "monitor", linkage=FREPLACE))
    component = slots_of(look_at(playground))[0].component
    assert component.object is not None
    assert component.object.path == str(file)
    assert component.object.data is None
    assert object_bytes(component.object) == file.read_bytes()
    fresh = load_component(str(file))
    for field in ("name", "section", "declared", "licence", "uses", "callees", "frags"):
        assert getattr(component, field) == getattr(fresh, field)
    assert str(os.getpid()) in author_of(look_at(playground))


def test_two_programs_of_one_object_share_maps_and_bytes(playground: Playground, samples: Path) -> None:
    chain = Chain(linkage=FREPLACE)
    for name in ("two_learn", "two_enforce"):
        chain = chain.add(Slot.of(load_component(str(samples / "two.o"), name=name, instance="pair")))
    first, second = slots_of(change(playground, chain))
    (learned,), (enforced, *_) = (
        [ref for ref in slot.component.maps if ref.name == "senders"] for slot in (first, second)
    )
    assert learned.id == enforced.id
    assert first.component.object == second.component.object
    # A third one added later gets the same map too: its siblings run.
    running = look_at(playground)
    again = load_component(str(samples / "two.o"), name="two_learn", instance="pair")
    third = slots_of(change(playground, running.chain.add(Slot.of(again, 99))))[-1]  # type: ignore[union-attr]
    assert MapRef("senders", learned.id) in third.component.maps


# Edits


def test_an_edit_attaches_what_runs_anew(playground: Playground, samples: Path) -> None:
    before = change(playground, chain_of(samples, "counter", "monitor", linkage=FREPLACE))
    playground.send([frames.udp(frames.PEER, frames.NEAR, port) for port in range(50, 57)])
    assert before.chain is not None
    kept = {slot.key: slot.component for slot in slots_of(before)}
    counted = contents(slots_of(before)[0].component.maps[0])
    assert any(any(value) for value in counted.values())
    chain = before.chain.move(1, 0).retune(1, actions=ActionSet.parse("PD"))
    chain = chain.add(Slot.of(new(samples, "pass")))
    after = change(playground, chain)
    assert {slot.key: slot.component for slot in slots_of(after) if slot.key in kept} == kept
    assert [slot.key for slot in slots_of(after)] == [slot.key for slot in chain]
    assert contents(next(s for s in slots_of(after) if s.name == "xdp_counter").component.maps[0]) == counted
    assert before.hook is not None
    assert after.hook is not None
    assert after.hook.prog_id != before.hook.prog_id


def new(samples: Path, name: str, program: str | None = None) -> Component:
    return load_component(str(samples / f"{name}.o"), name=program)


def test_a_new_version_keeps_the_maps(playground: Playground, samples: Path) -> None:
    running = change(playground, chain_of(samples, "counter", "pass", linkage=FREPLACE))
    playground.send([frames.udp(frames.PEER, frames.NEAR, 53)] * 5)
    old = slots_of(running)[0]
    assert running.chain is not None
    component = keep_maps(new(samples, "counter_v2"), old.component)
    after = slots_of(change(playground, running.chain.substitute(0, component)))[0]
    assert (after.key, after.id == old.id) == (old.key, False)
    assert old.component.maps[0] in after.component.maps
    chain = look_at(playground).chain or Chain()
    broken = chain.substitute(0, keep_maps(new(samples, "counter_v3"), after.component))
    with pytest.raises(LinkRefused, match="can't be kept"):
        change(playground, broken)
    assert slots_of(look_at(playground))[0] == after


@pytest.mark.parametrize("mode", [Mode.NATIVE, Mode.GENERIC])
def test_relinked_there_and_back(playground: Playground, samples: Path, own_bpffs: Path, mode: Mode) -> None:
    """From one linkage to the other and back, with the maps and their contents, in one swap each."""
    chain = chain_of(samples, "firewall", "counter", "globals", linkage=FREPLACE, mode=mode)
    running = change(playground, chain)
    playground.send([frames.udp(frames.PEER, frames.NEAR, 53)] * 6)
    maps = {ref.id: contents(ref) for slot in slots_of(running) for ref in mutable(slot)}
    keys = [slot.key for slot in slots_of(running)]
    for linkage in (Linkage.STATIC, FREPLACE, Linkage.STATIC, FREPLACE):
        assert running.chain is not None
        running = change(playground, running.chain.relink(linkage))
        assert (running.linkage, running.mode) == (linkage, mode)
        assert [slot.key for slot in slots_of(running)] == keys
        assert {ref.id: contents(ref) for slot in slots_of(running) for ref in mutable(slot)} == maps
        assert bool(pins(own_bpffs)) is (linkage is FREPLACE)


def mutable(slot: Slot) -> list[MapRef]:
    return [ref for ref in slot.component.maps if not ref.name.startswith(".rodata")]


def test_pointer_movers_in_company(playground: Playground, samples: Path) -> None:
    """From 6.12 on, a stub must declare that it may move packet pointers before a program that does can
    replace it."""
    chain = Chain(linkage=FREPLACE)
    for name in ("meta_head", "meta_mark", "meta_tail"):
        chain = chain.add(Slot.of(new(samples, "meta", name)))
        running = change(playground, chain)
        chain = running.chain or chain
    frame = frames.udp(frames.PEER, frames.NEAR, 53)
    # Four bytes of metadata, then the frame with the tag of VLAN 5.
    assert run_through(running, frame).data[16:20] == b"\x81\x00\x00\x05"


def test_fragments(samples: Path, root: None) -> None:
    """With an MTU of 9000, veth accepts a chain only if all its components accept fragments."""
    with Playground(mtu=9000) as wide:
        chain = Chain(linkage=FREPLACE)
        for priority in (1, 2):
            chain = chain.add(Slot.of(new(samples, "frags"), priority))
        running = change(wide, chain)
        assert [slot.component.frags for slot in slots_of(running)] == [True, True]
        wide.send([frames.udp(frames.PEER, frames.NEAR, 53, payload=bytes(8000))] * 3)
        (ref,) = slots_of(running)[0].component.maps
        (totals,) = contents(ref).values()
        assert 3 * 8042 in [int.from_bytes(totals[at : at + 8], "little") for at in (0, 8)]


def test_tail_calls_stay_filled(playground: Playground, samples: Path, own_bpffs: Path) -> None:
    """The program array is pinned for the component, which outlives dispatchers, and goes with it."""
    try:
        running = change(playground, chain_of(samples, "tailcalls", "pass", linkage=FREPLACE))
    except LinkRefused as error:
        if "tail-call" not in error.why:
            raise
        pytest.skip(f"{error}")
    component = slots_of(running)[0].component
    assert f"xdptui/{component.id}" in pins(own_bpffs)
    for _ in range(2):
        assert running.chain is not None
        running = change(playground, running.chain.move(1, 0))
        # Its callee drops.
        assert run_through(running, frames.tcp_syn(frames.PEER, frames.NEAR, 80)).code == 1
    change(playground, Chain())
    assert pins(own_bpffs) == []


# Refusals, undo


Held = tuple[list[str], set[int], set[int], set[int], int]


def unchanged(own_bpffs: Path, before: Held) -> bool:
    """Whether all is as before; the kernel frees things when the last CPU is done with them."""
    for _ in range(50):
        if held(own_bpffs) == before:
            return True
        time.sleep(0.1)
    return False


def held(own_bpffs: Path) -> Held:
    """Pins, ids of programs, maps and links on this machine, and the number of this process's descriptors."""
    ids = (bpf.Command.PROG_GET_NEXT_ID, bpf.Command.MAP_GET_NEXT_ID, bpf.Command.LINK_GET_NEXT_ID)
    programs, maps, links = (set(bpf.ids(command)) for command in ids)
    return pins(own_bpffs), programs, maps, links, len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize(("file", "why"), [("nobtf", "no BTF"), ("refused", "packet")])
def test_what_cant_be_linked_changes_nothing(
    playground: Playground, samples: Path, own_bpffs: Path, file: str, why: str
) -> None:
    running = change(playground, chain_of(samples, "firewall", linkage=FREPLACE))
    assert running.chain is not None
    before = held(own_bpffs)
    with pytest.raises((LinkRefused, KernelRefused), match=why):
        change(playground, running.chain.add(Slot.of(new(samples, file))))
    assert look_at(playground) == replace(running, device=look_at(playground).device)
    assert unchanged(own_bpffs, before)


def test_cancelled_before_the_swap(playground: Playground, samples: Path, own_bpffs: Path) -> None:
    running = change(playground, chain_of(samples, "firewall", linkage=FREPLACE))
    assert running.chain is not None
    before = held(own_bpffs)
    plan = make_plan(running, running.chain.add(Slot.of(new(samples, "pass"))))
    with pytest.raises(Cancelled):
        apply(plan, cancelled=lambda: True)
    assert unchanged(own_bpffs, before)
    assert names_of(look_at(playground)) == ["xdp_firewall"]


def test_a_failed_swap_takes_the_pins_back(
    playground: Playground, samples: Path, own_bpffs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = change(playground, chain_of(samples, "firewall", linkage=FREPLACE))
    assert running.chain is not None
    before = held(own_bpffs)

    def refuse(*_: object) -> None:
        assert len([pin for pin in pins(own_bpffs) if pin.count("/") == 1]) == 2  # the new one is there
        raise KernelRefused("no")

    monkeypatch.setattr(Netlink, "attach_xdp", refuse)
    with pytest.raises(KernelRefused):
        change(playground, running.chain.add(Slot.of(new(samples, "pass"))))
    assert unchanged(own_bpffs, before)


def test_a_chain_that_others_changed_is_left_alone(playground: Playground, samples: Path) -> None:
    old = change(playground, chain_of(samples, "firewall", linkage=FREPLACE))
    assert old.chain is not None
    newer = change(playground, old.chain.add(Slot.of(new(samples, "pass"))))
    with pytest.raises(RaceLost):
        apply(make_plan(old, old.chain.add(Slot.of(new(samples, "drop")))))
    assert look_at(playground).identity == newer.identity


def test_an_edit_that_makes_sense_anyway_is_made_anew(
    playground: Playground, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody without the lock, like libxdp when it attaches, wins the race three times."""
    change(playground, chain_of(samples, "firewall", linkage=FREPLACE))
    tried: list[int] = []

    def add(running: Running) -> Chain:
        tried.append(running.hooks[0].prog_id)
        assert running.chain is not None
        if len(tried) <= 3:
            change(playground, running.chain.retune(0, priority=len(tried)))
        return running.chain.add(Slot.of(new(samples, "pass")))

    running = edit(playground.ifname, add, netns=playground.netns).running
    assert names_of(running) == ["xdp_firewall", "xdp_pass"]
    assert len(set(tried)) == 4
    monkeypatch.setattr("xdpchain.editing.apply_all", lost)
    with pytest.raises(RaceLost):
        edit(
            playground.ifname,
            lambda running: running.chain.remove([0]),  # type: ignore[union-attr]
            netns=playground.netns,
            tries=2,
        )


def lost(*_: object, **__: object) -> Running:
    raise RaceLost("lost")


def test_a_hook_that_is_taken_meanwhile(playground: Playground, samples: Path) -> None:
    """A program that appears between the look and the attach is a lost race, not a driver error."""
    plan = make_plan(look_at(playground), chain_of(samples, "firewall", linkage=FREPLACE))

    def tell(step: str) -> None:
        if step == "swap it in":
            with (
                bpf.prog_load(bpf.ProgType.XDP, LET_PASS, name="faster") as program,
                Netlink(playground.netns) as netlink,
            ):
                netlink.attach_xdp(playground.ifindex, program, "native", None)

    with pytest.raises(RaceLost):
        apply(plan, progress=tell)
    assert look_at(playground).hooks[0].name == "faster"


def test_no_bpffs_no_freplace(
    playground: Playground, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert default_linkage()[0] is FREPLACE
    monkeypatch.setenv("LIBXDP_BPFFS", str(tmp_path / "nowhere"))
    with pytest.raises(bpffs.BpffsMissing, match="--mount-bpffs"):
        change(playground, chain_of(samples, "firewall", linkage=FREPLACE))
    linkage, reason = default_linkage()
    assert linkage is Linkage.STATIC
    assert "--mount-bpffs" in reason
    assert probe_freplace().works


# Others' dispatchers


@pytest.mark.parametrize("names", [("firewall", "monitor"), ("firewall",)], ids=["two", "one"])
def test_bpfman_is_shown_and_never_touched(
    playground: Playground, samples: Path, own_bpffs: Path, names: tuple[str, ...]
) -> None:
    """bpfman's dispatcher: version 2, priority 50 in all ten slots, pins elsewhere; a single program is
    attached to prog0 as well, whatever its actions.
    """
    ours = change(playground, chain_of(samples, *names, linkage=FREPLACE))
    assert ours.hook is not None
    slots = tuple(SlotConfig(4, 50) for _ in names)
    encoded = bytearray(DispatcherConfig(2, slots).encode())
    for at in range(44, 84, 4):
        encoded[at : at + 4] = (50).to_bytes(4, "little")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DispatcherConfig, "encode", lambda self: bytes(encoded))
        dispatcher = load_dispatcher(DispatcherConfig(2, slots))
    functions = function_ids(dispatcher)
    links = []
    for index, slot in enumerate(slots_of(ours)):
        with bpf.prog_by_id(slot.id or 0) as program:
            links.append(bpf.link_create(program, dispatcher, target_btf_id=functions[f"prog{index}"]))
    with bpf.prog_by_id(ours.hook.prog_id) as old, Netlink(playground.netns) as netlink:
        netlink.attach_xdp(playground.ifindex, dispatcher, "native", old)
    running = look(playground.ifname, playground.netns)
    assert (running.owner, running.chain, running.editable) == (Owner.BPFMAN, None, False)
    assert "bpfman" in running.note
    assert running.shown is not None
    assert [slot.name for slot in running.shown] == [f"xdp_{name}" for name in names]
    assert not running.shown.bare
    assert {slot.priority for slot in running.shown} == {50}
    for link in links:
        link.close()


def test_an_extra_map_is_no_dispatcher(playground: Playground) -> None:
    """libxdp says legacy if a dispatcher has any map besides its configuration. So do we."""
    with (
        load_dispatcher(DispatcherConfig(2, (SlotConfig(4, 50),))) as dispatcher,
        bpf.map_create(bpf.MapType.ARRAY, 4, 4, 1, name="one_more") as extra,
        Netlink(playground.netns) as netlink,
    ):
        bpf.prog_bind_map(dispatcher, extra)
        netlink.attach_xdp(playground.ifindex, dispatcher, "native", None)
    running = look_at(playground)
    assert (running.chain, running.linkage) == (None, FREPLACE)
    assert "2 maps instead of one" in running.note


def test_nothing_is_stale_here(playground: Playground, samples: Path, own_bpffs: Path) -> None:
    change(playground, chain_of(samples, "firewall", linkage=FREPLACE))
    assert clean(dry_run=True) == ()
    assert clean() == ()
    change(playground, Chain())
    assert pins(own_bpffs) == []


def test_what_cant_be_proved_stale_stays(
    playground: Playground, samples: Path, own_bpffs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a container, an interface of another namespace may run what seems to run nowhere."""
    running = change(playground, chain_of(samples, "firewall", linkage=FREPLACE))
    assert running.hook is not None
    monkeypatch.setattr(all_netns, "xdp_programs", lambda: all_netns.Sighting(frozenset(), False))
    (found,) = clean()
    assert (found.program, found.certain, found.removed) == (running.hook.prog_id, False, False)
    assert "not all network namespaces" in found.why
    assert names_of(look_at(playground)) == ["xdp_firewall"]
    (found,) = clean(force=True)
    assert found.removed
    assert pins(own_bpffs) == []
