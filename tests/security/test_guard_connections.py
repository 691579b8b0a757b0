# SPDX-License-Identifier: Apache-2.0
"""Which connections are guarded: SSH_CONNECTION's, those held by ancestors, and otherwise all of any sshd,
with real sockets held by real processes. A process takes the name of the one it stands for.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.arming import ROOT
from tests.kernel.chains import chain_of, look_at
from tests.kernel.two_hosts import NEAR4, NEAR6, PEER4, PEER6, introduce, ip
from xdpchain.model.actions import Action
from xdpchain.sys import netns
from xdpchain.testing.playground import Playground
from xdpchain.trial.packets.own_connection import own_connections, own_interfaces
from xdpchain.trial.ssh_guard import Judgement, judge

OTHER_NEAR, OTHER_PEER = "198.51.100.2", "198.51.100.9"
PORT = 2222

# Takes a name, and runs a command as its child, or waits until its input ends.
STAND_IN = """
import ctypes, os, subprocess, sys
os.setuid(int(sys.argv[2]))
ctypes.CDLL(None).prctl(15, sys.argv[1].encode())
if sys.argv[3:]:
    sys.exit(subprocess.run(sys.argv[3:]).returncode)
print("ready", flush=True)
sys.stdin.read()
"""
ASK = """
import sys
sys.path.insert(0, sys.argv[1])
from xdpchain.trial.packets.own_connection import own_connections
found = own_connections(sys.argv[2])
for one in found.connections:
    print("mosh" if one.mosh else "TCP", one.client, one.client_port, one.server, one.server_port)
for one in found.doubts:
    print("doubt", one)
"""


@pytest.fixture
def ground(monkeypatch: pytest.MonkeyPatch) -> Iterator[Playground]:
    """Two interfaces, each with its own network."""
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    with Playground(links=2) as playground:
        introduce(playground)
        for namespace, number, address, other in (
            (playground.netns, 0, OTHER_NEAR, OTHER_PEER),
            (playground.peer_netns, 1, OTHER_PEER, OTHER_NEAR),
        ):
            name = ("xdp1", "peer1")[number]
            ip(namespace, f"addr add {address}/24 dev {name}")
            mac = mac_of((playground.peer_netns, playground.netns)[number], ("peer1", "xdp1")[number])
            ip(namespace, f"neigh replace {other} lladdr {mac} dev {name}")
        yield playground


def mac_of(namespace: str, name: str) -> str:
    shown = subprocess.run(
        ["ip", "-n", namespace, "-br", "link", "show", name], capture_output=True, text=True
    )
    return shown.stdout.split()[2]


@contextlib.contextmanager
def connected(
    ground: Playground, near: str, port: int = PORT
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """(what the server accepted, the listening server): a TCP connection from the peer."""
    family = socket.AF_INET6 if ":" in near else socket.AF_INET
    with (
        netns.run(ground.netns, lambda: socket.create_server((near, port), family=family)) as server,
        netns.run(ground.peer_netns, lambda: socket.socket(family, socket.SOCK_STREAM)) as client,
    ):
        client.settimeout(3)
        client.connect((near, port))
        accepted, _ = server.accept()
        with accepted:
            yield accepted, server


@contextlib.contextmanager
def standing_in(name: str, *held: socket.socket, uid: int = 0) -> Iterator[None]:
    """Another process of that name, not an ancestor of ours, that alone holds these sockets."""
    with subprocess.Popen(
        [sys.executable, "-c", STAND_IN, name, str(uid)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[sock.fileno() for sock in held],
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        for sock in held:
            sock.close()
        yield
        process.communicate(b"")


def asked_below(
    ground: Playground, name: str, *held: socket.socket, environment: dict[str, str] | None = None
) -> list[str]:
    """What a process finds if its parent has that name and holds these sockets."""
    command = [sys.executable, "-c", STAND_IN, name, "0"]
    command += [sys.executable, "-c", ASK, str(ROOT / "core"), ground.netns]
    env = {key: value for key, value in os.environ.items() if key != "SSH_CONNECTION"}
    done = subprocess.run(
        command, env=env | (environment or {}), capture_output=True, text=True, check=True,
        pass_fds=[sock.fileno() for sock in held],
    )  # fmt: skip
    return done.stdout.splitlines()


def ends(sock: socket.socket) -> str:
    (client, client_port), (server, server_port) = sock.getpeername()[:2], sock.getsockname()[:2]
    return f"{client} {client_port} {server} {server_port}"


@pytest.mark.parametrize("near", [NEAR4, NEAR6])
def test_a_connection_that_an_ancestor_holds(ground: Playground, near: str) -> None:
    with connected(ground, near) as (accepted, _):
        assert asked_below(ground, "sshd", accepted) == [f"TCP {ends(accepted)}"]


def test_it_is_added_to_what_the_environment_says(ground: Playground) -> None:
    """A dead connection on one interface, a live one on the other: both are guarded, to be safe."""
    dead = f"{OTHER_PEER} 50022 {OTHER_NEAR} 22"
    with connected(ground, NEAR4) as (accepted, _):
        found = asked_below(ground, "sshd", accepted, environment={"SSH_CONNECTION": dead})
        assert found == [f"TCP {dead}", f"TCP {ends(accepted)}"]


def test_an_old_pane_of_tmux(ground: Playground, monkeypatch: pytest.MonkeyPatch, samples: Path) -> None:
    """SSH_CONNECTION is from an earlier session, on xdp1; today's comes in on xdp0."""
    monkeypatch.setenv("SSH_CONNECTION", f"{OTHER_PEER} 50022 {OTHER_NEAR} {PORT}")
    with connected(ground, NEAR4) as (accepted, server):
        today = ends(accepted)
        with standing_in("sshd", accepted, server):
            found = own_connections(ground.netns)
            named = [
                f"{connection.client} {connection.client_port} {connection.server} {connection.server_port}"
                for connection in found.connections
            ]
            assert named == [f"{OTHER_PEER} 50022 {OTHER_NEAR} {PORT}", today]
            assert own_interfaces(ground.netns) == {link.ifindex for link in ground.links}
            for link in (0, 1):
                lost = judge(look_at(ground, link), chain_of(samples, "drop"))
                assert lost is not None
                assert [one.verdict for one in lost.lost] == [Action.DROP] * 3
                safe = judge(look_at(ground, link), chain_of(samples, "firewall", "monitor"))
                assert safe == Judgement(ground.links[link].ifname)
    # When it has ended, nothing holds xdp0 any more.
    assert own_interfaces(ground.netns) == {ground.links[1].ifindex}


