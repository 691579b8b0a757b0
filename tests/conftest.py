# SPDX-License-Identifier: Apache-2.0
"""What all tests share: a playground on the real kernel, and the sample components."""

from __future__ import annotations

import ctypes
import functools
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from xdpchain.testing.playground import Playground

ROOT = Path(__file__).parents[1]
BPF_PROG_TYPE_EXT = 28


@functools.cache
def why_no_freplace() -> str | None:
    """The kernel's answer when asked for a program of type EXT; None when it takes them."""
    answer = ctypes.CDLL("libbpf.so.1").libbpf_probe_bpf_prog_type(BPF_PROG_TYPE_EXT, None)
    if answer == 1:
        return None
    if os.geteuid() != 0:
        return "needs root"
    reason = os.strerror(-answer) if answer < 0 else "not permitted"
    return f"this kernel refuses programs of type EXT ({reason}): run it in the lab, tests/vm/run"


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("vm") and (reason := why_no_freplace()):
        pytest.skip(reason)


@pytest.fixture(scope="session")
def root() -> None:
    """Skips without root: only root makes namespaces and loads programs."""
    if os.geteuid() != 0:
        pytest.skip("needs root")


@pytest.fixture(scope="session", autouse=True)
def bpf_filesystem(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A BPF filesystem for this run alone, where the machine has none mounted."""
    from xdpchain.sys import bpffs

    if os.geteuid() != 0 or os.environ.get("LIBXDP_BPFFS") or bpffs.is_bpffs(bpffs.DEFAULT_MOUNT):
        yield
        return
    directory = tmp_path_factory.mktemp("bpffs")
    subprocess.run(["mount", "-t", "bpf", "-o", "mode=0700", "bpf", str(directory)], check=True)
    os.environ["LIBXDP_BPFFS"] = str(directory)
    try:
        yield
    finally:
        del os.environ["LIBXDP_BPFFS"]
        subprocess.run(["umount", str(directory)], check=True)


@pytest.fixture(scope="session", autouse=True)
def journal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A journal for this run alone."""
    folder = tmp_path_factory.mktemp("state")
    before = os.environ.get("XDPTUI_STATE")
    os.environ["XDPTUI_STATE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["XDPTUI_STATE"]
    else:
        os.environ["XDPTUI_STATE"] = before


@pytest.fixture(scope="session")
def no_leftovers(root: None) -> None:
    """Playgrounds of earlier runs that were killed are removed, once."""
    from xdpchain.testing.playground import remove_leftovers

    remove_leftovers()


@pytest.fixture
def playground(no_leftovers: None) -> Iterator[Playground]:
    """One interface under test: ``.ifname`` in ``.netns``, and ``.send(frames)`` sends to it.

    A test that needs more links, another MTU or a peer that takes XDP frames makes its own Playground(...).
    """
    from xdpchain.testing.playground import Playground

    with Playground() as made:
        yield made


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder of the sample objects, built when they are missing: ``samples / "firewall.o"``."""
    folder = ROOT / "build" / "samples"
    if not (folder / "pass.o").exists():
        subprocess.run(["make", "--silent", "-C", str(ROOT / "bpf")], check=True)
    return folder
