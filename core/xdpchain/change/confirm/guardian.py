# SPDX-License-Identifier: Apache-2.0
"""The guardian: the process that rolls back a pending change that nobody confirms.

It shares nothing with the session that armed the change: it has a new session, no terminal, no parent,
ignores every signal that it can, and under systemd runs in a separate scope. Before the swap it holds
descriptors of the old chain and the namespace, has all modules loaded and its memory locked, and from then on
needs no disk, terminal or BPF filesystem.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from xdpchain.change.journal.settling import note_settled
from xdpchain.decoding import fields
from xdpchain.errors import NotFound, XdpChainError
from xdpchain.model.pending_change import ConfirmOutcome, Decision, Outcome, PendingChange
from xdpchain.observe.pending_pins import DECISION, boot_clock, decided, open_held
from xdpchain.sys import all_netns, bpf, bpffs
from xdpchain.sys.netlink import Netlink

from . import MADE
from .carry_out import carry_out, pins_missing
from .isolation import Confined, ignore_signals, leave_cgroup, lift_limits
from .moved_interface import Whereabouts, at_place
from .pinning import claim, write_settled
from .report import Report

__all__ = ["main"]

POLL = 0.1
"""Seconds between checks for a decision, and so how long the guardian outlives a confirmation."""

LOCK_TIMEOUT = 3.0
"""Seconds to wait for another editor: one stopped while holding the lock must not prevent a rollback."""

COURTESY = 1.0
"""Seconds for the process that decided to carry it out before the guardian does."""

RETRY, GIVE_UP = 1.0, 600.0
"""Seconds between retries of a rollback that the kernel refuses, and until the guardian gives up."""

UNMADE = "it was not completed"

NAME = b"xdptui-guardian"  # the kernel keeps 15 characters
PR_SET_NAME = 15
MCL_CURRENT = 1
CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True, eq=False)
class Watched:
    """An interface of a change, with everything needed to roll it back."""

    pending: PendingChange
    held: Mapping[str, bpf.Fd]
    home: Whereabouts
    report: Report
    whole: bool


def main(socket_fd: int) -> None:
    """Receive changes through the socket with this descriptor, and watch them until they are settled."""
    sock = socket.socket(fileno=socket_fd)
    try:
        _detach()
    except Confined as error:
        sock.send(str(error).encode())
        return
    sock.send(str(os.getpid()).encode())
    watched: list[Watched] = []
    with contextlib.ExitStack() as netlinks, sock:
        more = True
        while more and (entrusted := _entrusted(sock)) is not None:
            pending, held, namespace, more, whole = entrusted
            if _libc.setns(namespace, CLONE_NEWNET) != 0:
                sock.send(
                    f"the network namespace can't be entered: {os.strerror(ctypes.get_errno())}".encode()
                )
                return
            home = Whereabouts(netlinks.enter_context(Netlink()), pending.ifindex, pending.inode)
            _rehearse(pending, held, home)
            watched.append(Watched(pending, held, home, Report(pending), whole))
            _libc.mlockall(MCL_CURRENT)  # if refused, accept page faults
            sock.send(b"ready")
        if watched:  # otherwise the change failed earlier
            _watch(watched, sock)


def _detach() -> None:
    """Leave the session, parent and control group, so that nothing that ends a session or service ends this
    process. Raises Confined.
    """
    starter = os.getppid()
    if os.fork():
        os._exit(0)
    with contextlib.suppress(OSError):  # under systemd-run we may already lead a session
        os.setsid()
    os.chdir("/")
    ignore_signals()
    lift_limits()
    leave_cgroup(starter)
    _libc.prctl(PR_SET_NAME, NAME, 0, 0, 0)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("-1000")
    sys.argv[:] = [NAME.decode()]  # for the journal: our command line is meaningless to readers
    sys.dont_write_bytecode = True


def _entrusted(
    sock: socket.socket,
) -> tuple[PendingChange, dict[str, bpf.Fd], int, bool, bool] | None:
    data, fds, _, _ = socket.recv_fds(sock, 1 << 16, 64)
    if not data:
        return None
    document = fields(data, "the guardian's instructions")
    for fd in fds:
        os.set_inheritable(fd, False)
    # The first two are the directory with our flock, kept open until the end, and the network namespace.
    named = dict(zip(document.texts("held", most=64), fds[2:], strict=True))
    pending = PendingChange.decode(document.text("armed", most=1 << 16).encode())
    held = {name: bpf.Fd(fd) for name, fd in named.items()}
    return pending, held, fds[1], document.flag("more"), document.flag("whole")


def _rehearse(pending: PendingChange, held: Mapping[str, bpf.Fd], home: Whereabouts) -> None:
    """Do everything once that imports modules on first use: their files may be gone later."""
    home.on_hook(pending)
    decided(held[DECISION])
    with contextlib.suppress(XdpChainError):
        home.netlink.xdp_features()
    with contextlib.suppress(XdpChainError):  # always fails: no such interface
        home.netlink.attach_xdp(0x7FFFFFFF, -1, pending.mode.value, held[DECISION])
    all_netns.visit(_links)
    pins_missing(pending, home.ifindex)
    with open_held(pending):
        pass
    time.strftime("%c").encode("ascii", "replace")


def _links() -> bool:
    with Netlink() as netlink:
        return bool(netlink.links())


def _watch(watched: Sequence[Watched], sock: socket.socket) -> None:
    first = watched[0]
    why = ""
    decision_map, waits = first.held[DECISION], first.whole
    while (decision := decided(decision_map)) is None:
        left = first.pending.deadline - boot_clock()
        heard = None
        if waits and left > 0:
            heard = _heard(sock, min(left, POLL))
            waits = heard is None
        if left <= 0 or heard == b"":
            decision = claim(decision_map, Decision.ROLL_BACK)
            why = UNMADE if waits or heard == b"" else first.pending.unconfirmed
            break
        if not waits:
            time.sleep(min(left, POLL))
    else:
        time.sleep(COURTESY)
        watched = [interface for interface in watched if _waits(interface)]
    if not watched:  # already carried out
        return
    # The process making the change may be stopped just before a swap and continue after the deadline. Roll
    # back what is swapped in now, and stay until the rest is swapped in too or never will be.
    swapped = [interface for interface in watched if not _is_old(interface)]
    _settle(swapped, decision, why)
    rest = [interface for interface in watched if interface not in swapped]
    if rest and (waits or not first.whole):
        with contextlib.suppress(OSError):
            sock.recv(1)
    _settle(rest, decision, why)
    for interface in watched:
        if decision is Decision.ROLL_BACK:
            with contextlib.suppress(XdpChainError):
                at_place(interface.pending, interface.home, partial(_linger, interface.pending))


def _heard(sock: socket.socket, seconds: float) -> bytes | None:
    """A message from the process making the change within ``seconds``: None, `MADE`, or empty if it ended."""
    if not select.select([sock], [], [], seconds)[0]:
        return None
    try:
        return sock.recv(len(MADE))
    except OSError:
        return b""


def _waits(watched: Watched) -> bool:
    with open_held(watched.pending) as there:
        return bool(there)


def _is_old(watched: Watched) -> bool:
    with contextlib.suppress(XdpChainError):
        return watched.home.on_hook(watched.pending) == watched.pending.old
    return False


def _settle(watched: Sequence[Watched], decision: Decision, why: str) -> None:
    """Carry out the decision on these interfaces; retry until the kernel accepts."""
    give_up = boot_clock() + GIVE_UP
    waiting, told = list(watched), set[int]()
    while waiting:
        for interface in list(waiting):
            try:
                at_place(interface.pending, interface.home, partial(_carry, interface, decision, why))
                waiting.remove(interface)
            except XdpChainError as error:
                if id(interface) not in told:
                    told.add(id(interface))
                    _tell_failure(interface.pending, interface.home, interface.report, f"{error}; retrying")
                if boot_clock() > give_up:
                    _tell_failure(interface.pending, interface.home, interface.report, f"{error}; giving up")
                    waiting.remove(interface)
        if waiting:
            time.sleep(RETRY)


def _carry(watched: Watched, decision: Decision, why: str, place: Whereabouts) -> None:
    with _lock():
        settled = carry_out(watched.pending, decision, watched.held, place, why)
    if settled is not None and settled.outcome is not Outcome.CONFIRMED:
        watched.report.write(settled)
        note_settled(watched.pending, settled)


def _tell_failure(pending: PendingChange, home: Whereabouts, report: Report, why: str) -> None:
    runs = None
    with contextlib.suppress(XdpChainError):
        runs = home.on_hook(pending)
    failed = ConfirmOutcome(
        Outcome.FAILED, time.time(), runs, pending.old, pending.new, pending.author, why, pending.decision
    )
    report.write(failed)
    write_settled(home.inode, home.ifindex, failed)


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    """The editors' lock if available; even without it, the expected program protects the swap."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, XdpChainError):
            stack.enter_context(bpffs.lock(LOCK_TIMEOUT))
        yield


def _linger(pending: PendingChange, place: Whereabouts) -> None:
    """Keep a dispatcher's links open while it runs if they could not be pinned again."""
    while pins_missing(pending, place.ifindex):
        try:
            if place.on_hook(pending) != pending.old:
                return
        except NotFound:
            return
        time.sleep(RETRY)
