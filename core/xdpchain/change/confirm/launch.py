# SPDX-License-Identifier: Apache-2.0
"""Start a guardian and hand it what it needs, before the swap.

Under systemd it is started with ``systemd-run --scope`` to get a separate control group, since logind may
kill a session by its control group (KillUserProcesses=). The scope's process is our child, so it inherits the
socket, mount namespace and environment. Elsewhere it only gets a separate session.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from xdpchain.advice import Do, advise
from xdpchain.errors import KernelRefused
from xdpchain.model.pending_change import PendingChange
from xdpchain.sys import bpf

from . import MADE

__all__ = ["Guardian"]

SCOPE_TIMEOUT = 20.0
"""Seconds to wait for an answer through systemd."""

START_TIMEOUT = 60.0
"""Seconds for Python to start and load its modules (emulated CPUs are slow)."""

SYSTEMD = "/run/systemd/system"
"""Exists if and only if systemd is the init process: sd_booted(3)."""

START = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[2]); "
    "from xdpchain.change.confirm.guardian import main; main(int(sys.argv[1]))"
)


class Guardian:
    """A guardian process being started. As a context manager: without an `entrust` it ends with the block;
    otherwise it lives on, and the end of the block or of this process tells it that no more swaps follow.
    """

    def __init__(self) -> None:
        self.pid = 0
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._scoped = False

    def __enter__(self) -> Self:
        self._start(scoped=os.path.isdir(SYSTEMD) and shutil.which("systemd-run") is not None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def entrust(
        self,
        pending: PendingChange,
        held: Mapping[str, bpf.Fd],
        directory: int,
        netns: int,
        *,
        more: bool,
        whole: bool,
    ) -> None:
        """Hand over descriptors, and return when the guardian is ready. ``more``: another interface of the
        same change follows; ``whole``: roll back if this process ends before `tell_made`. Raises
        KernelRefused.
        """
        assert self._socket is not None
        names = list(held)
        fds = [directory, netns, *(held[name].fileno() for name in names)]
        document = {"armed": pending.encode().decode(), "held": names, "more": more, "whole": whole}
        message = json.dumps(document).encode()
        try:
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))
            self._socket.sendmsg([message], [rights])
        except OSError as error:
            raise _failed(error.strerror or str(error)) from error
        answer = self._answer(START_TIMEOUT)
        if answer != b"ready":
            raise _failed(answer.decode(errors="replace") or "it ended")

    def tell_made(self) -> None:
        """Report that everything was swapped in. Without this message the guardian rolls back."""
        assert self._socket is not None
        with contextlib.suppress(OSError):
            self._socket.send(MADE)

    def known(self) -> int:
        """The guardian's PID, once it runs. Raises KernelRefused."""
        if not self.pid:
            answer = self._answer(SCOPE_TIMEOUT if self._scoped else START_TIMEOUT)
            if not answer and self._scoped:
                self._stop()
                self._start(scoped=False)
                answer = self._answer(START_TIMEOUT)
            if not answer.isdigit():
                raise _failed(answer.decode(errors="replace") or "it does not start")
            self.pid = int(answer)
        return self.pid

    def _start(self, *, scoped: bool) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            path = json.dumps([_absolute(entry) for entry in sys.path if entry])
            command = [sys.executable, "-P", "-B", "-c", START, str(theirs.fileno()), path]
            if scoped:
                command = [*_scope(), *command]
            try:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                )
            except OSError as error:
                ours.close()
                raise _failed(error.strerror or str(error)) from error
        self._socket, self._scoped = ours, scoped

    def _answer(self, timeout: float) -> bytes:
        assert self._socket is not None
        self._socket.settimeout(timeout)
        try:
            return self._socket.recv(4096)
        except OSError:
            return b""

    def _stop(self) -> None:
        """Close the socket and reap the process that we started, whose child is the guardian."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        process, self._process = self._process, None
        if process is None:
            return
        if not self.pid:  # not detached yet; if it just did, the closed socket ends it
            process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(SCOPE_TIMEOUT)


def _absolute(entry: str) -> str:
    return os.path.abspath(entry) if os.path.exists(entry) else entry


def _scope() -> list[str]:
    unit = f"xdptui-guardian-{os.getpid()}-{time.monotonic_ns()}"
    return [
        "systemd-run", "--scope", "--collect", "--quiet", f"--unit={unit}",
        "--description=Rolls an XDP chain back unless the change is confirmed",
        "--property=TimeoutStopSec=1", "--",
    ]  # fmt: skip


def _failed(why: str) -> KernelRefused:
    return KernelRefused(
        "the rollback can't be armed",
        f"its guardian process can't be started: {why}",
        advise(Do.GO_WITHOUT_CONFIRM),
    )
