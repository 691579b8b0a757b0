# SPDX-License-Identifier: Apache-2.0
"""Shared by all tests: a playground on the real kernel, and the sample components."""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import own_mounts

if TYPE_CHECKING:
    from xdpchain.testing.playground import Playground

ROOT = Path(__file__).parents[1]
BPF_PROG_TYPE_EXT = 28
WHY_NOT_ISOLATED = pytest.StashKey[str]()


@functools.cache
def why_no_freplace() -> str | None:
    """The kernel's answer to an EXT program; None if it accepts them."""
    answer = ctypes.CDLL("libbpf.so.1").libbpf_probe_bpf_prog_type(BPF_PROG_TYPE_EXT, None)
    if answer == 1:
        return None
    if os.geteuid() != 0:
        return "needs root"
    reason = os.strerror(-answer) if answer < 0 else "not permitted"
    return f"this kernel refuses programs of type EXT ({reason}): run it in the lab, tests/vm/run"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.environ.get("XDPTUI_SOAK") != "1":
        waits = [item for item in items if item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=waits)
        items[:] = [item for item in items if item not in waits]


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("vm") and (reason := why_no_freplace()):
        pytest.skip(reason)


def pytest_configure(config: pytest.Config) -> None:
    """If root permits, all tests run in a mount namespace of this run's own."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # Started by a shell in the background, the children to which we send ctrl-C would ignore it as well.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        own_mounts.enter()
    except own_mounts.CannotIsolate as error:
        config.stash[WHY_NOT_ISOLATED] = str(error)


def pytest_report_header(config: pytest.Config) -> str:
    why = config.stash.get(WHY_NOT_ISOLATED, None)
    return f"kernel tests are skipped: {why}" if why else "mounts: of this run's own"


@pytest.fixture(scope="session")
def root(pytestconfig: pytest.Config) -> None:
    """Skips without root: only root can make namespaces and load programs."""
    if why := pytestconfig.stash.get(WHY_NOT_ISOLATED, None):
        pytest.skip(why)


@pytest.fixture
def own_bpffs(root: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A BPF filesystem with no pins but this test's, whatever earlier tests left; the engine and libxdp use
    it.
    """
    from xdpchain.sys import bpffs

    path = tmp_path / "bpffs"
    path.mkdir()
    monkeypatch.setenv("LIBXDP_BPFFS", str(path))
    bpffs.mount()
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


@pytest.fixture(scope="session", autouse=True)
def lasting_mounts(pytestconfig: pytest.Config) -> Iterator[None]:
    """A process outside our session that holds this run's mounts, as on a normal machine: otherwise pins
    there would end with us, and are refused.
    """
    if WHY_NOT_ISOLATED in pytestconfig.stash:
        yield
        return
    read, write = os.pipe()
    if not (child := os.fork()):
        os.setsid()
        if os.fork():
            os._exit(0)
        os.close(write)
        os.read(read, 1)  # until the run ends, however it ends
        os._exit(0)
    os.waitpid(child, 0)
    os.close(read)
    yield
    os.close(write)


@pytest.fixture(scope="session", autouse=True)
def journal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A journal for this run only."""
    folder = tmp_path_factory.mktemp("state")
    before = os.environ.get("XDPTUI_STATE")
    os.environ["XDPTUI_STATE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["XDPTUI_STATE"]
    else:
        os.environ["XDPTUI_STATE"] = before


@pytest.fixture
def playground(root: None) -> Iterator[Playground]:
    """One interface under test: ``.ifname`` in ``.netns``; ``.send(frames)`` sends to it.

    A test that needs more links, another MTU, or a peer that accepts XDP frames makes its own
    Playground(...).
    """
    from xdpchain.testing.playground import Playground

    with Playground() as made:
        yield made


@pytest.fixture
def guarded(playground: Playground) -> Iterator[Playground]:
    """A playground whose guardians end with it."""
    from tests.kernel.arming import no_guardian_survives

    with no_guardian_survives(playground):
        yield playground


@pytest.fixture(autouse=True)
def no_change_stays_pending(pytestconfig: pytest.Config) -> Iterator[None]:
    """The test that leaves a pending change pinned fails, not the next one that counts them."""
    yield
    pending = own_mounts.BPFFS / "xdptui" / "armed"
    if WHY_NOT_ISOLATED in pytestconfig.stash or not pending.exists():
        return
    end = time.monotonic() + 30  # a guardian may have just seen that the interface is gone, on a busy machine
    while (left := os.listdir(pending)) and time.monotonic() < end:
        time.sleep(0.05)
    for name in left:
        if (pending / name).is_dir():
            shutil.rmtree(pending / name)
        else:
            os.unlink(pending / name)
    assert not left, "pending changes are left pinned"


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder of the sample objects, built if missing: ``samples / "firewall.o"``."""
    folder = ROOT / "build" / "samples"
    if not (folder / "pass.o").exists():
        subprocess.run(["make", "--silent", "-C", str(ROOT / "bpf")], check=True)
    return folder
