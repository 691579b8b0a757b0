# SPDX-License-Identifier: Apache-2.0
"""How long chains take: the kernel's figures include every packet that arrived, and slots differ as
expected.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernel.chains import chain_of, change, look_at, scripted_chain
from tests.kernel.command_line import CommandLine
from tests.kernel.tracing import INCLUDE, ON_PASS, ROOT, settled
from tests.objects.compile import compile_text
from xdpchain.bytecode.instructions import LET_PASS
from xdpchain.errors import Cancelled, InvalidInput, NotFound, PermissionDenied
from xdpchain.model.actions import Action
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.slot import Slot
from xdpchain.objects.components import load_component
from xdpchain.sys import bpf
from xdpchain.testing.frames import NEAR, PEER, scripted, udp
from xdpchain.testing.playground import Playground
from xdpchain.trial.timing import RunTimes, run_time, slot_times

FRAME = udp(PEER, NEAR, 53)

SLOW = r"""
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("xdp") int quick(struct xdp_md *ctx) { return XDP_PASS; }
SEC("xdp") int slow(struct xdp_md *ctx)
{
    __u64 sum = 0;
    for (int i = 0; i < 2000; i++) {
        sum = sum * 31 + i;
        __asm__ volatile("" : "+r"(sum));
    }
    return sum == 7 ? XDP_DROP : XDP_PASS;
}
char _license[] SEC("license") = "GPL";
"""


@pytest.fixture
def slow_chain(tmp_path: Path) -> Chain:
    """quick, slow, quick."""
    path = tmp_path / "slow.o"
    path.write_bytes(compile_text(SLOW, INCLUDE))
    chain = Chain(linkage=Linkage.STATIC)
    for place, name in enumerate(("quick", "slow", "quick")):
        chain = chain.add(Slot.of(load_component(str(path), name=name), 10 * place))
    return chain


def test_every_packet_is_in_the_run_time(playground: Playground, samples: Path) -> None:
    running = change(playground, chain_of(samples, "firewall", "pass"))
    playground.send([FRAME] * 50)
    with RunTimes(running) as times:
        assert times.read().runs == 0
        playground.send([FRAME] * 300)
        first = times.read()
        assert (first.runs, first.last_runs) == (300, 300)
        assert first.mean_ns is not None
        assert 0 < first.mean_ns < 1_000_000
        assert 0 < first.share < 2
        assert times.read().mean_ns is None
        playground.send([FRAME] * 7)
        last = times.read()
        assert (last.runs, last.last_runs) == (307, 7)
        assert last.ns == first.ns + last.last_ns
    assert times.cost.extra_ns > 0
    assert times.cost.clock_ns > 0


def test_it_follows_the_chain(playground: Playground, samples: Path) -> None:
    running = change(playground, chain_of(samples, "pass"))
    with RunTimes(running) as times:
        playground.send([FRAME] * 5)
        running = change(playground, chain_of(samples, "firewall", "pass"))
        times.follow(running)
        playground.send([FRAME] * 6)
        assert times.read().runs == 11
        with pytest.raises(NotFound):
            times.follow(change(playground, Chain()))


def counts_on(program: bpf.Fd) -> bool:
    """Whether the kernel is timing programs now."""
    before = bpf.prog_info(program).run_count
    bpf.prog_test_run(program, bytes(64), 10)
    return bpf.prog_info(program).run_count > before


def test_nothing_is_timed_afterwards_also_after_kill_9(playground: Playground, samples: Path) -> None:
    running = change(playground, chain_of(samples, "pass"))
    with bpf.prog_load(bpf.ProgType.XDP, LET_PASS, name="watched") as watched:
        if counts_on(watched):
            pytest.skip("somebody else has the kernel's BPF statistics on")
        with RunTimes(running):
            assert counts_on(watched)
        assert settled(lambda: not counts_on(watched))
        code = (
            "from xdpchain.observe.discover import look\nfrom xdpchain.trial.timing import RunTimes\n"
            "import time\n"
            f"t = RunTimes(look({playground.ifname!r}, {playground.netns!r}))\n"
            "print('timing', flush=True)\ntime.sleep(600)"
        )
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "core")}
        process = subprocess.Popen(
            [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "timing\n"
            assert counts_on(watched)
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert settled(lambda: not counts_on(watched))
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def test_nothing_runs_and_nothing_is_allowed(
    playground: Playground, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotFound, match="no chain to time"):
        RunTimes(look_at(playground))
    running = change(playground, chain_of(samples, "pass"))

    def refuse() -> bpf.Fd:
        raise bpf.BpfError(errno.EPERM, bpf.Command.ENABLE_STATS)

    monkeypatch.setattr(run_time.bpf, "enable_statistics", refuse)
    with pytest.raises(PermissionDenied, match="statistics"):
        RunTimes(running)

    def refuse_load(*_: object, **__: object) -> bpf.Fd:
        raise bpf.BpfError(errno.EPERM, bpf.Command.PROG_LOAD)

    monkeypatch.setattr(run_time.bpf, "prog_load", refuse_load)
    with pytest.raises(PermissionDenied, match="statistics"):
        RunTimes(running)


@pytest.mark.parametrize("linkage", [Linkage.STATIC, Linkage.TAILCALL])
def test_the_slow_slot_stands_out(root: None, slow_chain: Chain, linkage: Linkage) -> None:
    times = slot_times(slow_chain.relink(linkage), [("udp", FRAME), ("other", scripted(b""))])
    assert times.names == ("quick", "slow", "quick")
    quick, slow, last = (times.of_slot(place) for place in range(3))
    assert quick is not None
    assert slow is not None
    assert last is not None
    assert slow > 5 * max(quick, last, 20)
    assert [times.reached(place) for place in range(3)] == [2, 2, 2]
    assert all(frame.steady and frame.verdict is Action.PASS for frame in times.frames)
    assert times.frames[0].ns > slow / 2


def test_slots_that_a_packet_does_not_reach_have_no_time(root: None, samples: Path) -> None:
    chain = scripted_chain(samples, [ON_PASS] * 3, Linkage.STATIC)
    times = slot_times(
        chain, [("all", scripted(b"\2\2\2", length=70)), ("two", scripted(b"\2\1", length=70))]
    )
    first, second = times.frames
    assert None not in first.slots
    assert second.slots[2] is None
    assert second.verdict is Action.DROP
    assert not first.steady, "each run makes the packet longer"
    assert [times.reached(place) for place in range(3)] == [2, 2, 1]


def test_what_runs_is_neither_changed_nor_counted(playground: Playground, samples: Path) -> None:
    from xdpchain.observe.counters import open_counters

    running = change(playground, chain_of(samples, "ratelimit", "monitor"))
    assert running.chain is not None
    with open_counters(running) or pytest.fail("nothing counts") as reader:
        before = reader.read()
        slot_times(running.chain, [("udp", FRAME)])
        after = reader.read()
    assert (after.slots, after.verdict) == (before.slots, before.verdict)
    assert look_at(playground).identity == running.identity


def test_mistakes(root: None, slow_chain: Chain) -> None:
    with pytest.raises(InvalidInput, match="empty chain"):
        slot_times(Chain(), [("udp", FRAME)])
    with pytest.raises(InvalidInput, match="frame of 3 bytes"):
        slot_times(slow_chain, [("short", b"abc")])
    with pytest.raises(Cancelled):
        slot_times(slow_chain, [("udp", FRAME)], lambda: True)


def test_the_command(cli: CommandLine, playground: Playground) -> None:
    assert cli("time", playground.ifname, "--count", "1").code == 5
    cli.load("firewall", "pass")
    found = json.loads(cli("time", playground.ifname, "--json", "--interval", "0.1", "--count", "1").out)
    assert [slot["name"] for slot in found["slots"]] == ["xdp_firewall", "xdp_pass"]
    assert found["packets"] == 0
    assert found["mean_ns"] is None
    assert found["cost"]["extra_ns"] > 0
    assert {frame["verdict"] for frame in found["frames"]} <= {"XDP_PASS", "XDP_DROP"}
    table = cli("time", playground.ifname, "--interval", "0.1", "--count", "1").out
    assert "no packets arrived" in table
    assert "0 xdp_firewall" in table
    assert all(len(line) <= 80 for line in table.splitlines())


@pytest.mark.vm
def test_freplace_components_have_no_statistics_of_their_own(playground: Playground, samples: Path) -> None:
    """This is why slots are timed on test packets."""
    running = change(playground, chain_of(samples, "firewall", "pass", linkage=Linkage.FREPLACE))
    assert running.chain is not None
    with RunTimes(running) as times:
        playground.send([FRAME] * 20)
        assert times.read().runs == 20
        for slot in running.chain:
            with bpf.prog_by_id(slot.id or 0) as component:
                assert bpf.prog_info(component).run_count == 0
