# SPDX-License-Identifier: Apache-2.0
"""Where a key is in a TOML text. Pure.

tomlkit keeps each blank and comment of a document, but no positions. So a mark is put before the item in
question and the document written out: the mark is then at the item's position.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

__all__ = ["Path", "place_of", "places_of"]

Path = Sequence[str | int]
"""Keys and list indices from the document's root."""

MARK = "\x00"  # not valid in TOML


def place_of(text: str, path: Path) -> tuple[int, int] | None:
    """Line and column, from 1, of the key at ``path``, or of the nearest key above it that has a position.
    None if there is none, or the text is not TOML.
    """
    return places_of(text, [path])[0]


def places_of(text: str, paths: Sequence[Path]) -> list[tuple[int, int] | None]:
    """The same for several paths."""
    import tomlkit  # late: most specs have no faults
    from tomlkit.exceptions import TOMLKitError

    try:
        document = tomlkit.parse(text)
    except (TOMLKitError, ValueError, RecursionError):
        return [None] * len(paths)
    return [_nearest(document, path) for path in paths]


def _nearest(document: TOMLDocument, path: Path) -> tuple[int, int] | None:
    for depth in range(len(path), 0, -1):
        found = _marked(document, path[:depth])
        if found is not None:
            return found
    return None


def _marked(document: TOMLDocument, path: Path) -> tuple[int, int] | None:
    try:
        item: Any = document
        for step in path:
            item = item.item(step) if isinstance(step, str) and hasattr(item, "item") else item[step]
        trivia = item.trivia
    except (KeyError, IndexError, TypeError, AttributeError):
        return None
    blanks = trivia.indent
    trivia.indent = MARK + blanks
    written = document.as_string()
    trivia.indent = blanks
    at = written.find(MARK)
    if at < 0:
        return None
    at += len(blanks)  # its position without the mark
    before = written.replace(MARK, "")[:at]
    return before.count("\n") + 1, at - before.rfind("\n")
