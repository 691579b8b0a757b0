# SPDX-License-Identifier: Apache-2.0
"""The public API: the examples of docs/api.md run as printed; its names are complete and cheap to import."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import xdpchain
from xdpchain.testing.playground import Playground

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "api.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT / 'core'}"}


def test_the_examples_run_in_order(samples: Path, root: None) -> None:
    """In one process, in a namespace with xdp0 and xdp1, as in an operator's script."""
    script = "\n".join(block for block in BLOCKS if not block.startswith("# "))
    with Playground(links=2) as playground:
        inside = ["nsenter", f"--net=/run/netns/{playground.netns}", sys.executable, "-c", script]
        done = subprocess.run(inside, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        assert "xdp0 free" in done.stdout
        assert "xdp_firewall: 0 packets, 0 dropped (0 bytes)" in done.stdout


def test_the_fixture_serves_other_projects(samples: Path, tmp_path: Path, root: None) -> None:
    """The two files of the last example, as a separate project."""
    for block in BLOCKS:
        if block.startswith("# "):
            name, _, text = block.removeprefix("# ").partition("\n")
            (tmp_path / name).write_text(text.replace('"build/samples', f'"{ROOT}/build/samples'))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    done = subprocess.run(
        [*command, str(tmp_path)], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=100
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_each_public_name_is_taught() -> None:
    for name in xdpchain.__all__:
        assert getattr(xdpchain, name).__doc__, name
        assert re.search(rf"\b{name}\b", DOCUMENT), name


def test_an_import_of_the_door_imports_nothing_else() -> None:
    code = "import sys, xdpchain; print([name for name in sys.modules if name.startswith('xdpchain')])"
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.stdout.strip() == "['xdpchain']"


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="nothing_like_it"):
        xdpchain.nothing_like_it  # noqa: B018
