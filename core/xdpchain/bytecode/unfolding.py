# SPDX-License-Identifier: Apache-2.0
"""Unfold a program's main function: as many exits as it has return codes. Pure.

Compilers let many paths meet before one exit, each with its code in a register. Here such a path gets its own
copy of what follows, so that its exit knows the code and can be a jump to wherever that leads.

This is a walk over a graph of (instruction, what is known there about values that may become the code). Known
are constants, and the results of comparisons with them. Only 32 bits count, as for the kernel. Values are
tracked through registers, and through the stack unless a pointer to it may have changed them. If there are
too many copies, less is remembered; an unknown code costs a test, never an error.

A path may also remember which marked edges it passed (`Marks`), so that exits are distinguished by that too.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from . import opcodes as op
from .assembler import Assembly
from .instructions import Instruction, names_function, successors, whole

__all__ = ["Exit", "Marks", "Unfolded", "lay_out", "reads_context", "unfold"]

Place = tuple[int, int]
"""A register (its number, 0), or a place on the stack (negative offset, bytes)."""

Known = tuple[tuple[Place, int], ...]
Node = tuple[int, Known]
"""An instruction's index, and what is known when it is reached."""

RESULT: Place = (0, 0)

Marks = Mapping[tuple[int, int], Sequence[tuple[int, int]]]
"""What paths along an edge remember from then on: a value for each subject (a number)."""

_MARK = 16
"""Marks are stored as what is known about registers from this number on, which no program has."""

READING = frozenset(
    (
        op.Helper.MAP_LOOKUP_ELEM,
        2,  # bpf_map_update_elem
        3,  # bpf_map_delete_elem
        6,  # bpf_trace_printk
        op.Helper.PERF_EVENT_OUTPUT,
        28,  # bpf_csum_diff
        op.Helper.RINGBUF_OUTPUT,
        op.Helper.XDP_STORE_BYTES,
    )
)
"""Helpers that only read the stack through pointers they are given."""

EVERYWHERE = 1 << 30
REACHES = (EVERYWHERE, 48, 12, 3)
"""The most instructions before an exit at which something is remembered; the first reach that makes no more
copies than `_allowed` is used.
"""


class Exit(NamedTuple):
    """Where the function ends: its return code (32 bits; None: unknown), and the marks passed, by subject."""

    code: int | None
    marks: tuple[tuple[int, int], ...] = ()


class _Callee(NamedTuple):
    """A function, by where it began."""

    start: int


class _Layout(NamedTuple):
    """A function's final layout: for each instruction its old index (`_NEW`: an added jump) and what it
    refers to (a number: the instruction at that place); and which places others refer to.
    """

    lines: Sequence[tuple[int, Exit | _Callee | int | None]]
    places: Sequence[int]


_NEW = -1
_JUMP = Instruction(op.GOTO, 0, 0, 0, 0)


@dataclass(frozen=True)
class Unfolded:
    """``ways`` leads from each node to those that may follow, in the order of `successors`. ``marks`` are
    those that are remembered. Everything derived from it is cached.
    """

    lines: Sequence[Instruction]
    ways: Mapping[Node, tuple[Node, ...]]
    marks: Marks = field(default_factory=dict)

    @cached_property
    def exits(self) -> frozenset[Exit]:
        """How the function can end."""
        return frozenset(_exit(node) for node in self.ways if self.lines[node[0]].code == op.EXIT)

    @property
    def codes(self) -> frozenset[int | None]:
        """The return codes; None stands for an unknown one."""
        return frozenset(exit.code for exit in self.exits)

    @cached_property
    def reads_context(self) -> bool:
        return reads_context(self.lines)

    @cached_property
    def context(self) -> Mapping[Exit, int]:
        """A register that holds the context at an exit, for those where one does."""
        holding: dict[Node, frozenset[int]] = {(0, ()): frozenset((1,))}
        waiting = list(holding)
        while waiting:
            node = waiting.pop()
            after = _holding(self.lines[node[0]], holding[node])
            for following in self.ways[node]:
                before = holding.get(following)
                now = after if before is None else before & after
                if now != before:
                    holding[following] = now
                    waiting.append(following)
        found: dict[Exit, frozenset[int]] = {}
        for node, registers in holding.items():
            if self.lines[node[0]].code == op.EXIT:
                end = _exit(node)
                found[end] = found.get(end, registers) & registers
        return {end: max(registers) for end, registers in found.items() if registers}

    @cached_property
    def layout(self) -> _Layout:
        return _laid_out(self)


