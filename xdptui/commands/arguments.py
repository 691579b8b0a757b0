# SPDX-License-Identifier: Apache-2.0
"""What may be written on the command line. Spellings of xdp-loader are accepted, so that scripts made for it
go on working.
"""

from __future__ import annotations

import argparse
import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from xdpchain.netns_spelling import netns_spelling
from xdptui.outcome import EXIT_CODES, UsageError, write

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

ADOPT_CONFIRM = "60"
"""Seconds in which an adoption has to be confirmed, unless it is said otherwise."""

VALUE_OPTIONS = ("--netns",)
"""Options with a value that may stand before the command."""

USAGE = """xdptui [IF] [--netns NAME] [--no-mouse]
       xdptui COMMAND ... [--json] [--netns NAME] [-v]"""

DESCRIPTION = """\
Chains of XDP programs on a network interface: see them, edit them live.
Without a command: the terminal program (a plain status table where there is no terminal)."""


class _Once(argparse._StoreAction):
    """A value that may be given once: of two, the last would win without a word."""

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
                raise UsageError(what, todo="Give it once: it holds for all")
            self._given_to = weakref.ref(namespace)
        super().__call__(parser, namespace, values, option_string)


class Parser(argparse.ArgumentParser):
    """argparse, but a mistake is an UsageError, and options may stand between the positional arguments."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, **kwargs)
        self.register("action", None, _Once)
        self.register("action", "store", _Once)
        self._mixing = False

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, todo=f"`{self.prog} --help` shows what can be written")

    def _print_message(self, message: str, file: Any = None) -> None:
        write(message.rstrip("\n"))

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        # The leaves alone: argparse can't mix where subcommands follow. It calls back while it mixes.
        # Nor after --, where the rest are no options.
        if self._mixing or self._subparsers is not None or "--" in (args or ()):
            return super().parse_known_args(args, namespace)
        self._mixing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._mixing = False


def spelled_out(arguments: Sequence[str]) -> list[str]:
    """``plan FILE`` as ``plan apply FILE``. A file is what names no command that can be planned, and looks
    like a path, or is one (a file that is called like a command: ``plan ./load``).
    """
    words = list(arguments)
    for at in positions(words):
        if words[at] == "plan":
            rest = words[at + 1 :]
            value = ("--confirm", "--wait")  # options of apply that may stand before the file
            first = next((rest[i] for i in positions(rest, value)), None)
            if first is not None and first not in CHANGING and _is_file(first):
                words.insert(at + 1, "apply")
        break
    return words


def positions(arguments: Sequence[str], options: Sequence[str] = ()) -> Iterator[int]:
    """Where arguments stand that are neither options nor the values of options (of these, and of those that
    may stand before a command), before any ``--``.
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
    """What may be written without a command."""
    parser = Parser(prog="xdptui", usage=USAGE, add_help=False)
    parser.add_argument("interface", metavar="IF", nargs="?", help="begin on this interface")
    parser.add_argument("--no-mouse", dest="mouse", action="store_false", help="leave the terminal its mouse")
    _common(parser, top=True)
    parser.add_argument("-h", "--help", action=_Help, nargs=0)
    return parser


