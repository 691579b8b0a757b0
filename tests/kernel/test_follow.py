# SPDX-License-Identifier: Apache-2.0
"""Following packets through a static chain: real packets whose path is known in advance, and afterwards the
chain is what it was.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.kernel.arming import no_guardian_survives
from tests.kernel.chains import chain_of, change, expected, look_at, run_through, scripted_chain
from tests.unit.test_classic import EXPRESSIONS
from xdpchain.bytecode.classic import HEAD
from xdpchain.change.confirm.by_hand import roll_back
from xdpchain.change.journal.undoing import history
from xdpchain.change.plan import make_plan
from xdpchain.editing import apply
from xdpchain.errors import Busy, InvalidInput, NotFound, RaceLost
from xdpchain.follow import ByteChange, Followed, Follower, compile_filter, follow, take_back_left_over
from xdpchain.follow.tapping import Keep, Tapping
from xdpchain.linkage.array_pins import stale_array_pins
from xdpchain.linkage.static import StaticLinker
from xdpchain.linkage.tap import MOST_SNAP, Tap, make_maps
from xdpchain.model.actions import Action, ActionSet
from xdpchain.model.chain import Linkage
from xdpchain.model.counts import Sample
from xdpchain.model.interface import Mode
from xdpchain.model.link_layer import ETHERNET
from xdpchain.model.manifest import Author
from xdpchain.model.policy import Answer, Policy
from xdpchain.model.running import Running
from xdpchain.model.slot import Slot
from xdpchain.objects.components import load_component
from xdpchain.observe.counters import open_counters
from xdpchain.sys import bpf
from xdpchain.sys.pcap import compile_expression, run_offline
from xdpchain.testing.frames import NEAR, PEER, scripted, tcp_syn, udp
from xdpchain.testing.playground import Playground
from xdpchain.trial.run import NOWHERE
from xdptui.workers.trial_frames import NAMED_FRAMES

PASS_ON = ActionSet.parse("P")
SCRIPTED = "ether proto 0x88b5"
PATIENCE = 10.0


def collect(follower: Follower, count: int) -> list[Followed]:
    """``count`` packets, or those that came in time."""
    found: list[Followed] = []
    end = time.monotonic() + PATIENCE
    while len(found) < count and not follower.ended and time.monotonic() < end:
        found += follower.poll()
        time.sleep(0.01)
    return found


def returned(playground: Playground) -> tuple[Sample, tuple[int, ...]]:
    """The counts so far, and the chain's own among them."""
    with open_counters(look_at(playground)) as reader:  # type: ignore[union-attr]
        sample = reader.read()
    assert sample.verdict is not None
    return sample, sample.verdict.packets


def same(first: Running, second: Running) -> bool:
    """Whether the same runs, program by program, and its counts continue; ignores the device and where counts
    are kept."""
    return replace(first, device=second.device, counting=second.counting) == second


INSIDE = [Linkage.STATIC, Linkage.TAILCALL]


@pytest.fixture(params=INSIDE)
def three(playground: Playground, samples: Path, request: pytest.FixtureRequest) -> Running:
    return change(playground, scripted_chain(samples, [PASS_ON] * 3, request.param))


@pytest.mark.parametrize("mode", [Mode.NATIVE, Mode.GENERIC])
@pytest.mark.parametrize("counters", [True, False])
@pytest.mark.parametrize("linkage", INSIDE)
def test_each_packets_way(
    playground: Playground, samples: Path, linkage: Linkage, mode: Mode, counters: bool
) -> None:
    actions = [ActionSet.parse("PD"), PASS_ON, PASS_ON]
    running = change(playground, scripted_chain(samples, actions, linkage, mode, counters))
    assert running.chain is not None
    scripts = [b"\2\2\2", b"\1\2\2", b"\0\2\2", b"\2\2\1", b"\2\2\x4d"]
    with follow(running, SCRIPTED, count=len(scripts)) as follower:
        before = time.time_ns()
        playground.send([scripted(script) for script in scripts])
        found = collect(follower, len(scripts))
        assert follower.ended == "requested number of packets reached"
    assert [packet.number for packet in found] == [1, 2, 3, 4, 5]
    for packet, script in zip(found, scripts, strict=True):
        want = expected(actions, script)
        assert packet.verdict == want.verdict
        assert tuple(step.code for step in packet.steps) == want.returned
        assert (packet.entry.length, packet.entry.head) == (60, scripted(script))
        for number, step in enumerate(packet.steps):
            slot = running.chain.slots[number]
            assert (step.slot, step.name) == (slot.key, f"scripted_{number}")
            # Each appends its digit: nothing else changes.
            assert step.view.length == 60 + number + 1
            digit = b"%d" % number
            assert step.changes == (ByteChange(60 + number, b"", 60 + number, digit),)
            assert step.view.head == scripted(script) + b"012"[: number + 1]
            assert (step.moved, step.resized) == (0, 1)
            assert 0 < step.ns < packet.ns
        assert packet.ifindex == running.interface.ifindex
        assert abs(packet.time - before) < 5e9
    assert same(look_at(playground), running), "what ran runs again"


