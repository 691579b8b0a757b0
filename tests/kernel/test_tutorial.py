# SPDX-License-Identifier: Apache-2.0
"""docs/tutorial.md: its commands run as printed, one after the other."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMANDS = [
    line
    for block in re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "tutorial.md").read_text(), re.DOTALL)
    for line in block.splitlines()
]
CHANGES = 2  # the exit code of a plan with something to do


def test_the_commands_run(samples: Path, root: None, tmp_path: Path) -> None:
    program = tmp_path / "xdptui"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m xdptui "$@"\n')
    program.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}:/usr/sbin:/sbin",
        "PYTHONPATH": f"{ROOT / 'core'}:{ROOT}",
    }
    said = {}
    try:
        for command in COMMANDS:
            done = subprocess.run(
                command, shell=True, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
            )
            expected = CHANGES if command.startswith("xdptui plan") else 0
            assert done.returncode == expected, (command, done.stdout, done.stderr)
            said[command] = done.stdout
    finally:
        for namespace in ("lab", "lab-peer"):
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False)
    verdicts = said["xdptui verdicts build/samples/firewall.o"]
    assert "drops in 1 place" in verdicts
    (watched,) = (text for command, text in said.items() if command.startswith("xdptui watch"))
    assert "xdp_firewall" in watched
    (logged,) = (text for command, text in said.items() if command.startswith("xdptui log"))
    assert len(logged.splitlines()) >= 3
