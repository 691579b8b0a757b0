# SPDX-License-Identifier: Apache-2.0
"""A pending change, made where processes, mounts and clocks are not the machine's own: it rolls back, or is
refused before anything happened.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.kernel.arming import (
    ROOT,
    SOON,
    arm,
    eventually,
    gone,
    guardians,
    is_guardian,
    no_guardian_survives,
    nothing_left,
    pending_on,
    settled_on,
)
from tests.kernel.chains import LINKAGES, chain_of, change, look_at
from xdpchain.change.confirm.by_hand import confirm, roll_back
from xdpchain.editing import edit
from xdpchain.errors import RaceLost
from xdpchain.model.chain import Linkage
from xdpchain.model.pending_change import Outcome, PendingState
from xdpchain.model.running import Running
from xdpchain.observe.discover import look
from xdpchain.observe.pending_pins import boot_clock
from xdpchain.sys import netns
from xdpchain.testing.playground import Playground

UNSUPPORTED = 6
CGROUPS = Path("/sys/fs/cgroup")


def load(
    playground: Playground,
    sample: Path,
    *words: str,
    inside: Sequence[str] = (),
    env: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """`xdptui load`, started through the command ``inside``."""
    words = ("-A", "none", "-P", "1", *words, "--netns", playground.netns)
    return subprocess.run(
        [*inside, sys.executable, "-m", "xdptui", "load", playground.ifname, str(sample), *words],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'core'}:{ROOT}"} | (env or {}),
        capture_output=True,
        text=True,
        timeout=120,
    )


def came_back(playground: Playground, old: Running) -> None:
    assert settled_on(playground).outcome is Outcome.ROLLED_BACK
    now = look_at(playground)
    assert (now.hook, now.chain) == (old.hook, old.chain)
    eventually(lambda: not guardians(netns.inode(playground.netns)), "the guardian ends")
    assert nothing_left()


def refused(done: subprocess.CompletedProcess[str], playground: Playground, old: Running, why: str) -> None:
    assert done.returncode == UNSUPPORTED, done.stderr
    assert why in done.stderr
    assert "Nothing was changed" in done.stderr
    now = look_at(playground)
    assert (now.hook, now.chain, now.pending) == (old.hook, old.chain, None)
    assert not guardians(netns.inode(playground.netns))
    assert nothing_left()


# Namespaces of processes and of clocks

PIDS = ["unshare", "--pid", "--fork", "--kill-child"]


@pytest.mark.parametrize("proc", [[], ["--mount-proc"]], ids=["old proc", "own proc"])
def test_a_pid_namespace_that_ends_is_refused_before_anything_changes(
    guarded: Playground, samples: Path, proc: list[str]
) -> None:
    old = change(guarded, chain_of(samples, "firewall"))
    done = load(guarded, samples / "drop.o", "--confirm", str(SOON), inside=[*PIDS, *proc])
    refused(done, guarded, old, "PID namespace")
    final = load(guarded, samples / "drop.o", inside=[*PIDS, *proc])
    assert final.returncode == 0, final.stderr


@pytest.mark.skipif(not Path("/proc/self/ns/time").exists(), reason="this kernel has no time namespaces")
@pytest.mark.parametrize("offset", ["1000000", "-20"])
def test_in_a_time_namespace_the_rollback_comes_in_time(
    guarded: Playground, samples: Path, offset: str
) -> None:
    old = change(guarded, chain_of(samples, "firewall"))
    inside = ["unshare", "--time", "--boottime", offset, "--monotonic", offset, "--fork"]
    began = boot_clock()
    done = load(guarded, samples / "drop.o", "--confirm", str(SOON + 3), inside=inside)
    assert done.returncode == 0, done.stderr
    waiting = look_at(guarded).pending
    assert waiting is not None
    assert began < waiting.deadline <= boot_clock() + SOON + 3
    came_back(guarded, old)
    assert waiting.deadline <= boot_clock() < waiting.deadline + 30


# Control groups


def unified() -> Path | None:
    """Where cgroup v2 is mounted."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.startswith("cgroup2 "):
            return Path(before.split(" ")[4])
    return None