@pytest.mark.parametrize("linkage", INSIDE)
def test_routes_are_followed(playground: Playground, samples: Path, linkage: Linkage) -> None:
    chain = scripted_chain(samples, [PASS_ON] * 3, linkage)
    running = change(playground, chain.route(0, Action.DROP, chain.slots[2].key))
    with follow(running, SCRIPTED, count=2) as follower:
        playground.send([scripted(b"\1\2\1"), scripted(b"\2\2\2")])
        first, second = collect(follower, 2)
    assert [(step.name, step.code) for step in first.steps] == [("scripted_0", 1), ("scripted_2", 1)]
    assert first.verdict == 1
    assert [step.name for step in second.steps] == ["scripted_0", "scripted_1", "scripted_2"]


def test_a_policys_answer_is_the_verdict(playground: Playground, samples: Path) -> None:
    """The step says what the slot returned, though forbidden; the verdict, what was made of it."""
    chain = scripted_chain(samples, [PASS_ON] * 2, Linkage.STATIC)
    policed = chain.police(0, Policy(ActionSet.parse("PD"), Answer.DROP))
    with follow(change(playground, policed), SCRIPTED, count=1) as follower:
        playground.send([scripted(b"\3\2")])
        (packet,) = collect(follower, 1)
    assert [(step.name, step.code) for step in packet.steps] == [("scripted_0", Action.TX)]
    assert packet.verdict == Action.DROP


def test_bytes_in_front_and_bytes_cut_off(playground: Playground, samples: Path) -> None:
    """meta_tail cuts off the padding, then meta_head pushes the tag of VLAN 5."""
    frame = next(frame for name, frame in NAMED_FRAMES if "UDP" in name and len(frame) >= 60)
    padded = frame + b"\xaa\xbb\xcc"
    chain = chain_of(samples)
    for priority, name in enumerate(("meta_tail", "meta_head")):
        chain = chain.add(Slot.of(load_component(str(samples / "meta.o"), name=name), priority))
    with follow(change(playground, chain), "udp", count=1) as follower:
        playground.send([padded])
        (packet,) = collect(follower, 1)
    total = 14 + int.from_bytes(frame[16:18], "big")
    tail, head = packet.steps
    assert tail.changes == (ByteChange(total, padded[total:], total, b""),)
    assert (head.moved, head.resized, head.view.length) == (-4, 4, total + 4)
    assert head.view.head == frame[:12] + b"\x81\x00\x00\x05" + frame[12:total]
    # The room came in front, but the difference is a tag behind the addresses.
    assert head.changes == (ByteChange(12, b"", 12, b"\x81\x00\x00\x05"),)


def test_long_packets_show_their_beginning(playground: Playground, samples: Path) -> None:
    running = change(playground, chain_of(samples, "pass"))
    frame = scripted(b"\2").ljust(1400, b"x")
    with follow(running, "greater 1000", count=1) as follower:
        playground.send([scripted(b"\2"), frame])
        (packet,) = collect(follower, 1)
    assert (packet.entry.length, packet.entry.head) == (1400, frame[:256])


