# SPDX-License-Identifier: Apache-2.0
"""Whatever happens to the session, the disk, the terminal or the interface: the old chain comes back."""

from __future__ import annotations

import contextlib
import os
import pty
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.arming import (
    ROOT,
    SOON,
    arm,
    child,
    eventually,
    gone,
    guardians,
    is_guardian,
    lives,
    no_guardian_survives,
    nothing_left,
    pending_on,
    session,
    settled_on,
)
from tests.kernel.chains import LINKAGES, chain_of, change, look_at, run_through
from xdpchain.change.confirm import launch
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.pending_change import Outcome, PendingState
from xdpchain.model.running import Running
from xdpchain.observe.discover import look
from xdpchain.observe.pending_pins import boot_clock
from xdpchain.sys import netns
from xdpchain.testing import frames
from xdpchain.testing.playground import Playground

FRAME = frames.udp(frames.PEER, frames.NEAR, 9)
DROP, PASS = 1, 2


def came_back(playground: Playground, old: Running) -> None:
    """Assert that the old chain runs, whole, and that nothing is left of the new one."""
    assert settled_on(playground).outcome is Outcome.ROLLED_BACK
    now = look_at(playground)
    assert (now.hook, now.chain) == (old.hook, old.chain)
    assert run_through(now, FRAME).code == PASS
    inode = netns.inode(playground.netns)
    eventually(lambda: not guardians(inode), "the guardian ends")
    assert nothing_left()


def command(playground: Playground, sample: Path) -> list[str]:
    words = ["load", playground.ifname, str(sample), "-A", "none", "-P", "1", "--confirm", str(SOON)]
    return [sys.executable, "-m", "xdptui", *words, "--netns", playground.netns]


