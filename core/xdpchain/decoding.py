# SPDX-License-Identifier: Apache-2.0
"""Decode JSON that others may have written: bounded in size, depth and numbers, and read field by field.
Pure.

Whatever the bytes are, the result is a value of the requested type, or InvalidInput.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, NoReturn

from xdpchain.errors import InvalidInput

__all__ = ["DEPTH", "ID", "U64", "Fields", "decode", "fields"]

SIZE = 1 << 20
"""Default limit of a document in bytes."""

DEPTH = 32
"""Deepest nesting of lists and objects."""

ID = (1 << 32) - 1
"""The largest ID that the kernel assigns (programs, maps, links, interfaces)."""

U64 = (1 << 64) - 1
_DIGITS = 20
_LONG = re.compile(r"[0-9]{20}")
_TEXT = 4096


def decode(data: bytes | str, what: str, *, most: int = SIZE) -> Any:
    """A JSON document of at most ``most`` bytes. Raises InvalidInput, which names ``what``.

    Numbers have at most 20 digits and are finite.
    """
    if len(data) > most:
        raise _invalid(what, f"it has {len(data)} bytes, more than {most}")
    try:
        text = data.decode() if isinstance(data, bytes) else data
        # In most documents no number can be too long, and then none has to be looked at by itself.
        whole = _integer if _LONG.search(text) else None
        document = json.loads(text, parse_int=whole, parse_float=_float, parse_constant=_constant)
    except RecursionError:
        raise _invalid(what, f"it is nested deeper than {DEPTH}") from None
    except ValueError as error:
        raise _invalid(what, str(error)[:200]) from None
    if _deeper(document):
        raise _invalid(what, f"it is nested deeper than {DEPTH}")
    return document


def fields(data: bytes | str, what: str, *, most: int = SIZE) -> Fields:
    """The same for a document that must be an object."""
    return Fields(decode(data, what, most=most), what)


class Fields:
    """An object of a document. Each method reads one field, and raises InvalidInput if it is missing or not
    what it should be; for ``none`` methods, null or a missing field is None.
    """

    __slots__ = ("_fields", "_what")

    def __init__(self, value: Any, what: str) -> None:
        if not isinstance(value, dict):
            raise _invalid(what, "an object is missing")
        self._fields: dict[str, Any] = value
        self._what = what

    def __contains__(self, name: str) -> bool:
        return self._fields.get(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def refuse(self, name: str, why: str) -> NoReturn:
        """Raise InvalidInput for a field."""
        raise _invalid(self._what, f"{name} {why}")

    def value(self, name: str) -> Any:
        """Any value; None if it is missing."""
        return self._fields.get(name)

    def text(self, name: str, *, most: int = _TEXT, default: str | None = None) -> str:
        """A string of at most ``most`` characters."""
        value = self._fields.get(name, default)
        if not isinstance(value, str) or len(value) > most:
            self.refuse(name, f"is not text of up to {most} characters")
        return value

    def text_or_none(self, name: str, *, most: int = _TEXT) -> str | None:
        return self.text(name, most=most) if name in self else None

    def integer(self, name: str, *, least: int = 0, most: int = U64) -> int:
        """An integer from ``least`` to ``most``."""
        value = self._fields.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            self.refuse(name, f"is not a whole number from {least} to {most}")
        return value

    def integer_or_none(self, name: str, *, least: int = 0, most: int = U64) -> int | None:
        return self.integer(name, least=least, most=most) if name in self else None

    def number(self, name: str, *, most: float = 1e15) -> float:
        """A number whose absolute value is at most ``most``."""
        value = self._fields.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool) or abs(value) > most:
            self.refuse(name, "is not a valid number")
        return float(value)

    def number_or_none(self, name: str, *, most: float = 1e15) -> float | None:
        return self.number(name, most=most) if name in self else None

    def flag(self, name: str, *, default: bool | None = None) -> bool:
        value = self._fields.get(name, default)
        if not isinstance(value, bool):
            self.refuse(name, "is neither true nor false")
        return value

    def list(self, name: str, *, most: int, default: tuple[Any, ...] | None = None) -> list[Any]:
        """A list of at most ``most`` items of any kind."""
        value = self._fields.get(name, default)
        if isinstance(value, tuple):
            return list(value)
        if not isinstance(value, list) or len(value) > most:
            self.refuse(name, f"is not a list of up to {most} items")
        return value

    def integers(
        self, name: str, *, most: int, greatest: int = U64, default: tuple[int, ...] | None = None
    ) -> tuple[int, ...]:
        """A list of integers from 0 to ``greatest``."""
        found = self.list(name, most=most, default=default)
        for value in found:
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= greatest:
                self.refuse(name, f"holds something other than whole numbers from 0 to {greatest}")
        return tuple(found)

    def texts(self, name: str, *, most: int, longest: int = _TEXT) -> tuple[str, ...]:
        """A list of strings."""
        found = self.list(name, most=most)
        if not all(isinstance(value, str) and len(value) <= longest for value in found):
            self.refuse(name, f"holds something other than text of up to {longest} characters")
        return tuple(found)

    def fields(self, name: str) -> Fields:
        """A nested object."""
        return Fields(self._fields.get(name), f"{self._what}: {name}")

    def fields_or_none(self, name: str) -> Fields | None:
        return self.fields(name) if name in self else None

    def mapping(self, name: str) -> dict[str, Any]:
        """An object as it is, with values of any kind."""
        return self.fields(name)._fields

    def objects(self, name: str, *, most: int) -> tuple[Fields, ...]:
        """A list of objects."""
        return tuple(Fields(value, f"{self._what}: {name}") for value in self.list(name, most=most))


def _deeper(document: Any) -> bool:
    level = [document] if isinstance(document, dict | list) else []
    for _ in range(DEPTH + 1):
        if not level:
            return False
        level = [
            item
            for value in level
            for item in (value.values() if isinstance(value, dict) else value)
            if isinstance(item, dict | list)
        ]
    return bool(level)


def _integer(text: str) -> int:
    if len(text) > _DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:20]} is too large")
    return value


def _constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number")


def _invalid(what: str, why: str) -> InvalidInput:
    return InvalidInput(f"{what} can't be read", why)
