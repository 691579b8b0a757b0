# SPDX-License-Identifier: Apache-2.0
"""`make demo` as a user sees it: it comes up on a terminal, and leaves nothing behind however it ends."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from xdpchain.sys import netns
from xdpchain.testing import names

pytestmark = pytest.mark.usefixtures("root", "samples")

DEMO = [sys.executable, "-m", "xdptui.demo"]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    "TERM": "xterm-256color",
    "COLUMNS": "100",
    "LINES": "30",
}
ALTERNATE_SCREEN = b"\x1b[?1049h"


def namespaces_of(pid: int) -> set[str]:
    return {name for name in netns.names() if (owned := names.parse(name)) and owned.pid == pid}


def processes_with(word: str) -> set[int]:
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if word.encode() in (entry / "cmdline").read_bytes():
                    found.add(int(entry.name))
            except OSError:
                continue
    return found


def output_of(*command: str) -> Any:
    return json.loads(subprocess.run(command, capture_output=True, check=True, env=ENVIRONMENT).stdout)


def dropped_by_the_firewall(interface: dict[str, Any]) -> int:
    """From the component's own map, which exists with every linkage."""
    for program in (interface["dispatcher"], interface["slots"][0]):
        for map_id in output_of("bpftool", "-j", "prog", "show", "id", str(program["id"])).get("map_ids", ()):
            identity = ("id", str(map_id))
            if output_of("bpftool", "-j", "map", "show", *identity).get("name") == "drops":
                entries = output_of("bpftool", "-j", "map", "dump", *identity)
                return sum(cpu["value"] for entry in entries for cpu in entry["formatted"]["values"])
    raise AssertionError("the chain has no map of that name")


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60  # emulated kernels are slow
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


class Terminal:
    """Reads a program's output all the time, so that it never blocks."""

    def __init__(self, master: int, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.shown = b""
        self._master = master
        self._closed = False
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def close(self) -> None:
        self._closed = True
        self._reader.join()
        os.close(self._master)

    def _read(self) -> None:
        while not self._closed:
            if select.select([self._master], [], [], 0.05)[0]:
                try:
                    self.shown += os.read(self._master, 1 << 16)
                except OSError:  # the other end is closed
                    return


@contextmanager
def demo_on_a_terminal() -> Iterator[Terminal]:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        DEMO, stdin=slave, stdout=slave, stderr=slave, env=ENVIRONMENT, start_new_session=True
    )
    os.close(slave)
    terminal = Terminal(master, process)
    try:
        yield terminal
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(timeout=60)
        terminal.close()


def test_without_a_terminal_program_it_prints_the_chain_and_leaves_nothing() -> None:
    with subprocess.Popen([*DEMO, "--no-tui"], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        assert process.stdout is not None
        shown = process.stdout.read()
    assert process.returncode == 0
    where = [shown.index(f"xdp_{name}") for name in ("firewall", "ratelimit", "monitor")]
    assert where == sorted(where)
    assert namespaces_of(process.pid) == set()


@pytest.mark.parametrize(
    ("end", "code"),
    [
        pytest.param(b"q", 0, id="q"),
        pytest.param(signal.SIGINT, 130, id="SIGINT"),
        pytest.param(signal.SIGTERM, 143, id="SIGTERM"),
        pytest.param(signal.SIGHUP, 129, id="SIGHUP"),
        pytest.param(signal.SIGKILL, -9, id="SIGKILL"),
    ],
)
def test_comes_up_and_removes_everything_however_it_ends(end: bytes | signal.Signals, code: int) -> None:
    with demo_on_a_terminal() as terminal:
        pid = terminal.process.pid
        wait_until(lambda: ALTERNATE_SCREEN in terminal.shown)
        wait_until(lambda: b"xdp_monitor" in terminal.shown)
        made = namespaces_of(pid)
        assert len(made) == 2
        near = next(name for name in made if name.endswith("near"))

        status = [sys.executable, "-m", "xdptui", "status", "xdp0", "--json", "--netns", near]
        (interface,) = output_of(*status)["interfaces"]
        slots = [slot["name"] for slot in interface["slots"]]
        assert slots == ["xdp_firewall", "xdp_ratelimit", "xdp_monitor"]
        wait_until(lambda: dropped_by_the_firewall(interface) > 0)  # ports are blocked, and there is traffic

        if isinstance(end, bytes):
            terminal.type(end)
        else:
            terminal.process.send_signal(end)
        assert terminal.process.wait(timeout=60) == code
        if end is signal.SIGKILL:
            wait_until(lambda: not namespaces_of(pid))  # by the guard
        assert namespaces_of(pid) == set()
        unique = near.rpartition("-")[0]
        wait_until(lambda: not processes_with(unique))
