# SPDX-License-Identifier: Apache-2.0
"""The command line's grammar. Accepts xdp-loader's spellings, so that scripts written for it keep working."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from xdptui.commands.change_options import CHANGES, confirmed
from xdptui.commands.parsing import Parser, everywhere
from xdptui.commands.view_options import VIEWS
from xdptui.outcome import EXIT_CODES

__all__ = [
    "CHANGING",
    "COMMANDS",
    "VALUE_OPTIONS",
    "command_parser",
    "positions",
    "spelled_out",
    "terminal_parser",
]

COMMANDS: dict[str, str] = {
    "status": "xdptui.commands.status",
    "load": "xdptui.commands.change",
    "unload": "xdptui.commands.change",
    "move": "xdptui.commands.change",
    "set": "xdptui.commands.change",
    "replace": "xdptui.commands.change",
    "relink": "xdptui.commands.change",
    "undo": "xdptui.commands.change",
    "apply": "xdptui.commands.apply",
    "adopt": "xdptui.commands.change",
    "plan": "xdptui.commands.change",
    "save": "xdptui.commands.save",
    "confirm": "xdptui.commands.decide",
    "rollback": "xdptui.commands.decide",
    "log": "xdptui.commands.log",
    "features": "xdptui.commands.features",
    "verdicts": "xdptui.commands.verdicts",
    "test": "xdptui.commands.test",
    "watch": "xdptui.commands.watch",
    "why": "xdptui.commands.why",
    "record": "xdptui.commands.record",
    "replay": "xdptui.commands.replay",
    "export": "xdptui.commands.export",
    "maps": "xdptui.commands.maps",
    "map": "xdptui.commands.maps",
    "follow": "xdptui.commands.follow",
    "logs": "xdptui.commands.logs",
    "events": "xdptui.commands.events",
    "account": "xdptui.commands.account",
    "time": "xdptui.commands.timing",
    "trace": "xdptui.commands.trace",
    "clean": "xdptui.commands.clean",
    "detach": "xdptui.commands.detach",
    "doctor": "xdptui.commands.doctor",
}
"""The module of each command."""

CHANGING = ("load", "unload", "move", "set", "replace", "relink", "undo", "adopt", "apply")

VALUE_OPTIONS = ("--netns",)
"""Options with a value that may precede the command."""

USAGE = """xdptui [IF] [--netns NAME] [--no-mouse]
       xdptui COMMAND ... [--json] [--netns NAME] [-v]"""

DESCRIPTION = """\
Show and edit chains of XDP programs on network interfaces, live.
Without a command: the terminal UI (or a plain status table if there is no terminal)."""


def spelled_out(arguments: Sequence[str]) -> list[str]:
    """Expand ``plan FILE`` to ``plan apply FILE``. A word is a file if it names no command that can be
    planned and either looks like a path or exists (for a file named like a command: ``plan ./load``).
    """
    words = list(arguments)
    for at in positions(words):
        if words[at] == "plan":
            rest = words[at + 1 :]
            value = ("--confirm", "--wait")  # options of apply that may precede the file
            first = next((rest[i] for i in positions(rest, value)), None)
            if first is not None and first not in CHANGING and _is_file(first):
                words.insert(at + 1, "apply")
        break
    return words


def positions(arguments: Sequence[str], options: Sequence[str] = ()) -> Iterator[int]:
    """The positions of arguments before any ``--`` that are neither options nor values of options (these
    options, and those that may precede a command).
    """
    value = False
    for i, word in enumerate(arguments):
        if value:
            value = False
        elif word == "--":
            return
        elif word in VALUE_OPTIONS or word in options:
            value = True
        elif word == "-" or not word.startswith("-"):
            yield i


def _is_file(word: str) -> bool:
    return word == "-" or "/" in word or "." in word or os.path.exists(word)


def terminal_parser() -> argparse.ArgumentParser:
    """The parser for a command line without a command."""
    parser = Parser(prog="xdptui", usage=USAGE, add_help=False)
    parser.add_argument("interface", metavar="IF", nargs="?", help="select this interface")
    parser.add_argument(
        "--no-mouse", dest="mouse", action="store_false", help="leave the mouse to the terminal"
    )
    everywhere(parser, top=True)
    parser.set_defaults(where=[], all_netns=False)  # without a terminal, `status` runs
    parser.add_argument("-h", "--help", action=_Help, nargs=0)
    return parser


def command_parser(only: str | None = None) -> argparse.ArgumentParser:
    """The parser for a command line with a command. ``only`` builds that command alone: all the parsers take
    8 ms."""
    parser = Parser(
        prog="xdptui",
        usage=USAGE,
        description=DESCRIPTION,
        epilog=_epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    everywhere(parser, top=True)
    commands = parser.add_subparsers(
        title="commands", dest="command", metavar="COMMAND", prog="xdptui", parser_class=Parser
    )
    for name in ("status", *CHANGING, "plan", *(view for view in VIEWS if view != "status")):
        if only not in (None, name):
            continue
        if name == "plan":
            _add_plan(commands)
        elif name in CHANGES:
            _add_change(commands, name)
        else:
            _add(commands, name, *VIEWS[name], changing=name == "clean")
    return parser


def _add_plan(commands: Any) -> None:
    summary = "what a command, or applying a spec, would change (exit code 2: something)"
    plan = _add(commands, "plan", lambda _: None, summary)
    plan.usage = "xdptui plan FILE ...\n       xdptui plan COMMAND ..."
    changing = plan.add_subparsers(
        title="changing commands (FILE is short for `apply FILE`)",
        dest="changing",
        metavar="COMMAND",
        required=True,
        prog="xdptui plan",
        parser_class=Parser,
    )
    for name in CHANGES:
        _add_change(changing, name)


def _add_change(commands: Any, name: str) -> None:
    build, summary = CHANGES[name]
    confirmed(_add(commands, name, build, summary, changing=True), name)


class _Help(argparse.Action):
    """Prints the full help, even without a command."""

    def __call__(self, *_: object) -> None:
        command_parser().print_help()
        raise SystemExit(0)


def _add(
    commands: Any,
    name: str,
    build: Callable[[argparse.ArgumentParser], None],
    summary: str,
    *,
    changing: bool = False,
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=summary[0].upper() + summary[1:] + "."
    )
    build(parser)
    if changing:
        parser.add_argument("--dry-run", action="store_true", help="show what would happen, change nothing")
    everywhere(parser)
    return parser


def _epilog() -> str:
    codes = "\n".join(f"  {code:3d}  {text}" for code, text in EXIT_CODES.items())
    return (
        f"exit codes:\n{codes}\n\nIf a command fails, nothing changes: the interface runs what it ran before."
    )
