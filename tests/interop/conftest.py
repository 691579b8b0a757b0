# SPDX-License-Identifier: Apache-2.0
"""What the tests with other tools share."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.interop.libxdp")

from tests.interop.libxdp import Loader  # noqa: E402
from xdpchain.testing.playground import Playground  # noqa: E402


@pytest.fixture(autouse=True)
def own_bpffs(root: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A BPF filesystem that nobody else has pins in, for both editors."""
    path = tmp_path / "bpffs"
    path.mkdir()
    subprocess.run(["mount", "-t", "bpf", "-o", "mode=0700", "bpf", str(path)], check=True)
    monkeypatch.setenv("LIBXDP_BPFFS", str(path))
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


@pytest.fixture
def loader(playground: Playground) -> Loader:
    """xdp-loader on the playground's interface."""
    if shutil.which("xdp-loader") is None:
        pytest.skip("xdp-loader is not installed (Debian: xdp-tools)")
    return Loader(playground)
