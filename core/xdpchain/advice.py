# SPDX-License-Identifier: Apache-2.0
"""Advice: its kind and what it is about, as a frozen value.

The engine says what helps; `model.commands` spells the command for it, and each user interface puts it into
words.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum, auto
from typing import Protocol

from xdpchain.frozen import frozen

__all__ = ["SINGLE_BUFFER_MTU", "Advice", "Do", "advise"]

SINGLE_BUFFER_MTU = 3498
"""Most drivers' largest MTU for programs without multi-buffer support: a 4 KiB page less headroom, frame
header and ``struct skb_shared_info`` (veth_xdp_set's computation on x86-64).
"""


class Do(Enum):
    """The kinds of advice. Comments name the arguments (``args``), if any."""

    GET_PERMISSION = auto()  # the missing capabilities
    LIST_INTERFACES = auto()
    NEAR_INTERFACE = auto()  # similar names
    OTHER_NETNS = auto()  # the namespace that has such an interface, "" for the process's own
    LIST_NETNS = auto()
    REMOVE_NETNS_FILE = auto()  # the namespace's name
    SWITCH_JIT_ON = auto()
    MOUNT_SYSFS = auto()

    LOAD = auto()
    ADD = auto()
    ADOPT = auto()
    CHOOSE_LINKAGE = auto()  # linkages that can, for the change being made
    RELINK = auto()  # linkages that can, the best first, for the running chain
    LINK_ANEW = auto()  # its current linkage
    CHANGE_MODE = auto()  # native, generic or best
    CHOOSE_GENERIC = auto()
    LIFT_POLICY = auto()  # the slot
    SWITCH_COUNTERS_ON = auto()
    SHADOW_AGAIN = auto()  # the slot
    START_WITH_FRESH_MAPS = auto()
    MOVE_PINNED_MAP = auto()  # the pin's path
    SET_IN_MAP = auto()
    REPLACE = auto()
    LOWER_MTU = auto()  # bytes
    BUILD_FOR_FRAGMENTS = auto()
    MEND = auto()  # what to change in the program, as a sentence
    USE_STATIC = auto()  # of programs that can't be traced
    BRING_UP = auto()

    LOOK = auto()
    LOOK_AT_LOG = auto()
    READ_AGAIN = auto()
    CONFIRM = auto()
    ROLL_BACK = auto()
    GO_WITHOUT_CONFIRM = auto()
    CONFIRM_OR_INSIST = auto()
    CLEAN = auto()
    DETACH_IDLE = auto()  # the mode: only for a program that is known to do nothing
    SHOW_LINK = auto()
    FIND_OWNER = auto()
    ASK_OWNER = auto()

    RECORD = auto()
    OVERWRITE = auto()
    WRITE_OBJECTS = auto()


class _Place(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def netns(self) -> str | None: ...


@frozen
class Advice:
    """What helps, on which interface, and ``otherwise``. ``netns``: its namespace by name or path, "" for the
    process's own; None: that of the current command.
    """

    do: Do
    interface: str | None = None
    netns: str | None = None
    args: tuple[str, ...] = ()
    otherwise: Advice | None = None

    def __or__(self, other: Advice) -> Advice:
        last = other if self.otherwise is None else self.otherwise | other
        return replace(self, otherwise=last)


def advise(do: Do, *args: object, on: _Place | None = None) -> Advice:
    """``do``, with its arguments, ``on`` an interface."""
    words = tuple(str(argument) for argument in args)
    return Advice(do, on.name if on else None, on.netns if on else None, words)
