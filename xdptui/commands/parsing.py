# SPDX-License-Identifier: Apache-2.0
"""argparse as this command line needs it: options anywhere, none given twice, and errors that say what to do.
Also the arguments that many commands share.
"""

from __future__ import annotations

import argparse
import os
import sys
import weakref
from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn

from xdpchain.netns_spelling import netns_spelling
from xdptui.outcome import UsageError, write

__all__ = ["Parser", "as_json", "everywhere", "flag", "interfaces", "slot_or_labels", "where"]


class _Once(argparse._StoreAction):
    """An option that may be given only once; argparse would silently use the last."""

    _given_to: weakref.ref[argparse.Namespace] | None = None

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        if option_string is not None:
            if self._given_to is not None and self._given_to() is namespace:
                what = f"{option_string} is given more than once"
                raise UsageError(what, todo="Give it once: it applies to all")
            self._given_to = weakref.ref(namespace)
        super().__call__(parser, namespace, values, option_string)


class Parser(argparse.ArgumentParser):
    """argparse that raises UsageError on mistakes and accepts options between positional arguments."""

    def __init__(self, *, formatter_class: Any = argparse.HelpFormatter, **kwargs: Any) -> None:
        # argparse gets the width from shutil for each argument added, and importing shutil takes 2 ms.
        formatter = partial(formatter_class, width=_columns() - 2)
        super().__init__(allow_abbrev=False, formatter_class=formatter, **kwargs)
        self.register("action", None, _Once)
        self.register("action", "store", _Once)
        self._mixing = False

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, todo=f"See `{self.prog} --help`")

    def _print_message(self, message: str, file: Any = None) -> None:
        write(message.rstrip("\n"))

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        # Leaf parsers only: argparse can't intermix options and subcommands. It calls back while it
        # intermixes. Not with -- either: nothing after it is an option.
        if self._mixing or self._subparsers is not None or "--" in (args or ()):
            return super().parse_known_args(args, namespace)
        self._mixing = True
        try:
            found, rest = self.parse_known_intermixed_args(args, namespace)
        finally:
            self._mixing = False
        if self.get_default("needs_slot") and found.slot is None and not found.where:
            self.error("the following arguments are required: SLOT, or --where")
        return found, rest


def _columns() -> int:
    """The terminal's width, as `shutil.get_terminal_size` reports it."""
    try:
        return int(os.environ["COLUMNS"]) or 80
    except (KeyError, ValueError):
        pass
    try:
        return os.get_terminal_size(sys.__stdout__.fileno() if sys.__stdout__ else 1).columns or 80
    except (OSError, ValueError):
        return 80


class _Version(argparse.Action):
    def __call__(self, *_: object) -> None:
        from xdptui.version import version

        write(f"xdptui {version()}")
        raise SystemExit(0)


def everywhere(parser: argparse.ArgumentParser, *, top: bool = False) -> None:
    """Options allowed before and after the command; only the first parser sets defaults."""

    def default(value: object) -> Any:
        return value if top else argparse.SUPPRESS

    group = parser.add_argument_group("everywhere")
    group.add_argument(
        "--netns", metavar="NAME", type=_netns, default=default(None),
        help="use this network namespace: a name (ip netns), a path, or pid:N",
    )  # fmt: skip
    group.add_argument(
        "--json",
        action="store_true",
        default=default(False),
        help="JSON output, including errors (docs/cli.md)",
    )
    group.add_argument(
        "-v",
        "--verbose",
        action="count",
        default=default(0),
        help="show steps, and the kernel's own messages",
    )
    group.add_argument(
        "--mount-bpffs",
        action="store_true",
        default=default(False),
        help="mount the BPF filesystem if one is needed and missing",
    )
    group.add_argument("--version", action=_Version, nargs=0, default=argparse.SUPPRESS, help="the version")


def _netns(text: str) -> str:
    try:
        return netns_spelling(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: it {error}") from None


def interfaces(parser: argparse.ArgumentParser, meaning: str = "all are changed or none") -> None:
    parser.add_argument(
        "interface", metavar="IF", help=f"one interface, or several (eth0,eth1 or 'veth*'): {meaning}"
    )


def flag(parser: argparse.ArgumentParser, name: str, help: str) -> None:
    """An option without a value, which is off unless given."""
    parser.add_argument(name, action="store_true", help=help)


def as_json(parser: argparse.ArgumentParser) -> None:
    """``--jsonl``, for commands that print more than one document."""
    default = argparse.SUPPRESS
    parser.add_argument("--jsonl", action="store_true", dest="json", default=default, help="as --json")


def where(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(
        "--where", metavar="KEY=VALUE", action="append", default=[],
        help=f"{what} with this label; repeat to require several",
    )  # fmt: skip


def slot_or_labels(
    parser: argparse.ArgumentParser, *, several: bool = False, default: str = "", also: str = ""
) -> None:
    """SLOT, or ``--where`` instead (`options.Which`). ``default``: what the command applies to without
    either; ``also``: what else SLOT may be.
    """
    also = f" (default: {default})" if default else also
    parser.add_argument("slot", metavar="SLOT", nargs="?", help=f"a slot number or a component name{also}")
    where(parser, f"instead of SLOT: the {'slots' if several else 'one slot'}")
    parser.set_defaults(needs_slot=not default)
