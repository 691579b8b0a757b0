# SPDX-License-Identifier: Apache-2.0
"""Artefacts are made once, as users make them, and outside dist/."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def make(target: str, folder: Path) -> None:
    subprocess.run(["make", "--no-print-directory", target, f"DIST={folder}"], cwd=ROOT, check=True)


@pytest.fixture(scope="session")
def pyz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pyz")
    make("pyz", folder)
    [file] = folder.glob("xdptui-*.pyz")
    return file
