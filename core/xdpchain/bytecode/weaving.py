# SPDX-License-Identifier: Apache-2.0
"""Insert instructions anywhere in a program; everything that refers to a place moves along. Pure.

A fragment is an `Assembly` of its own with private labels; `At` refers to an instruction of the program. It
can be inserted before an instruction, for all paths that reach it; at a function's entry, once per call; on
one edge, for the paths that take it; or in place of an instruction.

What moves: jumps of all kinds (gotol and may_goto too), function calls and addresses, the records of
functions and source lines, references to maps. A jump that no longer reaches its target takes a trampoline
(see `assembler`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from xdpchain.errors import InvalidInput
from xdpchain.frozen import frozen

from . import opcodes as op
from .assembler import Assembly
from .flow_graph import FlowGraph
from .instructions import Instruction, encode, jump_target, names_function

__all__ = ["At", "LineRecord", "Weave", "Woven", "complete_lines"]


class At(NamedTuple):
    """A label: an instruction of the original program, by its index there."""

    insn: int


class LineRecord(NamedTuple):
    """``struct bpf_line_info``: the source line of an instruction and those after it. ``file`` and ``text``
    are string offsets in the program's BTF; ``place`` is the line and column as ``line << 10 | column``.
    """

    insn: int
    file: int
    text: int
    place: int


@frozen
class Woven:
    """The result. ``entries``: where a jump to an old index arrives; ``moved``: where the instruction itself
    is; both have one more element, for the end. ``starts``: where functions begin, by old start.
    """

    lines: tuple[Instruction, ...]
    entries: tuple[int, ...]
    moved: tuple[int, ...]
    starts: Mapping[int, int]

    @property
    def image(self) -> bytes:
        return encode(self.lines)

    def functions(self, records: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
        """func_info records (index, type ID), moved along."""
        return tuple((self.starts[at], type_id) for at, type_id in records)

    def references(self, references: Iterable[tuple[int, str]]) -> tuple[tuple[int, str], ...]:
        """(index, map) of instructions that name maps, moved along."""
        return tuple((self.moved[at], name) for at, name in references)

    def line_records(self, records: Iterable[LineRecord]) -> tuple[LineRecord, ...]:
        """line_info records, moved along: what is inserted before an instruction belongs to its line."""
        found: dict[int, LineRecord] = {}
        for record in records:
            at = self.starts.get(record.insn, self.entries[record.insn])
            found[at] = record._replace(insn=at)
        return tuple(found[at] for at in sorted(found))


class Weave:
    """Collects fragments and inserts them."""

    def __init__(self, graph: FlowGraph) -> None:
        self._graph = graph
        self._before: dict[int, list[Assembly]] = {}
        self._entry: dict[int, list[Assembly]] = {}
        self._instead: dict[int, Assembly] = {}
        self._edges: dict[tuple[int, int], list[Assembly]] = {}

    def before(self, index: int, fragment: Assembly) -> None:
        """Run the fragment before an instruction, however it is reached; fragments run in the order given."""
        self._before.setdefault(index, []).append(fragment)

    def at_entry(self, start: int, fragment: Assembly) -> None:
        """Run the fragment once at each call of the function that begins at ``start``, before all else."""
        self._entry.setdefault(start, []).append(fragment)

    def instead(self, index: int, fragment: Assembly) -> None:
        """Put the fragment in place of an instruction; what comes after it is up to the fragment."""
        self._instead[index] = fragment

    def on_edge(self, source: int, target: int, fragment: Assembly) -> None:
        """Run the fragment whenever control passes directly from one instruction to the other."""
        if target not in self._graph.successors(source):
            raise InvalidInput(f"no way leads from instruction {source} to {target}")
        self._edges.setdefault((source, target), []).append(fragment)

    def finish(self, *, gotol: bool = False) -> Woven:
        """Build the program. With ``gotol``, far jumps use it."""
        graph, out = self._graph, Assembly()
        lines = graph.lines
        own: list[tuple[str, int]] = []
        for function in graph.functions:
            pads: list[tuple[int, int]] = []
            out.label(("function", function.start))
            self._put(out, self._entry.get(function.start, ()))
            at = function.start
            while at < function.end:
                line = lines[at]
                width = 2 if line.code == op.LD_IMM64 else 1
                out.label(At(at))
                self._put(out, self._before.get(at, ()))
                if op.is_goto(line.code):
                    self._put(out, self._edges.get((at, jump_target(at, line)), ()))
                for half in range(width):
                    own.append(("own", at + half))
                    out.label(own[-1])
                    if half:
                        out.label(At(at + half))
                        out.add(lines[at + half : at + half + 1])
                    elif at in self._instead:
                        self._put(out, (self._instead[at],))
                    else:
                        self._refer(out, at, line, pads)
                if not op.is_goto(line.code):
                    self._put(out, self._edges.get((at, at + width), ()))
                at += width
            for source, target in pads:
                out.label(("pad", source, target))
                self._put(out, self._edges[source, target])
                out.jump(At(target))
        out.label(At(len(lines)))
        done = out.assemble(gotol=gotol)
        count = len(lines)
        return Woven(
            done.lines,
            tuple(done.labels[At(at)] for at in range(count + 1)),
            (*(done.labels["own", at] for at in range(count)), len(done.lines)),
            {function.start: done.labels["function", function.start] for function in graph.functions},
        )

    def _refer(self, out: Assembly, at: int, line: Instruction, pads: list[tuple[int, int]]) -> None:
        """One instruction of the program, with what it refers to as a label."""
        if names_function(line):
            out.refer(("function", at + line.immediate + 1), line)
        elif op.is_jump(line.code):
            target = jump_target(at, line)
            if not op.is_goto(line.code) and (at, target) in self._edges:
                pads.append((at, target))
                out.refer(("pad", at, target), line)
            else:
                out.refer(At(target), line)
        else:
            out.add((line,))

    def _put(self, out: Assembly, fragments: Sequence[Assembly]) -> None:
        for fragment in fragments:
            out.include(fragment, keep=At)


def complete_lines(records: Sequence[LineRecord], starts: Iterable[int]) -> tuple[LineRecord, ...]:
    """The records, plus one without a line for each function whose first instruction has none: the kernel
    accepts records for all functions or none (check_btf_line).
    """
    if not records:
        return ()
    known = {record.insn: record for record in records}
    for start in starts:
        known.setdefault(start, LineRecord(start, 0, 0, 0))
    return tuple(known[at] for at in sorted(known))
