# SPDX-License-Identifier: Apache-2.0
"""A packet's replayed path through the source of its slots, as text and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from xdpchain.follow.followed import Followed, Step, View
from xdpchain.follow.pcapng import code_name
from xdpchain.trial.slot_paths import PathLine, SlotPath
from xdptui.words.printable import printable

__all__ = ["Paths", "arrivals", "path_document", "path_lines"]

Paths = Mapping[int, SlotPath | str]
"""By slot of a followed packet: its replay, or why there is none."""


def arrivals(packet: Followed) -> Iterator[tuple[Step, View]]:
    """Each slot that ran, and the packet as it reached the slot."""
    view = packet.entry
    for step in packet.steps:
        yield step, view
        view = step.view


def path_lines(step: Step, view: View, path: SlotPath | str) -> list[str]:
    """How reliable the replay is, then one line per source line that ran; → marks where a condition
    led on.
    """
    if isinstance(path, str):
        return [f"no path through {printable(step.name)}: {printable(path)}"]
    same = path.code == step.code
    doubt = "" if same else f", which returned {code_name(path.code)} instead of {code_name(step.code)}"
    cut = f", of {len(view.head)} of its {view.length} bytes" if len(view.head) < view.length else ""
    lines = [f"path through {printable(step.name)}, replayed on copies of its maps{cut}{doubt}:"]
    came = " "
    for line in path.lines:
        lines.append(f"{came} {_place(line)}")
        came = "→" if line.branch else " "
    return lines


def _place(replayed_line: PathLine) -> str:
    if replayed_line.line is None:
        return f"{replayed_line.function or 'the program'}, instruction {replayed_line.insn}"
    return f"{replayed_line.line.file}:{replayed_line.line.number}  {replayed_line.line.text}"


def path_document(step: Step, path: SlotPath | str) -> dict[str, Any]:
    """``{"replayed", "same", "code", "lines", "why"}`` of docs/cli.md."""
    if isinstance(path, str):
        return {"replayed": False, "same": None, "code": None, "lines": [], "why": path}
    lines = [
        {
            "function": line.function,
            "file": line.line.file if line.line else None,
            "line": line.line.number if line.line else None,
            "text": line.line.text if line.line else f"instruction {line.insn}",
            "branch": line.branch,
        }
        for line in path.lines
    ]
    return {"replayed": True, "same": path.code == step.code, "code": path.code, "lines": lines, "why": ""}