def unfold(lines: Sequence[Instruction], *, reach: int = EVERYWHERE, marks: Sequence[Marks] = ()) -> Unfolded:
    """Unfold the main function, which comes first in ``lines`` and ends where they do. ``reach`` 0 remembers
    nothing. Of ``marks`` the first are used that cost neither knowledge of codes nor too many copies.
    """
    tracking = _Tracking(lines)
    allowed = _allowed(len(lines))
    tries = [(EVERYWHERE, some) for some in marks if some and reach == EVERYWHERE]
    for most, some in (*tries, *((nearer, {}) for nearer in (*REACHES, 0) if nearer <= reach)):
        ways = tracking.walk(most, allowed if most else EVERYWHERE, some)
        if ways is not None:
            break
    assert ways is not None
    return Unfolded(lines, ways, some)


def _exit(node: Node) -> Exit:
    known = dict(node[1])
    marks = tuple((place[0] - _MARK, value) for place, value in node[1] if place[0] >= _MARK)
    return Exit(known.get(RESULT), marks)


def lay_out(
    unfolded: Unfolded,
    out: Assembly,
    exit_label: Callable[[Exit], Hashable],
    function_label: Callable[[int], Hashable],
    origins: dict[int, int],
    lines: Sequence[Instruction] | None = None,
) -> None:
    """Append it. Each exit becomes a jump to its ``exit_label``, with the code still in r0; calls and
    addresses of functions refer to the ``function_label`` of where they begin. ``origins`` gets the old index
    of each new instruction. ``lines``: the current instructions, with this process's maps.
    """
    layout, scope, first = unfolded.layout, object(), len(out)
    known: dict[Exit | _Callee | int | None, Hashable] = {None: None}
    for _, used in layout.lines:
        if used not in known:
            if isinstance(used, Exit):
                known[used] = exit_label(used)
            else:
                known[used] = function_label(used.start) if isinstance(used, _Callee) else (scope, used)
    now = [*(lines or unfolded.lines)[: len(unfolded.lines)], _JUMP]  # the last one is at _NEW
    out.extend((now[old], known[used]) for old, used in layout.lines)
    out.label_all({(scope, place): first + place for place in layout.places})
    origins |= {first + at: old for at, (old, _) in enumerate(layout.lines) if old != _NEW}


def _laid_out(unfolded: Unfolded) -> _Layout:
    lines, ways = unfolded.lines, unfolded.ways
    done: list[tuple[int, Exit | _Callee | Node | None]] = []
    placed: dict[Node, int] = {}
    waiting: list[Node] = [(0, ())]

    def led_to(node: Node) -> Exit | Node:
        if lines[node[0]].code == op.EXIT:
            return _exit(node)
        heapq.heappush(waiting, node)
        return node

    def straight(node: Node) -> Node:
        """Follow unconditional jumps."""
        seen = set()
        while op.is_goto(lines[node[0]].code) and node not in seen:
            seen.add(node)
            (node,) = ways[node]
        return node

    while waiting:
        node = straight(heapq.heappop(waiting))
        if node in placed:
            continue
        while True:
            if lines[node[0]].code == op.EXIT or node in placed:
                done.append((_NEW, led_to(node)))
                break
            placed[node] = len(done)
            at, line = node[0], lines[node[0]]
            following = [straight(way) for way in ways[node]]
            refers: Exit | _Callee | Node | None = None
            if names_function(line):
                refers = _Callee(at + line.immediate + 1)
            elif op.is_jump(line.code):
                refers = led_to(following[-1])
            # An unconditional jump that is placed is an endless loop, which the verifier rejects.
            done.append((_NEW if op.is_goto(line.code) else at, refers))
            if line.code == op.LD_IMM64:
                done.append((at + 1, None))
            node = following[0]
    settled = [(old, to if to is None or isinstance(to, Exit | _Callee) else placed[to]) for old, to in done]
    return _Layout(settled, sorted({to for _, to in settled if isinstance(to, int)}))


def reads_context(lines: Sequence[Instruction]) -> bool:
    """Whether a function may read the context that it gets in r1."""
    seen, waiting = set(), [0]
    while waiting:
        at = waiting.pop()
        if at in seen:
            continue
        seen.add(at)
        line = lines[at]
        if _reads(line, 1):
            return True
        if not _overwrites(line, 1):
            waiting += successors(at, line)
    return False


def _allowed(length: int) -> int:
    """How many instructions this many may become."""
    return 3 * length + 100


