# SPDX-License-Identifier: Apache-2.0
"""The program arrays of a tailcall chain: their rows define what the chain does.

There is one array per slot, with a row for each return code (`flow.KINDS`): the program of the slot that runs
next, that of the chain's end, or nothing, if the code is the verdict. Every chain continues after code 31, so
its row is always filled; that tells an array without successors from one that the kernel emptied.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence

from xdpchain.errors import InvalidInput
from xdpchain.model.flow import KINDS, NEXT
from xdpchain.model.paths import RETURN
from xdpchain.model.routes import CODES
from xdpchain.sys import bpf

__all__ = ["fill", "make_array", "read_table", "set_row"]

NAME = "xdptui_rows"


def make_array() -> bpf.Fd:
    """An empty program array."""
    try:
        return bpf.map_create(bpf.MapType.PROG_ARRAY, 4, 4, len(KINDS), name=NAME)
    except bpf.BpfError as error:
        raise bpf.refusal(error, "a program array can't be created") from error


def fill(arrays: Sequence[bpf.Fd], table: Sequence[Sequence[int]], programs: Sequence[bpf.Fd | None]) -> None:
    """Make each slot's codes lead where ``table`` says (`paths.successors`); the last of ``programs`` is the
    chain's end, and None stands for a slot that is off. Raises BpfError.
    """
    for index, (array, ways) in enumerate(zip(arrays, table, strict=True)):
        further = (program for program in programs[index + 1 :] if program is not None)
        for row, program in enumerate(
            (*(None if way == RETURN else programs[way] for way in ways), next(further))
        ):
            if program is not None:
                set_row(array, row, program)


def set_row(array: bpf.Fd, row: int, program: bpf.Fd | None) -> None:
    """Make a code lead to ``program``, or out of the chain (None): one update, atomic for packets. Raises
    BpfError.
    """
    if program is not None:
        bpf.map_update(array, _number(row), _number(program.fileno()))
        return
    try:
        bpf.map_delete(array, _number(row))
    except bpf.BpfError as error:
        if error.errno != errno.ENOENT:
            raise


def read_table(arrays: Sequence[bpf.Fd], programs: Mapping[int, int]) -> tuple[tuple[int, ...], ...] | None:
    """Where each slot's codes lead (`paths.successors`); None if the kernel emptied the arrays.

    ``programs`` maps the slots' prog IDs to their places. Raises BpfError; InvalidInput if a row holds a
    program that somebody else put there.
    """
    end = end_of(arrays)
    if end is None:
        return None
    places = {**programs, end: len(arrays)}
    table = []
    for array in arrays:
        rows = [program_in(array, row) for row in range(CODES)]
        if program_in(array, NEXT) is None:
            return None
        strange = next((row for row in rows if row is not None and row not in places), None)
        if strange is not None:
            raise InvalidInput(f"a program array leads to program {strange}, which is not one of its slots")
        table.append(tuple(RETURN if row is None else places[row] for row in rows))
    return tuple(table)


def end_of(arrays: Sequence[bpf.Fd]) -> int | None:
    """The prog ID of the chain's end; None if the kernel emptied the arrays. Raises BpfError."""
    return program_in(arrays[-1], NEXT)


def program_in(array: bpf.Fd, row: int) -> int | None:
    """The prog ID in a row, None if it is empty. Raises BpfError."""
    try:
        return int.from_bytes(bpf.map_lookup(array, _number(row), 4), "little")
    except bpf.BpfError as error:
        if error.errno != errno.ENOENT:
            raise
        return None


def _number(value: int) -> bytes:
    return value.to_bytes(4, "little")
