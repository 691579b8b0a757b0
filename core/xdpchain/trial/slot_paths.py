# SPDX-License-Identifier: Apache-2.0
"""The path of a packet through a slot's source: the packet runs once more on copies of the maps, through a
program that marks its branches (BPF_PROG_TEST_RUN).

That path may differ: maps have changed since the packet arrived, other packets are missing, and a captured
packet may be truncated. Comparing the return codes shows whether it took the same path.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from xdpchain.bytecode.deciding import Edge
from xdpchain.bytecode.instructions import patch_maps
from xdpchain.bytecode.path_marks import WAY_SIZE, WayMarks, mark_way, way_of
from xdpchain.bytecode.sites import SourceLine
from xdpchain.closing import Closing
from xdpchain.errors import InvalidInput, Unsupported, XdpChainError
from xdpchain.frozen import frozen
from xdpchain.linkage.linkable_slots import Part, gather_parts
from xdpchain.model.running import Running
from xdpchain.objects.verdicts import source_of_linkable
from xdpchain.sys import bpf

from .packets.packet import SHORTEST
from .reached import load_woven, make_cell

__all__ = ["PathLine", "PathTrial", "SlotPath"]


@frozen
class PathLine:
    """A line that ran, in its function. ``branch``: it ends in a condition, and the next line is where that
    led. ``line`` is None if the program has no line information; then ``insn`` is the first instruction.
    """

    function: str
    line: SourceLine | None
    insn: int
    branch: bool


@frozen
class SlotPath:
    """What a slot returned for a packet that ran through it once more, and the lines that ran."""

    code: int
    lines: tuple[PathLine, ...]


class PathTrial(Closing):
    """The slots of a running xdptui chain on copies of its maps, until closed."""

    def __init__(self, running: Running) -> None:
        """Raises InvalidInput, KernelRefused, PermissionDenied, MapTooLarge."""
        chain = running.chain
        if chain is None:
            raise InvalidInput(
                f"the path through what runs on {running.interface} can't be replayed",
                running.note or "it is not an xdptui chain",
            )
        with contextlib.ExitStack() as held:
            self._parts = gather_parts(chain, running, held, cloning=True)
            self._cell = held.enter_context(make_cell(WAY_SIZE))
            self._loaded: dict[int, tuple[bpf.Fd, WayMarks]] = {}
            self._held = held.pop_all()

    def run(self, slot: int, packet: bytes) -> SlotPath:
        """Run a packet as it arrived at a slot. Raises KernelRefused, PermissionDenied, Unsupported."""
        part = self._parts[slot]
        if slot not in self._loaded:
            self._loaded[slot] = self._load(part)
        program, marks = self._loaded[slot]
        bpf.map_update(self._cell, bytes(4), bytes(WAY_SIZE))
        try:
            ran = bpf.prog_test_run(program, packet.ljust(SHORTEST, b"\0"))
        except bpf.BpfError as error:
            raise bpf.refusal(error, "the replay can't be run") from error
        passed = marks.passed(bpf.map_lookup(self._cell, bytes(4), WAY_SIZE))
        return SlotPath(ran.code, tuple(_lines(part, marks, passed)))

    def _load(self, part: Part) -> tuple[bpf.Fd, WayMarks]:
        unit = part.unit
        code = patch_maps(unit.instructions, unit.references, {n: fd.fileno() for n, fd in part.maps.items()})
        marks = mark_way(code, unit.stack[0] if unit.stack else 0, self._cell.fileno())
        if marks is None:
            raise Unsupported(
                f"the path through {part.slot.name} can't be traced",
                f"it uses {unit.stack[0]} bytes of stack, which leaves no room to mark every branch",
            )
        return self._held.enter_context(load_woven(unit, marks.woven, part.slot.component)), marks

    def close(self) -> None:
        self._held.close()


def paths_of_packet(running: Running, arrivals: Sequence[bytes]) -> dict[int, SlotPath | str]:
    """Run one packet as it arrived at each slot: by slot its path, or why there is none."""
    paths: dict[int, SlotPath | str] = {}
    try:
        with PathTrial(running) as trial:
            for slot, data in enumerate(arrivals):
                try:
                    paths[slot] = trial.run(slot, data)
                except XdpChainError as error:
                    paths[slot] = error.why or error.what
    except XdpChainError as error:
        return dict.fromkeys(range(len(arrivals)), error.why or error.what)
    return paths


def _lines(part: Part, marks: WayMarks, passed: frozenset[Edge]) -> list[PathLine]:
    source = source_of_linkable(part.unit)
    lines: list[PathLine] = []
    for at, led in way_of(part.unit.instructions, passed):
        line, function, branch = source.line(at), source.function(at), led is not None
        last = lines[-1] if lines else None
        if last is not None and last.line == line and (line is not None or not (branch or last.branch)):
            if branch and not last.branch:
                lines[-1] = PathLine(function, line, last.insn, True)
            continue
        lines.append(PathLine(function, line, at, branch))
    return lines