def _reads(line: Instruction, register: int) -> bool:
    kind = line.code & op.CLASS
    if line.code in (op.CALL, op.EXIT):
        return line.code == op.CALL and 1 <= register <= 5
    if kind in (op.ALU, op.ALU64):
        sets = line.code & op.OPERATION == op.MOV
        return (line.target == register and not sets) or (bool(line.code & op.X) and line.source == register)
    if kind == op.LD:
        return line.code != op.LD_IMM64
    return register in (line.target, line.source) if kind != op.LDX else line.source == register


def _overwrites(line: Instruction, register: int) -> bool:
    kind = line.code & op.CLASS
    return line.target == register and kind in (op.LD, op.LDX, op.ALU, op.ALU64)


def _holding(line: Instruction, registers: frozenset[int]) -> frozenset[int]:
    """The registers that hold a value after an instruction, of which these hold it before."""
    kind = line.code & op.CLASS
    if line.code == op.CALL or (kind == op.LD and line.code != op.LD_IMM64):
        return registers - frozenset(range(6))
    if line.code == op.MOV64_REG and line.offset == 0 and line.source in registers:
        return registers | {line.target}
    if kind == op.STX and line.code & op.MODE == op.ATOMIC:
        return registers - {0, line.source}
    return registers - {line.target} if _overwrites(line, line.target) else registers


