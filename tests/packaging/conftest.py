# SPDX-License-Identifier: Apache-2.0
"""Artefacts are built once, as users build them, and outside dist/."""

from __future__ import annotations

import fcntl
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*words: str, cwd: Path | None = None) -> str:
    """A command's output; it must succeed."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=900, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def make(target: str, folder: Path) -> None:
    run("make", "--no-print-directory", target, f"DIST={folder}", cwd=ROOT)


def made(target: str, pattern: str, factory: pytest.TempPathFactory) -> Path:
    """The file that `make TARGET` builds, built by the first worker to ask: builds share the tree."""
    shared = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / f"made-{target}"
    with (shared / "make.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not list(folder.glob(pattern)):
            make(target, folder)
    [file] = folder.glob(pattern)
    return file


@pytest.fixture(scope="session")
def pyz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made("pyz", "xdptui-*.pyz", tmp_path_factory)


@pytest.fixture(scope="session")
def wheel(pyz: Path) -> Path:
    """The wheel from which the file was made."""
    [file] = pyz.parent.glob("xdptui-*.whl")
    return file


@pytest.fixture(scope="session")
def deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made("deb", "xdptui_*_all.deb", tmp_path_factory)