def test_connections_that_no_sshd_has_are_nobody_s(ground: Playground) -> None:
    with connected(ground, NEAR4) as (accepted, server), standing_in("httpd", accepted, server):
        assert own_connections(ground.netns).connections == ()


def test_a_process_of_another_user_is_no_sshd(ground: Playground) -> None:
    """Anybody can take a name: what a stranger holds is not guarded, or strangers could block changes."""
    with connected(ground, NEAR4) as (accepted, server), standing_in("sshd", accepted, server, uid=65534):
        assert own_connections(ground.netns).connections == ()


def test_all_connections_to_a_port_where_sshd_listens(ground: Playground) -> None:
    """Without permission to look into sshd's session process: its listener gives the port."""
    with connected(ground, NEAR4) as (accepted, server):
        expected = ends(accepted)
        with standing_in("sshd", server), standing_in("another", accepted):
            (found,) = own_connections(ground.netns).connections
            assert f"{found.client} {found.client_port} {found.server} {found.server_port}" == expected


def test_mosh(ground: Playground) -> None:
    """Its UDP port is guarded, from the client that started it."""
    with netns.run(ground.netns, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as bound:
        bound.bind(("0.0.0.0", 60007))
        started = {"SSH_CONNECTION": f"{PEER4} 50022 {NEAR4} 22"}
        found = asked_below(ground, "mosh-server", bound, environment=started)
        assert found == [f"TCP {PEER4} 50022 {NEAR4} 22", f"mosh {PEER4} 60001 {NEAR4} 60007"]
        # Its client is unknown, and reported as such.
        (doubt,) = asked_below(ground, "mosh-server", bound)
        assert doubt == "doubt mosh-server listens on UDP port 60007, and its client is unknown"


def test_a_relay_on_this_machine(ground: Playground) -> None:
    """sshd sees 127.0.0.1; the operator's packets arrive over the connection of the process in between."""
    ip(ground.netns, "link set lo up")

    def relay() -> tuple[socket.socket, socket.socket, socket.socket]:
        server = socket.create_server(("127.0.0.1", PORT))
        client = socket.create_connection(("127.0.0.1", PORT))
        return server, client, server.accept()[0]

    server, client, accepted = netns.run(ground.netns, relay)
    with server, client, accepted, connected(ground, NEAR4, 7000) as (outer, _):
        local, expected = ends(accepted), ends(outer)
        with standing_in("frpc", client, outer), standing_in("sshd", accepted, server):
            found = own_connections(ground.netns).connections
            named = {
                f"{connection.client} {connection.client_port} {connection.server} {connection.server_port}"
                for connection in found
            }
            assert named == {local, expected}
            assert ground.links[0].ifindex in own_interfaces(ground.netns)


def test_ordinary_ancestors_are_no_obstacle(ground: Playground, samples: Path) -> None:
    """At the console, with nobody connected, nothing is guarded."""
    assert asked_below(ground, "bash") == []
    assert judge(look_at(ground), chain_of(samples, "drop")) is None


def test_what_the_kernel_does_not_tell_takes_the_override(
    ground: Playground, monkeypatch: pytest.MonkeyPatch, samples: Path
) -> None:
    """A kernel without sock_diag: who is connected is then unknown, which is not taken to mean nobody."""
    from xdpchain.errors import KernelRefused
    from xdpchain.trial.packets import own_connection

    def refuse(_: object) -> None:
        raise KernelRefused("Can't list the sockets", "of a fault that was put here")

    monkeypatch.setattr(own_connection, "list_sockets", refuse)
    found = judge(look_at(ground), chain_of(samples, "pass"))
    assert found == Judgement(
        "xdp0",
        unchecked="the kernel does not report which connections are live: of a fault that was put here",
    )
    monkeypatch.setenv("SSH_CONNECTION", f"{PEER6} 50022 {NEAR6} 22")
    lost = judge(look_at(ground), chain_of(samples, "drop"))
    assert lost is not None
    assert len(lost.lost) == 3
