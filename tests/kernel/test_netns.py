# SPDX-License-Identifier: Apache-2.0
"""Named network namespaces on a real kernel."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from xdpchain.change.plan import make_plan
from xdpchain.editing import apply
from xdpchain.errors import NotFound, PermissionDenied, RaceLost
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.commands import Commands
from xdpchain.model.slot import Slot
from xdpchain.objects.components import load_component
from xdpchain.observe.discover import look
from xdpchain.sys import netns
from xdpchain.testing.playground import Playground
from xdptui.cli import main
from xdptui.words.advice import worded

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="making network namespaces takes root")


@pytest.fixture
def space() -> Iterator[str]:
    name = f"xct-ns-{os.getpid()}-{secrets.token_hex(3)}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    yield name
    subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def own() -> int:
    return os.stat("/proc/thread-self/ns/net").st_ino


def test_lists_what_ip_lists(space: str) -> None:
    names = netns.names()
    assert space in names
    assert list(names) == sorted(names)


def test_a_file_that_is_no_namespace_is_neither_listed_nor_entered() -> None:
    path = netns.RUN_DIR / f"xct-file-{os.getpid()}-{secrets.token_hex(3)}"
    path.parent.mkdir(exist_ok=True)
    path.touch()
    try:
        assert path.name not in netns.names()
        with pytest.raises(netns.NetnsError, match="is a plain file") as caught:
            netns.run(path.name, own)
        assert "ip netns del" in worded(caught.value.todo)
    finally:
        path.unlink()


def test_runs_inside_and_leaves_the_caller_where_it_was(space: str) -> None:
    before, caller = own(), threading.get_ident()
    inside, worker = netns.run(space, lambda: (own(), threading.get_ident()))
    assert inside == os.stat(netns.RUN_DIR / space).st_ino != before
    assert worker != caller
    assert own() == before
    assert all(not thread.name.startswith("netns-") for thread in threading.enumerate())


def test_own_namespace_needs_no_thread() -> None:
    assert netns.run(None, lambda: (own(), threading.get_ident())) == (own(), threading.get_ident())


def test_what_the_call_raises_is_raised(space: str) -> None:
    def fail() -> None:
        raise ZeroDivisionError("from inside")

    with pytest.raises(ZeroDivisionError, match="from inside"):
        netns.run(space, fail)


def test_devices_are_those_of_the_namespace(space: str) -> None:
    subprocess.run(
        ["ip", "-n", space, "link", "add", "left", "type", "veth", "peer", "name", "right"], check=True
    )
    import socket

    assert {name for _, name in netns.run(space, socket.if_nameindex)} == {"lo", "left", "right"}


def test_inode_tells_namespaces_apart(space: str) -> None:
    assert netns.inode() == own()
    assert netns.inode(space) == os.stat(netns.RUN_DIR / space).st_ino
    assert netns.name_of(netns.inode(space)) == space
    assert netns.name_of(1) is None


def test_an_open_descriptor_outlives_the_name(space: str) -> None:
    number = netns.inode(space)
    with netns.opened(space) as fd:
        subprocess.run(["ip", "netns", "del", space], check=True)
        assert os.fstat(fd).st_ino == number
        with pytest.raises(netns.NetnsError):
            netns.inode(space)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


@pytest.mark.parametrize("name", ["no-such-namespace", "", ".", "..", "../../etc", "a/b", "nul\0", "n" * 300])
def test_unknown_names_get_an_error_that_helps(name: str, space: str) -> None:
    with pytest.raises(netns.NetnsError) as caught:
        netns.run(name, own)
    assert isinstance(caught.value, NotFound)
    assert repr(name) in caught.value.what
    assert space in worded(caught.value.todo)  # the names that exist


def test_no_descriptor_is_left_open(space: str) -> None:
    netns.run(space, own)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        netns.run(space, own)
        with pytest.raises(netns.NetnsError):
            netns.run("no-such-namespace", own)
    assert len(os.listdir("/proc/self/fd")) == before


def test_without_capabilities_it_says_so(space: str) -> None:
    code = f"""
import os, sys
from xdpchain.errors import PermissionDenied
from xdpchain.sys import netns
os.setresuid(65534, 65534, 65534)
assert {space!r} in netns.names()
try:
    netns.run({space!r}, os.getpid)
except PermissionDenied as error:
    assert "CAP_SYS_ADMIN" in error.why and error.todo and error.detail.startswith("EPERM"), vars(error)
    sys.exit(error.exit_code)
"""
    core = Path(netns.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(core)}, capture_output=True, text=True
    )
    assert done.returncode == PermissionDenied.exit_code, done.stderr


@pytest.fixture
def process(space: str) -> Iterator[int]:
    """A process in the namespace."""
    with subprocess.Popen(["ip", "netns", "exec", space, "sleep", "600"]) as sleeping:
        deadline = time.monotonic() + 20
        while os.stat(f"/proc/{sleeping.pid}/ns/net").st_ino == own():
            assert time.monotonic() < deadline
            time.sleep(0.005)
        yield sleeping.pid
        sleeping.kill()


def test_a_path_and_a_process_lead_to_the_same_namespace(space: str, process: int) -> None:
    there = os.stat(netns.RUN_DIR / space).st_ino
    for spelling in (f"/run/netns/{space}", f"/proc/{process}/ns/net", f"pid:{process}"):
        assert netns.inode(spelling) == there
        assert netns.run(spelling, own) == there


def test_commands_take_a_path_or_a_process(
    space: str, process: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Commands they print as advice lead there, too."""
    for spelling in (f"/proc/{process}/ns/net", f"pid:{process}"):
        assert main(["status", "--json", "--netns", spelling]) == 0
        (entry,) = json.loads(capsys.readouterr().out)["interfaces"]
        assert (entry["name"], entry["netns"]) == ("lo", spelling)
        command = Commands(spelling).ip("-o", "link")
        listed = subprocess.run(command, shell=True, check=True, capture_output=True, text=True).stdout
        assert listed.count("\n") == 1
    assert main(["status", "--json", "--netns", f"/var/run/netns/{space}"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)["interfaces"]
    assert entry["netns"] == space


@pytest.mark.parametrize("spelling", ["/no/such/path", "/etc/passwd", "/dev/zero", "/", "/proc/self/ns/mnt"])
def test_a_path_to_anything_else_is_refused(spelling: str) -> None:
    with pytest.raises(netns.NetnsError):
        netns.inode(spelling)


def test_a_process_that_ended(process: int) -> None:
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    with pytest.raises(netns.NetnsError, match=f"pid:{ended.pid}"):
        netns.inode(f"pid:{ended.pid}")


def test_a_plan_is_for_one_namespace_whatever_its_name_leads_to_later(tmp_path: Path, samples: Path) -> None:
    """Two namespaces with the same interface name and ifindex, as containers have."""
    link = tmp_path / "netns"
    with Playground() as first, Playground() as second:
        assert first.ifindex == second.ifindex
        for playground in (first, second):
            name = playground.netns
            subprocess.run(["ip", "-n", name, "link", "set", playground.ifname, "name", "eth0"], check=True)
        link.symlink_to(f"/run/netns/{first.netns}")
        chain = Chain().relink(Linkage.STATIC).add(Slot.of(load_component(str(samples / "pass.o"))))
        plan = make_plan(look("eth0", str(link)), chain)
        link.unlink()
        link.symlink_to(f"/run/netns/{second.netns}")
        with pytest.raises(RaceLost) as caught:
            apply(plan)
        assert "another network namespace" in caught.value.why
        assert not look("eth0", second.netns).hooks
