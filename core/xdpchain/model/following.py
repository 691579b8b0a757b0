# SPDX-License-Identifier: Apache-2.0
"""For whom a chain records the way of packets: frozen value <-> JSON. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass

from xdpchain.errors import InvalidInput

from .manifest import Author

__all__ = ["SILENCE", "Following"]

FORMAT = 1

SILENCE = 3.0
"""Seconds without a sign of life after which a follower counts as gone."""


@dataclass(frozen=True, slots=True)
class Following:
    """Who follows which packets (a filter expression) through a chain, and whether there is still somebody:
    the follower writes the time into the map ``state_map`` again and again.
    """

    author: Author
    expression: str
    state_map: int
    alive: bool = True

    def lives(self, beat: int, now: int) -> bool:
        """Whether its last sign of life is fresh; both in ns of CLOCK_MONOTONIC."""
        return now - beat < SILENCE * 1e9

    def encode(self) -> bytes:
        author = self.author
        document = {
            "format": FORMAT,
            "author": {
                "user": author.user,
                "pid": author.pid,
                "command": author.command,
                "at": author.at,
            },
            "expression": self.expression,
            "state": self.state_map,
        }
        return json.dumps(document, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes) -> Following:
        """Read what `encode` wrote, padding stripped. Raises InvalidInput."""
        try:
            document = json.loads(data.rstrip(b"\0"))
            if document["format"] != FORMAT:
                raise InvalidInput("the mark of a followed chain can't be read", f"{document['format']}")
            return cls(Author(**document["author"]), str(document["expression"]), int(document["state"]))
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidInput("the mark of a followed chain can't be read", repr(error)) from None
