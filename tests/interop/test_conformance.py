# SPDX-License-Identifier: Apache-2.0
"""Conformance with libxdp, both ways: each edits the other's chain, and both agree on it after every step.

`agreed` compares three views: ours, xdp-loader's status, and the pins with what they hold.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.editors import Editor, Ours, Program, Theirs
from tests.interop.libxdp import Refused, agreed, kernel, loader_version, nothing_left
from tests.kernel.chains import slots_of
from xdpchain.errors import InvalidInput
from xdpchain.linkage.dispatcher.config import DispatcherConfig
from xdpchain.model.actions import ActionSet
from xdpchain.model.interface import Mode
from xdpchain.model.running import Owner, Running
from xdpchain.model.slot import order_key
from xdpchain.sys import bpf
from xdpchain.testing import frames
from xdpchain.testing.playground import Playground

pytestmark = pytest.mark.vm

FIREWALL, LIMIT, MONITOR = Program("firewall"), Program("ratelimit"), Program("monitor")  # 10, 20, 90
THREE = ["xdp_firewall", "xdp_ratelimit", "xdp_monitor"]
BOTH_WAYS = pytest.mark.parametrize("first", ["xdptui", "xdp-loader"])


def sometimes(value: object) -> object:
    """A value of a parameter that only `make test-long` tries: CI has the short form of this table."""
    return pytest.param(value, marks=pytest.mark.long)


EITHER = pytest.mark.parametrize("who", ["xdptui", "xdp-loader"])


@pytest.fixture
def editors(ours: Ours, theirs: Theirs) -> dict[str, Editor]:
    return {"xdptui": ours, "xdp-loader": theirs}


def pair(editors: dict[str, Editor], first: str) -> tuple[Editor, Editor]:
    """The editor that begins, and the other."""
    (other,) = (name for name in editors if name != first)
    return editors[first], editors[other]


def owner_of(who: str) -> Owner:
    return Owner.XDPTUI if who == "xdptui" else Owner.LIBXDP


def passing(*priorities: int) -> list[Program]:
    """Programs that only pass packets on, with these priorities."""
    return [Program("pass", priority=priority) for priority in priorities]


def priorities(running: Running) -> list[int]:
    return [slot.priority for slot in slots_of(running)]


def config_of(running: Running) -> DispatcherConfig:
    assert running.hook is not None
    with bpf.prog_by_id(running.hook.prog_id) as program:
        (number,) = bpf.prog_map_ids(program)
    with bpf.map_by_id(number) as fd:
        return DispatcherConfig.decode(bpf.map_lookup(fd, bytes(4), bpf.map_info(fd).value_size))


# How many


@EITHER
@pytest.mark.parametrize("count", [1, sometimes(2), sometimes(9), 10])
def test_load(playground: Playground, editors: dict[str, Editor], who: str, count: int) -> None:
    editors[who].load(*passing(*range(1, count + 1)))
    running = agreed(playground)
    assert priorities(running) == list(range(1, count + 1))
    assert running.owner is owner_of(who)
    editors[who].remove_all()
    nothing_left(playground)


@BOTH_WAYS
def test_the_eleventh_is_refused(playground: Playground, editors: dict[str, Editor], first: str) -> None:
    one, other = pair(editors, first)
    one.load(*passing(*range(1, 11)))
    before = agreed(playground)
    for editor in (one, other):
        with pytest.raises((Refused, InvalidInput)):
            editor.load(Program("pass"))
        assert agreed(playground).identity == before.identity


@BOTH_WAYS
def test_from_one_to_two_and_back(playground: Playground, editors: dict[str, Editor], first: str) -> None:
    """A single program replaces main, two replace the stubs: a component moves from one to the other."""
    editor, other = pair(editors, first)
    editor.load(FIREWALL)
    (slot,) = slots_of(agreed(playground))
    other.load(MONITOR)
    slots = slots_of(agreed(playground, ["xdp_firewall", "xdp_monitor"]))
    assert (slots[0].id, slots[0].component.maps) == (slot.id, slot.component.maps)
    editor.remove(slots[1].id or 0)
    assert slots_of(agreed(playground, ["xdp_firewall"]))[0].id == slot.id
    other.load(LIMIT)
    agreed(playground, ["xdp_firewall", "xdp_ratelimit"])
    editor.remove(slot.id or 0)
    agreed(playground, ["xdp_ratelimit"])
    other.remove_all()
    nothing_left(playground)


# Add, remove


@BOTH_WAYS
@pytest.mark.parametrize("place", [0, sometimes(1), sometimes(2), 3])
def test_the_other_adds(
    playground: Playground, editors: dict[str, Editor], samples: Path, first: str, place: int
) -> None:
    editor, other = pair(editors, first)
    editor.load(FIREWALL, LIMIT, MONITOR)
    before = agreed(playground, THREE)
    other.load(Program("pass", priority=[5, 15, 55, 95][place]))
    after = agreed(playground, [*THREE[:place], "xdp_pass", *THREE[place:]])
    assert after.owner is owner_of(other.name)
    # What already ran was attached again, not reloaded.
    kept = {slot.id: slot.component.maps for slot in slots_of(after)}
    assert {slot.id: slot.component.maps for slot in slots_of(before)}.items() < kept.items()


@BOTH_WAYS
@pytest.mark.parametrize("place", [0, sometimes(1), sometimes(2)])
def test_the_other_removes_by_id(
    playground: Playground, editors: dict[str, Editor], first: str, place: int
) -> None:
    editor, other = pair(editors, first)
    editor.load(FIREWALL, LIMIT, MONITOR)
    other.remove(slots_of(agreed(playground, THREE))[place].id or 0)
    agreed(playground, THREE[:place] + THREE[place + 1 :])


@BOTH_WAYS
@pytest.mark.parametrize("count", [sometimes(1), 3])
def test_the_other_removes_all(
    playground: Playground, editors: dict[str, Editor], first: str, count: int
) -> None:
    editor, other = pair(editors, first)
    editor.load(*passing(*range(1, count + 1)))
    agreed(playground)
    other.remove_all()
    nothing_left(playground)


def test_they_take_turns(playground: Playground, editors: dict[str, Editor]) -> None:
    turns = ["xdptui", "xdp-loader"] * 3
    for number, who in enumerate(turns):
        editors[who].load(*passing(10 - number))
        assert priorities(agreed(playground)) == list(range(10 - number, 11))
    for number, who in enumerate(reversed(turns)):
        slots = slots_of(agreed(playground))
        assert len(slots) == len(turns) - number
        editors[who].remove(slots[-1].id or 0)
    nothing_left(playground)


# Order


@BOTH_WAYS
def test_equal_priorities_go_by_name(playground: Playground, editors: dict[str, Editor], first: str) -> None:
    editor, other = pair(editors, first)
    editor.load(Program("pass", priority=7), Program("monitor", priority=7))
    agreed(playground, ["xdp_monitor", "xdp_pass"])
    other.load(Program("two", "two_learn", priority=7), Program("drop", priority=7))
    agreed(playground, ["two_learn", "xdp_drop", "xdp_monitor", "xdp_pass"])


@BOTH_WAYS
def test_equal_names_go_by_tag(playground: Playground, editors: dict[str, Editor], first: str) -> None:
    """Running components come before new ones; from the next edit on, all running ones are ordered by tag."""
    editor, other = pair(editors, first)
    editor.load(Program("counter"), Program("counter_v2"))
    other.load(Program("counter_v3"))
    slots = slots_of(agreed(playground, ["xdp_counter"] * 3))
    assert slots[-1] is max(slots, key=lambda slot: slot.id or 0)
    editor.load(Program("pass", priority=1))
    _, *counters = slots_of(agreed(playground, ["xdp_pass", *["xdp_counter"] * 3]))
    tags = [slot.component.tag or "" for slot in counters]
    assert tags == sorted(tags)


@BOTH_WAYS
def test_both_sort_alike(playground: Playground, editors: dict[str, Editor], first: str) -> None:
    editor, other = pair(editors, first)
    editor.load(Program("two", "two_learn", priority=300), Program("two", "two_enforce", priority=2))
    other.load(Program("globals", priority=30), Program("loops", priority=0), Program("counter"))
    slots = slots_of(agreed(playground))
    assert sorted(slots, key=order_key) == list(slots)


def test_a_move_survives_their_edit(playground: Playground, ours: Ours, editors: dict[str, Editor]) -> None:
    editors["xdp-loader"].load(FIREWALL, LIMIT, MONITOR)
    ours.edit(lambda chain: chain.move(2, 0))
    agreed(playground, ["xdp_monitor", "xdp_firewall", "xdp_ratelimit"])
    editors["xdp-loader"].load(Program("pass"))
    agreed(playground, ["xdp_monitor", "xdp_firewall", "xdp_ratelimit", "xdp_pass"])


def test_a_move_among_equals(playground: Playground, ours: Ours, editors: dict[str, Editor]) -> None:
    editors["xdp-loader"].load(*(Program(name, priority=9) for name in ("counter", "firewall", "monitor")))
    ours.edit(lambda chain: chain.move(2, 1))
    agreed(playground, ["xdp_counter", "xdp_monitor", "xdp_firewall"])
    editors["xdp-loader"].load(Program("drop", priority=1000))
    agreed(playground, ["xdp_counter", "xdp_monitor", "xdp_firewall", "xdp_drop"])


# Run configurations in force


@EITHER
def test_declared_configurations(playground: Playground, editors: dict[str, Editor], who: str) -> None:
    editors[who].load(FIREWALL, LIMIT)
    slots = slots_of(agreed(playground))
    assert [(slot.priority, slot.component.declared.priority) for slot in slots] == [(10, 10), (20, 20)]


@BOTH_WAYS
def test_overridden_configurations(playground: Playground, editors: dict[str, Editor], first: str) -> None:
    """The configuration in force survives the other's edits; the declared one is still known."""
    editor, other = pair(editors, first)
    editor.load(Program("firewall", priority=77, actions="XDP_PASS,XDP_DROP"))
    other.load(Program("monitor", priority=3, actions="XDP_TX,XDP_ABORTED,XDP_REDIRECT"))
    editor.load(Program("pass", priority=80))
    monitor, firewall, _ = slots_of(agreed(playground, ["xdp_monitor", "xdp_firewall", "xdp_pass"]))
    assert (monitor.priority, monitor.actions) == (3, ActionSet.parse("ATR"))
    assert (firewall.priority, firewall.actions) == (77, ActionSet.parse("PD"))
    assert firewall.component.declared.priority == 10