def command_parser() -> argparse.ArgumentParser:
    """Everything that begins with a command."""
    parser = Parser(
        prog="xdptui",
        usage=USAGE,
        description=DESCRIPTION,
        epilog=_epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _common(parser, top=True)
    commands = parser.add_subparsers(
        title="commands", dest="command", metavar="COMMAND", prog="xdptui", parser_class=Parser
    )
    _add(commands, "status", _status, "what runs on the interfaces, and how it counts")
    for name in CHANGING:
        build, summary = CHANGES[name]
        _confirmed(_add(commands, name, build, summary, changing=True), name)
    plan = _add(
        commands,
        "plan",
        lambda _: None,
        "what a changing command, or a spec, would do (exit code 2: something)",
    )
    plan.usage = "xdptui plan FILE ...\n       xdptui plan COMMAND ..."
    changing = plan.add_subparsers(
        title="changing commands (a FILE stands for `apply FILE`)",
        dest="changing",
        metavar="COMMAND",
        required=True,
        prog="xdptui plan",
        parser_class=Parser,
    )
    for name, (build, summary) in CHANGES.items():
        _confirmed(_add(changing, name, build, summary, changing=True), name)
    _add(commands, "save", _save, "write down what runs, as a spec for apply and plan")
    _add(commands, "confirm", _decide, "confirm a pending change: keep it")
    _add(commands, "rollback", _decide, "roll back a pending change now")
    _add(commands, "log", _log, "who changed an interface's chain, when, and what")
    _add(commands, "features", _features, "what the drivers and this machine can do")
    _add(commands, "verdicts", _verdicts, "what a program can return, and which lines decide it (no root)")
    _add(commands, "test", _test, "packets through a program: what decided each, what none reached")
    _add(commands, "watch", _watch, "live counters, as a table or as JSON lines")
    _add(commands, "why", _why, "which lines of source decided what became of the packets")
    _add(commands, "record", _record, "keep what runs and what it counts in a file")
    _add(commands, "replay", _replay, "look at a recording, on any machine")
    _add(commands, "export", _export, "counters for Prometheus")
    _add(commands, "maps", _maps, "the maps of the components on an interface")
    _add(commands, "map", _map, "what a map holds; or write one of its elements")
    _add(commands, "follow", _follow, "packets on their way: what each slot returned and changed")
    _add(commands, "logs", _logs, "what programs print (bpf_printk), with the slot and the line of source")
    _add(commands, "events", _events, "packets lost after their program, why, and where others were sent")
    _add(commands, "account", _account, "what an interface counted, against what its chain counted")
    _add(commands, "time", _account, "how long a chain takes, and each slot of it")
    _add(commands, "trace", _trace, "count what has no counters of its own, until told otherwise")
    _add(commands, "detach", _detach, "say who holds a program by a bpf_link, and take it off")
    _add(commands, "clean", _clean, "remove pins that nobody uses any more", changing=True)
    _add(commands, "doctor", _doctor, "what is wrong with this machine or an interface, and the fix")
    return parser


class _Help(argparse.Action):
    """The whole help, also where no command was given."""

    def __call__(self, *_: object) -> None:
        command_parser().print_help()
        raise SystemExit(0)


class _Version(argparse.Action):
    def __call__(self, *_: object) -> None:
        from xdptui.version import version

        write(f"xdptui {version()}")
        raise SystemExit(0)


def _common(parser: argparse.ArgumentParser, *, top: bool = False) -> None:
    """Options that may stand before and after the command; only the first sets defaults."""

    def default(value: object) -> Any:
        return value if top else argparse.SUPPRESS

    group = parser.add_argument_group("everywhere")
    group.add_argument(
        "--netns", metavar="NAME", type=_netns, default=default(None),
        help="look into this network namespace: a name (ip netns), a path, or pid:N",
    )  # fmt: skip
    group.add_argument(
        "--json", action="store_true", default=default(False), help="JSON, errors too (docs/cli.md)"
    )
    group.add_argument(
        "-v", "--verbose", action="count", default=default(0), help="steps, and the kernel's own words"
    )
    group.add_argument(
        "--mount-bpffs",
        action="store_true",
        default=default(False),
        help="mount the BPF filesystem where one is needed and missing",
    )
    group.add_argument("--version", action=_Version, nargs=0, default=argparse.SUPPRESS, help="the version")


def _netns(text: str) -> str:
    try:
        return netns_spelling(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: it {error}") from None


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
        parser.add_argument("--dry-run", action="store_true", help="say what would happen, change nothing")
    _common(parser)
    return parser


def _status(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("interface", metavar="IF", nargs="?", help="one interface (default: all)")
    _where(parser, "interfaces that have a slot")


def _interfaces(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "interface", metavar="IF", help="one interface, or several: eth0,eth1 or 'veth*': on all, or on none"
    )


def _load(parser: argparse.ArgumentParser) -> None:
    _interfaces(parser)
    parser.add_argument(
        "objects", metavar="OBJ", nargs="+", help="object files; all join in one step, or none does"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "-n", "--prog-name", metavar="NAME", dest="names", action="append",
        help="the program in each object (default: its first); more than once: several, which share maps",
    )  # fmt: skip
    which.add_argument("-s", "--section", metavar="SECTION", help="the program in this section of each")
    _config(parser)
    parser.add_argument(
        "-m",
        "--mode",
        metavar="MODE",
        help="native (default), generic (also: skb), or best: native where it works, else generic",
    )
    parser.add_argument("-p", "--pin-path", metavar="PIN", help="where maps go that the object wants pinned")
    _globals(parser)
    parser.add_argument("--at", metavar="SLOT", help="join in this slot, with a priority to match")
    parser.add_argument(
        "--shadow", action="store_true", help="run and count it, and go on whatever it returns"
    )
    parser.add_argument("--off", action="store_true", help="give it its place and its maps, but don't run it")
    parser.add_argument(
        "--share-maps", action="store_true", help="of several interfaces: one set of maps for all of them"
    )
    _linkage(parser, "auto", ("auto", "static", "freplace", "tailcall"))
    _counters(parser)


def _unload(parser: argparse.ArgumentParser) -> None:
    _interfaces(parser)
    parser.add_argument(
        "slots", metavar="SLOT", nargs="*", default=[], help="slot numbers, or component names"
    )
    parser.add_argument(
        "-i", "--id", metavar="ID", dest="ids", action="append", help="a component's program id"
    )
    parser.add_argument("-a", "--all", action="store_true", help="the whole chain")
    _where(parser, "the slots")
    parser.add_argument(
        "--keep-maps", action="store_true", help="keep what their maps hold for a week: undo finds it again"
    )


def _move(parser: argparse.ArgumentParser) -> None:
    _interfaces(parser)
    parser.add_argument("slot", metavar="SLOT", help="a slot number, or the name of a component")
    parser.add_argument("to", metavar="TO", help="the slot where it shall stand")


def _set(parser: argparse.ArgumentParser) -> None:
    _interfaces(parser)
    parser.add_argument("slot", metavar="SLOT", nargs="?", help="a slot number, or the name of a component")
    _where(parser, "in place of SLOT: the slots")
    _config(parser)
    parser.add_argument(
        "--shadow",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="go on whatever it returns; --no-shadow: let its verdicts count",
    )
    switch = parser.add_mutually_exclusive_group()
    switch.add_argument(
        "--off",
        action="store_const",
        const=True,
        help="don't run it; it keeps its place, id, maps and counts",
    )
    switch.add_argument("--on", dest="off", action="store_const", const=False, help="run it again")
    parser.add_argument(
        "-m", "--mode", metavar="MODE",
        help="move the chain to native, generic or best mode; for a moment no program runs",
    )  # fmt: skip
    _counters(parser)


def _replace(parser: argparse.ArgumentParser) -> None:
    _interfaces(parser)
    parser.add_argument("slot", metavar="SLOT", help="a slot number, or the name of a component")
    parser.add_argument("object", metavar="OBJ", help="the object file with the new version")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "-n", "--prog-name", metavar="NAME", dest="name", help="the program (default: of the same name)"
    )
    which.add_argument("-s", "--section", metavar="SECTION", help="the program in this section")
    parser.add_argument("-p", "--pin-path", metavar="PIN", help="where maps go that the object wants pinned")
    _globals(parser)
    parser.add_argument("--fresh-maps", action="store_true", help="begin with empty maps, keep none")
    parser.add_argument(
        "--share-maps", action="store_true", help="of several interfaces: one set of maps for all of them"
    )


def _globals(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--global", metavar="NAME=VALUE", dest="globals", action="append",
        help="start a global variable with another value; more than once: several",
    )  # fmt: skip
    parser.add_argument(
        "--map-entries", metavar="NAME=N", action="append",
        help="create a map with N entries, not the number in the object; more than once: several",
    )  # fmt: skip
    parser.add_argument(
        "--use-map", metavar="SLOT:NAME=NAME", action="append",
        help="use a slot's map in place of one of its own (the name after =); more than once: several",
    )  # fmt: skip


def _relink(parser: argparse.ArgumentParser) -> None:
    _interfaces(parser)
    _linkage(parser, None, ("auto", "static", "freplace", "tailcall"))


def _adopt(parser: argparse.ArgumentParser) -> None:
    _interfaces(parser)
    parser.add_argument("object", metavar="OBJ", help="the object file that the program was loaded from")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "-n", "--prog-name", metavar="NAME", dest="name", help="the program (default: the one that runs)"
    )
    which.add_argument("-s", "--section", metavar="SECTION", help="the program in this section")
    _config(parser)
    parser.add_argument("-p", "--pin-path", metavar="PIN", help="where maps go that the object wants pinned")
    _linkage(parser, "auto", ("auto", "static", "freplace", "tailcall"))
    _counters(parser)


def _undo(parser: argparse.ArgumentParser) -> None:
    _interfaces(parser)


def _apply(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="the spec (docs/spec.md); -: standard input")
    parser.add_argument("--wait", metavar="SECONDS", help="for interfaces that are named and missing")
    parser.add_argument(
        "--keep-going", action="store_true", help="change the other interfaces although one fails"
    )
    parser.add_argument(
        "--fresh-maps", action="store_true", help="a new version of a program begins with empty maps"
    )
    parser.add_argument(
        "--follow", action="store_true", help="stay, and apply it to interfaces that appear later (a service)"
    )


def _save(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("interfaces", metavar="IF", nargs="+", help="interfaces, or globs such as 'eth*'")
    parser.add_argument(
        "-o", "--output", metavar="FILE",
        help="where to (default, and -: standard output); a spec that is there is updated, its comments stay",
    )  # fmt: skip
    parser.add_argument("--objects", metavar="DIR", help="write the object files out of the kernel, into DIR")
    parser.add_argument("--maps", action="store_true", help="write down what their maps hold, too")
    parser.add_argument("--force", action="store_true", help="replace FILE, whatever is in it")


def _decide(parser: argparse.ArgumentParser) -> None:
    _interfaces(parser)


def _log(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("interface", metavar="IF")
    parser.add_argument("--last", metavar="N", help="the newest N changes only")


def _confirmed(parser: argparse.ArgumentParser, name: str) -> None:
    default = ADOPT_CONFIRM if name == "adopt" else None
    usual = f" (default {default}; --no-confirm: not at all)" if default else ""
    parser.add_argument(
        "--confirm",
        metavar="SECONDS",
        default=default,
        help=f"roll back unless `xdptui confirm` comes in so many seconds{usual}",
    )
    if default:
        parser.add_argument("--no-confirm", action="store_const", const=None, dest="confirm",
                            help=argparse.SUPPRESS)  # fmt: skip
    parser.add_argument(
        "--what-if", metavar="PACKETS", nargs="*", action="append",
        help="send packets through what runs and through the change, away from the interface: builtin (the "
        "default), live (what comes in within a second), ssh (your own connection's), or files (pcap, "
        "pcapng, hex; - is standard input)",
    )  # fmt: skip
    parser.add_argument(
        "--even-if-ssh-dies", action="store_true",
        help="make the change also where it would cut your own ssh connection",
    )  # fmt: skip


def _config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-P", "--prio", "--priority", metavar="PRIO", dest="priority", help="run priority: lower runs first"
    )
    parser.add_argument(
        "-A", "--actions", metavar="ACTIONS",
        help="chain call actions, after which the next slot runs: XDP_PASS,XDP_DROP or PD; none",
    )  # fmt: skip
    parser.add_argument(
        "--route", metavar="CODE:SLOT,...",
        help="return codes that lead to a later slot (number or name), next or return: DROP:logger,*:4",
    )  # fmt: skip
    parser.add_argument(
        "--may", metavar="ACTIONS",
        help="what the component may return; anything else is counted and reported (any: no policy)",
    )  # fmt: skip
    parser.add_argument(
        "--label", metavar="KEY=VALUE", dest="labels", action="append", default=[],
        help="a label of the slot (KEY=: take it away); more than once: several",
    )  # fmt: skip
    parser.add_argument(
        "--otherwise", choices=("as-is", "drop", "pass"),
        help="with --may: the answer to what is forbidden (default as-is)",
    )  # fmt: skip


def _where(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(
        "--where", metavar="KEY=VALUE", action="append", default=[],
        help=f"{what} with this label; more than once: with all of them",
    )  # fmt: skip


def _linkage(parser: argparse.ArgumentParser, default: str | None, choices: tuple[str, ...]) -> None:
    parser.add_argument(
        "--linkage", choices=choices, default=default, required=default is None,
        help="how the slots become one program (auto: freplace where the kernel allows it)",
    )  # fmt: skip
    parser.add_argument(
        "--dispatcher-version", choices=("2", "3"),
        help="of libxdp's protocol, with freplace (default: that of the installed libxdp)",
    )  # fmt: skip


def _counters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--counters",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="let the chain count or not",
    )


def _features(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("interface", metavar="IF", nargs="?", help="one interface (default: all)")


def _doctor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("interface", metavar="IF", nargs="?", help="one interface (default: all)")


def _verdicts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("object", metavar="OBJ", help="an object file; it is read, never loaded")
    parser.add_argument(
        "-n", "--prog-name", metavar="NAME", dest="names", action="append",
        help="this program; more than once: several (default: all XDP programs)",
    )  # fmt: skip


def _test(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("object", metavar="OBJ", help="an object file; its program is attached to nothing")
    parser.add_argument(
        "-n", "--prog-name", metavar="NAME", dest="name", help="the program (default: its first)"
    )
    parser.add_argument(
        "--packets", metavar="PACKETS", nargs="+",
        help="builtin (the default), or files (pcap, pcapng, hex; - is standard input)",
    )  # fmt: skip
    parser.add_argument(
        "--expect", metavar="FILE", help="lines of NUMBER VERDICT [FILE:LINE]; exit code 1 if one fails"
    )


def _watch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "interface", metavar="IF", nargs="?", help="one interface (default: all with a chain)"
    )
    parser.add_argument("--per-cpu", action="store_true", help="also what each CPU's packets became")
    _readings(parser)


def _why(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("interface", metavar="IF")
    parser.add_argument("slot", metavar="SLOT", nargs="?", help="a slot number, or the name of a component")
    parser.add_argument("--code", metavar="CODE", help="this return code alone, such as DROP")
    parser.add_argument("--watch", action="store_true", help="go on, a reading each interval")
    _readings(parser)


def _logs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("interface", metavar="IF")
    parser.add_argument(
        "slot", metavar="SLOT", nargs="?", help="one slot's: its number or name (default: all)"
    )
    parser.add_argument("-c", "--count", metavar="N", help="end after so many lines")
    parser.add_argument("--timeout", metavar="S", help="end after so many seconds")
    parser.add_argument(
        "--jsonl", action="store_true", dest="json", default=argparse.SUPPRESS, help="as --json"
    )


def _events(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("interface", metavar="IF", nargs="?", help="one interface (default: all)")
    _readings(parser)


def _account(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("interface", metavar="IF")
    _readings(parser)


def _readings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--jsonl", action="store_true", dest="json", default=argparse.SUPPRESS, help="as --json"
    )
    parser.add_argument(
        "--interval", metavar="S", default="1", help="seconds between two readings (default 1)"
    )
    parser.add_argument("--count", metavar="N", help="end after so many readings")


def _record(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="where to (and FILE.1, the part before)")
    parser.add_argument("interfaces", metavar="IF", nargs="*", default=[], help="these alone (default: all)")
    parser.add_argument(
        "--interval", metavar="S", default="1", help="seconds between two readings (default 1)"
    )
    parser.add_argument("--duration", metavar="S", help="end after so many seconds (default: on ctrl-C)")
    parser.add_argument(
        "--max-size", metavar="SIZE", help="bytes, or 500k, 64M, 2G (default 64M); then the oldest is dropped"
    )
    parser.add_argument("--force", action="store_true", help="write over a file that is there")
    parser.add_argument(
        "--events", action=argparse.BooleanOptionalAction, default=True,
        help="also what becomes of packets after their program (the kernel's XDP tracepoints, policies)",
    )  # fmt: skip


def _replay(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", nargs="?", help="what `xdptui record` wrote")
    parser.add_argument("interface", metavar="IF", nargs="?", help="the interface to select")
    parser.add_argument("--demo", action="store_true", help="the recording that comes with xdptui")
    parser.add_argument(
        "--jsonl", action="store_true", dest="json", default=argparse.SUPPRESS, help="as --json"
    )


def _export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("interfaces", metavar="IF", nargs="*", default=[], help="these alone (default: all)")
    parser.add_argument(
        "--listen", metavar="ADDR", default="127.0.0.1:9435",
        help="HOST:PORT, or PORT on this machine alone (default 127.0.0.1:9435)",
    )  # fmt: skip
    parser.add_argument(
        "--trace", action="store_true", help="also count what has no counters of its own (packets pay for it)"
    )
    parser.add_argument(
        "--time", action="store_true",
        help="also how long chains and slots take (the kernel then times every BPF program of the machine)",
    )  # fmt: skip
    parser.add_argument(
        "--events", action="store_true", help="also packets lost after their program returned, by reason"
    )
    parser.add_argument(
        "--map", metavar="SLOT:NAME", dest="maps", action="append",
        help="also the numbers in this map (256 at most); more than once: several",
    )  # fmt: skip
    parser.add_argument(
        "--sites", action="store_true", help="also count by line of source (64 series a slot at most)"
    )
    parser.add_argument("--once", action="store_true", help="print the metrics, and end")


def _maps(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("interface", metavar="IF")
    parser.add_argument("slot", metavar="SLOT", nargs="?", help="one slot's (default: all)")
    _where(parser, "those of slots")


def _map(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("interface", metavar="IF")
    parser.add_argument(
        "slot", metavar="SLOT", help="a slot number, or the name of a component; - : no chain"
    )
    parser.add_argument("name", metavar="NAME", help="the map's name, or its id")
    parser.add_argument("--filter", metavar="TEXT", help="only entries with these words in key or value")
    parser.add_argument("--most", metavar="N", help="show so many entries at most (default 1000)")
    change = parser.add_mutually_exclusive_group()
    change.add_argument("--set", metavar="KEY=VALUE", help="write one element, or one variable of a section")
    change.add_argument("--delete", metavar="KEY", help="remove one element")
    parser.add_argument("--cpu", metavar="N", help="of a per-CPU map: on this CPU alone (default: on each)")
    parser.add_argument("--yes", action="store_true", help="write it; without, say what would be written")


def _follow(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("interface", metavar="IF")
    parser.add_argument(
        "filter", metavar="FILTER", nargs="*", help="which packets, in tcpdump's words (default: all)"
    )
    parser.add_argument(
        "-c", "--count", metavar="N", default="10", help="end after so many packets (default 10)"
    )
    parser.add_argument(
        "--verdict", metavar="ACTIONS", help="only packets with one of these verdicts: DROP or drop,aborted"
    )
    parser.add_argument(
        "--rate",
        metavar="N",
        help="at most so many a second (default 100; 1000 with --verdict, for it "
        "counts packets with other verdicts, too)",
    )
    parser.add_argument("--timeout", metavar="S", help="end after so many seconds")
    parser.add_argument(
        "--path",
        action="store_true",
        help="also which lines of source ran in each slot: replayed, packet by packet, on copies of the maps",
    )
    parser.add_argument(
        "-w", "--write", metavar="FILE", help="write them as pcapng, verdicts as comments (-: to the output)"
    )
    parser.add_argument(
        "--max-size",
        metavar="SIZE",
        help="of FILE and FILE.1, the part before: 500k, 64M; the oldest is dropped",
    )
    parser.add_argument("--force", action="store_true", help="write over a file that is there")
    parser.add_argument(
        "--jsonl", action="store_true", dest="json", default=argparse.SUPPRESS, help="as --json"
    )


def _trace(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("switch", choices=("on", "off"), help="begin or end")
    parser.add_argument("interface", metavar="IF")


def _clean(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("interface", metavar="IF", nargs="?", help="those of one interface (default: all)")
    parser.add_argument(
        "--force", action="store_true", help="also those that can't be proved stale from here"
    )
    parser.add_argument("--kept", action="store_true", help="also maps that `unload --keep-maps` kept")


def _detach(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("interface", metavar="IF")
    parser.add_argument(
        "--link", metavar="ID", help="the link that holds the program: take the program off at once"
    )


CHANGES: dict[str, tuple[Callable[[argparse.ArgumentParser], None], str]] = {
    "load": (_load, "add programs to the chain of an interface"),
    "unload": (_unload, "remove programs from the chain of an interface"),
    "move": (_move, "move a slot, with a priority to match"),
    "set": (
        _set,
        "change a slot's priority, actions or shadow, switch it off or on, or the chain's counters",
    ),
    "replace": (_replace, "put a new version of a component in its slot, its maps kept"),
    "relink": (_relink, "move a running chain to another linkage"),
    "adopt": (_adopt, "make somebody else's single program a chain's first slot, its maps kept"),
    "undo": (_undo, "go back to the chain before the last change"),
    "apply": (_apply, "make interfaces run what a spec says"),
}


def _epilog() -> str:
    codes = "\n".join(f"  {code:3d}  {text}" for code, text in EXIT_CODES.items())
    return f"exit codes:\n{codes}\n\nA failure changes nothing: the interface runs what it ran before."
