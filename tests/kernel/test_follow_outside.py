# SPDX-License-Identifier: Apache-2.0
"""Following packets from outside, by tracing: chains with freplace linkage, and others' single programs. Real
packets whose path is known in advance; and an error that says so where the kernel does not allow tracing.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.conftest import why_no_freplace
from tests.kernel.chains import chain_of, change, expected, look_at, scripted_chain
from tests.kernel.loaders import attach_pinned, pinned_program
from tests.kernel.test_follow import SCRIPTED, collect, same
from tests.unit.test_classic import EXPRESSIONS
from xdpchain.errors import PermissionDenied, XdpChainError
from xdpchain.follow import ByteChange, follow
from xdpchain.linkage.tap import MOST_SNAP
from xdpchain.model.actions import ActionSet
from xdpchain.model.chain import Linkage
from xdpchain.model.link_layer import ETHERNET
from xdpchain.model.slot import Slot
from xdpchain.objects.components import load_component
from xdpchain.sys.pcap import compile_expression, run_offline
from xdpchain.testing.frames import NEAR, PEER, scripted, udp
from xdpchain.testing.playground import Playground
from xdptui.workers.trial_frames import NAMED_FRAMES

PASS_ON = ActionSet.parse("P")
PATIENCE = 60.0


@pytest.mark.vm
@pytest.mark.parametrize("slots", [1, 2, 3])
def test_each_packets_way(playground: Playground, samples: Path, slots: int) -> None:
    actions = [ActionSet.parse("PD"), *[PASS_ON] * (slots - 1)]
    running = change(playground, scripted_chain(samples, actions, Linkage.FREPLACE))
    scripts = [bytes([2] * slots), bytes([1, *[2] * (slots - 1)]), bytes([*[2] * (slots - 1), 3])]
    with follow(running, SCRIPTED, count=len(scripts)) as follower:
        assert same(look_at(playground), running), "nothing is swapped"
        for script in scripts:
            playground.send([scripted(script)])
        found = collect(follower, len(scripts))
    assert len(found) == len(scripts), follower.tally()
    for packet, script in zip(found, scripts, strict=True):
        want = expected(actions, script, Linkage.FREPLACE)
        assert packet.verdict == want.verdict
        assert tuple(step.code for step in packet.steps) == want.returned
        assert (packet.entry.length, packet.entry.head) == (60, scripted(script))
        for number, step in enumerate(packet.steps):
            assert step.name == f"scripted_{number}"
            assert step.changes == (ByteChange(60 + number, b"", 60 + number, b"%d" % number),)
    assert same(look_at(playground), running)


@pytest.mark.vm
def test_the_filter_says_what_libpcap_says(playground: Playground, samples: Path) -> None:
    running = change(playground, chain_of(samples, "pass", "monitor", linkage=Linkage.FREPLACE))
    frames = [frame for _, frame in NAMED_FRAMES]
    for expression in ["", "icmp", "udp port 53", "ip6", EXPRESSIONS[-1]]:
        classic = compile_expression(expression, ETHERNET.dlt)
        wanted = [frame for frame in frames if run_offline(classic, frame[:256], len(frame))]
        with follow(running, expression, count=None) as follower:
            playground.send(frames)
            found = collect(follower, len(wanted))
            assert follower.tally().looked_at == len(frames)
        assert [packet.entry.head for packet in found] == [frame[:256] for frame in wanted]


@pytest.mark.vm
def test_bytes_in_front(playground: Playground, samples: Path) -> None:
    chain = chain_of(samples, "pass", linkage=Linkage.FREPLACE)
    chain = chain.add(Slot.of(load_component(str(samples / "meta.o"), name="meta_head")))
    frame = next(frame for name, frame in NAMED_FRAMES if "UDP" in name)
    with follow(change(playground, chain), "udp", count=1) as follower:
        playground.send([frame])
        (packet,) = collect(follower, 1)
    steps = {step.name: step for step in packet.steps}
    assert steps["meta_head"].changes == (ByteChange(12, b"", 12, b"\x81\x00\x00\x05"),)
    assert (steps["meta_head"].moved, packet.final.length) == (-4, len(frame) + 4)


@pytest.mark.vm
def test_packets_are_kept_as_far_as_asked_for(playground: Playground, samples: Path) -> None:
    running = change(playground, scripted_chain(samples, [PASS_ON] * 2, Linkage.FREPLACE))
    frames = [scripted(b"\2\2").ljust(length, b"x") for length in (60, 999, 1000, 1001, 1512)]
    for snaplen in (64, 1000, 16384):
        with follow(running, "", count=len(frames), snaplen=snaplen) as follower:
            playground.send(frames)
            found = collect(follower, len(frames))
        assert [packet.entry.head for packet in found] == [frame[:snaplen] for frame in frames]
        assert found[0].final.head == frames[0] + b"01"


@pytest.mark.vm
def test_packets_in_fragments(root: None, samples: Path) -> None:
    """As in a static chain: of a jumbo frame all that is asked for, at each stage; small ones in between."""
    with Playground(mtu=9000) as playground:
        try:
            running = change(playground, chain_of(samples, "frags", linkage=Linkage.FREPLACE))
        except XdpChainError as error:
            pytest.skip(f"multi-buffer programs don't load here: {error}")
        frames = [udp(PEER, NEAR, 9, payload=bytes(range(256)) * times) for times in (30, 1, 34)]
        for snaplen in (5000, MOST_SNAP):
            with follow(running, "udp", count=3, snaplen=snaplen) as follower:
                playground.send(frames)
                found = collect(follower, 3)
            assert [packet.entry.length for packet in found] == [len(frame) for frame in frames]
            assert [packet.entry.head for packet in found] == [frame[:snaplen] for frame in frames]
            assert [packet.final.head for packet in found] == [frame[:snaplen] for frame in frames]


@pytest.mark.vm
def test_an_edit_ends_it(playground: Playground, samples: Path) -> None:
    running = change(playground, scripted_chain(samples, [PASS_ON] * 2, Linkage.FREPLACE))
    assert running.chain is not None
    with follow(running, "") as follower:
        edited = change(playground, running.chain.remove([1]))
        end = time.monotonic() + PATIENCE
        while not follower.ended and time.monotonic() < end:
            follower.poll()
            time.sleep(0.05)
        assert "runs there now" in follower.ended
    assert same(look_at(playground), edited)


@pytest.mark.vm
@pytest.mark.parametrize(("name", "code"), [("pass", 2), ("drop", 1)])
def test_a_single_program_of_somebody_else(
    playground: Playground, samples: Path, name: str, code: int
) -> None:
    with pinned_program(samples / f"{name}.o") as pin:
        attach_pinned(playground, pin)
        with follow(look_at(playground), "icmp", count=1) as follower:
            playground.send([frame for _, frame in NAMED_FRAMES])
            (packet,) = collect(follower, 1)
    (step,) = packet.steps
    assert (step.code, packet.verdict) == (code, code)


@pytest.mark.skipif(why_no_freplace() is None, reason="this kernel allows tracing")
def test_a_kernel_that_refuses_tracing(playground: Playground, samples: Path) -> None:
    with pinned_program(samples / "pass.o") as pin:
        attach_pinned(playground, pin)
        with pytest.raises(PermissionDenied, match="blocks TRACING programs"):
            follow(look_at(playground), "")
