# SPDX-License-Identifier: Apache-2.0
"""The program arrays of a tail-call chain: what is in their rows is what the chain does.

One a slot, a row for each code after which the chain can go on (`chaincall.ROWS`). The row of code 31 is
always filled, for every chain goes on after it: so it names the slot's successor, and tells an array whose
actions are none from one that the kernel emptied.
"""

from __future__ import annotations

import errno

from xdpchain.actions import Action, ActionSet
from xdpchain.chaincall import ROWS, UNREPLACED
from xdpchain.sys import bpf

__all__ = ["actions_in", "fill", "make_array", "set_action"]

NAME = "xdptui_rows"


def make_array() -> bpf.Fd:
    """An empty program array."""
    try:
        return bpf.map_create(bpf.MapType.PROG_ARRAY, 4, 4, len(ROWS), name=NAME)
    except bpf.BpfError as error:
        raise bpf.refusal(error, "a program array can't be made") from error


def fill(array: bpf.Fd, actions: ActionSet, successor: bpf.Fd) -> None:
    """Let the chain go on to ``successor`` after these actions. Raises BpfError."""
    for code in (*actions, UNREPLACED):
        bpf.map_update(array, _key(code), _number(successor.fileno()))


def actions_in(array: bpf.Fd) -> ActionSet | None:
    """The actions after which the chain goes on; None for an array that the kernel emptied. Raises
    BpfError.
    """
    if _program(array, UNREPLACED) is None:
        return None
    return ActionSet.of(*(action for action in Action if _program(array, action) is not None))


def set_action(array: bpf.Fd, action: Action, on: bool) -> None:
    """Let the chain go on after ``action``, or not: one update of the map, which packets meet whole. Raises
    BpfError.
    """
    if not on:
        bpf.map_delete(array, _key(action))
        return
    successor = _program(array, UNREPLACED)
    if successor is None:
        raise bpf.BpfError(errno.ENOENT, bpf.Command.MAP_LOOKUP_ELEM)
    with bpf.prog_by_id(successor) as program:
        bpf.map_update(array, _key(action), _number(program.fileno()))


def _program(array: bpf.Fd, code: int) -> int | None:
    """The prog id in the row of a code."""
    try:
        return int.from_bytes(bpf.map_lookup(array, _key(code), 4), "little")
    except bpf.BpfError as error:
        if error.errno != errno.ENOENT:
            raise
        return None


def _key(code: int) -> bytes:
    return _number(ROWS[code])


def _number(value: int) -> bytes:
    return value.to_bytes(4, "little")
