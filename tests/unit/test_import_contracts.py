# SPDX-License-Identifier: Apache-2.0
"""The layers hold: the engine knows no terminal, pure modules know no kernel (contracts: pyproject.toml)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_import_contracts() -> None:
    lint = Path(sys.executable).parent / "lint-imports"
    checked = subprocess.run([lint, "--no-logo", "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_engine_runs_without_the_terminal_program() -> None:
    """The contracts are checked on the source; here the engine is imported without terminal libraries."""
    script = """
import importlib, pkgutil, sys
for name in ("xdptui", "textual", "rich"):
    sys.modules[name] = None
import xdpchain
for module in pkgutil.walk_packages(xdpchain.__path__, "xdpchain."):
    importlib.import_module(module.name)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT / "core", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
