# SPDX-License-Identifier: Apache-2.0
"""The options of commands that change no chain: view, record, export, clean up."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from xdptui.commands.parsing import as_json, flag, interfaces, slot_or_labels, where

__all__ = ["VIEWS"]


def _one_or_all(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("interface", metavar="IF", nargs="?", help="one interface (default: all)")


def _status(parser: argparse.ArgumentParser) -> None:
    _one_or_all(parser)
    where(parser, "interfaces that have a slot")
    flag(parser, "--all-netns", "what runs in every network namespace that can be reached")


def _save(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("interfaces", metavar="IF", nargs="+", help="interfaces, or globs such as 'eth*'")
    parser.add_argument(
        "-o", "--output", metavar="FILE",
        help="output file (default or -: standard output); an existing spec is updated, keeps comments",
    )  # fmt: skip
    parser.add_argument("--objects", metavar="DIR", help="write the object files from the kernel to DIR")
    flag(parser, "--maps", "include map contents")
    flag(parser, "--force", "replace FILE, whatever it contains")


def _log(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("interface", metavar="IF")
    parser.add_argument("--last", metavar="N", help="only the last N changes")


def _verdicts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("object", metavar="OBJ", help="an object file; it is only read, never loaded")
    parser.add_argument(
        "-n", "--prog-name", metavar="NAME", dest="names", action="append",
        help="this program; repeatable (default: all XDP programs)",
    )  # fmt: skip


def _test(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("object", metavar="OBJ", help="an object file; its program is not attached")
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
    flag(parser, "--per-cpu", "also verdicts per CPU")
    flag(parser, "--per-queue", "also what the driver counts per RX queue, in native mode")
    _readings(parser)


def _why(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("interface", metavar="IF")
    slot_or_labels(parser, several=True, default="all")
    parser.add_argument("--code", metavar="CODE", help="only this return code, such as DROP")
    flag(parser, "--watch", "repeat, one reading per interval")
    _readings(parser)


def _logs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("interface", metavar="IF")
    slot_or_labels(parser, default="all")
    parser.add_argument("-c", "--count", metavar="N", help="stop after N lines")
    parser.add_argument("--timeout", metavar="S", help="stop after S seconds")
    parser.add_argument(
        "--streams",
        action=argparse.BooleanOptionalAction,
        help="read BPF streams, which takes the lines away from other readers (default: those of chains "
        "that xdptui can edit)",
    )
    as_json(parser)


def _events(parser: argparse.ArgumentParser) -> None:
    _one_or_all(parser)
    _readings(parser)


def _account(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("interface", metavar="IF")
    _readings(parser)


def _readings(parser: argparse.ArgumentParser) -> None:
    as_json(parser)
    parser.add_argument("--interval", metavar="S", default="1", help="seconds between readings (default 1)")
    parser.add_argument("--count", metavar="N", help="stop after N readings")


def _record(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="output file (and FILE.1, the previous part)")
    parser.add_argument("interfaces", metavar="IF", nargs="*", default=[], help="only these (default: all)")
    parser.add_argument("--interval", metavar="S", default="1", help="seconds between readings (default 1)")
    parser.add_argument("--duration", metavar="S", help="stop after S seconds (default: on ctrl-C)")
    parser.add_argument(
        "--max-size",
        metavar="SIZE",
        help="bytes, or 500k, 64M, 2G (default 64M); beyond that the oldest readings are removed",
    )
    flag(parser, "--force", "overwrite an existing file")
    parser.add_argument(
        "--events", action=argparse.BooleanOptionalAction, default=True,
        help="also what happens to packets after their program (kernel XDP tracepoints, policies)",
    )  # fmt: skip


def _replay(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", nargs="?", help="a recording made by `xdptui record`")
    parser.add_argument("interface", metavar="IF", nargs="?", help="the interface to select")
    flag(parser, "--demo", "the recording that comes with xdptui")
    as_json(parser)


def _export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("interfaces", metavar="IF", nargs="*", default=[], help="only these (default: all)")
    parser.add_argument(
        "--listen", metavar="ADDR", default="127.0.0.1:9435",
        help="HOST:PORT, or PORT on this machine only (default 127.0.0.1:9435)",
    )  # fmt: skip
    flag(parser, "--trace", "also count what has no counters of its own (slows packets down)")
    flag(
        parser,
        "--time",
        "also how long chains and slots take (the kernel then times every BPF program on the machine)",
    )
    flag(parser, "--events", "also packets lost after their program returned, by reason")
    parser.add_argument(
        "--map", metavar="SLOT:NAME", dest="maps", action="append",
        help="also the numbers in this map (256 at most); repeatable",
    )  # fmt: skip
    flag(parser, "--sites", "also count by source line (at most 64 series per slot)")
    flag(parser, "--once", "print the metrics and exit")


def _maps(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("interface", metavar="IF")
    slot_or_labels(parser, several=True, default="all")


def _map(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("interface", metavar="IF")
    slot_or_labels(parser, also="; -: not in a chain")
    parser.add_argument("name", metavar="NAME", help="the map's name or ID")
    parser.add_argument("--filter", metavar="TEXT", help="only entries with these words in key or value")
    parser.add_argument("--most", metavar="N", help="show at most N entries (default 1000)")
    change = parser.add_mutually_exclusive_group()
    change.add_argument("--set", metavar="KEY=VALUE", help="write one element, or one variable of a section")
    change.add_argument("--delete", metavar="KEY", help="remove one element")
    parser.add_argument("--cpu", metavar="N", help="for a per-CPU map: only on this CPU (default: on all)")
    flag(parser, "--yes", "write it; without --yes, only show what would be written")


def _follow(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("interface", metavar="IF")
    parser.add_argument(
        "filter", metavar="FILTER", nargs="*", help="which packets, in tcpdump syntax (default: all)"
    )
    parser.add_argument("-c", "--count", metavar="N", default="10", help="stop after N packets (default 10)")
    parser.add_argument(
        "--verdict", metavar="ACTIONS", help="only packets with one of these verdicts: DROP or drop,aborted"
    )
    parser.add_argument(
        "--rate",
        metavar="N",
        help="at most N a second (default 100; 1000 with --verdict, which "
        "also counts packets with other verdicts)",
    )
    parser.add_argument("--timeout", metavar="S", help="stop after S seconds")
    flag(
        parser,
        "--path",
        "also which source lines ran in each slot: replayed, packet by packet, on copies of the maps",
    )
    flag(
        parser,
        "--after",
        "also what the network stack did with packets that passed (dropped, and why); this examines "
        "every buffer the kernel frees",
    )
    parser.add_argument(
        "-w",
        "--write",
        metavar="FILE",
        help="write them as pcapng, with verdicts as comments (-: standard output)",
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
        help="of FILE and FILE.1, the previous part: 500k, 64M; beyond that the oldest packets are removed",
    )
    flag(parser, "--force", "overwrite an existing file")
    as_json(parser)


def _trace(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("switch", choices=("on", "off"), help="start or stop")
    parser.add_argument("interface", metavar="IF")


def _clean(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("interface", metavar="IF", nargs="?", help="only on this interface (default: all)")
    flag(parser, "--force", "also pins that can't be proved stale from here")
    flag(parser, "--kept", "also maps kept by `unload --keep-maps`")


def _pending(parser: argparse.ArgumentParser) -> None:
    interfaces(parser, "each on which a change is pending is decided")


def _detach(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("interface", metavar="IF")
    parser.add_argument("--link", metavar="ID", help="the link that holds the program: detach it now")


VIEWS: dict[str, tuple[Callable[[argparse.ArgumentParser], None], str]] = {
    "status": (_status, "what runs on the interfaces, with counters"),
    "save": (_save, "write what runs to a spec, for apply and plan"),
    "confirm": (_pending, "confirm a pending change: keep it"),
    "rollback": (_pending, "roll back a pending change now"),
    "log": (_log, "who changed an interface's chain, when, and how"),
    "features": (_one_or_all, "what drivers and this machine support"),
    "verdicts": (_verdicts, "what a program can return, and which lines decide it (root not needed)"),
    "test": (_test, "send packets through a program: what decided each, what none reached"),
    "watch": (_watch, "live counters, as a table or JSON lines"),
    "why": (_why, "which source lines decided what happened to the packets"),
    "record": (_record, "record what runs and its counters to a file"),
    "replay": (_replay, "replay a recording, on any machine"),
    "export": (_export, "counters for Prometheus"),
    "maps": (_maps, "list the maps of the components on an interface"),
    "map": (_map, "show what a map holds, or write one of its elements"),
    "follow": (_follow, "follow packets: what each slot returned and changed"),
    "logs": (_logs, "what programs print (bpf_printk, BPF streams), with slot and source line"),
    "events": (_events, "packets lost after their program returned, and why; where others were sent"),
    "account": (_account, "compare what an interface counted with what its chain counted"),
    "time": (_account, "how long a chain and each of its slots take"),
    "trace": (_trace, "count what has no counters of its own, until turned off"),
    "detach": (_detach, "show who holds a program by a bpf_link, or detach it"),
    "clean": (_clean, "remove pins that nobody uses any more"),
    "doctor": (_one_or_all, "check this machine or an interface: what is wrong, and the fix"),
}
"""For each command that changes no chain, the function that builds its options, and what it does."""
