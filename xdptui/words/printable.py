# SPDX-License-Identifier: Apache-2.0
"""Make text from elsewhere safe to show. Pure."""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: str) -> str:
    """``text`` without anything that could control a terminal: interface and file names can contain
    escapes.
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
