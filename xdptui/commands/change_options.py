# SPDX-License-Identifier: Apache-2.0
"""The options of commands that change chains."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from xdpchain.model.linkage import Linkage
from xdptui.commands.parsing import flag, interfaces, slot_or_labels, where

__all__ = ["CHANGES", "confirmed"]

ADOPT_CONFIRM = "60"
"""Seconds within which an adoption must be confirmed, by default."""


def _load(parser: argparse.ArgumentParser) -> None:
    interfaces(parser)
    parser.add_argument(
        "objects", metavar="OBJ", nargs="+", help="object files; all are added in one step, or none is"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "-n", "--prog-name", metavar="NAME", dest="names", action="append",
        help="the program in each object (default: its first); repeat for several, which share maps",
    )  # fmt: skip
    which.add_argument(
        "-s", "--section", metavar="SECTION", help="the program in this section of each object"
    )
    _config(parser)
    parser.add_argument(
        "-m",
        "--mode",
        metavar="MODE",
        help="native (default), generic (or skb), or best: native where it works, otherwise generic",
    )
    _pin_path(parser)
    _globals(parser)
    parser.add_argument("--at", metavar="SLOT", help="insert at this slot, with a matching priority")
    flag(parser, "--shadow", "run and count it, but continue whatever it returns")
    flag(parser, "--off", "give it a place and its maps, but don't run it")
    _share_maps(parser)
    _linkage(parser, "auto")
    _counters(parser)


def _unload(parser: argparse.ArgumentParser) -> None:
    interfaces(parser)
    parser.add_argument(
        "slots", metavar="SLOT", nargs="*", default=[], help="slot numbers or component names"
    )
    parser.add_argument(
        "-i", "--id", metavar="ID", dest="ids", action="append", help="a component's program id"
    )
    parser.add_argument("-a", "--all", action="store_true", help="the whole chain")
    where(parser, "the slots")
    flag(parser, "--keep-maps", "keep the contents of their maps for a week, for undo")


def _move(parser: argparse.ArgumentParser) -> None:
    interfaces(parser)
    slot_or_labels(parser)
    parser.add_argument("to", metavar="TO", help="the slot to move it to")


def _set(parser: argparse.ArgumentParser) -> None:
    interfaces(parser)
    slot_or_labels(parser, several=True, default="the whole chain")
    _config(parser)
    parser.add_argument(
        "--shadow",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="continue whatever it returns; --no-shadow: let its verdicts count",
    )
    switch = parser.add_mutually_exclusive_group()
    switch.add_argument(
        "--off",
        action="store_const",
        const=True,
        help="don't run it; it keeps its place, ID, maps and counts",
    )
    switch.add_argument("--on", dest="off", action="store_const", const=False, help="run it again")
    parser.add_argument(
        "-m", "--mode", metavar="MODE",
        help="move the chain to native, generic or best mode; no program runs for a moment",
    )  # fmt: skip
    _counters(parser)


def _replace(parser: argparse.ArgumentParser) -> None:
    interfaces(parser)
    slot_or_labels(parser)
    parser.add_argument("object", metavar="OBJ", help="the object file with the new version")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "-n",
        "--prog-name",
        metavar="NAME",
        dest="name",
        help="the program (default: the one with the same name)",
    )
    which.add_argument("-s", "--section", metavar="SECTION", help="the program in this section")
    _pin_path(parser)
    _globals(parser)
    flag(parser, "--fresh-maps", "start with empty maps, keep none")
    _share_maps(parser)


def _pin_path(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-p", "--pin-path", metavar="PIN", help="directory for maps that the object wants pinned"
    )


def _share_maps(parser: argparse.ArgumentParser) -> None:
    flag(parser, "--share-maps", "with several interfaces: one set of maps for all of them")


def _globals(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--global", metavar="NAME=VALUE", dest="globals", action="append",
        help="set the initial value of a global variable; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--map-entries", metavar="NAME=N", action="append",
        help="create a map with N entries instead of the object's number; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--use-map", metavar="SLOT:NAME=NAME", action="append",
        help="use another slot's map in place of its own (the name after =); repeatable",
    )  # fmt: skip


def _relink(parser: argparse.ArgumentParser) -> None:
    interfaces(parser)
    _linkage(parser, None)


def _adopt(parser: argparse.ArgumentParser) -> None:
    interfaces(parser)
    parser.add_argument("object", metavar="OBJ", help="the object file that the program was loaded from")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "-n", "--prog-name", metavar="NAME", dest="name", help="the program (default: the one that runs)"
    )
    which.add_argument("-s", "--section", metavar="SECTION", help="the program in this section")
    _config(parser)
    _pin_path(parser)
    _linkage(parser, "auto")
    _counters(parser)


def _apply(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="the spec (docs/spec.md); -: standard input")
    parser.add_argument("--wait", metavar="SECONDS", help="wait for missing interfaces")
    flag(parser, "--keep-going", "change the other interfaces even if one fails")
    flag(parser, "--fresh-maps", "new versions of programs start with empty maps")
    flag(parser, "--follow", "keep running, and apply it to interfaces that appear later (as a service)")


def confirmed(parser: argparse.ArgumentParser, name: str) -> None:
    default = ADOPT_CONFIRM if name == "adopt" else None
    usual = f" (default {default}; --no-confirm: never)" if default else ""
    parser.add_argument(
        "--confirm",
        metavar="SECONDS",
        default=default,
        help=f"roll back unless confirmed (`xdptui confirm`) within this time{usual}",
    )
    if default:
        parser.add_argument("--no-confirm", action="store_const", const=None, dest="confirm",
                            help=argparse.SUPPRESS)  # fmt: skip
    parser.add_argument(
        "--what-if", metavar="PACKETS", nargs="*", action="append",
        help="send packets through what runs and through the change, away from the interface: builtin (the "
        "default), live (what arrives within a second), ssh (your own connection's), or files (pcap, "
        "pcapng, hex; - is standard input)",
    )  # fmt: skip
    flag(parser, "--even-if-ssh-dies", "make the change even if it would cut your own ssh connection")


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
        help="codes the component may return; any other is counted and reported (any: no policy)",
    )  # fmt: skip
    parser.add_argument(
        "--label", metavar="KEY=VALUE", dest="labels", action="append", default=[],
        help="a label of the slot (KEY=: remove it); repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--otherwise", choices=("as-is", "drop", "pass"),
        help="with --may: what a forbidden code becomes (default as-is)",
    )  # fmt: skip


def _linkage(parser: argparse.ArgumentParser, default: str | None) -> None:
    parser.add_argument(
        "--linkage", choices=("auto", *map(str, Linkage)), default=default, required=default is None,
        help="how the slots become one program (auto: freplace where the kernel allows it)",
    )  # fmt: skip
    parser.add_argument(
        "--dispatcher-version", choices=("2", "3"),
        help="dispatcher version of libxdp's protocol, with freplace (default: that of the installed libxdp)",
    )  # fmt: skip


def _counters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--counters",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="turn the chain's counters on or off",
    )


CHANGES: dict[str, tuple[Callable[[argparse.ArgumentParser], None], str]] = {
    "load": (_load, "add programs to the chain of an interface"),
    "unload": (_unload, "remove programs from the chain of an interface"),
    "move": (_move, "move a slot, giving it a matching priority"),
    "set": (
        _set,
        "change a slot's priority, actions or shadow, turn it or the chain's counters off or on",
    ),
    "replace": (_replace, "replace a component with a new version, keeping its maps"),
    "relink": (_relink, "move a running chain to another linkage"),
    "adopt": (_adopt, "adopt somebody else's program as a chain's first slot, keeping its maps"),
    "undo": (interfaces, "go back to the chain before the last change"),
    "apply": (_apply, "make interfaces run what a spec says"),
}
