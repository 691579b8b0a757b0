# SPDX-License-Identifier: Apache-2.0
"""What docs/spec.md and the systemd unit show is read, applied and run here as printed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernel.command_line import CommandLine
from tests.kernel.systemd_unit import UNIT, unit_command
from xdpchain.spec.keys import INTERFACE_KEYS, SLOT_KEYS, SLOTS
from xdpchain.spec.reading import parse
from xdpchain.testing.playground import Playground

ROOT = Path(__file__).parents[2]


def example() -> str:
    return (ROOT / "docs" / "spec.md").read_text().split("```toml\n")[1].split("```")[0]


def test_the_example_is_applied(
    capsys: pytest.CaptureFixture[str], samples: Path, tmp_path: Path, root: None
) -> None:
    (tmp_path / "objects").mkdir()
    for name in ("firewall", "ratelimit", "two"):
        shutil.copy(samples / f"{name}.o", tmp_path / "objects")
    file = tmp_path / "spec.toml"
    with Playground(links=3) as playground:
        for link, name in zip(playground.links, ("eth0", "lan7", "mgmt0"), strict=True):
            command = ["ip", "-n", playground.netns, "link", "set", "dev", link.ifname]
            subprocess.run([*command, "down"], check=True)
            subprocess.run([*command, "name", name, "up"], check=True)
        sha256 = hashlib.sha256((samples / "firewall.o").read_bytes()).hexdigest()
        file.write_text(re.sub(r'(?<=sha256 = ")\w+', sha256, example()))
        cli = CommandLine(playground, capsys, samples)
        assert cli("plan", str(file)).code == 2
        cli.ok("apply", str(file))
        runs = {interface["name"]: interface for interface in cli.ok("status").json["interfaces"]}
        for name in ("eth0", "lan7"):
            slots = runs[name]["slots"]
            names = ["xdp_firewall", "xdp_ratelimit", "two_learn", "two_enforce"]
            assert [slot["name"] for slot in slots] == names
            assert slots[1]["shadow"] is True
            shared = [{m["id"] for m in slot["maps"] if m["name"] == "senders"} for slot in slots[2:]]
            assert shared[0] == shared[1] != set()
        assert runs["mgmt0"]["slots"] == []
        assert cli("plan", str(file)).code == 0
        saved = cli.ok("save", "eth0", "lan7").json["spec"]
        entry = parse(saved).interfaces[0]
        assert entry.names == ("eth0", "lan7")
        assert entry.slots[2].routes[0][1] == "two_enforce"


def test_the_table_has_every_key() -> None:
    text = (ROOT / "docs" / "spec.md").read_text()
    documented = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`.*?) \|", text, re.MULTILINE))))
    assert documented == {"format", SLOTS, *INTERFACE_KEYS, *SLOT_KEYS}


def test_the_documents_have_the_keys_that_are_described(cli: CommandLine, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "cli.md").read_text().split("### apply, plan FILE, save")[1]
    described = json.loads(text.split("```json\n")[1].split("```")[0])
    file = tmp_path / "spec.toml"
    file.write_text(
        f'[[interface]]\nname = "{cli.interface}"\n[[interface.slot]]\nobject = "{cli.sample("pass")}"\n'
    )
    real = cli.ok("apply", str(file)).json
    assert described.keys() == real.keys()
    assert described["interfaces"][0].keys() == real["interfaces"][0].keys()
    saved = cli.ok("save", cli.interface).json
    documented = text.split("`save`: `")[1].split("`;")[0]
    assert set(re.findall(r'"(\w+)"', documented)) >= saved.keys()


def test_the_unit_starts_the_service_that_is_tested() -> None:
    assert unit_command(Path("x"))[-5:] == ["-m", "xdptui", "apply", "--follow", "x"]


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/usr/bin/xdptui", sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)],
        capture_output=True, text=True, check=False, env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    broken = tmp_path / "broken.service"
    broken.write_text(unit.read_text().replace("Type=notify", "Type=nothing"))
    assert subprocess.run(
        ["systemd-analyze", "verify", str(broken)], capture_output=True, check=False
    ).stderr, "it would have said so"
