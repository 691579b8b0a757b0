# SPDX-License-Identifier: Apache-2.0
"""How commands end: exit codes, messages as text and as JSON, and never a traceback."""

from __future__ import annotations

import json
from typing import NoReturn

import pytest

from xdpchain import errors
from xdptui.commands.in_place import Screen
from xdptui.outcome import Talk, UsageError, run, write
from xdptui.words.printable import printable

ERRORS = [
    (errors.KernelRefused, 1),
    (errors.PermissionDenied, 3),
    (errors.Busy, 4),
    (errors.Cancelled, 4),
    (errors.RaceLost, 4),
    (errors.NotOurs, 4),
    (errors.NotFound, 5),
    (errors.Unsupported, 6),
    (errors.LinkRefused, 6),
    (errors.InvalidInput, 7),
    (UsageError, 64),
]


def raising(error: BaseException) -> object:
    def command(_: list[str]) -> NoReturn:
        raise error

    return command


def ended(error: BaseException, *words: str) -> int:
    return run(raising(error), list(words))  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "code"), ERRORS)
def test_every_error_has_its_exit_code(
    kind: type[errors.XdpChainError], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    error = kind("it failed", "because", "Do this", detail="EWHAT: words\nmore")
    assert ended(error) == code
    assert capsys.readouterr() == ("", "xdptui: it failed: because\n  Do this\n  (-v shows the details)\n")
    assert ended(error, "-v") == code
    assert capsys.readouterr().err.endswith("The kernel's message:\n    EWHAT: words\n    more\n")
    assert ended(error, "--json") == code
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err) == {
        "error": {
            "kind": kind.__name__,
            "what": "it failed",
            "why": "because",
            "todo": "Do this",
            "detail": "EWHAT: words\nmore",
            "exit_code": code,
        }
    }


def test_every_error_of_the_engine_is_in_the_table() -> None:
    assert {kind.__name__ for kind, _ in ERRORS} >= set(errors.__all__) - {"XdpChainError"}


def test_an_internal_error_is_one_line_and_a_traceback_on_request(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDPTUI_DEBUG", raising=False)
    assert ended(KeyError("what\nnow")) == 70
    said = capsys.readouterr().err
    assert said.splitlines()[0] == r"xdptui: internal error: KeyError: 'what\nnow'"
    assert "Traceback" not in said
    monkeypatch.setenv("XDPTUI_DEBUG", "1")
    assert ended(KeyError("what")) == 70
    assert "Traceback" in capsys.readouterr().err
    assert ended(KeyError("what"), "--json") == 70


def test_quiet_ends(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert ended(KeyboardInterrupt()) == 130
    assert ended(SystemExit(0)) == 0
    assert run(lambda _: 2, []) == 2
    assert capsys.readouterr() == ("", "")


def test_what_the_arguments_ask_for() -> None:
    assert Talk.of(["status"]) == Talk()
    assert Talk.of(["status", "--json"]) == Talk(json=True)
    assert Talk.of(["watch", "--jsonl", "-vv"]) == Talk(json=True, verbose=True)
    assert Talk.of(["load", "--", "--json", "-v"]) == Talk()
    assert not Talk.of(["load", "--version", "-", "--vv"]).verbose


def test_nothing_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert printable("plain text → here") == "plain text → here"
    assert printable("a\x1b[2Jb\n") == r"a\x1b[2Jb\n"
    assert ended(errors.NotFound("no \x1b[31mred", "\x07", "\r")) == 5
    said = capsys.readouterr().err
    assert not {"\x1b", "\x07", "\r"} & set(said)
    write("a\x1b[31mred\nb\r", "\x1b[J")
    assert capsys.readouterr().out == "\x1b[Ja\\x1b[31mred\nb\\r\n"
    write("a\tb", verbatim=True)
    assert capsys.readouterr().out == "a\tb\n"


def test_a_screen_says_what_it_has_no_room_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("LINES", "5")
    screen = Screen()
    screen.show("\n".join("abcdef"))
    assert capsys.readouterr().out.splitlines()[-1] == "... 3 more lines: use a taller terminal, or --jsonl"
    screen.show("\n".join("abcd"))
    assert capsys.readouterr().out.splitlines() == ["\x1b[4A\x1b[Ja", "b", "c", "d"]
