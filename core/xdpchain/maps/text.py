# SPDX-License-Identifier: Apache-2.0
"""Plain values <-> one line of text, for tables, filters and edits. Pure.

A record is written ``{port=53, protocol=17}``, a list ``[1, 2]``, text ``"eth0"``; numbers in decimal or with
0x. The braces of an outermost record may be left out.
"""

from __future__ import annotations

import json
import re
from typing import Final

from xdpchain.errors import InvalidInput

from .layout import Form, Layout, Number, Opaque, Prefix, Record, Sequence, Text
from .values import Plain

__all__ = ["assignment", "parse", "render"]

MOST: Final = 4000
"""Default limit of rendered characters."""

_NUMBER = re.compile(r"[+-]?(0[xX][0-9a-fA-F]+|[0-9]+)")
_HEX_PAIRS = re.compile(r"[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2})+")


def render(layout: Layout, value: Plain, limit: int = MOST) -> str:
    """The value on one line of at most ``limit`` characters; ``…`` marks a cut."""
    parts: list[str] = []
    room = limit
    for part in _parts(layout, value):
        parts.append(part)
        room -= len(part)
        if room < 0:
            break
    text = "".join(parts)
    return text if len(text) <= limit else text[: max(0, limit - 1)] + "…"


def _parts(layout: Layout, value: Plain) -> list[str] | _Lazy:
    return _Lazy(layout, value)


class _Lazy:
    """Pieces of text on demand: a value may be a megabyte."""

    def __init__(self, layout: Layout, value: Plain) -> None:
        self._todo: list[tuple[Layout | None, Plain]] = [(layout, value)]

    def __iter__(self) -> _Lazy:
        return self

    def __next__(self) -> str:
        while self._todo:
            layout, value = self._todo.pop()
            if layout is None:
                return str(value)
            if isinstance(layout, Record) and isinstance(value, dict):
                inner: list[tuple[Layout | None, Plain]] = [(None, "{")]
                for i, field in enumerate(layout.fields):
                    inner.append((None, f"{', ' if i else ''}{field.name}="))
                    inner.append((field.layout, value[field.name]))
                self._todo += reversed([*inner, (None, "}")])
            elif isinstance(layout, Sequence) and isinstance(value, list):
                self._todo.append((None, "]"))
                for i in range(len(value) - 1, -1, -1):
                    self._todo.append((layout.element, value[i]))
                    if i:
                        self._todo.append((None, ", "))
                self._todo.append((None, "["))
            else:
                return _leaf(layout, value)
        raise StopIteration


def _leaf(layout: Layout, value: Plain) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(layout, Text):
        return json.dumps(value)
    if isinstance(layout, Number) and layout.form is Form.POINTER and isinstance(value, int):
        return hex(value)
    if isinstance(layout, Opaque):
        text = str(value)
        return " ".join(text[i : i + 2] for i in range(0, len(text), 2))
    return str(value)


def parse(layout: Layout, text: str) -> Plain:
    """Parse a value; a record may lack members. Raises InvalidInput."""
    reader = _Reader(text)
    if isinstance(layout, Record) and not reader.at("{"):
        value: Plain = reader.members(layout, "")
    else:
        value = reader.value(layout)
    reader.end()
    return value


