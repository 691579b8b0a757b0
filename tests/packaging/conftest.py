# SPDX-License-Identifier: Apache-2.0
"""Artefacts are made once, as users make them, and outside dist/."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*words: str, cwd: Path | None = None) -> str:
    """What a command prints; it must succeed."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=900, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def make(target: str, folder: Path) -> None:
    run("make", "--no-print-directory", target, f"DIST={folder}", cwd=ROOT)


@pytest.fixture(scope="session")
def pyz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pyz")
    make("pyz", folder)
    [file] = folder.glob("xdptui-*.pyz")
    return file


@pytest.fixture(scope="session")
def wheel(pyz: Path) -> Path:
    """The one that the file was made from."""
    [file] = pyz.parent.glob("xdptui-*.whl")
    return file


@pytest.fixture(scope="session")
def deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deb")
    make("deb", folder)
    [file] = folder.glob("xdptui_*_all.deb")
    return file
