# SPDX-License-Identifier: Apache-2.0
"""Messages kept until they are read. Pure."""

from __future__ import annotations

from xdpchain.frozen import frozen

__all__ = ["KEPT", "Notice", "unread"]

KEPT = 500
"""Notices remembered."""


@frozen
class Notice:
    """``at`` is in seconds since 1970; ``serious``: a warning or an error."""

    at: float
    title: str
    text: str
    serious: bool
    read: bool = False


def unread(notices: list[Notice]) -> int:
    """The number of unread warnings and errors."""
    return sum(notice.serious and not notice.read for notice in notices)
