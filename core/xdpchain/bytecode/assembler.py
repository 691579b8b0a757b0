# SPDX-License-Identifier: Apache-2.0
"""The assembler: instructions under construction, with jumps, calls and function addresses by label. Pure.

A jump's distance has 16 bits. A jump that must go further takes a *trampoline*: an unconditional jump placed
in between, which normal control flow skips. Every kernel accepts that. On kernels known to accept `gotol`
(6.6 and later) one trampoline is enough, and unconditional jumps need none.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass

from xdpchain.frozen import frozen

from . import opcodes as op
from .instructions import Instruction, encode

__all__ = ["Assembled", "Assembly"]

REACH = (1 << 15) - 1
_MARGIN = 64
"""How far a jump to a new trampoline stays below its reach, since more trampolines may be inserted in
between.
"""


@frozen
class Assembled:
    """The result: all instructions, and the index of each label."""

    lines: tuple[Instruction, ...]
    labels: Mapping[Hashable, int]

    @property
    def image(self) -> bytes:
        return encode(self.lines)


class Assembly:
    """Instructions under construction. Labels are any hashable values, and may be placed after their use."""

    def __init__(self) -> None:
        self._lines: list[tuple[Instruction, Hashable | None]] = []
        self._labels: dict[Hashable, int] = {}

    def __len__(self) -> int:
        return len(self._lines)

    def put(self, code: int, target: int = 0, source: int = 0, offset: int = 0, immediate: int = 0) -> None:
        """One instruction. The immediate may be given as an unsigned 32-bit number."""
        self._lines.append((Instruction(code, target, source, offset, _signed(immediate)), None))

    def add(self, lines: Iterable[Instruction]) -> None:
        """Instructions as they are; jumps among them are relative to each other."""
        self._lines += [(line, None) for line in lines]

    def map(self, register: int, descriptor: int) -> None:
        """Load the address of a map."""
        self.put(op.LD_IMM64, register, op.IMM_MAP, 0, descriptor)
        self.put(0)

    def jump(
        self, label: Hashable, code: int = op.GOTO, target: int = 0, immediate: int = 0, *, source: int = 0
    ) -> None:
        """A jump of any kind to a label."""
        self._lines.append((Instruction(code, target, source, 0, _signed(immediate)), label))

    def refer(self, label: Hashable, line: Instruction) -> None:
        """An instruction that contains the distance to a label: a jump, a function call, or the first half of
        a function's address.
        """
        self._lines.append((line, label))

    def label(self, name: Hashable) -> None:
        """Label the next instruction ``name``."""
        self._labels[name] = len(self._lines)

    def extend(self, lines: Iterable[tuple[Instruction, Hashable | None]]) -> None:
        """Instructions, each with the label that it refers to (None: no label)."""
        self._lines += lines

    def label_all(self, labels: Mapping[Hashable, int]) -> None:
        """Label instructions by their index."""
        self._labels |= labels

    def include(self, fragment: Assembly, *, keep: type) -> None:
        """Another assembly's instructions. Its labels stay private, except for those of the type ``keep``."""
        scope = object()

        def scoped(label: Hashable | None) -> Hashable | None:
            return label if label is None or isinstance(label, keep) else (scope, label)

        for name, index in fragment._labels.items():
            self._labels[scoped(name)] = len(self._lines) + index
        self._lines += [(line, scoped(label)) for line, label in fragment._lines]

    def uses(self, label: Hashable) -> bool:
        """Whether anything refers to a label so far."""
        return any(used == label for _, used in self._lines)

    def assemble(self, *, gotol: bool = False) -> Assembled:
        """Resolve all distances. With ``gotol``, far jumps use it."""
        placed = _Placed(list(self._lines), dict(self._labels), gotol)
        placed.bridge()
        return placed.settled()

    def lines(self) -> list[Instruction]:
        return list(self.assemble().lines)

    def image(self) -> bytes:
        return self.assemble().image


def _signed(immediate: int) -> int:
    immediate &= 0xFFFFFFFF
    return immediate - (1 << 32) if immediate & 0x80000000 else immediate


def _is_short(line: Instruction) -> bool:
    return op.is_jump(line.code) and line.code != op.GOTOL


def _goes_on(line: Instruction) -> bool:
    return line.code != op.EXIT and not op.is_goto(line.code)


@dataclass
class _Placed:
    """Lines with the labels that they refer to, while trampolines are inserted."""

    lines: list[tuple[Instruction, Hashable | None]]
    labels: dict[Hashable, int]
    gotol: bool

    def settled(self) -> Assembled:
        done = []
        for at, (line, label) in enumerate(self.lines):
            if label is not None:
                distance = self.labels[label] - at - 1
                code, target, source, offset, immediate = line
                if _is_short(line):
                    line = Instruction(code, target, source, distance, immediate)
                else:
                    line = Instruction(code, target, source, offset, distance)
            done.append(line)
        return Assembled(tuple(done), self.labels)

    def bridge(self) -> None:
        """Add trampolines until every jump reaches its label. Jumps to the same label share them."""
        trampolines: dict[Hashable, list[Hashable]] = {}
        changed = len(self.lines) > REACH
        while changed:
            changed = False
            at = 0
            while at < len(self.lines):
                line, label = self.lines[at]
                if label is not None and _is_short(line) and not self._reaches(at, label):
                    at += self._redirect(at, line, label, trampolines.setdefault(label, []))
                    changed = True
                at += 1

    def _reaches(self, at: int, label: Hashable) -> bool:
        return abs(self.labels[label] - at - 1) <= REACH

    def _redirect(self, at: int, line: Instruction, label: Hashable, known: list[Hashable]) -> int:
        """Send one jump over a trampoline; returns by how many lines the jump itself moved."""
        if self.gotol and line.code == op.GOTO:
            self.lines[at] = (Instruction(op.GOTOL, 0, 0, 0, 0), label)
            return 0
        target = self.labels[label]
        for name in known:
            between = min(at, target) < self.labels[name] < max(at, target)
            if between and self._reaches(at, name):
                self.lines[at] = (line, name)
                return 0
        name = ("trampoline", label, len(known))
        known.append(name)
        place = at + 1 if self.gotol else at + (REACH - _MARGIN) * (1 if target > at else -1)
        place, landing = self._whole(place)
        self.lines[at] = (line, name)
        jump = Instruction(op.GOTOL if self.gotol else op.GOTO, 0, 0, 0, 0)
        over = ("over", name)
        pieces: list[tuple[Instruction, Hashable | None]] = [(jump, label)]
        # If control flow can't get here there is nothing to skip, and the verifier refuses dead code.
        if landing or _goes_on(self.lines[place - 1][0]):
            pieces.insert(0, (Instruction(op.GOTO, 0, 0, 0, 0), over))
        for other, index in self.labels.items():
            if index >= place:
                self.labels[other] = index + len(pieces)
        self.lines[place:place] = pieces
        self.labels[name] = place + len(pieces) - 1
        self.labels[over] = place + len(pieces)
        return len(pieces) if place <= at else 0

    def _whole(self, place: int) -> tuple[int, bool]:
        """The next place that splits nothing (a 64-bit load, a sequence with jumps of its own), and whether
        such a jump leads there.
        """
        spans = []
        targets = set()
        for at, (line, label) in enumerate(self.lines):
            if label is None and _is_short(line):
                to = at + 1 + line.offset
                spans.append((min(at, to), max(at + 1, to)))
                targets.add(to)
        moved = True
        while moved:
            moved = self.lines[place - 1][0].code == op.LD_IMM64
            place += moved
            for low, high in spans:
                if low < place < high:
                    place, moved = high, True
        return place, place in targets
