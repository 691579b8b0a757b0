# SPDX-License-Identifier: Apache-2.0
"""The wheel in a separate environment; `test_lives` has pipx install it in clean Debians."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

from tests.packaging.conftest import run
from tests.packaging.living import use
from xdpchain.testing.playground import Playground


def test_its_command_runs(wheel: Path, tmp_path: Path, samples: Path, playground: Playground) -> None:
    run(sys.executable, "-m", "venv", "--without-pip", str(tmp_path))
    python, program = str(tmp_path / "bin/python"), str(tmp_path / "bin/xdptui")
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", str(wheel))
    folder = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (folder / "tested_with.pth").write_text(sysconfig.get_path("purelib"))  # what it depends on
    where = run(python, "-I", "-c", "import xdptui; print(xdptui.__file__)")
    assert where.startswith(str(folder)), "not the checkout"
    assert run(program, "--version").startswith("xdptui ")
    use((program, "--netns", playground.netns), playground.ifname, str(samples))
