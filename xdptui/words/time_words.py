# SPDX-License-Identifier: Apache-2.0
"""How long a chain takes, as lines. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdpchain.frozen import frozen
from xdptui.words.numbers import UNKNOWN, bar, short
from xdptui.words.printable import printable

if TYPE_CHECKING:
    from xdpchain.trial.timing import LookingCost, RunTime, SlotTimes

__all__ = ["Times", "time_lines"]

Part = tuple[str, str]
"""A text and its style, in Textual's notation."""

DIM, HEAD = "$foreground 65%", "bold $primary"
NAME, CELL = 26, 6


@frozen
class Times:
    """``run`` is the whole chain on incoming packets; ``slots`` is None if they are not timed, and ``why``
    says why ("" if that is still to come).
    """

    run: RunTime
    cost: LookingCost
    slots: SlotTimes | None
    why: str = ""


def time_lines(found: Times, width: int) -> list[list[Part]]:
    """A list of parts for each line."""
    lines = [*_whole(found), [("", "")]]
    if found.slots is None:
        lines.append([(printable(found.why) or "timing each slot on test packets…", DIM)])
        return lines
    lines += [*_slots(found.slots, width), [("", "")]]
    return lines + _frames(found.slots, width)


def _ns(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.0f}"


def _whole(found: Times) -> list[list[Part]]:
    run, cost = found.run, found.cost
    mean = "no packets arrived" if run.mean_ns is None else f"{run.mean_ns:.0f} ns per packet"
    figures = f"{mean}, {short(run.rate)} packets/s, {run.share:.2%} of a CPU"
    return [
        [("Whole chain", HEAD), (f"  {figures}", "")],
        [(f"  of which about {cost.clock_ns} ns are the kernel's own clock reading", DIM)],
        [(f"  measuring adds about {cost.extra_ns} ns to each run of each BPF program here", DIM)],
    ]


def _slots(times: SlotTimes, width: int) -> list[list[Part]]:
    head = f"{'Slots, on test packets':{NAME + 3}}{'ns':>{CELL}}{'reached by':>13}"
    lines: list[list[Part]] = [[(head, HEAD)]]
    medians = [times.of_slot(place) for place in range(len(times.names))]
    whole = sum(median or 0.0 for median in medians)
    room = max(0, min(24, width - len(head) - 2))
    for place, (name, median) in enumerate(zip(times.names, medians, strict=True)):
        reached = f"{times.reached(place)} of {len(times.frames)}"
        text = f"{place:>2} {printable(name)[:NAME]:{NAME}}{_ns(median):>{CELL}}{reached:>13}"
        lines.append([(f"{text}  ", ""), (bar(median or 0.0, whole, room), "$primary")])
    return lines


def _frames(times: SlotTimes, width: int) -> list[list[Part]]:
    slots = range(len(times.names))
    cell = max(4, min(CELL, (width - NAME - 2 * CELL - 3) // max(1, len(slots))))
    heads = "".join(f"{place:>{cell}}" for place in slots)
    lines: list[list[Part]] = [[(f"{'Packets, ns a slot':{NAME}}{'all':>{CELL}}{heads}", HEAD)]]
    for frame in times.frames:
        cells = "".join(f"{_ns(slot):>{cell}}" for slot in frame.slots)
        mark = "" if frame.steady else " ~"
        name = frame.name[: NAME - 1]
        lines.append([(f"{name:{NAME}}{_ns(frame.ns):>{CELL}}{cells}", ""), (mark, DIM)])
    if not all(frame.steady for frame in times.frames):
        lines.append([("~ each run changes the packet's path: timed one by one, less precisely", DIM)])
    return lines
