# SPDX-License-Identifier: Apache-2.0
"""The interface that carries our own connection, according to the kernel's routes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.kernel.arming import ROOT
from tests.kernel.two_hosts import enable_ipv6
from xdpchain.errors import NotFound
from xdpchain.testing.playground import Playground
from xdpchain.trial.packets.own_connection import own_interfaces

ASK = """
import os, sys
sys.path.insert(0, sys.argv[1])
from xdpchain.trial.packets.own_connection import own_interfaces
print(*sorted(own_interfaces(sys.argv[2])))
"""


def ip(playground: Playground, *words: str) -> None:
    subprocess.run(["ip", "-n", playground.netns, *words], check=True)


@pytest.fixture
def routed(playground: Playground, monkeypatch: pytest.MonkeyPatch) -> Playground:
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    ip(playground, "addr", "replace", "203.0.113.2/24", "dev", playground.ifname)
    return playground


def test_the_way_to_the_client(routed: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_CONNECTION", "203.0.113.9 50022 203.0.113.2 22")
    assert own_interfaces(routed.netns) == {routed.ifindex}
    # An address of another namespace: the connection does not end here.
    monkeypatch.setenv("SSH_CONNECTION", "203.0.113.9 50022 203.0.113.77 22")
    assert own_interfaces(routed.netns) == frozenset()
    monkeypatch.setenv("SSH_CONNECTION", "nonsense")
    assert own_interfaces(routed.netns) == frozenset()
    monkeypatch.setenv("SSH_CONNECTION", "203.0.113.9 50022 203.0.113.2 22")
    with pytest.raises(NotFound):
        own_interfaces("xdptui-no-such")


@pytest.mark.parametrize("number", [False, True])
def test_a_link_local_connection_names_its_interface(monkeypatch: pytest.MonkeyPatch, number: bool) -> None:
    with Playground(links=2) as playground:
        enable_ipv6(playground.netns)
        for link in playground.links:
            ip(playground, "addr", "add", "fe80::2/64", "dev", link.ifname, "nodad")
        for link in playground.links:
            zone = str(link.ifindex) if number else link.ifname
            monkeypatch.setenv("SSH_CONNECTION", f"fe80::9%{zone} 50022 fe80::2%{zone} 22")
            assert own_interfaces(playground.netns) == {link.ifindex}
        monkeypatch.setenv("SSH_CONNECTION", "fe80::9%gone 50022 fe80::2%gone 22")
        assert own_interfaces(playground.netns) == frozenset()


def test_devices_under_it_count_too(routed: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    ip(routed, "link", "add", "br0", "type", "bridge")
    ip(routed, "link", "set", routed.ifname, "master", "br0")
    ip(routed, "link", "set", "br0", "up")
    ip(routed, "addr", "add", "198.51.100.2/24", "dev", "br0")
    monkeypatch.setenv("SSH_CONNECTION", "198.51.100.9 50022 198.51.100.2 22")
    found = own_interfaces(routed.netns)
    assert routed.ifindex in found
    assert len(found) == 2


def test_behind_sudo_the_parents_are_asked(routed: Playground) -> None:
    asked = [sys.executable, "-c", ASK, str(ROOT / "core"), routed.netns]
    shell = subprocess.run(
        ["bash", "-c", 'env -u SSH_CONNECTION "$@"; true', "shell", *asked],
        env=os.environ | {"SSH_CONNECTION": "203.0.113.9 50022 203.0.113.2 22"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shell.stdout.split() == [str(routed.ifindex)]
