# SPDX-License-Identifier: Apache-2.0
"""A component's main function: its length, its stack use, whether it makes tail calls. Pure."""

from __future__ import annotations

from functools import lru_cache

from . import opcodes as op
from .instructions import SIZE, Instruction, base_register, function_starts, instructions
from .opcodes import FRAME, Helper

__all__ = ["main_length", "main_stack", "makes_tail_calls", "own_tail_calls"]


def main_length(code: bytes) -> int:
    """The number of instructions of a component's main function, which comes first."""
    starts = function_starts(code)
    return starts[1] if len(starts) > 1 else len(code) // SIZE


@lru_cache(maxsize=64)
def own_tail_calls(code: bytes) -> bool:
    """Whether a component's main function makes tail calls: such a component must be called."""
    end = main_length(code)
    return any(at < end and _is_tail_call(instruction) for at, instruction in instructions(code))


@lru_cache(maxsize=64)
def makes_tail_calls(code: bytes) -> bool:
    """Whether any function of a component makes tail calls."""
    return any(_is_tail_call(instruction) for _, instruction in instructions(code))


@lru_cache(maxsize=64)
def main_stack(code: bytes, depth: int) -> int:
    """Bytes of stack that a component's main function uses; ``depth`` is what the verifier reported."""
    # It excludes what it optimised away (spills around bpf_fastcall functions), and may not do so again.
    end = main_length(code)
    touched = (
        -instruction.offset
        for at, instruction in instructions(code)
        if at < end and base_register(instruction) == FRAME
    )
    return max(depth, *touched, 0)


def _is_tail_call(instruction: Instruction) -> bool:
    return (instruction.code, instruction.source, instruction.immediate) == (
        op.CALL,
        op.CALL_HELPER,
        Helper.TAIL_CALL,
    )
