# SPDX-License-Identifier: Apache-2.0
"""What a start costs in processor time, which a busy machine changes least: `xdptui status` compared with
Python plus the standard-library modules that any such command imports, the first paint with `import textual`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage

import pytest

from tests.bench.rounds import Timing, alternate
from tests.tui.driving import run_chain
from tests.tui.terminal import Terminal
from xdpchain.testing.playground import Playground

pytestmark = pytest.mark.bench

ROOT = Path(__file__).parents[2]
STANDARD = "import json, ctypes, socket, argparse, dataclasses"
TEXTUAL = "import textual, textual.app, textual.widgets"
STATUS_RATIO, PAINT_RATIO = 2.3, 1.7
ROUNDS = 25


@pytest.fixture(autouse=True)
def byte_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled as in an installed program: the first round compiles, the others reuse it."""
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'core'}{os.pathsep}{ROOT}")


def spent_on(*words: str) -> float:
    """Milliseconds of user and system time used by a Python process."""
    before = getrusage(RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    after = getrusage(RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)


def ratio(taken: dict[str, Timing], subject: str, beside: str) -> float:
    found = taken[subject].median / taken[beside].median
    print(f"\n{subject}: {taken[subject]} ms; {beside}: {taken[beside]} ms; ratio {found:.2f}")
    return found


def test_status(playground: Playground, samples: Path) -> None:
    status = ("-m", "xdptui", "status")
    run_chain(playground, samples, "firewall", "ratelimit", "monitor")
    taken = alternate(
        {
            "status": lambda: spent_on(*status, "lo"),
            "status of a chain": lambda: spent_on(*status, "--netns", playground.netns),
            "standard library": lambda: spent_on("-c", STANDARD),
        },
        ROUNDS,
    )
    assert ratio(taken, "status", "standard library") <= STATUS_RATIO
    assert ratio(taken, "status of a chain", "standard library") <= STATUS_RATIO


def test_first_paint(playground: Playground, samples: Path) -> None:
    run_chain(playground, samples, "firewall", "ratelimit", "monitor")

    def first_paint() -> float:
        with Terminal(playground.netns, playground.ifname, size=(120, 40)) as terminal:
            terminal.await_text("xdptui")
            return 1000 * terminal.cpu_seconds

    taken = alternate({"first paint": first_paint, "import textual": lambda: spent_on("-c", TEXTUAL)}, 12)
    assert ratio(taken, "first paint", "import textual") <= PAINT_RATIO
