# SPDX-License-Identifier: Apache-2.0
"""What the stress tests share: a BPF filesystem of their own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def own_bpffs(root: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A BPF filesystem that nobody else has pins in, and that the engine uses."""
    path = tmp_path / "bpffs"
    path.mkdir()
    subprocess.run(["mount", "-t", "bpf", "-o", "mode=0700", "bpf", str(path)], check=True)
    monkeypatch.setenv("LIBXDP_BPFFS", str(path))
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)
