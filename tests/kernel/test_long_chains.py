# SPDX-License-Identifier: Apache-2.0
"""Chains of more than ten slots, up to 32, which static and tailcall linkage support."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.kernel.arming import LATER, arm
from tests.kernel.chains import change, expected, look_at, run_through, scripted_chain
from tests.kernel.command_line import CommandLine
from tests.kernel.test_contract import by_code, scripts
from tests.kernel.test_routes import routed, way
from tests.kernel.tracing import INCLUDE, settled
from tests.objects.compile import compile_text
from xdpchain.change.confirm.by_hand import roll_back
from xdpchain.editing import undo
from xdpchain.errors import LinkRefused
from xdpchain.follow import Followed, follow
from xdpchain.model.actions import Action, ActionSet
from xdpchain.model.chain import MAX_SLOTS, Chain, Linkage
from xdpchain.model.interface import Mode
from xdpchain.model.policy import Answer, Policy
from xdpchain.model.running import Running
from xdpchain.model.slot import Slot
from xdpchain.objects.components import load_component
from xdpchain.observe.counters import Sample, open_counters
from xdpchain.testing.frames import scripted
from xdpchain.testing.playground import Playground
from xdpchain.trial.run import run_trial

LINKAGES = [Linkage.STATIC, Linkage.TAILCALL]
LENGTHS = [11, 16, MAX_SLOTS]
PASS_ON, DROP_TOO = ActionSet.parse("P"), ActionSet.parse("PD")
ROOMY = 200
"""Bytes of a frame in whose socket buffer there is room for what 32 slots append."""

D, P = Action.DROP, Action.PASS


def counted(running: Running) -> Sample:
    with open_counters(running, attach=False) or pytest.fail("nothing counts") as reader:
        return reader.read()


def marks(places: Iterable[int]) -> bytes:
    """What scripted programs append to a packet."""
    return bytes(ord("0") + place for place in places)


def chain_in(running: Running) -> Chain:
    return running.chain or pytest.fail("no chain runs")


@pytest.mark.parametrize("linkage", LINKAGES)
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("words", ["P", "ADPTR"])
def test_order_verdicts_and_counters(
    playground: Playground, samples: Path, linkage: Linkage, length: int, words: str
) -> None:
    actions = [ActionSet.parse(words)] * length
    running = change(playground, scripted_chain(samples, actions, linkage))
    assert running.form == "threaded"
    tried = scripts(length, random.Random(length))
    wanted = [expected(actions, script) for script in tried]
    for script, want in zip(tried, wanted, strict=True):
        got = run_through(running, scripted(script))
        assert (got.code, got.data[60:]) == (want.verdict, marks(range(len(want.returned)))), script.hex()
    sample = counted(running)
    for number, slot in enumerate(chain_in(running)):
        returned = [want.returned[number] for want in wanted if len(want.returned) > number]
        assert sample.slots[slot.key].packets == by_code(returned)
    assert sample.verdict is not None
    assert sample.verdict.packets == by_code([want.verdict for want in wanted])


@pytest.mark.parametrize("linkage", LINKAGES)
@pytest.mark.parametrize("mode", [Mode.NATIVE, Mode.GENERIC])
def test_real_packets_are_counted_through_edits(
    playground: Playground, samples: Path, linkage: Linkage, mode: Mode
) -> None:
    """Each edit with the same packets: to the end of the chain, and out at each of three slots."""
    running = change(playground, scripted_chain(samples, [PASS_ON] * MAX_SLOTS, linkage, mode))
    assert running.mode is mode
    everybody = [slot.key for slot in chain_in(running)]
    seen = dict.fromkeys(everybody, 0)
    drops = 0

    def send(ends: list[int]) -> None:
        """One packet for each of these programs, which drops it; and one that none drops."""
        nonlocal drops
        order = [int(slot.name.split("_")[1]) for slot in chain_in(running)]
        for end in (*ends, None):
            script = bytes(D if number == end else P for number in range(MAX_SLOTS))
            playground.send([scripted(script, length=ROOMY)])
            last = len(order) if end not in order else order.index(end) + 1
            ignored = end in order and D in chain_in(running).slots[order.index(end)].actions
            drops += end in order and not ignored
            for slot in chain_in(running).slots[: None if ignored else last]:
                seen[slot.key] += 1
        sample = counted(running)
        assert {key: sample.slots[key].total_packets for key in seen} == seen
        assert sample.verdict is not None
        assert sample.verdict.packets[D] == drops

    send([0, 17, 31])
    running = change(playground, chain_in(running).move(31, 0))
    send([0, 17, 31])
    before = running.hook
    running = change(playground, chain_in(running).retune(18, actions=DROP_TOO))
    assert (running.hook == before) is (linkage is Linkage.TAILCALL), "one row of an array is no new program"
    send([0, 17, 31])
    gone = chain_in(running).slots[5]
    running = change(playground, chain_in(running).remove([5]))
    del seen[gone.key]
    send([3, 17])
    if mode is Mode.NATIVE:
        running = undo(playground.ifname, playground.netns)
        assert [slot.name for slot in chain_in(running)][5] == gone.name
    other = Linkage.TAILCALL if linkage is Linkage.STATIC else Linkage.STATIC
    running = change(playground, chain_in(running).relink(other))
    assert {slot.key for slot in chain_in(running)} >= set(everybody) - {gone.key}
    sample = counted(running)
    assert {key: sample.slots[key].total_packets for key in seen} == seen


@pytest.mark.parametrize("linkage", LINKAGES)
def test_what_slots_have_works_in_all_of_32(playground: Playground, samples: Path, linkage: Linkage) -> None:
    """Routes to slots beyond the tenth, shadow, off, policies: alone and together with a trial on copies."""
    actions = [PASS_ON] * MAX_SLOTS
    routes: dict[int, dict[Action | None, int]] = {0: {D: 31}, 3: {Action.TX: 12}, 12: {None: 30}}
    running = change(playground, routed(scripted_chain(samples, actions, linkage), routes))
    chance = random.Random(32)
    for _ in range(40):
        script = bytes(chance.choice((2, 2, 2, 2, 2, 2, 1, 3, 7, 31)) for _ in actions)
        ran, want = way(actions, routes, script)
        got = run_through(running, scripted(script))
        assert (got.code, got.data[60:]) == (want.verdict, marks(ran)), script.hex()
    chain = chain_in(running).retune(20, shadow=True).retune(25, off=True)
    running = change(playground, chain.police(28, Policy(PASS_ON, Answer.DROP)))
    everybody = [number for number in range(MAX_SLOTS) if number != 25]
    through = scripted(bytes(D if number == 20 else P for number in range(MAX_SLOTS)))
    got = run_through(running, through)
    assert (got.code, got.data[60:]) == (P, marks(everybody))
    forbidden = scripted(bytes(Action.TX if number == 28 else P for number in range(MAX_SLOTS)))
    assert run_through(running, forbidden).code == D
    tried = run_trial(chain_in(running), [through, forbidden])
    assert [row.verdict for row in tried.rows] == [P, D]
    assert [len([code for code in row.slots if code is not None]) for row in tried.rows] == [31, 28]


@pytest.mark.parametrize("linkage", LINKAGES)
def test_packets_are_followed_through_32(playground: Playground, samples: Path, linkage: Linkage) -> None:
    running = change(playground, scripted_chain(samples, [PASS_ON] * MAX_SLOTS, linkage))
    seen: list[Followed] = []
    with follow(running, "", count=1) as follower:
        playground.send([scripted(bytes([P] * MAX_SLOTS), length=ROOMY)])
        assert settled(lambda: bool(seen.extend(follower.poll()) or seen))
    (packet,) = seen
    assert (packet.verdict, [step.name for step in packet.steps]) == (
        P,
        [f"scripted_{number}" for number in range(MAX_SLOTS)],
    )
    assert look_at(playground).chain == running.chain


@pytest.mark.parametrize("linkage", LINKAGES)
def test_an_armed_change_of_32_rolls_back(playground: Playground, samples: Path, linkage: Linkage) -> None:
    old = change(playground, scripted_chain(samples, [PASS_ON] * MAX_SLOTS, linkage))
    new = arm(playground, chain_in(old).remove(range(20)).retune(0, actions=DROP_TOO), LATER)
    assert len(chain_in(new)) == 12
    roll_back(playground.ifname, playground.netns)
    now = look_at(playground)
    assert (now.hook, now.chain) == (old.hook, old.chain)
    assert run_through(now, scripted(bytes([P] * MAX_SLOTS))).data[60:] == marks(range(MAX_SLOTS))


def test_slots_get_numbers_while_all_of_them_change(playground: Playground, samples: Path) -> None:
    """32 slots become 32 others, and those go into shadow, where they are counted separately."""
    running = change(playground, scripted_chain(samples, [PASS_ON] * MAX_SLOTS, Linkage.STATIC))
    for _ in range(3):
        running = change(playground, scripted_chain(samples, [PASS_ON] * MAX_SLOTS, Linkage.STATIC))
        chain = chain_in(running)
        for index in range(MAX_SLOTS):
            chain = chain.retune(index, shadow=True)
        running = change(playground, chain)
        assert len({slot.row for slot in chain_in(running)}) == MAX_SLOTS
    short = change(playground, chain_in(running).remove(range(4, MAX_SLOTS)))
    assert chain_in(short) == chain_in(look_at(playground))


def test_a_component_with_tail_calls_leaves_ten_slots_under_tailcall(
    playground: Playground, samples: Path
) -> None:
    chain = scripted_chain(samples, [PASS_ON] * 9, Linkage.TAILCALL)
    caller = Slot.of(load_component(str(samples / "tailcalls.o")), 500)
    ten = change(playground, chain.add(caller))
    assert len(chain_in(ten)) == 10
    eleventh = Slot.of(load_component(str(samples / "pass.o")), 600, PASS_ON)
    longer = chain_in(ten).add(eleventh)
    with pytest.raises(LinkRefused, match="33 tail calls per packet, and xdp_tailcalls makes") as refused:
        change(playground, longer)
    assert "static" in str(refused.value.todo)
    assert look_at(playground).identity == ten.identity
    # A slot that is off makes none; and static linkage makes none for the chain.
    off = change(playground, longer.retune(9, off=True))
    with pytest.raises(LinkRefused, match="33 tail calls"):
        change(playground, chain_in(off).retune(9, off=False))
    there = change(playground, chain_in(off).retune(9, off=False).relink(Linkage.STATIC))
    assert run_through(there, scripted(bytes([P] * 9))).data[60:] == marks(range(9))


MAPPED = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#define MAP(name) struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); \\
                           __type(value, __u64); } name SEC(".maps")
#define ADD(name) do { __u32 key = 0; __u64 *value = bpf_map_lookup_elem(&name, &key); \\
                       if (value) *value += 1; } while (0)
MAP(first); MAP(second); MAP(third);
SEC("xdp") int mapped(struct xdp_md *ctx) { ADD(first); ADD(second); ADD(third); return XDP_PASS; }
char _license[] SEC("license") = "GPL";
"""


