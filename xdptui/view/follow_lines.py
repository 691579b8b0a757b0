# SPDX-License-Identifier: Apache-2.0
"""Followed packets as lines: one row per packet, and one packet in full. Pure."""

from __future__ import annotations

from xdpchain.follow.followed import Followed, Step, changes
from xdpchain.follow.pcapng import after, code_name
from xdpchain.model.actions import Action
from xdpchain.trial.packets.describe import describe
from xdptui.view.cells import Cell, clip, left, right
from xdptui.words.follow_words import CHANGED, change_lines, duration
from xdptui.words.path_words import Paths, arrivals, path_lines
from xdptui.words.site_words import site_words

__all__ = ["detail_lines", "packet_cells", "packet_head", "packet_name"]

NUMBER, LENGTH, PATH, VERDICT = 4, 6, 18, 9
A_LINE = 16
"""Bytes in a line of the hexadecimal view."""

Parts = list[tuple[str, str]]
"""Texts with the names of their styles."""


def packet_head(width: int, position: str) -> tuple[Cell, ...]:
    """The head of the list."""
    name = _name_width(width)
    return (
        right("#", NUMBER), left("  PACKET" + (f"  {position}" if position else ""), name + 2),
        right("BYTES", LENGTH), left("  PATH", PATH + 2), left("VERDICT", VERDICT),
    )  # fmt: skip


def packet_cells(packet: Followed, width: int) -> tuple[Cell, ...]:
    """One packet: what it is, what each slot returned (one letter each, marked if it changed the packet), and
    the verdict.
    """
    name = _name_width(width)
    path: list[Cell] = [Cell("  ")]
    room = PATH
    for step in packet.steps:
        text = f"{_letter(step.code)}{CHANGED if step.changes or step.resized else ''}"
        if len(text) > room:
            path[-1] = Cell("…" * len(path[-1].text), "note")
            break
        path.append(Cell(text, _style(step.code)))
        room -= len(text)
    return (
        right(str(packet.number), NUMBER, "index"),
        Cell("  "),
        left(packet_name(packet), name, "name"),
        right(str(packet.entry.length), LENGTH, "num"),
        *path,
        Cell(" " * room),
        left(code_name(packet.verdict), VERDICT, _style(packet.verdict)),
    )


def packet_name(packet: Followed) -> str:
    """What the packet is, tcpdump style."""
    return describe(packet.entry.head, packet.layer)


def _name_width(width: int) -> int:
    return max(8, width - NUMBER - LENGTH - PATH - VERDICT - 4)


def _letter(code: int) -> str:
    return Action(code).letter if code in Action.__members__.values() else "?"


def _style(code: int) -> str:
    return f"on-{_letter(code)}" if code in Action.__members__.values() else "error"


def detail_lines(packet: Followed, width: int, paths: Paths | None = None) -> list[Parts]:
    """One packet in full: its path from slot to slot with what each changed and the lines that ran in it (if
    ``paths`` has them), and the packet as it left, with changed bytes marked.
    """
    lines: list[Parts] = [
        [(f"{packet_name(packet)}, {packet.entry.length} bytes", "name")],
        [(f"     {'came in':<18}{packet.entry.length:>6} B  on queue {packet.queue}, CPU {packet.cpu}", "")],
    ]
    for number, (step, view) in enumerate(arrivals(packet)):
        lines += _step(number, step, width)
        if paths and number in paths:
            texts = path_lines(step, view, paths[number])
            lines += [[(clip(f"       {text}", width), "label")] for text in texts]
    final = packet.final
    lines.append(
        [
            ("  =  ", "title"),
            (f"{code_name(packet.verdict):<18}", _style(packet.verdict)),
            (f"{final.length:>6} B  {duration(packet.ns):>8}, recording included", ""),
        ]
    )
    lines += [[(clip(f"     {text}", width), "")] for text in after(packet)]
    lines += [[("", "")], *_hex(packet)]
    return lines


def _step(number: int, step: Step, width: int) -> list[Parts]:
    changed = CHANGED if step.changes or step.resized else " "
    lines: list[Parts] = [
        [
            (f" {number:>2}  ", "index"),
            (f"{clip(step.name, 17):<18}", "name"),
            (f"{step.view.length:>6} B  {duration(step.ns):>8}  ", ""),
            (f"{changed} ", "mark"),
            (code_name(step.code), _style(step.code)),
        ]
    ]
    if step.site is not None:
        lines.append([(clip(f"       {site_words(step.site)}", width), "line")])
    lines += [[(clip(f"       {CHANGED} {text}", width), "changed")] for text in change_lines(step)]
    return lines


def _hex(packet: Followed) -> list[Parts]:
    """The packet as it left; each byte that differs from what came in has ``>`` before it and
    another style.
    """
    final = packet.final
    odd: set[int] = set()
    for change in changes(packet.entry, final, sum(step.moved for step in packet.steps)):
        odd.update(range(change.at_after, change.at_after + len(change.after)))
    what = "as it arrived and left" if final == packet.entry else "as it left; > marks changes"
    lines: list[Parts] = [[(f"the packet {what}", "label")]]
    for at in range(0, len(final.head), A_LINE):
        piece = final.head[at : at + A_LINE]
        parts: Parts = [(f"{at:04x} ", "index")]
        for place, byte in enumerate(piece, at):
            changed = place in odd
            parts.append((f"{'>' if changed else ' '}{byte:02x}", "changed" if changed else ""))
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in piece)
        parts.append((" " * (3 * (A_LINE - len(piece))) + "  " + text, "label"))
        lines.append(parts)
    if final.length > len(final.head):
        lines.append([(f"and {final.length - len(final.head)} bytes more", "label")])
    return lines