def test_a_retuned_chain_survives_their_edit(
    playground: Playground, ours: Ours, editors: dict[str, Editor]
) -> None:
    editors["xdp-loader"].load(FIREWALL, MONITOR)
    ours.edit(lambda chain: chain.retune(0, priority=95, actions=ActionSet.parse("PT")))
    agreed(playground, ["xdp_monitor", "xdp_firewall"])
    editors["xdp-loader"].load(LIMIT)
    slots = slots_of(agreed(playground, ["xdp_ratelimit", "xdp_monitor", "xdp_firewall"]))
    assert slots[2].actions == ActionSet.parse("PT")


@EITHER
def test_used_slots_go_on_when_a_stub_answers(
    playground: Playground, editors: dict[str, Editor], who: str
) -> None:
    """Bit 31 is set for every used slot and stripped when read; unused slots are all zero."""
    editors[who].load(Program("pass", actions="XDP_DROP"), FIREWALL)
    running = agreed(playground)
    assert running.hook is not None
    with bpf.prog_by_id(running.hook.prog_id) as program, bpf.map_by_id(bpf.prog_map_ids(program)[0]) as fd:
        block = bpf.map_lookup(fd, bytes(4), bpf.map_info(fd).value_size)
    words = [int.from_bytes(block[at : at + 4], "little") for at in range(4, 124, 4)]
    assert words[:10] == [1 << 31 | 4, 1 << 31 | 2, *[0] * 8]
    assert words[10:20] == [10, 50, *[0] * 8]
    assert running.dispatcher is not None
    assert block[:4] == bytes([236, running.dispatcher.version, 2, 0])


