# SPDX-License-Identifier: Apache-2.0
"""Shared by the doctor's tests: request one finding, and follow its recommendation."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterable

from xdpchain.doctor import Finding, examine
from xdpchain.testing.playground import Playground
from xdptui.words.advice import worded

__all__ = ["RETURN_PASS", "commands_of", "diagnosed", "do", "heed", "one"]

RETURN_PASS = bytes.fromhex("b7000000020000009500000000000000")


def one(found: Iterable[Finding], check: str, interface: str | None = None) -> Finding:
    matching = [f for f in found if f.check == check and interface in (None, f.interface)]
    assert len(matching) == 1, (check, matching)
    return matching[0]


def diagnosed(playground: Playground, check: str, link: int = 0) -> Finding:
    name = playground.links[link].ifname
    return one(examine(playground.netns, name), check, name)


def commands_of(finding: Finding) -> list[str]:
    """The commands recommended by a finding: those in backticks, or all of it."""
    told = worded(finding.fix)
    return re.findall("`(.*?)`", told) or [told]


def heed(finding: Finding) -> None:
    """Follow the first recommendation."""
    do(commands_of(finding)[0])


def do(command: str) -> None:
    """Run what a finding recommends, as written."""
    done = subprocess.run(shlex.split(command), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
