# SPDX-License-Identifier: Apache-2.0
"""Arguments: how they are parsed, and what is refused. Needs no kernel."""

from __future__ import annotations

import re
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from xdpchain.errors import InvalidInput, NotFound, Unsupported, XdpChainError
from xdpchain.model.actions import Action, ActionSet
from xdpchain.model.chain import Chain
from xdpchain.model.component import Component
from xdpchain.model.interface import Interface, Mode
from xdpchain.model.runconfig import MAX_PRIORITY
from xdpchain.model.slot import Slot
from xdptui import cli
from xdptui.commands import options as values
from xdptui.commands.arguments import CHANGING, COMMANDS, command_parser, spelled_out
from xdptui.outcome import EXIT_CODES, ExitCode, UsageError


def parsed(line: str) -> Namespace:
    return command_parser().parse_args(spelled_out(line.split()))


LINES: dict[str, dict[str, Any]] = {
    "status": {"interface": None, "json": False, "netns": None, "verbose": 0},
    "status eth0 --json": {"interface": "eth0", "json": True},
    "--netns blue status": {"netns": "blue", "interface": None},
    "status --netns blue": {"netns": "blue"},
    "--json --netns blue status eth0 --netns red": {"netns": "red", "json": True},
    "load eth0 a.o b.o": {"objects": ["a.o", "b.o"], "mode": None, "linkage": "auto", "dry_run": False},
    "load -m skb eth0 a.o": {"mode": "skb", "interface": "eth0", "objects": ["a.o"]},
    "load eth0 -m skb a.o -P 5 b.o -vv": {"objects": ["a.o", "b.o"], "priority": "5", "verbose": 2},
    "load --mode native eth0 a.o --prio 5": {"mode": "native", "priority": "5"},
    "load eth0 a.o --prog-name x --actions XDP_DROP": {"names": ["x"], "actions": "XDP_DROP"},
    "load eth0 a.o -n x -n y": {"names": ["x", "y"]},
    "load eth0 a.o --section xdp --pin-path p": {"section": "xdp", "pin_path": "p"},
    "load eth0 a.o --at 2 --no-counters --dry-run": {"at": "2", "counters": False, "dry_run": True},
    "unload eth0 --all": {"all": True, "ids": None, "slots": []},
    "unload -a eth0": {"all": True, "interface": "eth0"},
    "unload eth0 -i 7 --id 8": {"ids": ["7", "8"]},
    "unload eth0 0 xdp_pass": {"slots": ["0", "xdp_pass"]},
    "move eth0 2 0": {"slot": "2", "to": "0"},
    "set eth0 1 -P 3 -A PD": {"slot": "1", "priority": "3", "actions": "PD"},
    "set eth0 --counters": {"slot": None, "counters": True},
    "replace eth0 1 a.o -n x --fresh-maps": {"object": "a.o", "name": "x", "fresh_maps": True},
    "relink eth0 --linkage freplace": {"linkage": "freplace"},
    "plan load eth0 a.o": {"command": "plan", "changing": "load", "objects": ["a.o"]},
    "--netns blue plan unload eth0 --all --json": {"changing": "unload", "json": True, "netns": "blue"},
    "apply spec.toml": {
        "file": "spec.toml",
        "wait": None,
        "keep_going": False,
        "follow": False,
        "confirm": None,
    },
    "apply - --wait 3 --keep-going --fresh-maps": {
        "file": "-",
        "wait": "3",
        "keep_going": True,
        "fresh_maps": True,
    },
    "plan spec.toml": {"command": "plan", "changing": "apply", "file": "spec.toml"},
    "plan -": {"changing": "apply", "file": "-"},
    "plan --json ./load": {"changing": "apply", "file": "./load", "json": True},
    "--netns plan plan --wait 3 x.toml": {
        "netns": "plan",
        "changing": "apply",
        "file": "x.toml",
        "wait": "3",
    },
    "plan apply x": {"changing": "apply", "file": "x"},
    "save eth0 lan* -o x.toml --objects d": {
        "interfaces": ["eth0", "lan*"],
        "output": "x.toml",
        "objects": "d",
    },
    "features": {"interface": None},
    "watch eth0 --jsonl --interval 0.5 --count 3": {"json": True, "interval": "0.5", "count": "3"},
    "watch": {"json": False, "interval": "1", "count": None},
    "load eth0 --mount-bpffs a.o": {"mount_bpffs": True},
}


@pytest.mark.parametrize(("line", "expected"), LINES.items(), ids=LINES)
def test_lines(line: str, expected: dict[str, Any]) -> None:
    options = parsed(line)
    assert {name: getattr(options, name) for name in expected} == expected


@pytest.mark.parametrize(
    "line",
    [
        "load",
        "load eth0",
        "load eth0 a.o -n x -s y",
        "load eth0 a.o --dry",  # no abbreviations: a later option must not change what a script means
        "load eth0 a.o --linkage magic",
        "relink eth0",
        "move eth0 1",
        "plan",
        "plan status",
        "plan laod eth0 a.o",
        "plan x.toml y.toml",
        "apply",
        "save",
        "status eth0 eth1",
        "status --dry-run",
        "frob eth0",
    ],
)
def test_refused_lines(line: str) -> None:
    with pytest.raises(UsageError) as refused:
        parsed(line)
    assert refused.value.exit_code == 64
    assert refused.value.todo


