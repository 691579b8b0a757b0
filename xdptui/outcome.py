# SPDX-License-Identifier: Apache-2.0
"""How a command ends: its exit code and its output. Apart from the terminal program, nothing else writes to
standard output or standard error.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from enum import IntEnum
from typing import TextIO

from xdpchain.errors import XdpChainError
from xdpchain.frozen import frozen
from xdptui.words.advice import worded
from xdptui.words.printable import printable

__all__ = [
    "DEBUG",
    "EXIT_CODES",
    "ExitCode",
    "Talk",
    "UsageError",
    "debugging",
    "error_document",
    "on_terminal",
    "run",
    "write",
]

DEBUG = "XDPTUI_DEBUG"
"""The environment variable that enables tracebacks."""

ISSUES = "the project's issue tracker"


class ExitCode(IntEnum):
    """Exit codes of the command line. Engine errors have theirs in `XdpChainError.exit_code`."""

    OK = 0
    REFUSED = 1
    CHANGES = 2
    NOT_PERMITTED = 3
    CONFLICT = 4
    NOT_FOUND = 5
    UNSUPPORTED = 6
    INVALID = 7
    CONNECTION = 8
    USAGE = 64
    INTERNAL = 70
    OUTPUT = 74
    INTERRUPTED = 130
    PIPE = 141


EXIT_CODES: dict[ExitCode, str] = {
    ExitCode.OK: "done; for plan: nothing would change",
    ExitCode.REFUSED: "the kernel refused (verifier, limit, driver); doctor: errors were found",
    ExitCode.CHANGES: "plan only: there are changes",
    ExitCode.NOT_PERMITTED: "a capability is missing, or a policy forbids it",
    ExitCode.CONFLICT: "somebody else's program or edit is in the way",
    ExitCode.NOT_FOUND: "no such interface, namespace, slot, program or file",
    ExitCode.UNSUPPORTED: "not supported by the kernel, the driver or the linkage",
    ExitCode.INVALID: "an invalid file or argument",
    ExitCode.CONNECTION: "it would cut your own ssh connection (see --even-if-ssh-dies)",
    ExitCode.USAGE: "the command line was not understood",
    ExitCode.INTERNAL: "an internal error: please report it",
    ExitCode.OUTPUT: "the output could not be written",
    ExitCode.INTERRUPTED: "interrupted (ctrl-C, or SIGTERM during apply)",
    ExitCode.PIPE: "the output pipe was closed",
}


def on_terminal() -> bool:
    """Whether there is a terminal to read keys from and to draw on."""
    streams = (sys.stdin, sys.stdout)
    return os.environ.get("TERM") != "dumb" and all(
        stream is not None and stream.isatty() for stream in streams
    )


class UsageError(XdpChainError):
    """The command line was not understood."""

    exit_code = ExitCode.USAGE


@frozen
class Talk:
    """Writes to standard error: text, or JSON. With JSON, warnings are part of standard output."""

    json: bool = False
    verbose: bool = False
    netns: str | None = None

    @classmethod
    def of(cls, arguments: list[str]) -> Talk:
        """What the arguments ask for, even if they can't be parsed."""
        given = arguments[: arguments.index("--")] if "--" in arguments else arguments
        return cls(
            not {"--json", "--jsonl"}.isdisjoint(given),
            any(word == "--verbose" or (word[:2] == "-v" and not word.strip("-v")) for word in given),
            _value_of("--netns", given),
        )

    def warn(self, text: str) -> None:
        """Say that something succeeded but may not be what was meant."""
        if not self.json:
            _say(f"xdptui: warning: {printable(text)}")

    def tell(self, text: str) -> None:
        """Say something that belongs to the answer but not in its output."""
        if not self.json:
            _say(f"xdptui: {printable(text)}")

    def step(self, text: str) -> None:
        """Say what is being done now."""
        if self.verbose and not self.json:
            _say(f"xdptui: {printable(text)}")

    def progress(self, text: str) -> None:
        """Say how far it is, on a line that the next one overwrites; "" clears it. Only on a terminal."""
        if not self.json and not self.verbose and sys.stderr is not None and sys.stderr.isatty():
            import shutil  # 2 ms, which other commands need not pay

            columns = shutil.get_terminal_size().columns
            print(f"\r\x1b[K{printable(text)[: columns - 1]}", end="", file=sys.stderr, flush=True)

    def failed(self, error: XdpChainError) -> None:
        """Say what failed, why, and what to do, in that order."""
        if self.json:
            _say(json.dumps({"error": error_document(error, self.netns)}))
            return
        lines = [f"xdptui: {printable(f'{error.what}: {error.why}' if error.why else error.what)}"]
        if todo := worded(error.todo, self.netns):
            lines.append(f"  {printable(todo)}")
        if error.detail and self.verbose:
            lines += ["  The kernel's message:", *(f"    {printable(x)}" for x in error.detail.splitlines())]
        elif error.detail:
            lines.append("  (-v shows the details)")
        _say("\n".join(lines))


