# SPDX-License-Identifier: Apache-2.0
"""XDP return codes and sets of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from enum import IntEnum
from functools import cache

from xdpchain.errors import InvalidInput
from xdpchain.frozen import frozen

__all__ = ["ALL_ACTIONS", "Action", "ActionSet"]


class Action(IntEnum):
    """A return code of an XDP program (``enum xdp_action`` of the kernel's uapi/linux/bpf.h)."""

    ABORTED = 0
    DROP = 1
    PASS = 2
    TX = 3
    REDIRECT = 4

    @property
    def xdp_name(self) -> str:
        """The kernel's name, such as ``XDP_PASS``."""
        return f"XDP_{self.name}"

    @property
    def letter(self) -> str:
        """One letter: A D P T R."""
        return self.name[0]

    @classmethod
    def parse(cls, text: str) -> Action:
        """Read ``XDP_PASS``, ``pass`` or ``P``. Raises InvalidInput."""
        word = text.strip().upper().removeprefix("XDP_")
        for action in cls:
            if word in (action.name, action.letter):
                return action
        raise InvalidInput(
            f"{text!r} is not an XDP action", todo="The actions are " + ", ".join(a.xdp_name for a in cls)
        )


ALL_ACTIONS: tuple[Action, ...] = tuple(Action)


@frozen
class ActionSet:
    """An immutable set of actions; ``mask`` has bit *n* set for the action with return code *n*."""

    mask: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.mask < 1 << len(ALL_ACTIONS):
            raise InvalidInput(
                f"{self.mask:#x} is not a set of XDP actions", "it has bits beyond XDP_REDIRECT"
            )

    @classmethod
    def of(cls, *actions: Action) -> ActionSet:
        """The set of exactly these actions."""
        return cls(sum({1 << action for action in actions}))

    @classmethod
    def parse(cls, text: str | Iterable[str]) -> ActionSet:
        """Read ``XDP_PASS,XDP_DROP``, ``pass,drop``, ``PD`` or an iterable of names; ``""`` and ``none``
        are empty.

        Raises InvalidInput.
        """
        if isinstance(text, str):
            stripped = text.strip()
            if stripped.lower() in ("", "none", "-"):
                return cls()
            if re.fullmatch("[ADPTR]{1,5}", stripped):
                words: Iterable[str] = stripped
            else:
                words = [word for word in re.split(r"[,\s|]+", stripped) if word]
        else:
            words = text
        return cls.of(*(Action.parse(word) for word in words))

    def __iter__(self) -> Iterator[Action]:
        return (action for action in ALL_ACTIONS if self.mask >> action & 1)

    def __contains__(self, action: object) -> bool:
        return isinstance(action, int) and 0 <= action < len(ALL_ACTIONS) and bool(self.mask >> action & 1)

    def __len__(self) -> int:
        return self.mask.bit_count()

    def toggle(self, action: Action) -> ActionSet:
        """This set with ``action`` added if absent, or removed if present."""
        return ActionSet(self.mask ^ 1 << action)

    def names(self) -> tuple[str, ...]:
        """The kernel's names in the order of their codes."""
        return _names(self)

    def __str__(self) -> str:
        return ",".join(self.names()) or "none"


@cache
def _names(actions: ActionSet) -> tuple[str, ...]:
    return tuple(action.xdp_name for action in actions)