@contextlib.contextmanager
def service() -> Iterator[Path]:
    """A cgroup like a service's: when it ends, all processes in it end (KillMode=control-group)."""
    root = unified()
    if root is None:
        pytest.skip("no control groups of version 2 are mounted")
    group = root / f"xdptui-test-{secrets.token_hex(4)}"
    group.mkdir()
    try:
        yield group
    finally:
        end(group)
        group.rmdir()


def end(group: Path) -> None:
    (group / "cgroup.kill").write_text("1")
    eventually(lambda: not (group / "cgroup.procs").read_text(), "the control group is empty")


def within(group: Path) -> list[str]:
    return ["sh", "-c", f'echo 0 > {group}/cgroup.procs; exec "$@"', "sh"]


def test_the_control_group_of_a_service_ends(guarded: Playground, samples: Path) -> None:
    old = change(guarded, chain_of(samples, "firewall"))
    with service() as group:
        done = load(guarded, samples / "drop.o", "--confirm", str(SOON + 2), inside=within(group))
        assert done.returncode == 0, done.stderr
        pending = pending_on(guarded)
        assert f"/{group.name}" not in Path(f"/proc/{pending.guardian}/cgroup").read_text()
        end(group)
        assert is_guardian(pending.guardian)
        came_back(guarded, old)


def test_also_where_the_control_groups_are_not_mounted(guarded: Playground, samples: Path) -> None:
    """`ip netns exec` mounts a separate /sys without them."""
    old = change(guarded, chain_of(samples, "firewall"))
    hide = f'mount -t tmpfs tmpfs {CGROUPS}; exec "$@"'
    with service() as group:
        inside = [*within(group), "unshare", "--mount", "sh", "-c", hide, "sh"]
        done = load(guarded, samples / "drop.o", "--confirm", str(SOON + 2), inside=inside)
        assert done.returncode == 0, done.stderr
        pending_on(guarded)
        end(group)
        came_back(guarded, old)


def test_a_control_group_that_can_not_be_left_is_refused(guarded: Playground, samples: Path) -> None:
    old = change(guarded, chain_of(samples, "firewall"))
    with service() as group:
        inside = [*within(group), "unshare", "--cgroup"]
        done = load(guarded, samples / "drop.o", "--confirm", str(SOON), inside=inside)
        assert done.returncode != 0
        assert "control group" in done.stderr
        now = look_at(guarded)
        assert (now.hook, now.chain, now.pending) == (old.hook, old.chain, None)
        eventually(lambda: not guardians(netns.inode(guarded.netns)), "the guardian ends")
        assert nothing_left()


# Signals


def test_no_signal_ends_it_but_kill(guarded: Playground, samples: Path) -> None:
    old = change(guarded, chain_of(samples, "firewall"))
    new = arm(guarded, chain_of(samples, "drop"), SOON + 5)
    assert new.pending is not None
    for signum in range(1, signal.SIGRTMAX + 1):  # by number: Python does not name those of the C library
        if signum not in (signal.SIGKILL, signal.SIGSTOP):
            os.kill(new.pending.guardian, signum)
    time.sleep(0.3)
    assert is_guardian(new.pending.guardian)
    assert look_at(guarded).pending == new.pending
    came_back(guarded, old)


# The interface goes elsewhere


@contextlib.contextmanager
def other_netns() -> Iterator[str]:
    name = f"xdptui-test-{secrets.token_hex(4)}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def move(playground: Playground, target: str) -> None:
    ip = ["ip", "-n", playground.netns, "link", "set"]
    subprocess.run([*ip, playground.ifname, "netns", target], check=True)


