# SPDX-License-Identifier: Apache-2.0
"""TOML -> spec. Pure. Anything that is not understood is an error with line and column: an ignored key would
be a request that nobody fulfils.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any

from xdpchain.advice import Advice
from xdpchain.errors import InvalidInput
from xdpchain.model.chain import MAX_SLOTS
from xdpchain.model.routes import route_name

from .bounds import check_bounds
from .keys import INTERFACE_KEYS, SLOT_KEYS, SLOTS, Key
from .places import Path, place_of
from .values import FORMAT, InterfaceSpec, SlotSpec, Spec

__all__ = ["parse"]

DOCUMENT = ("format", "interface")
_AT = re.compile(r"\(at line (\d+), column (\d+)\)|\(at end of document\)")


def parse(text: str, source: str = "the spec") -> Spec:
    """Read a spec; ``source`` names it in errors. Raises InvalidInput."""
    check_bounds(text, source)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _syntax(str(error), text, source) from None
    except ValueError as error:  # an integer of more than 4300 digits
        raise InvalidInput(f"{source} is not TOML", str(error)[:200]) from None
    except RecursionError:
        raise InvalidInput(f"{source} is not TOML", "it is nested too deeply") from None
    return _Reader(text, source).document(document)


def _syntax(said: str, text: str, source: str) -> InvalidInput:
    found = _AT.search(said)
    why = _AT.sub("", said).strip()
    if found is None:
        return InvalidInput(f"{source} is not TOML", why)
    line, column = found[1] or text.count("\n") + 1, found[2] or len(text) - text.rfind("\n")
    return InvalidInput(f"{source}, line {line}, column {column}: this is not TOML", why)


class _Reader:
    def __init__(self, text: str, source: str) -> None:
        self._text = text
        self._source = source

    def error(self, path: Path, what: str, why: str = "", todo: str | Advice = "") -> InvalidInput:
        place = place_of(self._text, path)
        where = f"{self._source}, line {place[0]}, column {place[1]}" if place else self._source
        return InvalidInput(f"{where}: {what}", why, todo)

    def document(self, document: Mapping[str, Any]) -> Spec:
        self._known(document, DOCUMENT, (), "a spec")
        if document.get("format", FORMAT) != FORMAT:
            raise self.error(
                ("format",),
                f"format {document['format']!r} can't be read",
                f"this version reads format {FORMAT}",
            )
        entries = self._tables(document.get("interface", []), ("interface",))
        return Spec(tuple(self._interface(mapping, ("interface", i)) for i, mapping in enumerate(entries)))

    def _interface(self, table: Mapping[str, Any], path: Path) -> InterfaceSpec:
        self._known(table, (*INTERFACE_KEYS, SLOTS), path, "an interface")
        if "name" not in table:
            raise self.error(path, "an interface without a name", todo='Give it one: name = "eth0"')
        if SLOTS not in table:
            raise self.error(
                path,
                f"{table['name']} has no slots",
                "it does not say what to run",
                "Add [[interface.slot]] tables, or slot = [] if nothing should run there",
            )
        values = self._values(table, INTERFACE_KEYS, path)
        slots = self._tables(table[SLOTS], (*path, SLOTS))
        if len(slots) > MAX_SLOTS:
            why = f"the limit is {MAX_SLOTS} slots"
            raise self.error((*path, SLOTS, MAX_SLOTS), f"{len(slots)} slots can't be built", why)
        read = tuple(self._slot(mapping, (*path, SLOTS, i)) for i, mapping in enumerate(slots))
        self._targets(read, path)
        return InterfaceSpec(slots=read, **values)

    def _slot(self, table: Mapping[str, Any], path: Path) -> SlotSpec:
        self._known(table, tuple(SLOT_KEYS), path, "a slot")
        slot = SlotSpec(**self._values(table, SLOT_KEYS, path))
        if slot.object is None and not (slot.tag and slot.program):
            raise self.error(
                path, "a slot without an object file", todo='Name it: object = "/path/to/file.o"'
            )
        if slot.object is None and slot.sha256 is not None:
            raise self.error((*path, "sha256"), "a hash without an object file")
        if slot.program and slot.section:
            raise self.error(
                (*path, "section"), "program and section both name the program", "give one of them"
            )
        return slot

    def _targets(self, slots: tuple[SlotSpec, ...], path: Path) -> None:
        """Each route must lead to exactly one slot, and names must be unique."""
        names = [slot.name for slot in slots if slot.name]
        for i, slot in enumerate(slots):
            if slot.given_name is not None and names.count(slot.given_name) > 1:
                what = f"another slot is called {slot.given_name!r}, too"
                raise self.error((*path, SLOTS, i, "name"), what)
            routes = (("routes", f"{route_name(code)} leads to", target) for code, target in slot.routes)
            owners = (("use_maps", f"map {name} is that of", owner) for name, owner, _ in slot.use_maps)
            for key, what, target in (*routes, *owners):
                if names.count(target) != 1:
                    found = "several slots are called" if target in names else "no slot is called"
                    raise self.error(
                        (*path, SLOTS, i, key),
                        f"{what} {target!r}: {found} so",
                        "slots are called by their name or their program",
                        "Give the slot a name of its own: name = …",
                    )

    def _values(self, table: Mapping[str, Any], keys: Mapping[str, Key], path: Path) -> dict[str, Any]:
        values = {}
        for name in table:
            if name in keys:
                try:
                    values[keys[name].attribute] = keys[name].read(table[name])
                except (ValueError, InvalidInput) as error:
                    raise self.error((*path, name), f"{name} = {_shown(table[name])}", *_why(error)) from None
        return values

    def _known(self, table: Mapping[str, Any], known: tuple[str, ...], path: Path, what: str) -> None:
        for name in table:
            if name not in known:
                import difflib

                near = difflib.get_close_matches(name, known, n=1)
                todo = f"Did you mean {near[0]!r}?" if near else ""
                why = f"{what} allows: {', '.join(known)}"
                raise self.error((*path, name), f"unknown key {name!r}", why, todo)

    def _tables(self, value: Any, path: Path) -> list[Mapping[str, Any]]:
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            name = ".".join(item for item in path if isinstance(item, str))
            raise self.error(path, f"{name} is not a list of tables", todo=f"Write [[{name}]]")
        return value


def _why(error: ValueError | InvalidInput) -> tuple[str, str | Advice]:
    if isinstance(error, InvalidInput):
        return f"{error.what}: {error.why}" if error.why else error.what, error.todo
    return f"it {error}", ""


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
