# SPDX-License-Identifier: Apache-2.0
"""Programs on the hooks of all network namespaces are found, whatever keeps a namespace alive."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from xdpchain.sys import all_netns, bpf
from xdpchain.sys.namespaces import is_initial
from xdpchain.sys.netlink import Netlink
from xdpchain.testing.playground import LET_PASS, Playground
from xdptui.cli import main


@pytest.fixture
def attached(playground: Playground) -> Iterator[int]:
    """The id of a program on the playground's interface."""
    with bpf.prog_load(bpf.ProgType.XDP, LET_PASS, name="let_pass") as program:
        with Netlink(playground.netns) as netlink:
            netlink.attach_xdp(playground.ifindex, program, "native", None)
        yield bpf.prog_info(program).id


def nameless(playground: Playground) -> None:
    subprocess.run(["ip", "netns", "del", playground.netns], check=True)


def test_in_a_named_namespace(attached: int) -> None:
    seen = all_netns.xdp_programs()
    assert attached in seen.programs
    assert seen.complete is is_initial("pid")


def test_in_one_that_a_descriptor_holds(playground: Playground, attached: int) -> None:
    held = os.open(f"/run/netns/{playground.netns}", os.O_RDONLY)
    try:
        nameless(playground)
        assert attached in all_netns.xdp_programs().programs
    finally:
        os.close(held)


def test_in_one_that_a_process_holds(playground: Playground, attached: int) -> None:
    inside = ["nsenter", f"--net=/run/netns/{playground.netns}", "sh", "-c", "echo in; exec sleep 60"]
    with subprocess.Popen(inside, stdout=subprocess.PIPE) as sleeper:
        assert sleeper.stdout is not None
        sleeper.stdout.readline()
        nameless(playground)
        assert attached in all_netns.xdp_programs().programs
        sleeper.send_signal(signal.SIGKILL)


def test_status_shows_what_runs_in_each(
    playground: Playground, attached: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "--all-netns"]) == 0
    shown = capsys.readouterr().out
    place = shown.partition(f"network namespace {playground.netns}:\n")[2]
    assert place.splitlines()[1].split()[:4] == [playground.ifname, "let_pass", "native", str(attached)]
    assert "without XDP programs" in shown
    assert main(["status", "--all-netns", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["interfaces"]
    (mine,) = [one for one in found if (one["netns"], one["name"]) == (playground.netns, playground.ifname)]
    assert mine["owner"] == "foreign"
    assert {one["name"] for one in found if one["netns"] is None} >= {"lo"}
    assert main(["status", "--all-netns", "--netns", playground.netns]) == 64
    assert "excludes IF and --netns" in capsys.readouterr().err


def test_status_names_a_namespace_by_a_process(
    playground: Playground, attached: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it prints can be typed."""
    inside = ["nsenter", f"--net=/run/netns/{playground.netns}", "sh", "-c", "echo in; exec sleep 60"]
    with subprocess.Popen(inside, stdout=subprocess.PIPE) as sleeper:
        assert sleeper.stdout is not None
        sleeper.stdout.readline()
        nameless(playground)
        assert main(["status", "--all-netns"]) == 0
        assert f"network namespace pid:{sleeper.pid}:" in capsys.readouterr().out
        assert main(["status", playground.ifname, "--netns", f"pid:{sleeper.pid}"]) == 0
        assert "let_pass" in capsys.readouterr().out
        sleeper.send_signal(signal.SIGKILL)


def test_in_a_container_not_all_can_be_seen(monkeypatch: pytest.MonkeyPatch, root: None) -> None:
    monkeypatch.setattr(all_netns, "is_initial", lambda kind: False)
    assert not all_netns.xdp_programs().complete


def test_what_is_no_namespace_any_more_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, attached: int, playground: Playground, tmp_path: Path
) -> None:
    """Scanning /proc takes a while: by now a listed path may lead to something else."""
    os.mkfifo(tmp_path / "pipe")  # opening it waits for a writer
    (tmp_path / "file").touch()
    paths = [f"{tmp_path}/{name}" for name in ("file", "pipe", "nothing")]
    paths += ["/proc/self/ns/mnt", f"/run/netns/{playground.netns}"]
    monkeypatch.setattr(all_netns, "_paths", lambda: iter(paths))
    monkeypatch.setattr(all_netns, "_sees_all_processes", lambda: True)
    assert all_netns.xdp_programs() == all_netns.Sighting(frozenset({attached}), True)
    assert all_netns.namespaces() == {os.stat(paths[-1]).st_ino}


def test_namespaces_that_come_and_go_hide_none(attached: int) -> None:
    """A look is complete despite others' work; otherwise live pins would seem stale, and stale ones
    uncertain."""
    there = all_netns.xdp_programs().complete
    name = f"come-and-go-{os.getpid()}"
    churn = f"for i in $(seq 60); do ip netns add {name}; ip netns del {name}; done"
    with subprocess.Popen(["sh", "-c", churn]) as others:
        deadline = time.monotonic() + 60
        while others.poll() is None:
            assert time.monotonic() < deadline
            seen = all_netns.xdp_programs()
            assert attached in seen.programs
            assert seen.complete is there
    assert others.returncode == 0