@contextlib.contextmanager
def in_a_session(playground: Playground, sample: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A shell with a terminal, as sshd provides, that changes the chain and runs other processes as well."""
    line = " ".join(map(_quoted, command(playground, sample)))
    ours, theirs = pty.openpty()
    shell = subprocess.Popen(
        ["bash", "-c", f"sleep 300 & setsid -w sleep 301 & {line}; sleep 302"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'core'}:{ROOT}"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    try:
        yield shell
    finally:
        for pid in processes_of(shell):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shell.wait()
        os.close(ours)
        os.close(theirs)


def processes_of(shell: subprocess.Popen[bytes]) -> set[int]:
    return descendants(shell.pid) | set(session(shell.pid))


def _quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"


def descendants(root: int) -> set[int]:
    found, new = set(), {root}
    while new:
        found |= new
        new = set()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                    if parent in found and int(entry.name) not in found:
                        new.add(int(entry.name))
    return found


@pytest.mark.parametrize("linkage", LINKAGES)
def test_every_process_of_the_session_is_killed(guarded: Playground, samples: Path, linkage: Linkage) -> None:
    old = change(guarded, chain_of(samples, "firewall", "monitor", linkage=linkage))
    with in_a_session(guarded, samples / "drop.o") as shell:
        pending = pending_on(guarded)
        assert run_through(look_at(guarded), FRAME).code == DROP
        victims = processes_of(shell)
        assert len(victims) >= 3
        assert pending.guardian not in victims
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shell.wait()
        assert is_guardian(pending.guardian)
        came_back(guarded, old)


def test_the_terminal_hangs_up_and_signals_rain(guarded: Playground, samples: Path) -> None:
    old = change(guarded, chain_of(samples, "firewall"))
    new = arm(guarded, chain_of(samples, "drop"))
    assert new.pending is not None
    stat = Path(f"/proc/{new.pending.guardian}/stat").read_text().rpartition(")")[2].split()
    assert (int(stat[1]), int(stat[4])) == (1, 0), "nobody's child, and no terminal"
    assert int(stat[3]) != os.getsid(0)
    for signum in (
        signal.SIGHUP,
        signal.SIGINT,
        signal.SIGQUIT,
        signal.SIGTERM,
        signal.SIGTSTP,
        signal.SIGPIPE,
    ):
        os.kill(new.pending.guardian, signum)
    came_back(guarded, old)


def test_every_process_of_the_session_is_stopped(guarded: Playground, samples: Path) -> None:
    old = change(guarded, chain_of(samples, "firewall"))
    with in_a_session(guarded, samples / "drop.o") as shell:
        pending_on(guarded)
        for pid in processes_of(shell):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        came_back(guarded, old)


@pytest.fixture
def victims() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes ended after the test, stopped or not."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def test_it_is_stopped_while_it_holds_the_lock(
    guarded: Playground, samples: Path, victims: list[subprocess.Popen[bytes]]
) -> None:
    old = change(guarded, chain_of(samples, "firewall"))
    stop = "editing.Journal.after = stop"  # after the swap, before the lock is released
    victims.append(subprocess.Popen(child(guarded, samples / "drop.o", stop)))
    pending_on(guarded)
    assert settled_on(guarded).outcome is Outcome.ROLLED_BACK
    assert look_at(guarded).hook == old.hook


def test_it_is_stopped_just_before_the_swap(
    guarded: Playground, samples: Path, victims: list[subprocess.Popen[bytes]]
) -> None:
    old = change(guarded, chain_of(samples, "firewall"))
    # The swap comes long after the time to confirm has passed.
    stop = "def progress(step): stop() if step == 'swap it in' else None"
    process = subprocess.Popen(child(guarded, samples / "drop.o", stop))
    victims.append(process)
    inode = netns.inode(guarded.netns)
    eventually(lambda: guardians(inode), "the guardian starts")
    eventually(lambda: _state(process.pid) == "T", "it stops")
    deadline = boot_clock() + SOON + 1
    eventually(lambda: boot_clock() > deadline, "the deadline passes")
    assert guardians(inode), "it stays for as long as the swap may come"
    assert look_at(guarded).hook == old.hook
    os.kill(process.pid, signal.SIGCONT)
    process.wait()
    came_back(guarded, old)


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


STEPS = ("start the guardian of the rollback", "load and link", "arm the rollback", "swap it in")


@pytest.mark.parametrize("linkage", LINKAGES)
@pytest.mark.parametrize("step", [*STEPS, "after"])
def test_who_changes_the_chain_is_killed_at_any_step(
    guarded: Playground, samples: Path, step: str, linkage: Linkage
) -> None:
    old = change(guarded, chain_of(samples, "firewall", "tailcalls", linkage=linkage))
    prepare = f"def progress(step): kill() if step.startswith({step!r}) else None"
    done = subprocess.run(child(guarded, samples / "drop.o", prepare, "kill()"))
    assert done.returncode == -signal.SIGKILL
    inode = netns.inode(guarded.netns)
    if step == "after":
        came_back(guarded, old)
    eventually(lambda: not guardians(inode), "the guardian ends")
    now = look_at(guarded)
    assert (now.hook, now.chain) == (old.hook, old.chain)
    assert now.pending is None
    assert now.chain is not None
    change(guarded, now.chain.remove([0]))  # and cleans up what was left
    assert nothing_left()


@contextlib.contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """A filesystem without a free byte."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], check=True)
    try:
        with contextlib.suppress(OSError), (folder / "full").open("wb") as file:
            while True:
                file.write(bytes(4096))
                file.flush()
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_the_disk_is_full(guarded: Playground, samples: Path, tmp_path: Path) -> None:
    old = change(guarded, chain_of(samples, "firewall"))
    with full_disk(tmp_path / "disk"):
        place = {
            name: str(tmp_path / "disk") for name in ("XDPTUI_STATE", "TMPDIR", "HOME", "PYTHONPYCACHEPREFIX")
        }
        done = subprocess.run(
            command(guarded, samples / "drop.o"),
            cwd=tmp_path / "disk",
            env=os.environ | place | {"PYTHONPATH": f"{ROOT / 'core'}:{ROOT}"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert "could not be recorded in the journal (No space left on device)" in done.stdout
        assert run_through(look_at(guarded), FRAME).code == DROP
        came_back(guarded, old)


def test_the_program_is_removed_from_the_disk(guarded: Playground, samples: Path, tmp_path: Path) -> None:
    old = change(guarded, chain_of(samples, "firewall"))
    copy = tmp_path / "installed"
    shutil.copytree(
        ROOT / "core" / "xdpchain", copy / "xdpchain", ignore=shutil.ignore_patterns("__pycache__")
    )
    subprocess.run(child(guarded, samples / "drop.o", path=[str(copy)]), check=True, cwd=copy)
    pending = pending_on(guarded)
    assert is_guardian(pending.guardian)
    assert str(copy).encode() in Path(f"/proc/{pending.guardian}/cmdline").read_bytes()
    shutil.rmtree(copy)
    came_back(guarded, old)


def test_the_interface_is_removed(guarded: Playground, samples: Path) -> None:
    old = change(guarded, chain_of(samples, "firewall", "tailcalls"))
    new = arm(guarded, chain_of(samples, "drop"))
    assert old.hook is not None
    assert new.hook is not None
    assert new.pending is not None
    subprocess.run(["ip", "-n", guarded.netns, "link", "del", guarded.ifname], check=True)
    eventually(lambda: gone(new.pending.guardian), "the guardian ends")  # type: ignore[union-attr]
    assert nothing_left()
    eventually(lambda: not lives(old.hook.prog_id), "the old chain is let go")  # type: ignore[union-attr]
    eventually(lambda: not lives(new.hook.prog_id), "the new one is gone")  # type: ignore[union-attr]


def test_the_interface_is_renamed(guarded: Playground, samples: Path) -> None:
    old = change(guarded, chain_of(samples, "firewall"))
    arm(guarded, chain_of(samples, "drop"))
    ip = ["ip", "-n", guarded.netns, "link", "set"]
    subprocess.run([*ip, guarded.ifname, "down"], check=True)
    subprocess.run([*ip, guarded.ifname, "name", "other0"], check=True)
    try:
        inode = netns.inode(guarded.netns)
        eventually(lambda: not guardians(inode), "the guardian ends")
    finally:
        subprocess.run([*ip, "other0", "name", guarded.ifname], check=True)
    came_back(guarded, old)


def test_the_name_of_the_namespace_is_deleted(root: None, samples: Path) -> None:
    with Playground() as playground, no_guardian_survives(playground), netns.opened(playground.netns) as fd:
        old = change(playground, chain_of(samples, "firewall"))
        arm(playground, chain_of(samples, "drop"))
        inode = netns.inode(playground.netns)
        subprocess.run(["ip", "netns", "del", playground.netns], check=True)
        eventually(lambda: not guardians(inode), "the guardian ends")
        found = netns.run_at(f"/proc/self/fd/{fd}", lambda: look(playground.ifname))
        assert found.hook == old.hook


def test_the_bpf_filesystem_is_unmounted(guarded: Playground, samples: Path, tmp_path: Path) -> None:
    """In a separate mount namespace, so that nobody else loses theirs."""
    old = change(guarded, chain_of(samples, "firewall"))
    (tmp_path / "bpf").mkdir()
    stays = "setsid -f sleep 20 </dev/null >/dev/null 2>&1"  # otherwise nothing is armed on such a mount
    script = (
        f"mount -t bpf -o mode=0700 bpf {tmp_path / 'bpf'} && export LIBXDP_BPFFS={tmp_path / 'bpf'} && "
        f"{stays} && "
        f"{' '.join(map(_quoted, child(guarded, samples / 'drop.o')))} && umount -l {tmp_path / 'bpf'}"
    )
    subprocess.run(["unshare", "--mount", "--propagation", "private", "bash", "-c", script], check=True)
    assert run_through(look_at(guarded), FRAME).code == DROP
    inode = netns.inode(guarded.netns)
    eventually(lambda: not guardians(inode), "the guardian ends")
    now = look_at(guarded)
    assert (now.hook, now.chain) == (old.hook, old.chain)


def test_the_old_chain_is_refused_at_first(root: None, samples: Path) -> None:
    """The MTU is raised meanwhile, beyond what a chain without frags supports."""
    with Playground() as playground, no_guardian_survives(playground):

        def resize(mtu: int) -> None:
            peer, near = (
                (playground.peer_netns, playground.peer_ifname),
                (playground.netns, playground.ifname),
            )
            for namespace, name in (near, peer) if mtu > 1500 else (peer, near):
                subprocess.run(["ip", "-n", namespace, "link", "set", name, "mtu", str(mtu)], check=True)

        old = change(playground, chain_of(samples, "firewall"))
        arm(playground, Chain())
        resize(9000)
        failed = settled_on(playground)
        assert failed.outcome is Outcome.FAILED
        assert "MTU" in failed.detail
        waiting = look_at(playground)
        assert waiting.pending is not None
        assert waiting.pending.state is PendingState.PENDING
        resize(1500)
        eventually(lambda: look_at(playground).hook == old.hook, "it is rolled back when that is possible")
        came_back(playground, old)


def test_what_it_holds_is_little(guarded: Playground, samples: Path) -> None:
    arm(guarded, chain_of(samples, "drop"), 60)
    pending = pending_on(guarded)
    fds = os.listdir(f"/proc/{pending.guardian}/fd")
    assert len(fds) <= 16
    targets = {os.readlink(f"/proc/{pending.guardian}/fd/{fd}") for fd in fds if fd in ("0", "1", "2")}
    assert targets == {"/dev/null"}
    assert os.readlink(f"/proc/{pending.guardian}/cwd") == "/"


@pytest.mark.skipif(shutil.which("systemd-run") is None, reason="systemd-run is not installed")
def test_a_systemd_that_does_not_answer_is_done_without(
    guarded: Playground, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.path.isdir(launch.SYSTEMD):
        pytest.skip("systemd runs this machine, and answers")
    old = change(guarded, chain_of(samples, "firewall"))
    monkeypatch.setattr(launch, "SYSTEMD", "/")
    arm(guarded, chain_of(samples, "drop"))
    came_back(guarded, old)
