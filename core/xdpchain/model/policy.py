# SPDX-License-Identifier: Apache-2.0
"""What a slot may return, and what happens if it returns anything else. Pure.

A forbidden code is counted under its own number, reported with the packet's first bytes (`violations`), and
replaced by the answer: the chain continues as if the component had returned that.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from xdpchain.errors import InvalidInput
from xdpchain.frozen import frozen

from .actions import Action, ActionSet
from .routes import OTHER

__all__ = ["Answer", "Policy", "parse_policy"]


class Answer(StrEnum):
    """What replaces a forbidden code: nothing, or a verdict."""

    AS_IS = "as-is"
    DROP = "drop"
    PASS = "pass"

    @property
    def action(self) -> Action | None:
        return {Answer.DROP: Action.DROP, Answer.PASS: Action.PASS}.get(self)


@frozen
class Policy:
    """``may``: the actions that the slot may return. Every other code is forbidden, including those that are
    not actions. The answer need not be one of ``may``. Raises InvalidInput if nothing is allowed.
    """

    may: ActionSet
    otherwise: Answer = Answer.AS_IS

    def __post_init__(self) -> None:
        if not self.may:
            raise InvalidInput("a slot must be allowed to return something", todo="Name an action, or `any`")

    @property
    def forbidden(self) -> int:
        """A mask of the six codes of the counters: bit n for action n, the sixth for any other code."""
        return (1 << OTHER + 1) - 1 & ~self.may.mask

    def broken_by(self, code: int) -> bool:
        """Whether the slot may not return this code."""
        return bool(self.forbidden >> min(code, OTHER) & 1)

    def breaches(self, packets: Sequence[float]) -> float:
        """The number of forbidden packets among ``packets``, counted by the six codes."""
        return sum(count for code, count in enumerate(packets) if self.broken_by(code))

    def __str__(self) -> str:
        if self.otherwise is Answer.AS_IS:
            return f"may return {self.may}; anything else is reported"
        return f"may return {self.may}; anything else is reported and becomes {self.otherwise}"


def parse_policy(may: str, otherwise: str | None = None) -> Policy | None:
    """Read ``PASS,DROP`` (``any``: no policy, which gives None) and an answer. Raises InvalidInput."""
    if may.strip().lower() == "any":
        if otherwise is not None:
            raise InvalidInput("there is nothing to replace", "with `any`, no code is forbidden")
        return None
    try:
        answer = Answer(otherwise) if otherwise is not None else Answer.AS_IS
    except ValueError:
        listed = ", ".join(Answer)
        raise InvalidInput(f"{otherwise!r} is not a valid answer", todo=f"The answers are {listed}") from None
    return Policy(ActionSet.parse(may), answer)
