# SPDX-License-Identifier: Apache-2.0
"""``xdptui events``: real packets, lost for known reasons, on the command line."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.command_line import CommandLine
from tests.kernel.mishaps import fill, ip, listeners, redirecting
from tests.kernel.tracing import settled
from xdpchain.testing.frames import scripted
from xdpchain.testing.playground import Playground


@pytest.fixture
def cli(root: None, capsys: pytest.CaptureFixture[str], samples: Path) -> Iterator[CommandLine]:
    with Playground(links=2, peer_takes_xdp=True) as net:
        yield CommandLine(net, capsys, samples)


def hear(cli: CommandLine, *words: str) -> tuple[str, str]:
    """The output of a separate process on what is sent while it listens."""
    net = cli.playground
    running = redirecting(net, "by_devmap")
    fill(net, running, "ports", 2, net.links[1].ifindex)
    before = listeners()
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = cli.process("events", *words, run=subprocess.Popen, **pipes)
    heard = process.stdout.readline()  # it listens by then
    net.send([scripted(bytes([2]))] * 5 + [scripted(bytes([3]))] * 4)
    ip(net.netns, "link", "set", "xdp1", "down")
    net.send([scripted(bytes([2]))] * 7)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert settled(lambda: listeners() <= before)
    return heard + out, err


def rows(line: Any) -> dict[tuple[str, str], tuple[int, int]]:
    return {(row["target"], row["name"]): (row["sent"], row["lost"]) for row in line["rows"]}


def test_lines_of_json(cli: CommandLine) -> None:
    out, _ = hear(cli, "xdp0", "--jsonl", "--interval", "1", "--count", "3")
    readings = [json.loads(line) for line in out.splitlines()]
    assert len(readings) == 3
    assert readings[0]["rows"] == []
    last = readings[-1]
    expected = {("xdp1", "ENETDOWN"): (0, 7), ("ifindex 0", "EINVAL"): (0, 4), ("xdp1", ""): (5, 0)}
    assert rows(last) == expected
    events = [event for reading in readings for event in reading["events"]]
    assert [event["name"] for event in events] == ["EINVAL"] * 4 + ["ENETDOWN"] * 7
    assert abs(events[0]["at"] - time.time()) < 60
    sent = next(row for row in last["rows"] if row["sent"])
    assert (sent["tracepoint"], sent["target_sent"], sent["interface"]) == ("xdp_devmap_xmit", 5, "xdp0")
    down = next(row for row in last["rows"] if row["name"] == "ENETDOWN")
    assert (down["via"], down["todo"]) == (
        "ports[2]",
        f"Bring it up (`ip -n {cli.playground.netns} link set dev xdp1 up`)",
    )
    assert down["lost_rate"] == 0
    assert (last["untold"], last["unplaced"], last["missed"]) == (0, 0, 0)


def test_a_table(cli: CommandLine) -> None:
    out, _ = hear(cli, "--interval", "1.5", "--count", "1")
    assert "\x1b" not in out
    assert "xdp0 → xdp1" in out
    assert "ENETDOWN [ports[2]]" in out
    assert "7 × ENETDOWN: the target interface is down" in out


def test_what_concerns_another_interface_is_left_out(cli: CommandLine) -> None:
    out, _ = hear(cli, "lo", "--json", "--interval", "1", "--count", "3")
    assert [json.loads(line)["rows"] for line in out.splitlines()] == [[]] * 3


def test_mistakes(cli: CommandLine) -> None:
    assert cli("events", "nothere0", "--count", "1").code == 5
    assert cli("events", "--count", "0").code == 7
    assert cli("events", "--interval", "soon").code == 7