class _Tracking:
    """Which values may become the code, and what each instruction does to them."""

    def __init__(self, lines: Sequence[Instruction]) -> None:
        self._lines = lines
        self._whole = dict(whole(lines))
        before: dict[int, list[int]] = {at: [] for at in self._whole}
        for at, line in self._whole.items():
            for following in successors(at, line):
                before[following].append(at)
        self._before = before
        self._pointers = self._stack_pointers()
        # A pointer in memory may come from anywhere.
        self._stack = not any(
            line.code & op.CLASS == op.STX and line.source in self._pointers[at]
            for at, line in self._whole.items()
        )
        self._live = self._liveness()
        self._distance = self._distances()

    def walk(self, reach: int, most: int, marks: Marks) -> dict[Node, tuple[Node, ...]] | None:
        """The graph from the entry; None if it has more than ``most`` nodes."""
        start: Node = (0, ())
        ways: dict[Node, tuple[Node, ...]] = {}
        waiting = [start]
        while waiting:
            node = waiting.pop()
            if node in ways:
                continue
            if len(ways) >= most:
                return None
            ways[node] = tuple(self._next(node, reach, marks))
            waiting += ways[node]
        return ways

    def _next(self, node: Node, reach: int, marks: Marks) -> list[Node]:
        at, known = node
        line = self._whole[at]
        values = {place: value for place, value in known if place[0] < _MARK}
        passed = {place: value for place, value in known if place[0] >= _MARK}
        self._carry_out(at, line, values)
        found = []
        for place, following in enumerate(successors(at, line)):
            here = values | _learned(line, taken=place == 1)
            live = self._live[following] if self._distance[following] <= reach else ()
            kept = {p: here[p] for p in live if p in here} | passed
            kept |= {(_MARK + subject, 0): value for subject, value in marks.get((at, following), ())}
            found.append((following, tuple(sorted(kept.items()))))
        return found

    def _carry_out(self, at: int, line: Instruction, values: dict[Place, int]) -> None:
        source = self._source(line)
        value = source if isinstance(source, int) or source is None else values.get(source)
        for place in self._written(at, line, values):
            values.pop(place, None)
        target = self._target(line)
        if target is not None and value is not None:
            values[target] = value

    def _target(self, line: Instruction) -> Place | None:
        """The place that a whole value is written to."""
        kind = line.code & op.CLASS
        if kind in (op.ALU, op.ALU64, op.LDX) or line.code == op.LD_IMM64:
            return line.target, 0
        return _on_stack(line) if self._stack and kind in (op.ST, op.STX) else None

    def _source(self, line: Instruction) -> Place | int | None:
        """Where the value comes from: another place, a constant, or None (unknown)."""
        kind, code = line.code & op.CLASS, line.code
        if kind in (op.ALU, op.ALU64) and code & op.OPERATION == op.MOV and line.offset == 0:
            return (line.source, 0) if code & op.X else line.immediate & 0xFFFFFFFF
        if code == op.LD_IMM64 and line.source == op.IMM_VALUE:
            return line.immediate & 0xFFFFFFFF
        if kind == op.LDX and self._stack:
            return _on_stack(line)
        if _on_stack(line) is not None:
            return line.immediate & 0xFFFFFFFF if kind == op.ST else (line.source, 0)
        return None

    def _written(
        self, at: int, line: Instruction, places: Mapping[Place, object] | set[Place]
    ) -> list[Place]:
        """Those of these places that may hold something else afterwards."""
        kind = line.code & op.CLASS
        if line.code == op.CALL or (kind == op.LD and line.code != op.LD_IMM64):
            reads = line.source == op.CALL_HELPER and line.immediate in READING
            given = not reads and any(1 <= register <= 5 for register in self._pointers[at])
            return [place for place in places if (given if place[1] else place[0] <= 5)]
        if kind in (op.LD, op.LDX, op.ALU, op.ALU64):
            return [place for place in places if place == (line.target, 0)]
        if kind not in (op.ST, op.STX):
            return []
        changed = []
        if line.code & op.MODE == op.ATOMIC:
            changed = [p for p in places if p in ((line.source, 0), (line.target, 0), RESULT)]
        if line.target == op.FRAME:
            low, high = line.offset, line.offset + op.BYTES[line.code & op.SIZE]
            changed += [p for p in places if p[1] and p[0] < high and low < p[0] + p[1]]
        elif line.target in self._pointers[at]:
            changed += [p for p in places if p[1]]
        return changed

    def _stack_pointers(self) -> dict[int, frozenset[int]]:
        """The registers that may point to the stack, before each instruction."""
        found = {at: frozenset((op.FRAME,)) for at in self._whole}
        waiting = list(self._whole)
        while waiting:
            at = waiting.pop()
            line = self._whole[at]
            kind, pointers = line.code & op.CLASS, found[at]
            if line.code == op.CALL:
                pointers -= frozenset(range(6))
            elif kind in (op.ALU, op.ALU64) and line.code & op.X and line.source in pointers:
                pointers |= {line.target}
            elif kind in (op.LD, op.LDX) or (kind in (op.ALU, op.ALU64) and _sets(line)):
                pointers -= {line.target}
            for following in successors(at, line):
                if not pointers <= found[following]:
                    found[following] |= pointers
                    waiting.append(following)
        return found

    def _liveness(self) -> dict[int, frozenset[Place]]:
        """What may become the code, before each instruction."""
        live: dict[int, set[Place]] = {at: set() for at in self._whole}
        waiting = []
        for at, line in self._whole.items():
            if line.code == op.EXIT:
                live[at].add(RESULT)
                waiting += self._before[at]
        while waiting:
            at = waiting.pop()
            line = self._whole[at]
            after = set().union(*(live[following] for following in successors(at, line)))
            now = after - set(self._written(at, line, after))
            source = self._source(line)
            if self._target(line) in after and isinstance(source, tuple):
                now.add(source)
            if not now <= live[at]:
                live[at] |= now
                waiting += self._before[at]
        return {at: frozenset(places) for at, places in live.items()}

    def _distances(self) -> dict[int, int]:
        """The number of instructions from each one to the nearest exit."""
        found = {at: 0 for at, line in self._whole.items() if line.code == op.EXIT}
        edge = list(found)
        while edge:
            following = []
            for at in edge:
                for before in self._before[at]:
                    if before not in found:
                        found[before] = found[at] + 1
                        following.append(before)
            edge = following
        return {at: found.get(at, EVERYWHERE) for at in self._whole}


def _sets(line: Instruction) -> bool:
    """Whether arithmetic discards what was in its target."""
    return line.code & op.OPERATION == op.MOV


def _on_stack(line: Instruction) -> Place | None:
    """The stack place that a plain 4- or 8-byte load or store accesses."""
    kind = line.code & op.CLASS
    base = line.source if kind == op.LDX else line.target if kind in (op.ST, op.STX) else None
    size = op.BYTES[line.code & op.SIZE]
    plain = base == op.FRAME and line.code & op.MODE == op.MEM and size >= 4
    return (line.offset, size) if plain else None


def _learned(line: Instruction, *, taken: bool) -> dict[Place, int]:
    """What a comparison for equality with a constant says about a register."""
    kind, operation = line.code & op.CLASS, line.code & op.OPERATION
    if kind not in (op.JMP, op.JMP32) or line.code & op.X or operation not in (op.JEQ, op.JNE):
        return {}
    return {(line.target, 0): line.immediate & 0xFFFFFFFF} if taken == (operation == op.JEQ) else {}