def test_every_length_is_copied_whole(playground: Playground, samples: Path) -> None:
    running = change(playground, chain_of(samples, "pass"))
    lengths = [60, 61, 62, 63, 64, 65, 66, 67, 100, 247, 248, 249, 255, 256, 257, 264]
    frames = [scripted(b"\2") + bytes(i % 251 for i in range(length - 60)) for length in lengths]
    with follow(running, "", count=len(frames)) as follower:
        playground.send(frames)
        found = collect(follower, len(frames))
    assert [(p.entry.length, p.entry.head) for p in found] == [(len(f), f[:256]) for f in frames]


@pytest.mark.parametrize("snaplen", [64, 100, 1000, MOST_SNAP])
def test_packets_are_kept_as_far_as_asked_for(playground: Playground, samples: Path, snaplen: int) -> None:
    running = change(playground, scripted_chain(samples, [PASS_ON], Linkage.STATIC))
    kept = -(-snaplen // 8) * 8
    lengths = [60, 63, 64, 65, 99, 100, 101, 104, 105, 999, 1000, 1001, 1513]
    frames = [scripted(b"\2") + bytes(i % 251 for i in range(length - 60)) for length in lengths]
    with follow(running, SCRIPTED, count=len(frames), snaplen=snaplen) as follower:
        playground.send(frames)
        found = collect(follower, len(frames))
    assert [(p.entry.length, p.entry.head) for p in found] == [(len(f), f[:kept]) for f in frames]
    appended = [b"0" * (p.verdict == Action.PASS) for p in found]  # at some lengths a veth has no tailroom
    assert sum(map(len, appended)) > 8
    assert [p.final.head for p in found] == [(f + b)[:kept] for f, b in zip(frames, appended, strict=True)]


def test_a_component_with_tail_calls_of_its_own(playground: Playground, samples: Path) -> None:
    """Its program array stays filled during following and afterwards: the kernel empties one that nothing
    holds.
    """
    running = change(playground, chain_of(samples, "pass", "tailcalls"))
    syn = tcp_syn(PEER, NEAR, 22)
    for _ in range(2):
        assert run_through(look_at(playground), syn).code == Action.DROP
        with follow(look_at(playground), "tcp", count=1) as follower:
            playground.send([syn])
            (packet,) = collect(follower, 1)
            assert [step.code for step in packet.steps if step.name == "xdp_tailcalls"] == [Action.DROP]
            assert packet.verdict == Action.DROP
    assert same(look_at(playground), running)
    assert run_through(look_at(playground), syn).code == Action.DROP
    left_over(playground)
    after = take_back_left_over(wait_until_it_counts_as_gone(playground))
    assert run_through(after, syn).code == Action.DROP
    assert sorted(path.name for path in stale_array_pins()) in ([], [str(running.hook.prog_id)])  # type: ignore[union-attr]


def test_packets_in_fragments(root: None, samples: Path) -> None:
    """Of a jumbo frame the length is known, and everything that is asked for, in whatever fragment."""
    with Playground(mtu=9000) as playground:
        running = change(playground, chain_of(samples, "frags"))
        frame = udp(PEER, NEAR, 9, payload=bytes(range(256)) * 30)
        for snaplen in (256, 5000, MOST_SNAP):
            with follow(running, "udp and greater 7000", count=1, snaplen=snaplen) as follower:
                playground.send([frame])
                (packet,) = collect(follower, 1)
            assert packet.entry.length == len(frame)
            assert packet.entry.head == frame[:snaplen]
            assert packet.verdict == Action.PASS


def test_no_packet_is_lost_while_it_begins_and_ends(playground: Playground, three: Running) -> None:
    frame = scripted(b"\2\1\2")
    sent = 0
    stop = threading.Event()

    def send() -> None:
        nonlocal sent
        end = time.monotonic() + 60
        while not stop.wait(0.001) and time.monotonic() < end:
            sent += playground.send([frame] * 20)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        for _ in range(8):
            with follow(look_at(playground), SCRIPTED, count=5) as follower:
                found = collect(follower, 5)
            assert [packet.verdict for packet in found] == [1] * 5
    finally:
        stop.set()
        thread.join()
    assert returned(playground)[1] == (0, sent, 0, 0, 0, 0)


@pytest.mark.parametrize("linkage", INSIDE)
def test_counters_go_on_and_verdicts_stay(playground: Playground, samples: Path, linkage: Linkage) -> None:
    actions = [ActionSet.parse("PD"), PASS_ON]
    running = change(playground, scripted_chain(samples, actions, linkage))
    script = b"\1\3"
    playground.send([scripted(script)] * 3)
    with follow(running, SCRIPTED, count=None, rate=5) as follower:
        assert returned(playground)[1] == (0, 0, 0, 3, 0, 0), "nothing starts anew"
        playground.send([scripted(script)] * 20)
        assert look_at(playground).counters_map == running.counters_map
        followed = follower.poll()
    playground.send([scripted(script)] * 4)
    after, verdicts = returned(playground)
    assert len(followed) == 5
    assert verdicts == (0, 0, 0, 27, 0, 0)
    assert [after.slots[s.key].packets for s in running.chain or ()] == [
        (0, 27, 0, 0, 0, 0),
        (0, 0, 0, 27, 0, 0),
    ]


def test_only_what_matches_and_not_more_than_asked_for(playground: Playground, three: Running) -> None:
    other = scripted(b"\2\2\2").replace(b"\x88\xb5", b"\x88\xb6", 1)
    with follow(three, SCRIPTED, count=3) as follower:
        playground.send([other, scripted(b"\2\2\2"), other] * 10)
        found = list(follower)
        tally = follower.tally()
    assert len(found) == 3
    assert all(packet.entry.head == scripted(b"\2\2\2") for packet in found)
    # The third match is the eighth packet; later ones were not even looked at.
    assert (tally.looked_at, tally.passed_by) == (8, 22)


def test_the_rate_is_kept(playground: Playground, three: Running) -> None:
    with follow(three, SCRIPTED, count=None, rate=20) as follower:
        playground.send([scripted(b"\2\2\2")] * 100)
        first = follower.poll()
        assert len(first) == 20, "a second's worth at once"
        start, found = time.monotonic(), 0
        while time.monotonic() - start < 0.6:
            playground.send([scripted(b"\2\2\2")] * 10)
            found += len(follower.poll())
            time.sleep(0.02)
        taken = time.monotonic() - start
    assert 4 <= found <= 20 * (taken + 0.1) + 1


def test_records_that_get_lost(playground: Playground, samples: Path) -> None:
    """More than the ring buffer holds, and no reader: packets are whole, or they count as lost."""
    running = change(playground, scripted_chain(samples, [PASS_ON] * 10, Linkage.STATIC))
    frame = scripted(b"").replace(b"\x88\xb5", b"\x88\xb6", 1)  # the components leave it unchanged
    with follow(running, "", count=None, rate=5000) as follower:
        for _ in range(5):
            playground.send([frame] * 100)
        found = follower.poll()
        tally = follower.tally()
        assert tally.lost_records > 0
        assert follower.lost > 0
        assert 300 <= len(found) + follower.lost <= 500
        # A packet whose entry was lost is not followed at all.
        assert tally.looked_at == 500
        playground.send([frame] * 3)
        found += collect(follower, 3)
    assert all(len(packet.steps) == 10 for packet in found)
    assert {packet.verdict for packet in found} == {2}
    assert all(packet.final == packet.entry for packet in found)


def test_what_ran_before_comes_back(playground: Playground, three: Running) -> None:
    entries = len(history(three))
    with follow(three, "") as follower:
        during = look_at(playground)
        assert during.hook != three.hook
        assert during.identity == three.identity, "to an edit it is the same state"
        assert during.chain == three.chain
        assert during.following is not None
        assert during.following.alive
        assert during.following.expression == ""
        got = run_through(during, scripted(b"\2\1\2"))
        assert (got.code, got.data[60:]) == (1, b"01")
        with pytest.raises(Busy, match="already following"):
            follow(three, "")
    assert follower.poll() == []
    after = look_at(playground)
    assert same(after, three)
    assert len(history(after)) == entries


def test_an_edit_meanwhile_wins(playground: Playground, three: Running) -> None:
    assert three.chain is not None
    with follow(three, "") as follower:
        edited = change(playground, three.chain.remove([2]))
        end = time.monotonic() + PATIENCE
        while not follower.ended and time.monotonic() < end:
            follower.poll()
            time.sleep(0.05)
        assert "made by" in follower.ended
    after = look_at(playground)
    assert same(after, edited)
    assert after.following is None
    assert [slot.name for slot in after.chain or ()] == ["scripted_0", "scripted_1"]


def test_a_plan_of_before_can_be_applied_meanwhile_and_after(playground: Playground, three: Running) -> None:
    assert three.chain is not None
    plan = make_plan(three, three.chain.remove([0]))
    with follow(three, ""):
        after = apply(plan)
    assert [slot.name for slot in after.chain or ()] == ["scripted_1", "scripted_2"]
    assert same(look_at(playground), after)
    assert history(after)[-1].before.program == three.identity[1][0]


def test_an_interface_that_goes_away_ends_it(three: Running, playground: Playground) -> None:
    with follow(three, "") as follower:
        subprocess.run(
            ["ip", "-n", playground.netns, "link", "delete", playground.ifname], check=True, timeout=10
        )
        end = time.monotonic() + PATIENCE
        while not follower.ended and time.monotonic() < end:
            follower.poll()
            time.sleep(0.05)
        assert "is gone" in follower.ended


FOLLOWER = """
import sys, time
from xdpchain.observe.discover import look
from xdpchain.follow import follow
with follow(look(sys.argv[1], sys.argv[2]), "", count=None) as follower:
    print("following", flush=True)
    while True:
        follower.poll()
        time.sleep(0.05)
"""


def left_over(playground: Playground) -> Running:
    """What a killed follower leaves behind."""
    child = subprocess.Popen(
        [sys.executable, "-c", FOLLOWER, playground.ifname, playground.netns],
        stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2], env=_environment(),
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stdout.readline() == "following\n"
    child.send_signal(signal.SIGKILL)
    child.wait(10)
    child.stdout.close()
    return look_at(playground)


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": "core:."}


def wait_until_it_counts_as_gone(playground: Playground) -> Running:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = look_at(playground)
        if found.following is not None and not found.following.alive:
            return found
        time.sleep(0.1)
    raise AssertionError("it still counts as alive")


def test_a_follower_that_was_killed(playground: Playground, three: Running) -> None:
    found = left_over(playground)
    assert found.following is not None
    assert found.hook != three.hook
    assert take_back_left_over(found).following is not None, "so soon nobody knows that it is dead"
    gone = wait_until_it_counts_as_gone(playground)
    assert playground.send([scripted(b"\2\2\2")] * 3) == 3
    after = take_back_left_over(gone)
    assert after.following is None
    assert after.identity == three.identity, "still the same state"
    assert after.chain == three.chain
    assert after.counters_map == three.counters_map
    got = run_through(after, scripted(b"\2\1\2"))
    assert (got.code, got.data[60:]) == (1, b"01")
    assert same(take_back_left_over(after), after)


def test_the_next_follower_and_the_next_change_clear_up(playground: Playground, three: Running) -> None:
    left_over(playground)
    found = wait_until_it_counts_as_gone(playground)
    with follow(found, SCRIPTED, count=1) as follower:
        playground.send([scripted(b"\2\2\2")])
        assert len(collect(follower, 1)) == 1
    after = look_at(playground)
    assert after.following is None
    assert after.identity == three.identity
    left_over(playground)
    assert three.chain is not None
    edited = change(playground, three.chain.remove([0]))
    assert edited.following is None
    assert edited.replaces_prog_id is None


def test_an_armed_change_goes_back_to_the_plain_chain(playground: Playground, three: Running) -> None:
    assert three.chain is not None
    left_over(playground)
    with no_guardian_survives(playground):
        pending = apply(make_plan(look_at(playground), three.chain.remove([0])), confirm=60)
        with pytest.raises(Busy, match="runs a pending change"):
            follow(pending, "")
        roll_back(playground.ifname, playground.netns)
        after = look_at(playground)
    assert after.following is None
    assert after.chain == three.chain


def test_what_can_not_be_followed(playground: Playground, samples: Path, three: Running) -> None:
    with pytest.raises(InvalidInput, match="syntax error"):
        follow(three, "host and host")
    with pytest.raises(InvalidInput, match="the minimum is 1"):
        follow(three, "", count=0)
    with pytest.raises(InvalidInput, match="packets a second"):
        follow(three, "", rate=0)
    assert same(look_at(playground), three)
    assert three.chain is not None
    stale = three
    change(playground, three.chain.remove([0]))
    with pytest.raises(RaceLost):
        follow(stale, "")
    empty = change(playground, three.chain.remove([0, 1, 2]))
    with pytest.raises(NotFound, match="no XDP program"):
        follow(empty, "")


class _Unattached(Tapping):
    """The maps of a recording chain that is not attached."""

    def why_not(self) -> str:
        return ""


def test_the_kernel_filters_as_libpcap_does(root: None, samples: Path) -> None:
    """Every expression is linked, verified, and tried on packets of many kinds and lengths."""
    frames = [frame for _, frame in NAMED_FRAMES]
    frames += [frame[:length] for frame in frames for length in (14, 15, 23, 24, 34, 37, 38, 54)]
    frames += [frame.ljust(1400, b"\1") for frame in frames[:3]]
    for expression in EXPRESSIONS:
        filter = compile_filter(expression, ETHERNET)
        classic = compile_expression(expression, ETHERNET.dlt)
        maps = make_maps()
        tap = Tap(filter.instructions, filter.needs, maps, b"mark")
        built = StaticLinker(tap=tap).build(chain_of(samples, "pass"), NOWHERE, Author("", 0, "test", 0.0))
        tapping = _Unattached(maps, Keep(HEAD, False, 1 << 30))
        try:
            for frame in frames:
                before = tapping.taken
                bpf.prog_test_run(built.program, frame)
                wanted = bool(run_offline(classic, frame[:256], len(frame)))
                assert tapping.taken - before == wanted, (expression, frame)
        finally:
            tapping.close()
            built.close()
            for fd in maps.values():
                fd.close()


def test_silent_when_nobody_is_there(root: None, samples: Path) -> None:
    """Without a sign of life following stops after some seconds, and resumes with the next one."""
    filter = compile_filter("", ETHERNET)
    maps = make_maps()
    tap = Tap(filter.instructions, filter.needs, maps, b"mark")
    built = StaticLinker(tap=tap).build(chain_of(samples, "pass"), NOWHERE, Author("", 0, "test", 0.0))
    tapping = _Unattached(maps, Keep(HEAD, False, 1 << 30))
    frame = NAMED_FRAMES[0][1]
    try:
        bpf.prog_test_run(built.program, frame)
        assert tapping.taken == 1
        end = time.monotonic() + 15  # 1000 jiffies are 10 s at most
        while time.monotonic() < end:
            taken = tapping.taken
            bpf.prog_test_run(built.program, frame)
            if tapping.taken == taken:
                break
            time.sleep(0.2)
        else:
            raise AssertionError("it never fell silent")
        looked = tapping.tally().looked_at
        bpf.prog_test_run(built.program, frame, 50)
        assert tapping.tally().looked_at == looked, "not even the filter is asked"
        tapping.grant(1 << 30)
        bpf.prog_test_run(built.program, frame)
        assert tapping.taken == taken + 1
    finally:
        tapping.close()
        built.close()
        for fd in maps.values():
            fd.close()


def test_the_queue_that_a_packet_came_in_on(playground: Playground, samples: Path) -> None:
    """Flows are spread over the queues of the pair; each packet reports its own."""
    for namespace, name in ((playground.netns, "xdp0"), (playground.peer_netns, "peer0")):
        words = ["ip", "netns", "exec", namespace, "ethtool", "-L", name, "rx", "2", "tx", "2"]
        made = subprocess.run(words, capture_output=True, text=True)
        if made.returncode:
            pytest.skip(f"ethtool -L {name}: {made.stderr.strip()}")
    running = change(playground, scripted_chain(samples, [PASS_ON], Linkage.STATIC))
    flows = [udp(PEER, NEAR, 9, source_port=40000 + i) for i in range(32)]
    with follow(running, "udp", count=32, rate=1000) as follower:
        playground.send(flows)
        found = collect(follower, 32)
    assert {packet.queue for packet in found} == {0, 1}
