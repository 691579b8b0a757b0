# SPDX-License-Identifier: Apache-2.0
"""Advice: one module spells the commands, the screen and the command line word each kind, and nothing else
contains any."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from xdpchain.advice import Advice, Do, advise
from xdpchain.errors import NotFound
from xdpchain.model.commands import Commands, quote
from xdpchain.model.interface import Interface
from xdptui.commands.arguments import command_parser
from xdptui.outcome import Talk
from xdptui.words.advice import KEYS, WORDS, told, worded

ROOT = Path(__file__).parents[2]
ARGUMENTS = {
    Do.NEAR_INTERFACE: ("eth6",),
    Do.OTHER_NETNS: ("blue",),
    Do.REMOVE_NETNS_FILE: ("blue",),
    Do.CHOOSE_LINKAGE: ("static", "tailcall"),
    Do.RELINK: ("static",),
    Do.LINK_ANEW: ("tailcall",),
    Do.LIFT_POLICY: ("0",),
    Do.SHADOW_AGAIN: ("0",),
    Do.MOVE_PINNED_MAP: ("/sys/fs/bpf/kept",),
    Do.LOWER_MTU: ("3498",),
    Do.MEND: ("Return a value",),
    Do.CHANGE_MODE: ("native",),
    Do.DETACH_IDLE: ("native",),
    Do.GET_PERMISSION: ("CAP_SYS_ADMIN",),
}
ODD = ["a;b", "$HOME", "it's", 'q"q', "-x", "`id`", "a\\b", "über", "a\x1b[1m", "1\x07\t2", "*", "'\x01'"]


def of(do: Do, name: str = "eth7", netns: str | None = None) -> Advice:
    return Advice(do, name, netns, ARGUMENTS.get(do, ()))


@pytest.mark.parametrize("do", Do)
def test_every_kind_has_words(do: Do) -> None:
    for keys in (False, True):
        told = worded(of(do), keys=keys, root=False)
        assert told, do
        assert "{" not in told
        assert not told.endswith(".")
    for command in Commands("blue").of(of(do)):
        assert worded(of(do), "blue").count(command) == 1, "what is spelled is told"
    assert set(WORDS) == set(Do)
    assert set(KEYS) <= set(Do)


@pytest.mark.parametrize("netns", [None, "blue", "/proc/7/ns/net"])
@pytest.mark.parametrize("name", ["eth7", "a;b", "-x"])
@pytest.mark.parametrize("do", Do)
def test_our_own_commands_are_understood(do: Do, name: str, netns: str | None) -> None:
    for command in Commands(netns).of(of(do, name)):
        words = shlex.split(command)
        if words[0] != "xdptui":
            continue
        given = command_parser().parse_args(words[1:])
        assert given.netns == netns
        where = getattr(given, "interface", None) or next(iter(getattr(given, "interfaces", ())), None)
        assert where in (name, None)


def said_by_bash(command: str) -> list[str]:
    """The words of a command, as a shell splits them."""
    done = subprocess.run(["bash", "-c", f"printf '%s\\0' {command}"], capture_output=True, check=True)
    return done.stdout.decode(errors="surrogateescape").split("\0")[:-1]


@pytest.mark.parametrize("name", ODD)
def test_odd_names_come_through_a_shell(name: str) -> None:
    assert said_by_bash(quote(name)) == [name]
    assert quote(name).isprintable(), "a terminal shows it as it is to be typed"
    if name.isprintable():
        assert shlex.split(quote(name)) == [name], "any POSIX shell"
    assert said_by_bash(Commands(name).ip("link")) == ["ip", "-n", name, "link"]


def test_namespaces() -> None:
    away, path, here = Commands("blue"), Commands("/proc/7/ns/net"), Commands()
    assert away.ethtool("-K", "e", "gro", "on") == "ip netns exec blue ethtool -K e gro on"
    assert path.ip("link") == "nsenter --net=/proc/7/ns/net ip link"
    assert path.xdptui("status", "e") == "xdptui status e --netns /proc/7/ns/net"
    assert here.xdptui("load", "-x", "OBJ", options=("-m", "generic")) == "xdptui load -m generic -- -x OBJ"
    assert away.of(Advice(Do.LOWER_MTU, "p", "red", ("3498",))) == ("ip -n red link set dev p mtu 3498",)
    assert away.of(Advice(Do.LOWER_MTU, "p", "", ("3498",))) == ("ip link set dev p mtu 3498",), "our own"
    assert away.of(Advice(Do.LOWER_MTU, "p", None, ("3498",))) == ("ip -n blue link set dev p mtu 3498",)


def test_alternatives_and_who_asks() -> None:
    both = advise(Do.CONFIRM, on=Interface("e", 3, "blue")) | advise(Do.GO_WITHOUT_CONFIRM)
    told = "`xdptui confirm e --netns blue` keeps the pending change; or try without --confirm"
    assert worded(both) == told
    assert worded(both, keys=True).startswith("Press C")
    assert worded("Just words") == "Just words"
    assert "sudo" in worded(advise(Do.GET_PERMISSION, "CAP_BPF"), root=False)
    assert worded(advise(Do.GET_PERMISSION, "CAP_BPF"), root=True).endswith("CAP_BPF")


def test_advice_has_no_words_but_those_of_the_faces() -> None:
    """An error embedded in another sentence never shows the name of a kind of advice."""
    advised = NotFound("no chain", "none runs", advise(Do.LOAD, on=Interface("e", 3)) | advise(Do.USE_STATIC))
    assert str(advised) == "no chain: none runs"
    assert told(advised).startswith("no chain: none runs. `xdptui load e OBJ` loads a program; or static")
    assert told(advised, keys=True).startswith("no chain: none runs. Press l")
    assert str(NotFound("no chain", "none runs", "Load one")) == "no chain: none runs. Load one"
    assert told(NotFound("no chain")) == told(OSError("no chain")) == "no chain"


def test_the_command_line_says_which_namespace(capsys: pytest.CaptureFixture[str]) -> None:
    Talk.of(["status", "--netns", "blue"]).failed(NotFound("gone", "", advise(Do.LOOK)))
    assert "`xdptui status --netns blue`" in capsys.readouterr().err
    Talk.of(["status", "--netns=red"]).failed(NotFound("gone", "", advise(Do.LOOK)))
    assert "`xdptui status --netns red`" in capsys.readouterr().err


# Nothing else writes commands

COMMAND = re.compile(
    r"`?xdptui (adopt|clean|confirm|load|log|map|record|relink|replace|rollback|set|status|undo|unload)\b|"
    r"\bip (-n|link|netns del)\b|\bethtool -|\bxdp-loader unload [^-]|\bbpftool (link|prog|map) \w|\bsudo\b|"
    r"--(linkage|fresh-maps|force|objects|counters|shadow|may)\b"
)
SPELLERS = {
    "model/commands.py": "this is where they are spelled",
    "observe/owner_evidence.py": "the commands of other products",
    "doctor/tools.py": "options for the speller",
    "doctor/storage.py": "`clean --force` belongs to no namespace",
    "linkage/array_pins.py": "told by sys.mount_lifetime, in its sentence",
    "linkage/freplace.py": "likewise",
}


def constants(path: Path) -> Iterator[str]:
    """The strings of a module, except docstrings."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value.value = None
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_commands_are_spelled_in_one_place() -> None:
    core = ROOT / "core" / "xdpchain"
    found = {
        f"{path.relative_to(core)}: {text}"
        for path in core.rglob("*.py")
        for text in constants(path)
        if COMMAND.search(text)
        and str(path.relative_to(core)) not in SPELLERS
        and path.relative_to(core).parts[0] not in ("testing",)
    }
    assert found == set(), "let the error carry the kind of advice (xdpchain.advice)"
