# SPDX-License-Identifier: Apache-2.0
"""The options of commands that look, record, export, and clear up: all that change no chain."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from xdptui.commands.parsing import interfaces, slot_or_labels, where

__all__ = ["VIEWS"]


def _status(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("interface", metavar="IF", nargs="?", help="one interface (default: all)")
    where(parser, "interfaces that have a slot")


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
    interfaces(parser)


def _log(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("interface", metavar="IF")
    parser.add_argument("--last", metavar="N", help="the newest N changes only")


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
    where(parser, "interfaces that have a slot")
    parser.add_argument("--per-cpu", action="store_true", help="also what each CPU's packets became")
    _readings(parser)


def _why(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("interface", metavar="IF")
    slot_or_labels(parser, several=True, default="all")
    parser.add_argument("--code", metavar="CODE", help="this return code alone, such as DROP")
    parser.add_argument("--watch", action="store_true", help="go on, a reading each interval")
    _readings(parser)


def _logs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("interface", metavar="IF")
    slot_or_labels(parser, default="all")
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
    slot_or_labels(parser, several=True, default="all")


def _map(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("interface", metavar="IF")
    slot_or_labels(parser, also="; - : no chain")
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
        "--after",
        action="store_true",
        help="also what the network stack did with packets that passed: dropped, and why; for that, each "
        "buffer that the kernel frees is looked at",
    )
    parser.add_argument(
        "-w", "--write", metavar="FILE", help="write them as pcapng, verdicts as comments (-: to the output)"
    )
    parser.add_argument(
        "-s",
        "--snaplen",
        metavar="N",
        default="256",
        help="keep N bytes of each packet (default 256, to 16384)",
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


VIEWS: dict[str, tuple[Callable[[argparse.ArgumentParser], None], str]] = {
    "status": (_status, "what runs on the interfaces, and how it counts"),
    "save": (_save, "write down what runs, as a spec for apply and plan"),
    "confirm": (_decide, "confirm a pending change: keep it"),
    "rollback": (_decide, "roll back a pending change now"),
    "log": (_log, "who changed an interface's chain, when, and what"),
    "features": (_features, "what the drivers and this machine can do"),
    "verdicts": (_verdicts, "what a program can return, and which lines decide it (no root)"),
    "test": (_test, "packets through a program: what decided each, what none reached"),
    "watch": (_watch, "live counters, as a table or as JSON lines"),
    "why": (_why, "which lines of source decided what became of the packets"),
    "record": (_record, "keep what runs and what it counts in a file"),
    "replay": (_replay, "look at a recording, on any machine"),
    "export": (_export, "counters for Prometheus"),
    "maps": (_maps, "the maps of the components on an interface"),
    "map": (_map, "what a map holds; or write one of its elements"),
    "follow": (_follow, "packets on their way: what each slot returned and changed"),
    "logs": (_logs, "what programs print (bpf_printk), with the slot and the line of source"),
    "events": (_events, "packets lost after their program, why, and where others were sent"),
    "account": (_account, "what an interface counted, against what its chain counted"),
    "time": (_account, "how long a chain takes, and each slot of it"),
    "trace": (_trace, "count what has no counters of its own, until told otherwise"),
    "detach": (_detach, "say who holds a program by a bpf_link, and take it off"),
    "clean": (_clean, "remove pins that nobody uses any more"),
    "doctor": (_doctor, "what is wrong with this machine or an interface, and the fix"),
}
"""What builds the options of each command that changes no chain, and what it does."""
