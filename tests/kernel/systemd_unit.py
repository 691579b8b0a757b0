# SPDX-License-Identifier: Apache-2.0
"""The systemd unit that the project ships, and the command it runs."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

__all__ = ["UNIT", "unit_command"]

UNIT = Path(__file__).parents[2] / "contrib" / "systemd" / "xdptui.service"


def unit_command(file: Path) -> list[str]:
    """ExecStart of the unit, with our own interpreter and spec, and only the unit's capabilities."""
    (line,) = re.findall(r"^ExecStart=(.*)$", UNIT.read_text(), re.MULTILINE)
    program, *words = shlex.split(line)
    assert Path(program).name == "xdptui"
    assert words[-1] == "/etc/xdptui/spec.toml"
    (names,) = re.findall(r"^CapabilityBoundingSet=(.*)$", UNIT.read_text(), re.MULTILINE)
    bounds = ",".join(["-all", *(f"+{name.removeprefix('CAP_').lower()}" for name in names.split())])
    confined = ["setpriv", "--no-new-privs", f"--bounding-set={bounds}"]
    return [*confined, sys.executable, "-m", "xdptui", *words[:-1], str(file)]
