# SPDX-License-Identifier: Apache-2.0
"""The entry point: starts the terminal program or one command. Imports are late, so that a command loads only
what it needs.
"""

from __future__ import annotations

import gc
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from importlib import import_module

from xdpchain.errors import NotFound
from xdptui import outcome
from xdptui.commands.arguments import COMMANDS, command_parser, positions, spelled_out, terminal_parser

__all__ = ["main"]

COMPLETE = "--complete"
"""The first word of shell completion requests (scripts/make-share)."""

AUTOMOUNT = "LIBXDP_BPFFS_AUTOMOUNT"

NEW_OBJECTS = 20_000
"""How many more objects make Python look for garbage. With its own 700, that takes a twentieth of a short
command, which makes hardly any.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run with these arguments (None: those of the process) and return the exit code."""
    gc.set_threshold(NEW_OBJECTS)
    return outcome.run(_run, list(sys.argv[1:] if argv is None else argv))


def _run(arguments: list[str]) -> int:
    if arguments[:1] == [COMPLETE]:
        from xdptui.commands import completion

        return completion.run(arguments[1:])
    word = _first_word(arguments)
    if word == "help":
        return _help(arguments)
    if word in COMMANDS:
        only = None if "-h" in arguments or "--help" in arguments else word
        options = command_parser(only).parse_args(spelled_out(arguments))
        return _with_mount(options, _command)
    options = _terminal_options(arguments, word)
    try:
        return _with_mount(options, _terminal)
    except NotFound as error:
        if near := _near(options.interface):
            raise NotFound(error.what, error.why, near, detail=error.detail) from error
        raise


def _with_mount(options: Namespace, call: Callable[[Namespace], int]) -> int:
    before = os.environ.get(AUTOMOUNT)
    if options.mount_bpffs:
        os.environ[AUTOMOUNT] = "1"  # libxdp's own variable, so our child processes honour it too
    try:
        return call(options)
    finally:
        if options.mount_bpffs and before is None:
            os.environ.pop(AUTOMOUNT, None)


def _command(options: Namespace) -> int:
    name = options.changing if options.command == "plan" else options.command
    return int(import_module(COMMANDS[name]).run(options))


def _terminal(options: Namespace) -> int:
    if options.json or not outcome.on_terminal():
        from xdptui.commands import status

        return status.run(options)
    if options.interface is not None:
        from xdpchain.observe.discover import look

        look(options.interface, options.netns)  # raises NotFound now, as plain text rather than on a screen
    from xdptui import app

    return app.run(options.netns, options.interface, mouse=options.mouse)


def _terminal_options(arguments: list[str], word: str | None) -> Namespace:
    options, rest = terminal_parser().parse_known_args(arguments)
    if rest:
        raise outcome.UsageError(
            f"there is no command {word!r}" if word else f"{rest[0]!r} is not understood",
            todo=_near(word) or "`xdptui --help` lists the commands",
        )
    return options


def _near(word: str | None) -> str:
    """A hint naming the command that ``word`` may be a typo of; empty if there is none."""
    import difflib

    near = difflib.get_close_matches(word or "", COMMANDS, n=1)
    return f"Did you mean `xdptui {near[0]}`?" if near else ""


def _first_word(arguments: list[str]) -> str | None:
    """The first argument that is neither an option nor an option's value."""
    return next((arguments[at] for at in positions(arguments)), None)


def _help(arguments: list[str]) -> int:
    wanted = [word for word in arguments if word != "help"]
    command_parser().parse_args([*wanted, "--help"])
    return 0
