# SPDX-License-Identifier: Apache-2.0
"""A program as a graph: its functions, their blocks, and the edges between them. Pure."""

from __future__ import annotations

from functools import lru_cache

from xdpchain.errors import InvalidInput
from xdpchain.frozen import frozen

from . import opcodes as op
from .instructions import Instruction, decode, names_function, successors, whole

__all__ = ["Block", "FlowGraph", "Function", "flow_of"]


@frozen
class Block:
    """Instructions from ``start`` up to ``end`` that run in sequence, and what may follow: the next block
    first, then the jump's target.
    """

    start: int
    end: int
    successors: tuple[int, ...]


@frozen
class Function:
    """Instructions from ``start`` up to ``end``. ``callback``: its address is taken, for a helper such as
    bpf_loop to call. Unreachable instructions are in no block.
    """

    start: int
    end: int
    blocks: tuple[Block, ...]
    callback: bool


@frozen
class FlowGraph:
    """A program's instructions, and its functions in order; the first is its main function."""

    lines: tuple[Instruction, ...]
    functions: tuple[Function, ...]

    @property
    def main(self) -> Function:
        return self.functions[0]

    def successors(self, index: int) -> tuple[int, ...]:
        """The instructions that may follow this one in the same function."""
        return successors(index, self.lines[index])


@lru_cache(maxsize=32)
def flow_of(image: bytes) -> FlowGraph:
    """The graph of a program's final instructions. Raises InvalidInput if one leads out of its function."""
    lines = decode(image)
    if not lines:
        raise InvalidInput("there are no instructions")
    real = dict(whole(lines))
    starts, callbacks = {0}, set()
    for at, line in real.items():
        if names_function(line):
            target = at + line.immediate + 1
            starts.add(target)
            if line.code == op.LD_IMM64:
                callbacks.add(target)
    if not starts <= real.keys():
        raise InvalidInput("the program calls an address outside it")
    ordered = sorted(starts)
    ends = (*ordered[1:], len(lines))
    return FlowGraph(
        lines,
        tuple(
            Function(start, end, _blocks(real, start, end), start in callbacks)
            for start, end in zip(ordered, ends, strict=True)
        ),
    )


def _blocks(real: dict[int, Instruction], start: int, end: int) -> tuple[Block, ...]:
    following: dict[int, tuple[int, ...]] = {}
    todo = [start]
    leaders = {start}
    while todo:
        at = todo.pop()
        if at in following:
            continue
        if at not in real or not start <= at < end:
            raise InvalidInput("the program jumps outside its function", f"at {at}")
        after = following[at] = successors(at, real[at])
        if op.is_jump(real[at].code):
            leaders.update(after)
        todo += after
    blocks = []
    for leader in sorted(leaders):
        at = leader
        while (after := following[at]) and not op.is_jump(real[at].code) and after[0] not in leaders:
            at = after[0]
        blocks.append(Block(leader, at + (2 if real[at].code == op.LD_IMM64 else 1), following[at]))
    return tuple(blocks)