@pytest.mark.parametrize("name", [*COMMANDS, *(f"plan {name}" for name in CHANGING)])
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*name.split(), "--help"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"usage: xdptui {name}")
    assert said.err == ""


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["help"]])
def test_the_help_lists_commands_and_exit_codes(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 0
    text = capsys.readouterr().out
    for name in COMMANDS:
        assert f"\n    {name} " in text
    for code, meaning in EXIT_CODES.items():
        assert f"{int(code):3d}  {meaning}" in text


def test_help_of_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["help", "load"]) == 0
    assert "--pin-path" in capsys.readouterr().out


def _errors(kind: type[XdpChainError]) -> set[type[XdpChainError]]:
    return {kind}.union(*(_errors(subclasse) for subclasse in kind.__subclasses__()))


def test_every_exit_code_is_documented() -> None:
    assert set(EXIT_CODES) == set(ExitCode)
    engine = {kind for kind in _errors(XdpChainError) if kind.__module__.startswith("xdpchain.")}
    assert {int(kind.exit_code) for kind in engine} <= {int(code) for code in ExitCode}
    # 2 means a plan with changes, never an error.
    assert not any(kind.exit_code == ExitCode.CHANGES for kind in _errors(XdpChainError))


def test_the_exit_codes_in_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    assert {int(code) for code in re.findall(r"^\| (\d+) \| ", text, re.MULTILINE)} == set(map(int, ExitCode))


@pytest.mark.parametrize(
    ("words", "near"),
    [(["lod", "eth0", "a.o"], "load"), (["stauts", "a", "b"], "status"), (["xyzzy", "a", "b"], "--help")],
)
def test_a_slip_of_a_command(words: list[str], near: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 64
    said = capsys.readouterr().err
    assert f"there is no command {words[0]!r}" in said
    assert near in said


def test_modes() -> None:
    assert values.mode(None) == (None, "")
    assert [values.mode(word)[0] for word in ("native", "generic", "skb", "SKB")] == [
        Mode.NATIVE,
        Mode.GENERIC,
        Mode.GENERIC,
        Mode.GENERIC,
    ]
    asked, remark = values.mode("unspecified")
    assert asked is None
    assert "-m generic" in remark
    for word in ("hw", "offload"):
        with pytest.raises(Unsupported):
            values.mode(word)
    with pytest.raises(InvalidInput):
        values.mode("fast")


def test_numbers() -> None:
    assert values.priority("0") == 0
    assert values.priority(None) is None
    assert values.actions("PD") == ActionSet.of(Action.PASS, Action.DROP)
    assert values.amount("3", "count") == 3
    assert values.seconds("0.5", "interval", 0.1) == 0.5
    for text in ("", "-1", "1.5", "0x10", "²", "١", "9" * 5000, "2147483648"):
        with pytest.raises(InvalidInput):
            values.priority(text)
    for text in ("", "0", "nan", "inf", "-1", "x", "1e9"):
        with pytest.raises(InvalidInput):
            values.seconds(text, "interval", 0.1)


def test_slots_by_number_and_by_name() -> None:
    chain = Chain()
    for name in ("a", "b", "b"):
        chain = chain.add(Slot.of(Component(name)))
    where = Interface("eth0", 2)
    assert values.slot(chain, "0", where) == 0
    assert values.slot(chain, "a", where) == 0
    for text in ("3", "c", "-1", "", "9" * 5000):
        with pytest.raises(NotFound):
            values.slot(chain, text, where)
    with pytest.raises(InvalidInput, match="matches 2 slots"):
        values.slot(chain, "b", where)
    with pytest.raises(NotFound, match="no slot"):
        values.slot(None, "0", where)


def test_the_mouse_may_be_left_to_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    from xdptui import app

    asked: list[bool] = []
    monkeypatch.setattr(cli.outcome, "on_terminal", lambda: True)
    monkeypatch.setattr(app, "run", lambda netns, interface, *, mouse: asked.append(mouse) or 0)
    assert cli.main([]) == 0
    assert cli.main(["--no-mouse"]) == 0
    assert asked == [True, False]


def test_what_may_be_left_out_is_not_asked_for() -> None:
    for command, missing in (("record", "FILE"), ("unload", "IF")):
        with pytest.raises(UsageError) as caught:
            command_parser().parse_args([command])
        assert caught.value.what == f"the following arguments are required: {missing}"
    given = command_parser().parse_args(["record", "f"])
    assert given.interfaces == []
    assert command_parser().parse_args(["record", "f", "--force", "a", "b"]).interfaces == ["a", "b"]


def test_a_priority_says_its_range() -> None:
    with pytest.raises(InvalidInput) as caught:
        values.priority("-5")
    assert "a whole number, 0 or more" in caught.value.why
    assert f"0 to {MAX_PRIORITY}" in str(caught.value)