# Fragments


@EITHER
def test_a_chain_takes_fragments_if_all_do(
    playground: Playground, ours: Ours, editors: dict[str, Editor], who: str
) -> None:
    """The other's edits keep each component's flag, and turn the chain's off and on again."""
    ours.load(Program("frags"), Program("frags", priority=99))
    assert fragments(agreed(playground)) == (True, [32, 32])
    editors[who].load(Program("pass"))
    running = agreed(playground, ["xdp_frags", "xdp_pass", "xdp_frags"])
    assert fragments(running) == (False, [32, 0, 32])
    assert [slot.component.frags for slot in slots_of(running)] == [True, False, True]
    editors[who].remove(slots_of(running)[1].id or 0)
    assert fragments(agreed(playground, ["xdp_frags", "xdp_frags"])) == (True, [32, 32])


@BOTH_WAYS
def test_mixed_from_the_start(playground: Playground, editors: dict[str, Editor], first: str) -> None:
    """Debian's libxdp 1.3 with libbpf 1.1 does not see frags in a section name: it stores no flag."""
    editor, other = pair(editors, first)
    editor.load(Program("pass"))
    other.load(Program("frags"))
    running = agreed(playground, ["xdp_frags", "xdp_pass"])
    whole, flags = fragments(running)
    assert not whole
    assert [slot.component.frags for slot in slots_of(running)] == [bool(flag) for flag in flags]
    assert flags == ([32, 0] if other.name == "xdptui" else [0, 0])


