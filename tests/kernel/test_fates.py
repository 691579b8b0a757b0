# SPDX-License-Identifier: Apache-2.0
"""What happened to followed packets after XDP_PASS: packets whose fate in the stack is known."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.chains import change, look_at, scripted_chain
from tests.kernel.command_line import CommandLine
from tests.kernel.test_follow import PASS_ON, collect
from xdpchain.follow import follow
from xdpchain.follow.followed import Fate
from xdpchain.model.actions import ActionSet
from xdpchain.model.chain import Linkage
from xdpchain.model.interface import Mode
from xdpchain.sys import netns
from xdpchain.sys.libbpf.kernel_enums import kernel_enum
from xdpchain.testing.frames import NEAR, PEER, Host, icmp_echo, scripted, udp
from xdpchain.testing.playground import Playground

pytestmark = pytest.mark.skipif(not kernel_enum("skb_drop_reason"), reason="this kernel tells no reasons")
LINKAGES = [Linkage.STATIC, pytest.param(Linkage.FREPLACE, marks=pytest.mark.vm)]
FREED = Fate(without_drop=True)


@pytest.fixture
def net(playground: Playground) -> Playground:
    """With addresses, and a neighbour."""
    inside = ["ip", "-n", playground.netns]
    for words in (
        ["addr", "add", f"{NEAR.ipv4}/24", "dev", playground.ifname],
        ["neigh", "replace", PEER.ipv4, "lladdr", PEER.mac.hex(":"), "dev", playground.ifname],
    ):
        subprocess.run([*inside, *map(str, words)], check=True)
    return playground


@contextlib.contextmanager
def listening(net: Playground, port: int) -> Iterator[socket.socket]:
    with netns.run(net.netns, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as one:
        one.bind(("", port))
        one.settimeout(5)
        yield one


@pytest.mark.parametrize("mode", [Mode.NATIVE, Mode.GENERIC])
@pytest.mark.parametrize("linkage", LINKAGES)
@pytest.mark.usefixtures("own_bpffs")
def test_what_the_stack_does_is_told(net: Playground, samples: Path, linkage: Linkage, mode: Mode) -> None:
    running = change(net, scripted_chain(samples, [PASS_ON], linkage, mode))
    elsewhere = Host.number(77)
    frames = [
        udp(PEER, NEAR, 9),
        scripted(b"\2"),
        udp(PEER, elsewhere, 9),
        icmp_echo(PEER, NEAR),
        scripted(b"\1"),
        udp(PEER, NEAR, 9),
    ]
    with follow(running, "", count=len(frames), fates=True) as follower:
        net.send(frames)
        found = [packet.fate for packet in collect(follower, len(frames))]
    assert [fate.reason if fate else None for fate in found] == [
        "NO_SOCKET", "UNHANDLED_PROTO", "OTHERHOST", "", None, "NO_SOCKET",
    ]  # fmt: skip
    assert found[3] == FREED
    assert "udp" in found[0].function  # type: ignore[union-attr]


def test_what_waits_in_a_socket_is_unknown_until_it_is_read(net: Playground, samples: Path) -> None:
    running = change(net, scripted_chain(samples, [PASS_ON], Linkage.STATIC))
    with listening(net, 4444) as reader, follow(running, "udp", count=2, fates=True) as follower:
        net.send([udp(PEER, NEAR, 4444, payload=b"one")])
        before = time.monotonic()
        (first,) = collect(follower, 1)
        assert time.monotonic() - before >= 0.15
        assert first.fate == Fate()
        assert reader.recv(100) == b"one"
        net.send([udp(PEER, NEAR, 4444, payload=b"two")])
        assert reader.recv(100) == b"two"
        (second,) = collect(follower, 1)
    assert second.fate in (FREED, Fate())  # newer kernels free what is read without reporting it


def test_memory_that_serves_another_packet_tells_nothing_of_the_one_before(
    net: Playground, samples: Path
) -> None:
    """With alternating packets of which only some are followed, and only others dropped."""
    running = change(net, scripted_chain(samples, [PASS_ON], Linkage.STATIC))
    with listening(net, 4444) as reader, follow(running, "udp port 4444", count=50, fates=True) as follower:
        for _ in range(50):
            net.send([udp(PEER, NEAR, 4444), *[udp(PEER, NEAR, 9)] * 4])
            reader.recv(100)
        found = collect(follower, 50)
    assert len(found) == 50
    assert not [packet.fate for packet in found if packet.fate is None or packet.fate.reason]


def test_on_the_command_line(net: Playground, cli: CommandLine, samples: Path) -> None:
    change(net, scripted_chain(samples, [ActionSet.parse("P")], Linkage.STATIC))
    for words, expected in (
        ((), "after XDP: dropped, NO_SOCKET (in __udp4_lib_rcv)"),
        (("--jsonl",), ""),
    ):
        child = cli.process(
            "follow", cli.interface, "udp", "-c", "1", "--after", *words,
            run=subprocess.Popen, stdout=subprocess.PIPE,
        )  # fmt: skip
        end = time.monotonic() + 20
        while child.poll() is None and time.monotonic() < end:
            if look_at(net).following is not None:
                net.send([udp(PEER, NEAR, 9)])
            time.sleep(0.1)
        out, _ = child.communicate(timeout=20)
        assert expected in " ".join(out.split())
        if words:
            first = json.loads(out.splitlines()[0])
            assert (first["after"]["fate"], first["after"]["reason"]) == ("dropped", "NO_SOCKET")