def _value_of(option: str, given: list[str]) -> str | None:
    """The last value of an option, as argparse would find it."""
    found = None
    for place, word in enumerate(given):
        if word == option:
            found = given[place + 1] if place + 1 < len(given) else None
        elif word.startswith(f"{option}="):
            found = word.partition("=")[2]
    return found


def error_document(error: XdpChainError, netns: str | None = None) -> dict[str, str | int]:
    """An error for scripts; ``netns`` is the namespace the command works in."""
    return {
        "kind": type(error).__name__,
        "what": error.what,
        "why": error.why,
        "todo": worded(error.todo, netns),
        "detail": error.detail,
        "exit_code": int(error.exit_code),
    }


def write(text: str, controls: str = "", *, verbatim: bool = False) -> None:
    """Write lines to standard output, after what controls the terminal, and flush. The lines themselves can't
    control it, whatever names they contain, unless they are for a file (``verbatim``). Failure to write ends
    the command.
    """
    if sys.stdout is None:  # closed by our parent, so nobody reads it
        return
    try:
        lines = text if verbatim else "\n".join(map(printable, text.split("\n")))
        print(controls + lines, flush=True)
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:
        _abandon(sys.stdout)
        why = os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
        raise _OutputError("the output can't be written", why, "The command itself succeeded") from error


def run(command: Callable[[list[str]], int], arguments: list[str]) -> int:
    """Run a command and return its exit code, whatever happens in it. No traceback unless requested."""
    talk = Talk.of(arguments)
    _lenient(sys.stdout)
    _lenient(sys.stderr)
    try:
        return int(command(arguments))
    except SystemExit as ending:  # argparse, after --help and --version
        return ending.code if isinstance(ending.code, int) else 0
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        _abandon(sys.stdout)
        return ExitCode.PIPE
    except XdpChainError as error:
        _trace()
        talk.failed(error)
        return int(error.exit_code)
    except Exception as error:
        _trace()
        talk.failed(_internal(error))
        return ExitCode.INTERNAL


class _OutputError(XdpChainError):
    exit_code = ExitCode.OUTPUT


class _Internal(XdpChainError):
    exit_code = ExitCode.INTERNAL


def _internal(error: Exception) -> XdpChainError:
    text = " ".join(f"{type(error).__name__}: {error}".split())
    todo = f"Please report it to {ISSUES}; {DEBUG}=1 shows where it happened"
    return _Internal("internal error", text, todo)


def debugging() -> bool:
    """Whether tracebacks are requested."""
    return os.environ.get(DEBUG) == "1"


def _trace() -> None:
    if debugging():
        import traceback

        _say(traceback.format_exc().rstrip())


def _say(text: str) -> None:
    if sys.stderr is None:
        return
    try:
        print(text, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        _abandon(sys.stderr)  # nobody can be told; the exit code remains


def _lenient(stream: object) -> None:
    """Show a question mark, not an error, for a character that the terminal's encoding lacks."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")


def _abandon(stream: TextIO) -> None:
    """Make the interpreter's own flush at exit succeed: nobody reads what is buffered."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
    except (OSError, ValueError):
        pass
