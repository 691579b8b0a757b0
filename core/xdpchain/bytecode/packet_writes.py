# SPDX-License-Identifier: Apache-2.0
"""Does a program store into the packet directly? Found by tracking pointers through its code. Pure.

The kernel lets any XDP program write through ``ctx->data``, and does not record whether it does. Here each
register and each stack word is a set of what it may hold: the context, a pointer into the packet, a pointer
into a stack. Where paths meet, the sets are joined, so a store through a possible packet pointer is found
whichever path leads there. Stores that no packet ever reaches are found too, but never the reverse: a program
reported as not writing does not write directly (helpers are another matter).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from . import opcodes as op
from .instructions import Instruction, instructions, successors

__all__ = ["Code", "TooLong", "writes_packet"]

LIMIT = 1 << 16
"""Most instructions that are tracked."""
ROUNDS = 1 << 20
"""Steps after which the search gives up."""

CONTEXT, PACKET, END, FRAME, OUTSIDE = 1, 2, 4, 8, 16
"""What a register may hold. END: ``data_end``, which is never stored through. FRAME: a pointer into this
function's stack. OUTSIDE: into a caller's.
"""

FIELDS = {0: PACKET, 4: END, 8: PACKET}  # struct xdp_md: data, data_end, data_meta


class TooLong(Exception):
    """The program is too long to be tracked."""


@dataclass(frozen=True)
class Code:
    """A function: its instructions, and which of them (by index) call or name another function."""

    image: bytes
    targets: Mapping[int, str] = field(default_factory=dict)


class Value(NamedTuple):
    """What a register may hold; ``at`` is a stack pointer's offset, None if it varies."""

    holds: int = 0
    at: int | None = 0

    def join(self, other: Value) -> Value:
        if self == other:
            return self
        return Value(self.holds | other.holds, self.at if self.at == other.at else None)


NOTHING = Value()


class WriteState(NamedTuple):
    """Eleven registers, and the stack words by offset."""

    registers: tuple[Value, ...]
    stack: Mapping[int, Value]

    def join(self, other: WriteState) -> WriteState:
        if self == other:
            return self
        registers = tuple(a.join(b) for a, b in zip(self.registers, other.registers, strict=True))
        stack = dict(self.stack)
        for at, value in other.stack.items():
            stack[at] = stack.get(at, NOTHING).join(value)
        return WriteState(registers, stack)

    def put(self, register: int, value: Value) -> WriteState:
        changed = list(self.registers)
        changed[register] = value
        return WriteState(tuple(changed), self.stack)


def writes_packet(functions: Mapping[str, Code], entries: Sequence[str]) -> bool:
    """Whether any of the programs ``entries``, or what they call, may store into the packet.

    Raises TooLong; InvalidInput if these are not valid instructions.
    """
    if sum(len(code.image) for code in functions.values()) > 8 * LIMIT:
        raise TooLong
    return _Search(functions).run(entries)