def fragments(running: Running) -> tuple[bool, list[int]]:
    """Whether the chain accepts fragments, and each slot's flags, from the dispatcher's configuration."""
    config = config_of(running)
    return config.frags, [slot.flags for slot in config.slots]


# Programs that move packet pointers


@BOTH_WAYS
@pytest.mark.parametrize("program", ["meta_head", sometimes("meta_mark"), sometimes("meta_tail")])
def test_pointer_movers(playground: Playground, editors: dict[str, Editor], first: str, program: str) -> None:
    """From kernel 6.12 on, a stub must declare that it may move packet pointers before a program that does
    can replace it. Ours do; those of libxdp before 1.5.5 don't, so there the program is refused, nothing
    changes, and our chain keeps running.
    """
    for who, one, names in (
        (first, Program("meta", program), [program]),
        (pair(editors, first)[1].name, Program("pass"), ["xdp_pass", program]),
        (first, Program("drop", priority=99), ["xdp_pass", program, "xdp_drop"]),
    ):
        if who == "xdp-loader" and stubs_must_say_so():
            with pytest.raises(Refused):
                editors[who].load(one)
            who = "xdptui"
        editors[who].load(one)
        agreed(playground, names)


def stubs_must_say_so() -> bool:
    """Whether the kernel has 81f6d0530ba0, and this libxdp's stubs lack the declaration: they lack it if they
    can't move pointers.
    """
    return kernel() >= (6, 12) and loader_version() < (1, 5, 5)


# Modes


@BOTH_WAYS
def test_generic_mode(playground: Playground, editors: dict[str, Editor], first: str) -> None:
    editor, other = pair(editors, first)
    editor.load(FIREWALL, generic=True)
    assert agreed(playground).mode is Mode.GENERIC
    other.load(MONITOR, generic=True)
    running = agreed(playground, ["xdp_firewall", "xdp_monitor"])
    assert running.mode is Mode.GENERIC
    playground.send([frames.udp(frames.PEER, frames.NEAR, port) for port in range(1000, 1005)])
    other.remove_all()
    nothing_left(playground)


@BOTH_WAYS
@pytest.mark.parametrize("generic", [False, True])
def test_another_mode_is_refused(
    playground: Playground, editors: dict[str, Editor], first: str, generic: bool
) -> None:
    editor, other = pair(editors, first)
    editor.load(FIREWALL, generic=generic)
    before = agreed(playground)
    with pytest.raises((Refused, InvalidInput)):
        other.load(MONITOR, generic=not generic)
    assert agreed(playground, ["xdp_firewall"]).identity == before.identity
