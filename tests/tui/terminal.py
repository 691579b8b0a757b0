# SPDX-License-Identifier: Apache-2.0
"""The program in a real terminal: a pseudo-terminal that counts bytes, and tmux with its screen."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parents[2]
PATIENCE = 30.0
START = "import sys; from xdptui.app import run; sys.exit(run(*sys.argv[1:]))"
BASE = {
    "PYTHONPATH": f"{ROOT / 'core'}{os.pathsep}{ROOT}",
    "LANG": "C.UTF-8",
    "XDG_CONFIG_HOME": "/nonexistent",  # nobody's settings
}


NOT_OURS = ("NO_COLOR", "COLORTERM", "SSH_CONNECTION", "TMUX", "COLUMNS", "LINES")


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """Our environment, without what would change colours, speed or size, plus ``more``."""
    plain = {k: v for k, v in os.environ.items() if k not in NOT_OURS}
    return {**plain, **BASE, "TERM": "xterm-256color", "COLORTERM": "truecolor", **more}


class Terminal:
    """The program on a separate pseudo-terminal; its output is kept.

    ``prefix`` is a command that runs it.
    """

    def __init__(
        self,
        *arguments: str,
        size: tuple[int, int] = (80, 24),
        env: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        self.written = b""
        self.started = time.monotonic()
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            command = [*prefix, sys.executable, "-c", START, *arguments]
            os.execvpe(command[0], command, environment(env or {}))
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        self._ended: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ended is None:
            os.kill(self.pid, 9)
            os.waitpid(self.pid, 0)
        self.hang_up()

    def hang_up(self) -> None:
        """Close the terminal, as closing a window does."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def listen(self, seconds: float, until: Callable[[], bool] = lambda: False) -> int:
        """Read for that long, or until a condition holds; returns the number of bytes received."""
        before, deadline = len(self.written), time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and not until():
            if self._fd < 0:
                time.sleep(min(0.05, left))
                continue
            if select.select([self._fd], [], [], min(0.05, left))[0]:
                try:
                    self.written += os.read(self._fd, 65536)
                except OSError:  # the other end is closed
                    break
        return len(self.written) - before

    def await_text(self, text: str) -> None:
        """Wait until this was written. Does not find text that is drawn in pieces."""
        self.listen(PATIENCE, lambda: text.encode() in self.written)
        assert text.encode() in self.written, self.written[-3000:].decode(errors="replace")

    def type(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def exit_code(self) -> int:
        """Wait for the end; returns the exit code."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            self.listen(0.05)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._ended = os.waitstatus_to_exitcode(status)
                return self._ended
        raise AssertionError("it did not end")

    @property
    def cpu_seconds(self) -> float:
        """User and system time so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def resident_kib(self) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise AssertionError("no VmRSS")


class Tmux:
    """The program in a window of a separate tmux server."""

    def __init__(
        self, *arguments: str, size: tuple[int, int] = (80, 24), env: Mapping[str, str] | None = None
    ) -> None:
        self._directory = tempfile.mkdtemp(prefix="xdptui-tmux-")
        self._socket = os.path.join(self._directory, "socket")
        settings = {**BASE, **(env or {})}
        assignments = [f"{key}={value}" for key, value in settings.items()]
        self._run(
            "new-session", "-d", "-x", str(size[0]), "-y", str(size[1]), "--",
            "env", *assignments, sys.executable, "-c", START, *arguments,
        )  # fmt: skip

    def _run(self, *arguments: str) -> str:
        command = ["tmux", "-S", self._socket, "-f", "/dev/null", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, env=environment({})).stdout

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        subprocess.run(["tmux", "-S", self._socket, "kill-server"], check=False, capture_output=True)
        shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def pid(self) -> int:
        """The program's."""
        return int(self._run("list-panes", "-F", "#{pane_pid}"))

    def screen(self) -> list[str]:
        """The lines of the window."""
        return self._run("capture-pane", "-p").splitlines()

    def until(self, holds: Callable[[list[str]], bool]) -> list[str]:
        """Wait for a screen for which a condition holds."""
        deadline = time.monotonic() + PATIENCE
        while not holds(lines := self.screen()):
            assert time.monotonic() < deadline, "\n".join(lines)
            time.sleep(0.05)
        return lines

    def keys(self, *keys: str) -> None:
        self._run("send-keys", *keys)

    def mouse(self, code: int, column: int, row: int, end: str = "M") -> None:
        """An SGR mouse report to the program, as a terminal sends it; columns and rows count from 1."""
        self._run("send-keys", "-l", f"\x1b[<{code};{column};{row}{end}")