class _Search:
    def __init__(self, functions: Mapping[str, Code]) -> None:
        self._code = {
            name: (dict(instructions(code.image)), code.targets) for name, code in functions.items()
        }
        self._given: dict[str, tuple[Value, ...]] = {}
        self._returned: dict[str, Value] = {}
        self._shared = 0  # what is stored through pointers into another function's stack
        self._changed = True
        self._found = False
        self._left = ROUNDS

    def run(self, entries: Sequence[str]) -> bool:
        for name in entries:
            self._give(name, (Value(CONTEXT), *(NOTHING,) * 4))
        while self._changed and not self._found:
            self._changed = False
            for name in tuple(self._given):
                self._follow(name)
        return self._found

    def _give(self, name: str, arguments: tuple[Value, ...]) -> None:
        if name not in self._code:
            return
        before = self._given.get(name)
        after = arguments if before is None else tuple(map(Value.join, before, arguments))
        if after != before:
            self._given[name], self._changed = after, True

    def _follow(self, name: str) -> None:
        code, targets = self._code[name]
        start = (NOTHING, *self._given[name], *(NOTHING,) * 4, Value(FRAME, 0))
        states: dict[int, WriteState] = {0: WriteState(start, {})}
        pending = [0]
        while pending and not self._found:
            self._left -= 1
            if self._left < 0:
                raise TooLong
            at = pending.pop()
            instruction = code.get(at)
            if instruction is None:
                continue
            after = self._step(name, states[at], instruction, targets.get(at))
            for place in successors(at, instruction):
                known = states.get(place)
                joined = after if known is None else known.join(after)
                if joined != known:
                    states[place] = joined
                    pending.append(place)

    def _step(self, name: str, state: WriteState, instruction: Instruction, target: str | None) -> WriteState:
        kind, operation = instruction.code & op.CLASS, instruction.code & op.OPERATION
        if instruction.code == op.LD_IMM64:
            if target is not None:  # a callback
                self._give(target, (NOTHING, *(Value(OUTSIDE, None),) * 4))
            return state.put(instruction.target, NOTHING)
        if kind == op.ALU64:
            return state.put(instruction.target, _computed(state, instruction, operation))
        if kind == op.ALU:
            return state.put(instruction.target, NOTHING)
        if kind == op.LDX:
            return state.put(instruction.target, self._loaded(state, instruction))
        if kind in (op.ST, op.STX):
            return self._stored(state, instruction)
        if instruction.code == op.CALL:
            return self._called(state, instruction, target)
        if instruction.code == op.EXIT:
            self._return(name, state.registers[0])
        return state

    def _loaded(self, state: WriteState, instruction: Instruction) -> Value:
        source = state.registers[instruction.source]
        whole = instruction.code & op.SIZE == op.DW
        value = NOTHING
        if source.holds & CONTEXT and instruction.offset in FIELDS:
            value = value.join(Value(FIELDS[instruction.offset], None))
        if whole and source.holds & FRAME:
            kept = list(state.stack.values())
            if source.at is not None:
                kept = [state.stack.get(source.at + instruction.offset, NOTHING)]
            for word in kept:
                value = word if value is NOTHING else value.join(word)
        if whole and source.holds & (FRAME | OUTSIDE) and self._shared:
            value = value.join(Value(self._shared, None))
        return value

    def _stored(self, state: WriteState, instruction: Instruction) -> WriteState:
        base = state.registers[instruction.target]
        if base.holds & PACKET:
            self._found = True
        atomic = instruction.code & (op.CLASS | op.MODE) == op.STX | op.ATOMIC
        kept = instruction.code & (op.CLASS | op.SIZE) == op.STX | op.DW and not atomic
        value = state.registers[instruction.source] if kept else NOTHING
        if base.holds & OUTSIDE and value.holds:
            self._share(value.holds)
        if base.holds & FRAME:
            stack = dict(state.stack)
            if base.at is None:
                stack = {at: word.join(value) for at, word in stack.items()}
                self._share(value.holds)
            else:
                stack[base.at + instruction.offset] = value
            state = WriteState(state.registers, stack)
        # An atomic operation may leave the old value in a register: never a pointer.
        return (
            state.put(instruction.source, NOTHING) if atomic and instruction.immediate & op.FETCH else state
        )

    def _share(self, holds: int) -> None:
        # For a function that reads it from there, a pointer to this frame points to another's.
        holds = holds & ~FRAME | (OUTSIDE if holds & FRAME else 0)
        if holds & ~self._shared:
            self._shared |= holds
            self._changed = True

    def _called(self, state: WriteState, instruction: Instruction, target: str | None) -> WriteState:
        result, given = NOTHING, state.registers[1:6]
        known = instruction.source == 0 and instruction.immediate not in op.CALLING_BACK
        if not known and any(value.holds & FRAME for value in given):
            # Another function will read our stack. Helpers without callbacks read bytes, not pointers.
            for word in state.stack.values():
                self._share(word.holds)
        if instruction.source == op.CALL_FUNCTION and target is not None:
            self._give(target, tuple(map(_handed, given)))
            result = self._returned.get(target, NOTHING)
        return WriteState((result, *(NOTHING,) * 5, *state.registers[6:]), state.stack)

    def _return(self, name: str, value: Value) -> None:
        before = self._returned.get(name, NOTHING)
        after = before.join(_handed(value))
        if after != before:
            self._returned[name], self._changed = after, True


def _handed(value: Value) -> Value:
    """A value as another function sees it: a pointer into our stack points into somebody else's."""
    if value.holds & FRAME:
        return Value(value.holds & ~FRAME | OUTSIDE, None)
    return value


def _computed(state: WriteState, instruction: Instruction, operation: int) -> Value:
    register = bool(instruction.code & op.X)
    own, other = (
        state.registers[instruction.target],
        state.registers[instruction.source] if register else NOTHING,
    )
    if operation == op.MOV:
        return other if register else NOTHING
    if operation not in (op.ADD, op.SUB):
        return NOTHING
    if not register and own.holds == FRAME and own.at is not None:
        return Value(
            FRAME, own.at + (instruction.immediate if operation == op.ADD else -instruction.immediate)
        )
    if operation == op.SUB and own.holds & (PACKET | END) and other.holds & (PACKET | END):
        return NOTHING  # a length
    holds = own.holds | other.holds
    return Value(holds, None if holds else 0)
