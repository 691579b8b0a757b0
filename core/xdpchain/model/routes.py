# SPDX-License-Identifier: Apache-2.0
"""Routes: return codes that lead to a named slot, beyond "continue or return". Pure.

A slot's return code leads, in order of precedence:

1. to the target of a route for this code;
2. to the next slot, if it is among the chain call actions;
3. to the target of the slot's route for any other code;
4. out of the chain: the code is the verdict.

Code 31 always continues with the next slot (`config.USED`).
"""

from __future__ import annotations

from xdpchain.errors import InvalidInput
from xdpchain.frozen import frozen

from .actions import ALL_ACTIONS, Action

__all__ = ["CODES", "OTHER", "Route", "parse_routes", "route_name"]

OTHER = len(ALL_ACTIONS)
"""The index of all return codes that are not actions, as in the counters."""

CODES = OTHER + 1

ANY = ("*", "any")


@frozen
class Route:
    """After return code ``code`` (None: any without its own rule) the slot with the key ``target`` runs."""

    code: Action | None
    target: str


def route_name(code: Action | None) -> str:
    """``XDP_DROP``, or ``*`` for any other code."""
    return "*" if code is None else code.xdp_name


def parse_routes(text: str) -> dict[Action | None, str]:
    """Read ``DROP:logger,TX:4,*:return`` into code -> the word after it: a slot's number or its component's
    name, ``next`` or ``return``. Raises InvalidInput.
    """
    targets: dict[Action | None, str] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        word, colon, target = part.partition(":")
        if not colon or not target.strip():
            raise InvalidInput(
                f"{part!r} is not a route",
                "a route says which slot runs after which return code",
                "Write it as DROP:logger, TX:4 or *:return",
            )
        code = None if word.strip().lower() in ANY else Action.parse(word)
        if code in targets:
            raise InvalidInput(f"{route_name(code)} is routed twice", todo="Give one target for each code")
        targets[code] = target.strip()
    if not targets:
        raise InvalidInput("no route was given", todo="Write it as DROP:logger, TX:4 or *:return")
    return targets
