# SPDX-License-Identifier: Apache-2.0
"""Terminals limited to ASCII: each other character gets a substitute of the same width."""

from __future__ import annotations

from collections.abc import Mapping

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

__all__ = ["AsciiFilter", "ascii_only", "wants_ascii"]

SIGNS = {
    **dict.fromkeys("╭╮╰╯┌┐└┘├┤┬┴┼┿╸╺", "+"),
    **dict.fromkeys("─━═▔▁–", "-"),
    **dict.fromkeys("│┃║▏▎▍▌▐", "|"),
    **dict.fromkeys("▂▃", "."),
    **dict.fromkeys("▄▅", "="),
    **dict.fromkeys("▆▇█▋▊▉■", "#"),
    **dict(zip("▶▸›→≡↕≠«…·▲▼✓✗×⇄✂•●µ↑↓←✔⏎", ">>>>=|#<..^v+xx=%**u^v<+<", strict=True)),
    "\N{NO-BREAK SPACE}": " ",
}


def ascii_only(text: str) -> str:
    """``text`` in ASCII only, with its width unchanged."""
    if text.isascii():
        return text
    return "".join(c if c.isascii() else SIGNS.get(c, "?" * cell_len(c)) for c in text)


def wants_ascii(environ: Mapping[str, str]) -> bool:
    """Whether the locale's character set is not UTF-8. Where LANG is C, Python sets LC_CTYPE by itself (PEP
    538), which says nothing about the terminal.
    """
    coerced = environ.get("LC_CTYPE") == "C.UTF-8" and environ.get("LANG", "C") in ("C", "POSIX", "")
    names = ("LC_ALL", "LANG") if coerced else ("LC_ALL", "LC_CTYPE", "LANG")
    locale = next((environ[name] for name in names if environ.get(name)), "C")
    return "utf8" not in locale.lower().replace("-", "")


class AsciiFilter(LineFilter):
    """Substitutes characters that the terminal lacks."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [Segment(ascii_only(text), style, control) for text, style, control in segments]
