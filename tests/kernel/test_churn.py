# SPDX-License-Identifier: Apache-2.0
"""Long-running viewers survive 1,000 interfaces coming and going."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kernel.chains import chain_of, change
from tests.kernel.command_line import CommandLine
from tests.tui.driving import driving
from xdpchain.observe.discover import interfaces, survey
from xdpchain.observe.recording import Recording
from xdpchain.testing.playground import Playground

PAIRS = 500
AT_ONCE = 5
GROUP = "77"


class Churn:
    """Makes and removes veth pairs in a namespace: a few at a time, 1,000 interfaces in total."""

    def __init__(self, netns: str) -> None:
        self.made = 0
        self._netns = netns
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._go)

    def _go(self) -> None:
        while not self._enough.is_set() or self.made < PAIRS:
            first = self.made
            names = [f"c{index}" for index in range(first, first + AT_ONCE)]
            lines = [f"link add {name} group {GROUP} type veth peer name {name}p" for name in names]
            lines += [f"link set {name} up" for name in names]
            lines.append(f"link del group {GROUP}")  # at once: one grace period for all
            command = ["ip", "-n", self._netns, "-force", "-batch", "-"]
            subprocess.run(command, input="\n".join(lines), text=True, check=True)
            self.made += AT_ONCE
            if self.made >= 4 * PAIRS:  # bounded, whatever the viewer does
                break

    def __enter__(self) -> Churn:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()


@contextmanager
def churn(playground: Playground) -> Iterator[Churn]:
    with Churn(playground.netns) as running:
        yield running
    assert running.made >= PAIRS


@pytest.fixture
def chain(playground: Playground, samples: Path) -> Playground:
    change(playground, chain_of(samples, "firewall", "monitor"))
    return playground


def test_a_survey_passes_over_what_went_away(chain: Playground) -> None:
    looks = 0
    with churn(chain) as running:
        while running.made < PAIRS:
            found = survey(chain.netns)
            assert chain.ifname in {one.interface.name for one in found}
            assert chain.ifindex in {interface.ifindex for interface in interfaces(chain.netns)}
            looks += 1
    assert looks > 5


def test_commands_that_look_once(chain: Playground, cli: CommandLine) -> None:
    with churn(chain) as running:
        while running.made < PAIRS:
            shown = cli.ok("status").json["interfaces"]
            assert any(len(one["slots"]) == 2 for one in shown)
            assert "xdptui_up 1.0" in cli.ok("export", "--once").out
            assert cli("doctor", "--json").code in (0, 1)


def test_commands_that_go_on(chain: Playground, cli: CommandLine, tmp_path: Path, samples: Path) -> None:
    """watch, record, export and apply --follow, side by side."""
    spec = tmp_path / "spec.toml"
    spec.write_text(f'[[interface]]\nname = "c[0-9]*"\n[[interface.slot]]\nobject = "{samples / "pass.o"}"\n')
    file = tmp_path / "recording"
    words = (
        ("watch", "--jsonl", "--interval", "0.2"),
        ("record", str(file), "--interval", "0.2", "--json"),
        ("export", "--listen", "127.0.0.1:0"),
        ("apply", "--follow", str(spec), "--json"),
    )
    going = [
        cli.process(*word, run=subprocess.Popen, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for word in words
    ]
    try:
        with churn(chain):
            time.sleep(3)
        time.sleep(1)
        alive = [one.poll() for one in going]
        told = ""
    finally:
        for one in going:
            one.send_signal(signal.SIGTERM)
        ended = [one.communicate(timeout=30) for one in going]
    assert alive == [None] * len(words), [text[-2000:] for _, text in ended]
    readings = [json.loads(line) for line in ended[0][0].splitlines()]
    assert len(readings) > 5
    assert all(
        chain.ifname in {interface["name"] for interface in reading["interfaces"]} for reading in readings
    ), told
    assert json.loads(ended[1][0])["readings"] > 5
    assert Recording(str(file)).reading(0).counted
    assert "does not exist" not in ended[3][1], "interfaces that were gone again are no failure"


async def test_the_screen_goes_on(chain: Playground) -> None:
    with churn(chain) as running:
        async with driving(chain.netns, chain.ifname) as driver:
            while running.made < PAIRS:
                await driver.pilot.pause(0.2)
            assert "xdp_firewall" in " ".join(driver.lines("chain"))
