# SPDX-License-Identifier: Apache-2.0
"""The manual page as man reads it, and the completions as each shell reads them."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernel.chains import chain_of, change
from tests.packaging.conftest import ROOT, make
from tests.tui.terminal import Terminal
from xdpchain.testing.playground import Playground
from xdptui.commands.arguments import COMMANDS

BASH = "bash-completion/completions/xdptui"
ZSH = "zsh/vendor-completions/_xdptui"
FISH = "fish/vendor_completions.d/xdptui.fish"


HOSTILE = "$(id>&2)"
"""A legal interface name that a shell must not run."""


@pytest.fixture
def completing(playground: Playground, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Words that name the interface of a chain; the shells find xdptui in PATH, as for a user."""
    change(playground, chain_of(samples, "firewall", "monitor"))
    command = tmp_path / "xdptui"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m xdptui "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'core'}:{ROOT}")
    return f"--netns {playground.netns} {playground.ifname}"


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


def in_bash(share: Path, *words: str, before: tuple[str, ...] = ()) -> set[str]:
    """What bash offers for the last word."""
    script = (
        f"source {share / BASH}; COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}; "
        f"_shtab_xdptui xdptui {shlex.quote(words[-1])} {shlex.quote(words[-2])}; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    return set(run(*before, "bash", "--norc", "-c", script).split())


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


def test_bash_offers_slots_and_maps(share: Path, completing: str) -> None:
    def offered(command: str, *last: str) -> set[str]:
        return in_bash(share, "xdptui", command, *completing.split(), *last)

    assert offered("unload", "") == {"xdp_firewall", "xdp_monitor", "0", "1"}
    assert offered("move", "0", "xdp_f") == {"xdp_firewall"}
    assert offered("map", "0", "") == {"blocked", "drops"}
    assert "xdp_firewall:drops" in offered("export", "--map", "")


def test_fish_offers_slots_and_maps(share: Path, completing: str) -> None:
    assert in_fish(share, f"xdptui unload {completing} ") == {"xdp_firewall", "xdp_monitor", "0", "1"}
    assert in_fish(share, f"xdptui map {completing} xdp_firewall ") == {"blocked", "drops"}


def test_a_name_is_offered_as_it_is_or_not_at_all(share: Path, root: None) -> None:
    """bash evaluates what it is given to offer; `run` makes sure that it prints nothing."""
    script = f"ip link add '{HOSTILE}' type veth && exec \"$@\""
    inside = ("unshare", "--net", "--mount", "sh", "-ec", f"mount -t sysfs sysfs /sys; {script}", "sh")
    assert HOSTILE in run(*inside, "ls", "/sys/class/net")
    assert "lo" in in_bash(share, "xdptui", "status", "", before=inside)


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


def test_zsh_offers_slots_and_maps(share: Path, completing: str) -> None:
    folder = (share / ZSH).parent
    begin = f"fpath=({folder} $fpath); autoload -Uz compinit; compinit -u -D; PS1='rea''dy> '"
    with Terminal(prefix=["sh", "-c", "exec zsh --no-rcs -i"]) as terminal:
        terminal.type(f"{begin}; pri() print got: $*\n")
        terminal.await_text("ready> ")
        terminal.type(f"xdptui map {completing} xdp_f\tdr\t\x01pri \n")
        terminal.await_text(f"got: xdptui map {completing} xdp_firewall drops")
