# SPDX-License-Identifier: Apache-2.0
"""The manual page as man reads it, and the completions as each shell does."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.packaging.conftest import make
from tests.tui.terminal import Terminal
from xdpchain.testing.playground import Playground
from xdptui.commands.arguments import COMMANDS

BASH = "bash-completion/completions/xdptui"
ZSH = "zsh/vendor-completions/_xdptui"
FISH = "fish/vendor_completions.d/xdptui.fish"


@pytest.fixture(scope="session")
def share(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("share")
    make("share", folder)
    return folder / "share"


def run(*words: str, **environ: str) -> str:
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=60, env={**os.environ, "LC_ALL": "C.UTF-8", **environ}
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def in_bash(share: Path, *words: str) -> set[str]:
    """What bash offers for the last word."""
    script = (
        f"source {share / BASH}; COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}; "
        f"_shtab_xdptui xdptui {shlex.quote(words[-1])} {shlex.quote(words[-2])}; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    return set(run("bash", "--norc", "-c", script).split())


def in_fish(share: Path, line: str) -> set[str]:
    """What fish offers at the end of a line."""
    offered = run("fish", "--no-config", "-c", f"source {share / FISH}; complete -C {shlex.quote(line)}")
    return {one.split("\t")[0] for one in offered.splitlines()}


def test_man_has_no_complaint_and_shows_every_command(share: Path) -> None:
    page = run(
        "man", "--warnings", "--encoding=UTF-8", "-l", str(share / "man/man8/xdptui.8"), MANWIDTH="120"
    )
    headings = {line.strip() for line in page.splitlines() if line.startswith("   ") and line[3:4] != " "}
    assert set(COMMANDS) <= headings
    assert "--even-if-ssh-dies" in page


def test_bash_offers_commands_options_interfaces_and_namespaces(share: Path, playground: Playground) -> None:
    assert set(COMMANDS) <= in_bash(share, "xdptui", "")
    assert "lo" in in_bash(share, "xdptui", "status", "")
    assert "lo" in in_bash(share, "xdptui", "load", "l")
    assert "--confirm" in in_bash(share, "xdptui", "load", "--conf")
    assert in_bash(share, "xdptui", "status", "--netns", playground.netns[:-1]) == {playground.netns}
    assert {"static", "freplace"} <= in_bash(share, "xdptui", "relink", "--linkage", "")


def test_fish_offers_commands_options_interfaces_and_namespaces(share: Path, playground: Playground) -> None:
    assert set(COMMANDS) <= in_fish(share, "xdptui ")
    assert "lo" in in_fish(share, "xdptui status ")
    assert "--confirm" in in_fish(share, "xdptui load --conf")
    assert playground.netns in in_fish(share, "xdptui status --netns ")


def test_zsh_offers_namespaces_and_options(share: Path, playground: Playground) -> None:
    folder = (share / ZSH).parent
    begin = f"fpath=({folder} $fpath); autoload -Uz compinit; compinit -u -D; PS1='rea''dy> '"
    with Terminal(prefix=["sh", "-c", "exec zsh --no-rcs -i"]) as terminal:
        terminal.type(f"{begin}; xdptui() print got: $*\n")
        terminal.await_text("ready> ")
        terminal.type(f"xdptui status --netns {playground.netns[:-1]}\t")
        terminal.await_text(playground.netns)
        terminal.type("--mount-b\t\n")
        terminal.await_text(f"got: status --netns {playground.netns} --mount-bpffs")