@pytest.mark.parametrize("linkage", LINKAGES)
@pytest.mark.parametrize("busy", [False, True], ids=["same ifindex", "another ifindex"])
def test_an_interface_that_moves_is_rolled_back_where_it_is(
    guarded: Playground, samples: Path, linkage: Linkage, busy: bool
) -> None:
    old = change(guarded, chain_of(samples, "firewall", "tailcalls", linkage=linkage))
    new = arm(guarded, chain_of(samples, "drop", linkage=linkage), SOON + 3)
    assert new.pending is not None
    with other_netns() as target:
        if busy:
            add = ["ip", "-n", target, "link", "add", "index", str(guarded.ifindex), "type", "veth"]
            subprocess.run([*add, "peer", "index", str(guarded.ifindex + 1)], check=True)
        move(guarded, target)
        there = look(guarded.ifname, target)
        assert (there.interface.ifindex != guarded.ifindex) is busy
        assert there.hook == new.hook
        assert there.pending == new.pending

        def settled() -> object:
            return look(guarded.ifname, target).settled

        assert eventually(settled, "it is settled").outcome is Outcome.ROLLED_BACK
        now = look(guarded.ifname, target)
        assert (now.hook, now.chain, now.pending) == (old.hook, old.chain, None)
        eventually(lambda: gone(new.pending.guardian), "the guardian ends")  # type: ignore[union-attr]
        assert nothing_left()


@pytest.mark.parametrize("decide", [confirm, roll_back])
def test_an_interface_that_moved_is_decided_where_it_is(
    guarded: Playground, samples: Path, decide: object
) -> None:
    old = change(guarded, chain_of(samples, "firewall"))
    new = arm(guarded, chain_of(samples, "drop"), 60)
    with other_netns() as target:
        move(guarded, target)
        now = decide(guarded.ifname, target)  # type: ignore[operator]
        assert now.hook == (new.hook if decide is confirm else old.hook)
        assert now.pending is None
        assert now.settled.outcome is (Outcome.CONFIRMED if decide is confirm else Outcome.ROLLED_BACK)
        assert nothing_left()


def test_an_interface_whose_namespace_went_away_under_it_is_gone(samples: Path, root: None) -> None:
    with Playground() as playground, no_guardian_survives(playground):
        change(playground, chain_of(samples, "firewall"))
        new = arm(playground, chain_of(samples, "drop"), SOON)
        assert new.pending is not None
        with other_netns() as target:
            move(playground, target)
        eventually(lambda: gone(new.pending.guardian), "the guardian ends")  # type: ignore[union-attr]
        assert nothing_left()


# Mounts that end with the command

PRIVATE = ["unshare", "--mount", "--propagation", "private"]


def in_a_mount_of_its_own(folder: Path, first: str = "") -> list[str]:
    """A shell in a private mount namespace, with a BPF filesystem that nobody else sees."""
    folder.mkdir()
    return [*PRIVATE, "sh", "-c", f'mount -t bpf -o mode=0700 bpf {folder}; {first} exec "$@"', "sh"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--confirm", str(SOON)], "a pending change can't be pinned"),
        (["--linkage", "tailcall"], "program arrays can't be pinned"),
        pytest.param(["--linkage", "freplace"], "a dispatcher's links can't be pinned", marks=pytest.mark.vm),
    ],
)
def test_what_needs_pins_is_refused_on_a_mount_that_ends(
    guarded: Playground, samples: Path, tmp_path: Path, words: list[str], why: str
) -> None:
    empty = look_at(guarded)
    own = {"LIBXDP_BPFFS": str(tmp_path / "bpf")}
    inside = in_a_mount_of_its_own(tmp_path / "bpf")
    refused(load(guarded, samples / "pass.o", *words, inside=inside, env=own), guarded, empty, why)
    plain = load(guarded, samples / "pass.o", "--linkage", "static", inside=inside, env=own)
    assert plain.returncode == 0, plain.stderr


