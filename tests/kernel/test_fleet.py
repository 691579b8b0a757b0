# SPDX-License-Identifier: Apache-2.0
"""The playbook of docs/fleet.md and its role, with two network namespaces as hosts; Ansible itself
runs them.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kernel.chains import look_at
from xdpchain.model.pending_change import Outcome
from xdpchain.testing.playground import Playground

ROOT = Path(__file__).parents[2]

TEMPLATE = """\
[[interface]]
name = "{{ uplink }}"
linkage = "static"
{% for name in programs %}
[[interface.slot]]
object = "objects/{{ name }}.o"
sha256 = "{{ hashes[name] }}"
{% endfor %}
"""


@dataclass(frozen=True)
class Fleet:
    """Two hosts, and a folder with the playbook."""

    folder: Path
    hosts: dict[str, Playground]

    def play(self, *programs: str, words: Sequence[str] = ()) -> tuple[int, dict[str, dict[str, int]], str]:
        """Run it; returns the exit code, each host's recap, and all output."""
        files = self.folder / "objects"
        hashes = {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in files.iterdir()}
        # Takes precedence over what the playbook sets: nothing goes to this machine's own folders.
        own = {"xdptui_command": "{{ command }}", "xdptui_folder": "{{ folder }}"}
        given = {"programs": programs, "hashes": hashes, **own}
        done = subprocess.run(
            [
                sys.executable, "-m", "ansible.cli.playbook", "play.yml", "-i", "inventory.ini",
                "-e", json.dumps(given), *words,
            ],
            cwd=self.folder, capture_output=True, text=True, check=False, timeout=100,
            env={
                **os.environ,
                "LC_ALL": "C.UTF-8",
                "ANSIBLE_HOME": str(self.folder / "ansible"),
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_PIPELINING": "1",
                "ANSIBLE_ROLES_PATH": str(ROOT / "contrib" / "ansible" / "roles"),
                "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
                "PYTHONPATH": f"{ROOT / 'core'}:{ROOT}",
            },
        )  # fmt: skip
        said = done.stdout + done.stderr
        recap = {
            host: {word: int(number) for word, number in re.findall(r"(\w+)=(\d+)", line)}
            for host, line in re.findall(r"^(\w+)\s+: (ok=.*)$", done.stdout, re.MULTILINE)
        }
        return done.returncode, recap, said

    def runs(self) -> dict[str, list[str]]:
        return {
            host: [slot.name for slot in look_at(playground).chain or ()]
            for host, playground in self.hosts.items()
        }


@pytest.fixture
def fleet(root: None, samples: Path, tmp_path: Path) -> Iterator[Fleet]:
    with ExitStack() as held:
        hosts = {name: held.enter_context(Playground()) for name in ("one", "two")}
        made = Fleet(tmp_path, hosts)
        (tmp_path / "objects").mkdir()
        for name in ("firewall", "monitor"):
            shutil.copy(samples / f"{name}.o", tmp_path / "objects")
        (tmp_path / "spec.toml.j2").write_text(TEMPLATE)
        play = (ROOT / "docs" / "fleet.md").read_text().split("```yaml\n")[1].split("```")[0]
        (tmp_path / "play.yml").write_text(play)
        lines = []
        for name, playground in hosts.items():
            # Stands for the machine: its command runs in its namespace, its files are in its folder.
            command = tmp_path / name / "xdptui"
            command.parent.mkdir()
            call = f'exec {sys.executable} -m xdptui --netns {playground.netns} "$@"'
            command.write_text(f"#!/bin/sh\n{call}\n")
            command.chmod(0o755)
            lines.append(
                f"{name} ansible_connection=local uplink={playground.ifname} command={command} "
                f"folder={command.parent}/etc"
            )
        (tmp_path / "inventory.ini").write_text("[all]\n" + "\n".join(lines) + "\n")
        yield made


@pytest.mark.timeout(300)
def test_a_fleet_is_changed_once(fleet: Fleet) -> None:
    code, recap, said = fleet.play("firewall", "monitor")
    assert code == 0, said
    assert {host: one["changed"] > 0 for host, one in recap.items()} == {"one": True, "two": True}, said
    chain = ["xdp_firewall", "xdp_monitor"]
    assert fleet.runs() == {"one": chain, "two": chain}
    states = [look_at(host) for host in fleet.hosts.values()]
    assert [state.settled and state.settled.outcome for state in states] == [Outcome.CONFIRMED] * 2, (
        "over a connection"
    )
    hooks = [state.hook for state in states]

    code, recap, said = fleet.play("firewall", "monitor")
    assert code == 0, said
    assert {host: one["changed"] for host, one in recap.items()} == {"one": 0, "two": 0}, said
    assert [look_at(host).hook for host in fleet.hosts.values()] == hooks

    # Check mode is the plan, and diff shows it: it says what would change, and changes nothing.
    look = ["--check", "--limit", "one"]
    code, recap, said = fleet.play("firewall", words=[*look, "--diff"])
    assert code == 0, said
    assert {host: one["changed"] > 0 for host, one in recap.items()} == {"one": True}, said
    assert '-object = "objects/monitor.o"' in said, "of the spec"
    assert "- xdp_monitor" in said, "and of the chain"
    assert fleet.runs() == {"one": chain, "two": chain}
    code, recap, said = fleet.play("firewall", "monitor", words=look)
    assert (code, [one["changed"] for one in recap.values()]) == (0, [0]), said

    # One host has a different object file: it fails, with both hashes, and keeps running what it ran.
    broken = fleet.folder / "two" / "etc" / "objects" / "monitor.o"
    good = hashlib.sha256(broken.read_bytes()).hexdigest()
    broken.write_bytes(broken.read_bytes() + b"\0")
    code, recap, said = fleet.play("monitor", words=["--skip-tags", "xdptui_objects"])
    assert code != 0
    assert {host: one["failed"] for host, one in recap.items()} == {"one": 0, "two": 1}, said
    assert good in said
    assert hashlib.sha256(broken.read_bytes()).hexdigest() in said
    assert fleet.runs() == {"one": ["xdp_monitor"], "two": chain}
