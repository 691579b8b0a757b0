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
    "plus": "+",
    "minus": "-",
}
WORDS = {
    "accept": "press the main button",
    "again": "run again or reset",
    "all": "mark all or none",
    "another": "other packets: builtin, live, ssh, or a file",
    "answer": "answer",
    "apply": "apply",
    "back": "back",
    "by": "row above, row below",
    "choose": "choose",
    "cursor_down": "row above, row below",
    "cursor_up": "row above, row below",
    "copy_row": "copy the row",
    "delete": "delete the entry",
    "details": "details",
    "drop": "discard your changes",
    "edit": "edit the value",
    "end": "end",
    "everything": "show or hide what passed",
    "filter": "filter",
    "following": "next entries of a large map",
    "first": "first, last",
    "freeze": "freeze or resume",
    "globals": "global variables",
    "grow": "make the pane larger or smaller (or drag its border)",
    "invert": "reverse the sort order",
    "keep_maps": "keep map contents, or not",
    "keys": "these keys",
    "last": "first, last",
    "lines": "show or hide which lines decide",
    "log": "the verifier's log",
    "new": "add an entry",
    "other": "the other pane",
    "page_down": "page up, page down",
    "page_up": "page up, page down",
    "page": "page up, page down",
    "parent": "parent directory",
    "path": "lines that ran in each slot",
    "rebase": "rebase your changes",
    "remove": "remove what is marked",
    "reset": "reset to the object's values",
    "sample": "try current traffic",
    "scroll": "scroll",
    "search": "filter the rows",
    "select": "choose or mark",
    "sort": "sort by the next column (or click the heading)",
    "tab": "the tab with this number",
    "to": "first, last",
    "trial": "try it on packets",
    "turn": "the next page",
    "undo": "undo the last change",
    "undo_to": "undo this change and all after it",
    "verdict": "show packets with the next verdict",
    "what_if": "what if: packets before and after",
    "why": "why",
    "write": "write to a file",
    "yes": "go on",
    "zoom": "zoom the pane, or show both",
}
"""By action; actions without words here are left out."""


def key_label(keys: Iterable[str]) -> str:
    """Keys as people write them."""
    return " ".join(LABELS.get(key, key) for key in dict.fromkeys(keys))


def key_lines(bound: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """(keys, description) for each action of these (key, action)."""
    found: dict[str, list[str]] = {}
    for key, action in bound:
        name = action.partition("(")[0].rpartition(".")[2]
        if name in WORDS:
            found.setdefault(WORDS[name], []).append(key)
    return [(key_label(keys), words) for words, keys in found.items()]