def test_mount_bpffs_in_a_namespace_of_its_own_is_refused(
    guarded: Playground, samples: Path, tmp_path: Path
) -> None:
    empty = look_at(guarded)
    (tmp_path / "bpf").mkdir()
    done = load(
        guarded,
        samples / "pass.o",
        "--linkage",
        "tailcall",
        "--mount-bpffs",
        inside=PRIVATE,
        env={"LIBXDP_BPFFS": str(tmp_path / "bpf")},
    )
    refused(done, guarded, empty, "program arrays can't be pinned")


def test_in_a_container_what_was_mounted_by_the_command_ends_too(
    guarded: Playground, samples: Path, tmp_path: Path
) -> None:
    empty = look_at(guarded)
    (tmp_path / "bpf").mkdir()
    done = load(
        guarded,
        samples / "pass.o",
        "--linkage",
        "tailcall",
        "--mount-bpffs",
        inside=[*PIDS, "--mount-proc"],
        env={"LIBXDP_BPFFS": str(tmp_path / "bpf")},
    )
    refused(done, guarded, empty, "program arrays can't be pinned")


def test_a_mount_that_others_stay_in_is_good_enough(
    guarded: Playground, samples: Path, tmp_path: Path
) -> None:
    """A private namespace, but with a daemon in it, as in a long-lived container."""
    (tmp_path / "bpf").mkdir()
    stop = tmp_path / "stop"
    os.mkfifo(stop)
    daemon = f"setsid -f sh -c 'read line < {stop}' </dev/null >/dev/null 2>&1;"
    shutil.rmtree(tmp_path / "bpf")
    inside = in_a_mount_of_its_own(tmp_path / "bpf", daemon)
    done = load(
        guarded,
        samples / "pass.o",
        "--linkage",
        "tailcall",
        inside=inside,
        env={"LIBXDP_BPFFS": str(tmp_path / "bpf")},
    )
    try:
        assert done.returncode == 0, done.stderr
        now = look_at(guarded)
        assert now.linkage is Linkage.TAILCALL
        assert not now.emptied
    finally:
        stop.write_text("go\n")
    eventually(lambda: look_at(guarded).emptied, "it ends, and with it the pins; which is seen")


# After a rollback nothing continues as if it had not happened


def test_an_edit_does_not_go_on_after_a_rollback(guarded: Playground, samples: Path) -> None:
    old = change(guarded, chain_of(samples, "firewall"))
    new = arm(guarded, chain_of(samples, "drop"), SOON)
    assert new.pending is not None
    os.kill(new.pending.guardian, signal.SIGKILL)
    eventually(lambda: look_at(guarded).pending.state is PendingState.UNGUARDED, "it is noticed")  # type: ignore[union-attr]
    deadline = new.pending.deadline
    eventually(lambda: boot_clock() > deadline, "the deadline")
    asked = []

    def remove_first(running: Running) -> object:
        asked.append(running)
        assert running.chain is not None
        return running.chain.remove([0])

    with pytest.raises(RaceLost, match="not confirmed in time"):
        edit(guarded.ifname, remove_first, netns=guarded.netns)  # type: ignore[arg-type]
    assert len(asked) == 1
    assert look_at(guarded).hook == old.hook


def test_an_edit_that_loses_to_the_guardian_says_so(guarded: Playground, samples: Path) -> None:
    old = change(guarded, chain_of(samples, "firewall"))
    arm(guarded, chain_of(samples, "drop"), SOON)
    asked = []

    def late(running: Running) -> object:
        asked.append(running)
        assert running.chain is not None
        settled_on(guarded)
        return running.chain.remove([0])

    with pytest.raises(RaceLost, match="the change was rolled back meanwhile"):
        edit(guarded.ifname, late, netns=guarded.netns)  # type: ignore[arg-type]
    assert len(asked) == 1
    assert look_at(guarded).hook == old.hook
