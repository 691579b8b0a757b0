# SPDX-License-Identifier: Apache-2.0
"""Who follows packets through a chain: frozen value <-> JSON. Pure."""

from __future__ import annotations

import json

from xdpchain.decoding import ID, fields
from xdpchain.errors import InvalidInput
from xdpchain.frozen import frozen

from .manifest import Author, author_in, author_out

__all__ = ["SILENCE", "Following"]

FORMAT = 1

SILENCE = 3.0
"""Seconds without a heartbeat after which a follower is considered gone."""


@frozen
class Following:
    """Who follows which packets (a filter expression) through a chain, and whether they still do: the
    follower keeps writing the time to the map ``state_map``.
    """

    author: Author
    expression: str
    state_map: int
    alive: bool = True

    def lives(self, beat: int, now: int) -> bool:
        """Whether the last heartbeat is recent; both in ns of CLOCK_MONOTONIC."""
        return now - beat < SILENCE * 1e9

    def encode(self) -> bytes:
        document = {
            "format": FORMAT,
            "author": author_out(self.author),
            "expression": self.expression,
            "state": self.state_map,
        }
        return json.dumps(document, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes) -> Following:
        """Read what `encode` wrote, padding stripped. Raises InvalidInput."""
        what = "the mark of a followed chain"
        document = fields(data.rstrip(b"\0"), what)
        if document.integer("format") != FORMAT:
            raise InvalidInput(f"{what} can't be read", f"format {document.integer('format')}")
        author = author_in(document.fields("author"))
        return cls(author, document.text("expression", most=1 << 16), document.integer("state", most=ID))