def assignment(text: str) -> tuple[str, str]:
    """Split ``KEY=VALUE`` at the first ``=`` outside braces, brackets and quotes. Raises InvalidInput."""
    depth, quoted, escaped = 0, False, False
    for i, c in enumerate(text):
        if escaped:
            escaped = False
        elif quoted:
            escaped, quoted = c == "\\", c != '"'
        elif c == '"':
            quoted = True
        elif c in "{[":
            depth += 1
        elif c in "}]":
            depth -= 1
        elif c == "=" and not depth:
            return text[:i].strip(), text[i + 1 :].strip()
    raise InvalidInput(f"{text!r} has no =", todo="Write KEY=VALUE; a key with members: {a=1, b=2}=VALUE")


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def at(self, mark: str) -> bool:
        self._skip()
        return self._text.startswith(mark, self._at)

    def end(self) -> None:
        self._skip()
        if self._at < len(self._text):
            raise self._wrong("extra text after the value")

    def value(self, layout: Layout) -> Plain:
        match layout:
            case Record():
                self._take("{")
                made = self.members(layout, "}")
                self._take("}")
                return made
            case Sequence():
                return self._sequence(layout)
            case Text() | Prefix() | Opaque():
                if isinstance(layout, Text) and self.at("["):
                    return self._list(Number(1, 8))
                if isinstance(layout, Opaque):
                    if not layout.size:
                        return ""
                    return "".join(self._word(blanks=True).split())
                return self._quoted() if self.at('"') else self._word()
            case Number():
                return self._number(layout)

    def members(self, layout: Record, end: str) -> dict[str, Plain]:
        made: dict[str, Plain] = {}
        while not (self.at(end) if end else self._done()):
            if made:
                self._take(",")
            self._skip()
            start = self._at
            while self._at < len(self._text) and self._text[self._at] not in "=,{}[]":
                self._at += 1
            name = self._text[start : self._at].strip()
            found = layout.field(name)
            if found is None:
                raise InvalidInput(
                    f"there is no member {name!r}" if name else f"{self._text!r} can't be read",
                    todo="The members are " + ", ".join(field.name for field in layout.fields[:12]),
                )
            self._take("=")
            made[name] = self.value(found.layout)
        return made

    def _sequence(self, layout: Sequence) -> Plain:
        if layout.element.size == 1 and not self.at("["):
            word = self._word()
            if _HEX_PAIRS.fullmatch(word):  # like hardware addresses
                return [int(word[i : i + 2], 16) for i in range(0, len(word), 3)]
            raise self._wrong("a list of bytes is written [1, 2, …] or 01:02:…")
        return self._list(layout.element)

    def _list(self, element: Layout) -> Plain:
        self._take("[")
        made: list[Plain] = []
        while not self.at("]"):
            if made:
                self._take(",")
            made.append(self.value(element))
        self._take("]")
        return made

    def _number(self, layout: Number) -> Plain:
        word = self._word()
        if layout.form is Form.BOOL and word in ("true", "false"):
            return word == "true"
        if layout.form in (Form.IPV4, Form.IPV6) and not word.isdecimal():
            return word
        if _NUMBER.fullmatch(word) and len(word) < 80:
            value = int(word, 16 if "x" in word.lower() else 10)
            if layout.form is Form.BOOL and value in (0, 1):
                return bool(value)
            # Numbers of enumerators become their names.
            return next((name for name, known in layout.names if known == value), value)
        if layout.form is Form.FLOAT:
            try:
                return float(word)
            except ValueError:
                raise self._wrong(f"{word!r} is not a number") from None
        return word

    def _word(self, *, blanks: bool = False) -> str:
        self._skip()
        start = self._at
        stop = ",{}[]=" if blanks else ",{}[]= "
        while self._at < len(self._text) and self._text[self._at] not in stop:
            self._at += 1
        if self._at == start:
            raise self._wrong("a value is missing")
        return self._text[start : self._at].strip()

    def _quoted(self) -> str:
        try:
            value, self._at = json.JSONDecoder().raw_decode(self._text, self._at)
        except json.JSONDecodeError:
            raise self._wrong("a quote is not closed") from None
        return str(value)

    def _skip(self) -> None:
        while self._at < len(self._text) and self._text[self._at].isspace():
            self._at += 1

    def _done(self) -> bool:
        self._skip()
        return self._at >= len(self._text)

    def _take(self, mark: str) -> None:
        if not self.at(mark):
            raise self._wrong(f"{mark!r} is missing")
        self._at += 1

    def _wrong(self, why: str) -> InvalidInput:
        return InvalidInput(f"{self._text[:60]!r} can't be read", f"at character {self._at + 1}: {why}")
