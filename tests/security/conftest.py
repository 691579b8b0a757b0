# SPDX-License-Identifier: Apache-2.0
"""Attacks come from another user: a process with the uid of nobody, and no capabilities."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kernel.command_line import CommandLine
from xdpchain.sys import bpffs
from xdpchain.testing.playground import Playground

STRANGER = 65534
AS_STRANGER = (
    "setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups", "--no-new-privs",
    "--inh-caps=-all", "--bounding-set=-all", "--",
)  # fmt: skip


@pytest.fixture
def stranger(root: None) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a shell script as another user; it must succeed unless ``check=False``."""

    def run(script: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*AS_STRANGER, "sh", "-ec", script], capture_output=True, text=True, timeout=60, cwd="/"
        )
        assert done.returncode == 0 or not check, done.stderr
        return done

    return run


@pytest.fixture
def cli(playground: Playground, capsys: pytest.CaptureFixture[str], samples: Path) -> CommandLine:
    return CommandLine(playground, capsys, samples)


@pytest.fixture
def place(root: None, tmp_path: Path) -> Iterator[Path]:
    """A directory that everybody can reach, unlike pytest's own."""
    folder = Path("/tmp") / f"xdptui-security-{tmp_path.name}-{id(tmp_path):x}"
    folder.mkdir()
    folder.chmod(0o755)
    yield folder
    subprocess.run(["rm", "-rf", "--one-file-system", str(folder)], check=True)


@pytest.fixture
def mounted(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Path]]:
    """Mounts the BPF filesystem named by LIBXDP_BPFFS, with the given options."""
    path = place / "bpf"
    path.mkdir()

    def mount(options: str) -> Path:
        command = ["mount", "-t", "bpf", *(("-o", options) if options else ()), "bpf", str(path)]
        subprocess.run(command, check=True)
        return path

    monkeypatch.setenv("LIBXDP_BPFFS", str(path))
    yield mount
    end = time.monotonic() + 10  # a guardian about to exit has its directory open
    while bpffs.is_bpffs(path):
        done = subprocess.run(["umount", str(path)], capture_output=True, text=True)
        assert done.returncode == 0 or time.monotonic() < end, done.stderr
        time.sleep(0.05)
