# SPDX-License-Identifier: Apache-2.0
"""Two test runs at the same time, each with a chain, pins and a `clean`: neither sees the other's, and a
killed run leaves nothing behind.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import own_mounts
from tests.kernel.arming import eventually
from tests.kernel.chains import chain_of, change, look_at
from tests.stress.holdings import pin_paths
from xdpchain.change import stale
from xdpchain.model.chain import Linkage
from xdpchain.observe.discover import survey
from xdpchain.sys import all_netns, bpffs, netns
from xdpchain.testing.frames import scripted
from xdpchain.testing.playground import Playground

ROOT = Path(__file__).parents[2]

OTHER_RUN = """
import json, os, time
from pathlib import Path
from tests.kernel import test_own_mounts as here
from xdpchain.sys import netns

def test_other(playground, samples):
    folder = Path({folder!r})
    here.load(playground, samples)
    seen = {{**here.seen(), "inode": netns.inode(playground.netns), "ours": playground.netns}}
    (folder / "new").write_text(json.dumps(seen))
    (folder / "new").rename(folder / "seen")
    deadline = time.monotonic() + 100
    while not (folder / "go on").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    here.runs(playground)
"""


def load(playground: Playground, samples: Path) -> None:
    """A chain that has pins on every kernel."""
    change(playground, chain_of(samples, "tailcalls", "mark", linkage=Linkage.TAILCALL))


def runs(playground: Playground) -> None:
    chain = look_at(playground).chain
    assert chain is not None
    assert [slot.component.name for slot in chain] == ["xdp_tailcalls", "mark_a"]
    assert playground.send([scripted(b"\2")]) == 1


def seen() -> dict[str, Any]:
    """What a run sees, after a `clean` that also removes uncertain pins."""
    cleaned = stale.clean(force=True)
    return {
        "cleaned": [str(pins.path) for pins in cleaned],
        "pins": list(pin_paths(bpffs.find())),
        "namespaces": list(netns.names()),
        "chains": [str(running.interface) for running in survey() if running.chain],
        "mode": f"{bpffs.find().stat().st_mode & 0o777:o}",
    }


@contextmanager
def other_run(folder: Path, *prefix: str) -> Iterator[subprocess.Popen[str]]:
    """A separate pytest with this one's fixtures, until its test waits for the file `go on`."""
    file = folder / "test_other.py"
    file.write_text(OTHER_RUN.format(folder=str(folder)))
    command = [*prefix, sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest"]
    command += [
        "-p",
        "no:cacheprovider",
        "-c",
        str(ROOT / "pyproject.toml"),
        f"--basetemp={folder / 'base'}",
        str(file),
    ]
    run = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield run
    finally:
        run.kill()
        run.communicate()


def waits(run: subprocess.Popen[str], folder: Path) -> Any:
    """What the other run sees once its chain runs."""
    eventually(lambda: (folder / "seen").exists() or run.poll() is not None, "the other run's test waits")
    assert run.poll() is None, run.communicate()[0]
    return json.loads((folder / "seen").read_text())


def test_two_runs_see_nothing_of_each_other(playground: Playground, samples: Path, tmp_path: Path) -> None:
    load(playground, samples)
    before = seen()
    assert before["pins"]
    assert before["cleaned"] == []
    with other_run(tmp_path) as run:
        others = waits(run, tmp_path)
        assert others["pins"]
        assert not set(others["pins"]) & set(before["pins"])
        assert others["ours"] in others["namespaces"]
        assert not set(others["namespaces"]) & set(before["namespaces"])
        assert (others["cleaned"], others["mode"]) == ([], "700")
        assert seen() == before
        runs(playground)
        (tmp_path / "go on").touch()
        assert "1 passed" in run.communicate(timeout=100)[0]
    assert seen() == before
    runs(playground)


def test_a_run_that_was_killed_leaves_nothing(root: None, tmp_path: Path) -> None:
    with other_run(tmp_path) as run:
        inode = waits(run, tmp_path)["inode"]
        assert inode in (all_netns.namespaces() or {inode})
        run.kill()
    eventually(lambda: inode not in (all_netns.namespaces() or ()), "its namespace is gone")


def test_without_the_right_to_mount_they_are_skipped(root: None, tmp_path: Path) -> None:
    with other_run(tmp_path, "setpriv", "--bounding-set=-sys_admin") as run:
        said = run.communicate(timeout=100)[0]
    assert "needs root that may mount (CAP_SYS_ADMIN): unshare says Operation not permitted" in said
    assert "1 skipped" in said


def test_threads_would_stay_outside() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        with pytest.raises(own_mounts.CannotIsolate, match="needs root" if os.geteuid() else "has threads"):
            own_mounts.enter()
    finally:
        stop.set()
        thread.join()


def test_started_in_the_background_ctrl_c_still_reaches_what_the_tests_start(tmp_path: Path) -> None:
    """A shell without job control makes background processes ignore it, and children inherit that."""
    (tmp_path / "test_other.py").write_text(
        "import signal\ndef test_other():\n    assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "-p", "no:cacheprovider", "-c"]
    command += [str(ROOT / "pyproject.toml"), f"--basetemp={tmp_path / 'base'}", str(tmp_path)]
    run = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *command]
    assert "1 passed" in subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False).stdout
