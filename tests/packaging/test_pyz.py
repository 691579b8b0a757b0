# SPDX-License-Identifier: Apache-2.0
"""One file on a machine that has only Python and libbpf: no packages, commands or network."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from tests.kernel.chains import look_at
from tests.packaging.living import serve
from tests.tui.terminal import Terminal
from xdpchain.testing.playground import Playground
from xdptui.version import checked_out

ROOT = Path(__file__).parents[2]


OWN = sys.version_info.minor
PYTHONS = [
    minor if minor == OWN else pytest.param(minor, marks=pytest.mark.long) for minor in (11, 12, 13, 14)
]
"""Versions of Python 3: always ours, and the machine's others in long runs."""


def interpreter(minor: int) -> str:
    """The Python of that version: the virtual environment's base, pyenv's, or one in PATH."""
    if minor == OWN:
        return os.path.realpath(sys.executable)
    name = f"python3.{minor}"
    made = sorted(Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/{name}"))
    found = str(made[-1]) if made else shutil.which(name)
    if found is None:
        pytest.skip(f"there is no {name} on this machine; test_lives has those of Debian")
    return found


class Bare:
    """Runs the file with one Python in an empty environment."""

    def __init__(self, pyz: Path, empty: Path, python: str) -> None:
        self.pyz = pyz
        (empty / "bin").mkdir(parents=True)
        # No compiler in PATH, no pip, bpftool or systemd-run.
        self.environ = {"PATH": str(empty / "bin"), "HOME": str(empty), "XDG_STATE_HOME": str(empty)}
        self.python = python
        self.before = ["/usr/bin/unshare", "--net", python, "-I", "-S", str(pyz)]
        self.folder = empty

    def __call__(self, *words: str, code: int = 0) -> str:
        done = subprocess.run(
            [*self.before, *words],
            env=self.environ,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture(params=PYTHONS)
def bare(root: None, pyz: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Bare:
    return Bare(pyz, tmp_path, interpreter(request.param))


def test_it_says_which_commit_it_is(bare: Bare) -> None:
    commit = checked_out(ROOT)
    said = bare("--version").split()
    assert said[0] == "xdptui"
    assert said[2:] == ([f"({commit[:7]})"] if commit else [])


def test_nothing_of_it_is_compiled_for_one_machine(pyz: Path) -> None:
    names = ZipFile(pyz).namelist()
    assert not [name for name in names if name.endswith((".so", ".pyd"))]
    assert "xdpchain/bpf_objects/dispatcher_v2.o" in names


def test_it_changes_a_chain_and_its_guardian_takes_the_change_back(
    bare: Bare, pyz: Path, tmp_path: Path, playground: Playground, samples: Path
) -> None:
    interface, there = playground.ifname, ("--netns", playground.netns)

    def running() -> Any:
        return json.loads(bare("status", interface, "--json", *there))["interfaces"][0]

    def names() -> list[str]:
        return [slot["name"] for slot in running()["slots"]]

    bare("load", interface, str(samples / "firewall.o"), *there)
    assert names() == ["xdp_firewall"]
    going = Bare(Path(shutil.copy(pyz, tmp_path / "going.pyz")), tmp_path / "elsewhere", bare.python)
    going("load", interface, str(samples / "drop.o"), "--confirm", "5", *there)
    going.pyz.unlink()  # a guardian has all it needs: the file may be replaced while a change is pending
    assert sorted(slot.name for slot in look_at(playground).chain or ()) == ["xdp_drop", "xdp_firewall"]
    end = time.monotonic() + 30
    while running()["armed"] and time.monotonic() < end:
        time.sleep(0.3)
    assert names() == ["xdp_firewall"]
    assert running()["settled"]["outcome"] == "rolled-back"
    bare("unload", interface, "--all", *there)
    assert running()["programs"] == []


def test_it_needs_no_kernel_to_say_what_a_program_returns(bare: Bare, samples: Path) -> None:
    assert "XDP_DROP" in bare("verdicts", str(samples / "drop.o"))


def test_its_recording_replays(bare: Bare) -> None:
    lines = bare("replay", "--demo", "--json").splitlines()
    assert len(lines) > 10
    assert {entry["name"] for entry in json.loads(lines[0])["interfaces"]} == {"xdp0"}


def test_the_terminal_program_comes_up(bare: Bare) -> None:
    """A stylesheet inside a zip is not a file: only the running program shows that it was read."""
    command = shlex.join([*bare.before, "replay", "--demo"])
    with Terminal(prefix=["sh", "-c", f"exec {command}"]) as terminal:
        terminal.await_text("xdp_firewall")
        terminal.type("q")
        assert terminal.exit_code() == 0


def test_the_service_makes_a_chain(bare: Bare, playground: Playground, samples: Path) -> None:
    spec = bare.folder / "spec.toml"
    spec.write_text(
        f'[[interface]]\nname = "{playground.ifname}"\n[[interface.slot]]\nobject = "{samples}/firewall.o"\n'
    )
    serve((*bare.before[2:], "--netns", playground.netns), playground.ifname, str(spec))


def test_an_older_python_is_told_which_to_use(pyz: Path) -> None:
    older = sorted(Path.home().glob(".pyenv/versions/3.*/bin/python3.[6-9]"))
    older += sorted(Path.home().glob(".pyenv/versions/3.*/bin/python3.10"))
    if not older:
        pytest.skip("there is no Python older than 3.11 on this machine")
    for python in older:
        done = subprocess.run([python, str(pyz), "status"], capture_output=True, text=True, timeout=60)
        assert done.returncode == 1
        assert done.stderr.startswith("xdptui needs Python 3.11 or newer; this is 3.")


def test_without_libbpf_it_says_what_to_install(bare: Bare, samples: Path) -> None:
    [library] = {path.resolve() for path in Path("/usr/lib").glob("*/libbpf.so.1")}
    hidden = f'mount --bind /dev/null {shlex.quote(str(library))} && exec "$@"'
    bare.before = ["/usr/bin/unshare", "--mount", "/bin/sh", "-ec", hidden, "sh", *bare.before]
    bare.environ["PATH"] = "/usr/bin:/bin"
    assert "Install libbpf 1.0 or newer" in bare("load", "lo", str(samples / "pass.o"), code=6)
