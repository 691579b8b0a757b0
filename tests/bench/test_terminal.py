# SPDX-License-Identifier: Apache-2.0
"""What the terminal program costs: CPU share and memory with 100 interfaces, bytes per second."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.tui.driving import run_chain
from tests.tui.terminal import Terminal
from tests.tui.test_terminal import traffic
from xdpchain.testing.playground import Playground

pytestmark = pytest.mark.bench

NAMES = ("firewall", "ratelimit", "monitor")
CPU_SHARE, BYTES_A_SECOND, RESIDENT_KIB = 0.03, 2000, 80 * 1024
LINKS = 100
WATCHED_S = 20.0


def test_a_hundred_interfaces_at_one_hertz(root: None, samples: Path) -> None:
    with Playground(links=LINKS) as playground:
        run_chain(playground, samples, *NAMES)
        with (
            traffic(playground),
            Terminal(playground.netns, playground.ifname, size=(120, 40)) as terminal,
        ):
            terminal.await_text("received")
            terminal.listen(5.0)
            before, spent = time.monotonic(), terminal.cpu_seconds
            written = terminal.listen(WATCHED_S)
            seconds = time.monotonic() - before
            share = (terminal.cpu_seconds - spent) / seconds
            resident = terminal.resident_kib
    busy = os.getloadavg()[0]
    print(f"\n{LINKS} interfaces, 1 Hz, {seconds:.0f} s (load {busy:.1f}): {share:.1%} of a core", end=", ")
    print(f"{written / seconds:.0f} bytes/s, {resident / 1024:.0f} MiB resident")
    assert share <= CPU_SHARE
    assert written / seconds <= BYTES_A_SECOND
    assert resident <= RESIDENT_KIB
