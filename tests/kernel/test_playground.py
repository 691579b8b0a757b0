# SPDX-License-Identifier: Apache-2.0
"""The playground itself: if it loses, invents or changes a packet, no other test means anything."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from xdpchain.sys import netns
from xdpchain.testing import frames, names, traffic
from xdpchain.testing.errors import PlaygroundError
from xdpchain.testing.frames import NEAR, PEER
from xdpchain.testing.playground import Playground, leftovers, remove, remove_leftovers

pytestmark = pytest.mark.usefixtures("root")


def attach(
    playground: Playground, program: Path, mode: str, *, section: str = "xdp", ifname: str = "xdp0"
) -> None:
    """With iproute2, so that this file tests nothing of the engine."""
    subprocess.run(
        [
            "ip",
            "-n",
            playground.netns,
            "link",
            "set",
            ifname,
            mode,
            "object",
            str(program),
            "section",
            section,
        ],
        check=True,
    )


def mixed(count: int) -> list[bytes]:
    kinds = [
        frames.arp_request(PEER, NEAR),
        frames.icmp_echo(PEER, NEAR, payload=b"x" * 56),
        frames.udp(PEER, NEAR, 9, payload=b"y" * 1400),
        frames.tcp_syn(PEER, NEAR, 22, version=6),
        frames.neighbor_solicitation(PEER, NEAR),
    ]
    return [kinds[i % len(kinds)] for i in range(count)]


def test_frames_arrive_exactly_as_sent(playground: Playground) -> None:
    sent = mixed(1000)
    with playground.listen() as listener:
        assert playground.send(sent) == 1000
        assert listener.receive(1001, timeout=0.5) == sent
    counted = playground.received()
    assert (counted.packets, counted.bytes) == (1000, sum(map(len, sent)))


@pytest.mark.parametrize("mode", ["xdpdrv", "xdpgeneric"])
def test_frames_arrive_through_xdp(playground: Playground, samples: Path, mode: str) -> None:
    attach(playground, samples / "pass.o", mode)
    sent = mixed(2000)  # many times what a veth queue holds
    with playground.listen() as listener:
        playground.send(sent)
        assert listener.receive(2001, timeout=0.5) == sent
    assert playground.received().packets == 2000


def test_dropped_frames_count_as_received_and_reach_nobody(playground: Playground, samples: Path) -> None:
    attach(playground, samples / "drop.o", "xdpdrv")
    with playground.listen() as listener:
        playground.send(mixed(500))
        assert listener.receive(1, timeout=0.2) == []
    assert playground.received().packets == 500


def test_nobody_else_sends(playground: Playground) -> None:
    with playground.listen() as near, playground.listen_at_peer() as peer:
        # long enough for what an interface sends when it comes up: MLD reports, solicitations, ARP
        assert near.receive(1, timeout=1.2) == []
        assert peer.receive(1, timeout=0) == []
    assert playground.received().packets == 0


def test_links_are_separate() -> None:
    with Playground(links=2) as playground:
        playground.send(mixed(10), link=1)
        assert playground.received(link=0).packets == 0
        assert playground.received(link=1).packets == 10
        assert [link.ifname for link in playground.links] == ["xdp0", "xdp1"]


def test_a_peer_that_takes_xdp_gets_what_xdp_tx_sends(samples: Path) -> None:
    with Playground(peer_takes_xdp=True) as playground:
        subprocess.run(
            ["ip", "-n", playground.netns, "link", "set", "xdp0", "xdpdrv",
             "object", str(samples / "redirect.o"), "section", "xdp", "program", "redirect_back"],
            check=True,
        )  # fmt: skip
        sent = frames.udp(PEER, NEAR, 9, payload=b"there and back")
        with playground.listen_at_peer() as listener:
            playground.send([sent])
            assert listener.receive(1) == [sent[6:12] + sent[:6] + sent[12:]]


def test_frames_that_cannot_arrive_are_an_error(
    playground: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xdpchain.testing.playground.ARRIVAL_TIMEOUT", 0.2)
    subprocess.run(["ip", "-n", playground.netns, "link", "set", "xdp0", "down"], check=True)
    with pytest.raises((PlaygroundError, OSError)):
        playground.send(mixed(1))


def test_removed_on_exit_also_after_an_error() -> None:
    playground = Playground()
    made = {playground.netns, playground.peer_netns}

    def fail_inside() -> None:
        with playground:
            assert made <= set(netns.names())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_inside()
    assert not made & set(netns.names())


def test_closing_again_is_harmless() -> None:
    with Playground() as playground:
        remove(playground.netns)
    playground.close()
    assert not {playground.netns, playground.peer_netns} & set(netns.names())


def test_only_playgrounds_are_ever_removed() -> None:
    with pytest.raises(ValueError, match="does not belong to a playground"):
        remove("somebody-elses")


def test_the_programs_are_gone_when_the_playground_is(samples: Path) -> None:
    with Playground() as playground:
        attach(playground, samples / "counter.o", "xdpdrv")
        shown = subprocess.run(
            ["ip", "-n", playground.netns, "link", "show", "xdp0"], capture_output=True, text=True
        ).stdout
        identity = shown.split("prog/xdp id ")[1].split()[0]
    deadline = time.monotonic() + 2  # the kernel frees a program after a grace period
    while subprocess.run(["bpftool", "prog", "show", "id", identity], capture_output=True).returncode == 0:
        assert time.monotonic() < deadline
        time.sleep(0.02)


OWNER = """
import sys, time
from xdpchain.testing.playground import Playground
with Playground() as playground:
    print(playground.netns, playground.peer_netns, flush=True)
    time.sleep(60)
"""


def test_a_killed_owner_leaves_what_the_sweep_removes(playground: Playground) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    ) as owner:
        assert owner.stdout is not None
        made = set(owner.stdout.readline().split())
        assert len(made) == 2
        assert not made & set(leftovers())  # its owner lives
        owner.kill()
    assert made <= set(leftovers())
    assert made <= set(remove_leftovers())
    assert not made & set(netns.names())
    assert playground.netns in netns.names()  # ours was left alone


def test_a_pid_that_is_used_again_does_not_look_like_the_owner() -> None:
    near, peer = names.fresh()
    ours = names.parse(near)
    assert ours is not None
    assert not ours.orphaned
    assert str(ours) == near
    assert names.parse(peer) is not None
    assert names.Owned(ours.pid, ours.start - 1, ours.unique, "near").orphaned


@pytest.mark.parametrize(
    "name", ["default", "xdptui-1-2-abcd", "xdptui-1-2-abcd-near-x", "xdptui-a-2-abcd-near"]
)
def test_other_names_are_nobodys_playground(name: str) -> None:
    assert names.parse(name) is None


def test_the_generator_sends_what_it_scheduled(playground: Playground) -> None:
    bounds = ["--rate", "400", "--seconds", "1"]
    started = time.monotonic()
    assert traffic.main([playground.peer_netns, playground.peer_ifname, *bounds]) == 0
    assert 0.9 < time.monotonic() - started < 5
    assert playground.received().packets == sum(traffic.schedule(400, 1))


def test_the_generator_ends_when_the_interface_does() -> None:
    with Playground() as playground, ThreadPoolExecutor(1) as pool:
        running = pool.submit(
            traffic.main, [playground.peer_netns, playground.peer_ifname, "--seconds", "60", "--rate", "200"]
        )
        deadline = time.monotonic() + 5
        while playground.received().packets == 0:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        remove(playground.netns)
        assert running.result(timeout=5) == 0