def test_more_maps_than_one_program_may_use_are_refused_with_the_reason(
    playground: Playground, tmp_path: Path
) -> None:
    path = tmp_path / "mapped.o"
    path.write_bytes(compile_text(MAPPED, INCLUDE))
    chain = Chain()
    for number in range(22):
        chain = chain.add(Slot.of(load_component(str(path)), number))
    with pytest.raises(LinkRefused, match=r"they use 66 maps besides .* kernel allows 64") as refused:
        change(playground, chain)
    assert "tailcall" in str(refused.value.todo)
    assert "freplace" not in str(refused.value.todo)
    assert look_at(playground).hook is None
    assert len(chain_in(change(playground, chain.relink(Linkage.TAILCALL)))) == 22


@pytest.mark.parametrize("linkage", ["static", "tailcall"])
def test_the_command_line_takes_32_and_no_more(cli: CommandLine, tmp_path: Path, linkage: str) -> None:
    cli.ok("load", cli.interface, *[cli.sample("pass")] * MAX_SLOTS, "--linkage", linkage)
    before = cli.status()
    assert len(before["slots"]) == MAX_SLOTS
    refused = cli("load", cli.interface, cli.sample("monitor"))
    assert refused.code == 7
    assert "a chain of 33 slots can't be built: the limit is 32 slots" in refused.err
    assert cli.status() == before
    spec = tmp_path / "spec.toml"
    cli.ok("save", cli.interface, "-o", str(spec))
    assert cli("plan", str(spec)).code == 0, "what runs differs in nothing"
    cli.ok("unload", cli.interface, "17")
    cli.ok("apply", str(spec))
    assert len(cli.status()["slots"]) == MAX_SLOTS
    cli.ok("undo", cli.interface)
    assert len(cli.status()["slots"]) == MAX_SLOTS - 1


@pytest.mark.vm
def test_freplace_has_ten_and_says_what_to_do(cli: CommandLine) -> None:
    ten = [cli.sample("pass")] * 10
    cli.ok("load", cli.interface, *ten, cli.sample("drop"))
    assert cli.status()["linkage"] == "static"
    refused = cli("relink", cli.interface, "--linkage", "freplace")
    assert refused.code == 7
    assert "freplace linkage does not support 11 slots: libxdp's dispatcher has 10 slots" in refused.err
    cli.ok("unload", cli.interface, "10")
    cli.ok("relink", cli.interface, "--linkage", "freplace")
    refused = cli("load", cli.interface, cli.sample("drop"))
    assert refused.code == 7
    assert f"xdptui relink {cli.interface}" in refused.err
    cli.ok("relink", cli.interface, "--linkage", "static")
    cli.ok("load", cli.interface, cli.sample("drop"))
    assert len(cli.status()["slots"]) == 11
