# SPDX-License-Identifier: Apache-2.0
"""What the keys of dialogs are called. Pure."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["key_label", "key_lines"]

LABELS = {
    "question_mark": "?",
    "slash": "/",
    "colon": ":",
    "escape": "esc",
    "up": "↑",
    "down": "↓",
    "left": "←",
    "right": "→",
    "pageup": "pgup",
    "pagedown": "pgdn",
    "shift+tab": "shift+tab",
    "delete": "del",
    "greater_than_sign": ">",
}
WORDS = {
    "accept": "what the main button does",
    "again": "run again, from zero",
    "all": "mark all or none",
    "answer": "answer",
    "apply": "apply",
    "back": "back",
    "by": "row above, row below",
    "choose": "choose",
    "copy_row": "copy the row",
    "delete": "delete the entry",
    "detail": "details",
    "edit": "edit the value",
    "end": "end",
    "everything": "show what passed, or hide it",
    "filter": "filter",
    "following": "the next entries of a large map",
    "freeze": "freeze, or go on",
    "globals": "global variables",
    "invert": "sort the other way round",
    "keep_maps": "keep what their maps hold, or not",
    "keys": "these keys",
    "lines": "which lines decide, or not",
    "log": "the verifier's log",
    "new": "add an entry",
    "other": "the other pane",
    "page": "page up, page down",
    "parent": "the directory above",
    "path": "the lines that ran in each slot",
    "remove": "remove what is marked",
    "reset": "as the object says",
    "sample": "try packets that flow now",
    "scroll": "scroll",
    "search": "filter the rows",
    "sort": "sort by the next column (or click the heading)",
    "source": "other packets: builtin, live, ssh, or a file",
    "tab": "the tab with this number",
    "to": "first, last",
    "trial": "try it on packets",
    "turn": "the next page",
    "undo": "undo the last change",
    "verdict": "the next verdict to follow",
    "what_if": "what if: packets before and after",
    "why": "why",
    "write": "write to a file",
    "yes": "go on",
}
"""By action; an action that has no words here is left out."""


def key_label(keys: Iterable[str]) -> str:
    """Keys as people write them."""
    return " ".join(LABELS.get(key, key) for key in dict.fromkeys(keys))


def key_lines(bound: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """(keys, words) for each action of these (key, action)."""
    found: dict[str, list[str]] = {}
    for key, action in bound:
        name = action.partition("(")[0].rpartition(".")[2]
        if name in WORDS:
            found.setdefault(WORDS[name], []).append(key)
    return [(key_label(keys), words) for words, keys in found.items()]
