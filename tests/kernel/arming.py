# SPDX-License-Identifier: Apache-2.0
"""Shared by tests of pending changes: make one, wait for its outcome, leave no guardian behind."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.kernel.chains import look_at
from xdpchain.change.confirm import pinning
from xdpchain.change.plan import make_plan
from xdpchain.editing import apply
from xdpchain.model.chain import Chain
from xdpchain.model.pending_change import ConfirmOutcome, PendingChange, PendingState
from xdpchain.model.running import Running
from xdpchain.observe import pending_pins
from xdpchain.sys import bpf, bpffs, netns
from xdpchain.testing.playground import Playground

ROOT = Path(__file__).parents[2]

SOON = 15.0 if os.environ.get("XDPTUI_LAB") else 1.5
"""Seconds to an expected rollback: enough to look at the pending change, on emulated processors too."""

LATER = 120.0
"""Seconds to a rollback that must not happen."""

PATIENCE = 90.0
"""Seconds until a test gives up: emulated processors are slow."""

CHILD = """
import os, signal, sys
sys.path[:0] = {path!r}
from xdpchain.model.chain import Chain
from xdpchain.model.slot import Slot
from xdpchain.objects.components import load_component
from xdpchain.observe.discover import look
from xdpchain.change.plan import make_plan
from xdpchain import editing
from xdpchain.change import transaction
ifname, netns, sample, seconds = sys.argv[1:5]
running = look(ifname, netns)
chain = (running.chain or Chain()).remove(range(len(running.chain or ())))
plan = make_plan(running, chain.add(Slot.of(load_component(sample))))
def stop(*_): os.kill(os.getpid(), signal.SIGSTOP)
def kill(*_): os.kill(os.getpid(), signal.SIGKILL)
{prepare}
editing.apply(plan, confirm=float(seconds), progress=locals().get("progress"))
{after}
"""


def child(
    playground: Playground, sample: Path, prepare: str = "", after: str = "", path: list[str] | None = None
) -> list[str]:
    """The command line of a process that puts ``sample`` alone on the interface, to be confirmed
    within SOON.
    """
    code = CHILD.format(path=path or [str(ROOT / "core"), str(ROOT)], prepare=prepare, after=after)
    return [sys.executable, "-c", code, playground.ifname, playground.netns, str(sample), str(SOON)]


def arm(playground: Playground, candidate: Chain, seconds: float = SOON, link: int = 0) -> Running:
    """Make the candidate run, to be confirmed."""
    return apply(make_plan(look_at(playground, link), candidate), confirm=seconds)


def eventually(condition: Callable[[], Any], what: str) -> Any:
    """The condition's result, as soon as it is true."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not in {PATIENCE:g} s: {what}"
        time.sleep(0.02)
    return found


def pending_on(playground: Playground, link: int = 0) -> PendingChange:
    """The pending change there, as soon as there is one."""

    def waits() -> PendingChange | None:
        pending = look_at(playground, link).pending
        return pending if pending is not None and pending.state is PendingState.PENDING else None

    found = eventually(waits, "a change waits")
    assert isinstance(found, PendingChange)
    return found


def settled_on(playground: Playground, link: int = 0) -> ConfirmOutcome:
    """The outcome of the change, as soon as it is known."""
    found = eventually(lambda: look_at(playground, link).settled, "it is settled")
    assert isinstance(found, ConfirmOutcome)
    return found


def is_guardian(pid: int) -> bool:
    """Whether that process is a guardian that is not exiting."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
        return fields[0].partition("(")[2].startswith("xdptui-guard") and fields[2].split()[0] != "Z"
    return False


def guardians(inode: int) -> list[int]:
    """The guardians in a network namespace."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and is_guardian(int(entry.name)):
            with contextlib.suppress(OSError):
                if os.stat(entry / "ns/net").st_ino == inode:
                    found.append(int(entry.name))
    return found


def session(leader: int) -> list[int]:
    """All processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == leader:
                    found.append(int(entry.name))
    return found


def gone(pid: int) -> bool:
    return not is_guardian(pid)


def lives(program: int) -> bool:
    """Whether the kernel still has that program."""
    try:
        bpf.prog_by_id(program).close()
    except bpf.BpfError:
        return False
    return True


def nothing_left() -> bool:
    """Whether no pending change is pinned (any more)."""
    pending = bpffs.find() / "xdptui" / "armed"
    return not pending.exists() or not os.listdir(pending)


@contextlib.contextmanager
def no_guardian_survives(playground: Playground) -> Iterator[None]:
    """End those that a test left in the playground's namespace."""
    inode = netns.inode(playground.netns)
    try:
        yield
    finally:
        for pid in guardians(inode):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        eventually(lambda: not guardians(inode), "the guardians end")
        for directory, pending in pending_pins.unguarded():
            if pending.inode == inode:
                pinning.discard(directory)
        for path in pending_pins.remains():  # a guardian was about to remove it
            pinning.discard(path)
