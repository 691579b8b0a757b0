# SPDX-License-Identifier: Apache-2.0
"""The places of a function whose values may become its code: registers and stack slots. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from . import opcodes as op
from .flow_graph import FlowGraph, Function
from .instructions import Instruction, base_register, successors, whole
from .opcodes import Helper

__all__ = ["RESULT", "Places"]

RESULT = 0
"""The place r0. Places are bits: registers 0 to 9, then stack slots."""
_SLOTS = 10


class Places:
    """One function's trackable stack slots, and which places are live at each instruction."""

    def __init__(self, graph: FlowGraph, function: Function) -> None:
        self.lines = {at: line for at, line in whole(graph.lines) if function.start <= at < function.end}
        self.start = function.start
        self.slots = _slots(self.lines)

    def slot(self, line: Instruction) -> int | None:
        """The place that a load or store accesses."""
        if base_register(line) != op.FRAME or line.code & op.MODE not in (op.MEM, op.MEMSX):
            return None
        return self.slots.get((line.offset, op.BYTES[line.code & op.SIZE]))

    def overwritten(self, line: Instruction) -> list[int]:
        """The places of slots that a store changes partly, or in a way that is not tracked."""
        if not op.is_store(line.code) or line.target != op.FRAME:
            return []
        low, high = line.offset, line.offset + op.BYTES[line.code & op.SIZE]
        own = self.slot(line)
        return [
            place
            for (start, size), place in self.slots.items()
            if start < high and low < start + size and place != own
        ]

    def liveness(self, entered: Mapping[int, int]) -> dict[int, int]:
        """The places, as bits, whose values may become the code, before each instruction; ``entered``: those
        that functions read when they are called.
        """
        before: dict[int, list[int]] = {at: [] for at in self.lines}
        for at, line in self.lines.items():
            for after in successors(at, line):
                before.setdefault(after, []).append(at)
        live = dict.fromkeys(self.lines, 0)
        todo = [at for at, line in self.lines.items() if line.code == op.EXIT]
        for at in todo:
            live[at] = 1 << RESULT
        todo = [source for at in todo for source in before[at]]
        while todo:
            at = todo.pop()
            line = self.lines[at]
            after = 0
            for following in successors(at, line):
                after |= live.get(following, 0)
            now = self._before(at, line, after, entered)
            if now | live[at] != live[at]:
                live[at] |= now
                todo += before[at]
        return live

    def _before(self, at: int, line: Instruction, after: int, entered: Mapping[int, int]) -> int:
        kind = line.code & op.CLASS
        if line.code == op.CALL:
            read = 0
            if line.source == op.CALL_FUNCTION and after & 1 << RESULT:
                read = entered.get(at + line.immediate + 1, 0) & 0b111110
            return after & ~0b111111 | read
        if kind in (op.ALU, op.ALU64):
            if not after >> line.target & 1 or line.target == op.FRAME:
                return after
            keeps = line.code & op.OPERATION != op.MOV
            reads = 1 << line.source if line.code & op.X and line.source != op.FRAME else 0
            return (after if keeps else after & ~(1 << line.target)) | reads
        if kind in (op.LD, op.LDX):
            slot = self.slot(line) if kind == op.LDX else None
            now = after & ~(1 << line.target)
            return now | 1 << slot if slot is not None and after >> line.target & 1 else now
        if op.is_store(line.code):
            slot = self.slot(line)
            for place in self.overwritten(line):
                after &= ~(1 << place)
            if slot is not None and after >> slot & 1:
                return after & ~(1 << slot) | (1 << line.source if kind == op.STX else 0)
            if line.code & op.MODE == op.ATOMIC:
                return after & ~(1 << line.source) & ~(1 << RESULT)
        return after


def _slots(lines: Mapping[int, Instruction]) -> dict[tuple[int, int], int]:
    """The slots (offset, bytes) that plain loads and stores access and no pointer reaches, and their places.
    Slots may overlap: storing to one changes the other.
    """
    touched: set[tuple[int, int]] = set()
    lowest = 0
    ordered = list(lines.items())
    for place, (_, line) in enumerate(ordered):
        kind = line.code & op.CLASS
        if base_register(line) == op.FRAME and line.code & op.MODE in (op.MEM, op.MEMSX):
            size = op.BYTES[line.code & op.SIZE]
            if size >= 4:
                touched.add((line.offset, size))
        copies = kind in (op.ALU, op.ALU64) and line.code & op.X and line.source == op.FRAME
        if copies or (kind == op.STX and line.source == op.FRAME):
            lowest = min(lowest, _address(ordered, place))
    safe = sorted(slot for slot in touched if not lowest or slot[0] + slot[1] <= lowest)
    return {slot: _SLOTS + n for n, slot in enumerate(safe)}


def _address(lines: list[tuple[int, Instruction]], place: int) -> int:
    """The lowest stack offset that may be written through the copy of the frame pointer made here; 0: none.
    Anything above an address may belong to the object at that address.
    """
    copy = lines[place][1]
    if copy.code != op.MOV64_REG or place + 1 == len(lines):
        return -op.STACK
    added = lines[place + 1][1]
    if (added.code, added.target) != (op.ADD64_IMM, copy.target):
        return -op.STACK
    for _, line in lines[place + 2 :]:
        if line.code == op.CALL:
            reads = line.source == op.CALL_HELPER and line.immediate in READING
            return 0 if reads and copy.target <= 5 else added.immediate
        if line.code & op.CLASS in (op.JMP, op.JMP32) or copy.target in (line.source, line.target):
            break
    return added.immediate


READING = (
    Helper.MAP_LOOKUP_ELEM,
    Helper.MAP_UPDATE_ELEM,
    Helper.MAP_DELETE_ELEM,
    Helper.PERF_EVENT_OUTPUT,
    Helper.RINGBUF_OUTPUT,
)
"""Helpers that do not write through their arguments."""
