# SPDX-License-Identifier: Apache-2.0
"""A component's run priority and chain call actions."""

from __future__ import annotations

from xdpchain.errors import InvalidInput
from xdpchain.frozen import frozen

from .actions import Action, ActionSet

__all__ = ["DEFAULT", "DEFAULT_ACTIONS", "DEFAULT_PRIORITY", "MAX_PRIORITY", "RunConfig"]

DEFAULT_PRIORITY = 50
MAX_PRIORITY = (1 << 31) - 1
DEFAULT_ACTIONS = ActionSet.of(Action.PASS)


@frozen
class RunConfig:
    """Run priority (lower runs first) and chain call actions (the codes after which the next component runs).

    The defaults are libxdp's: priority 50, and only XDP_PASS continues.
    """

    priority: int = DEFAULT_PRIORITY
    actions: ActionSet = DEFAULT_ACTIONS

    def __post_init__(self) -> None:
        if not 0 <= self.priority <= MAX_PRIORITY:
            raise InvalidInput(
                f"{self.priority} is not a valid run priority", f"the range is 0 to {MAX_PRIORITY}"
            )


DEFAULT = RunConfig()
"""The config of a component that declares none."""
