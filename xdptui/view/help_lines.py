# SPDX-License-Identifier: Apache-2.0
"""The help: the keys that work in a mode, and a legend. Pure."""

from __future__ import annotations

from xdpchain.frozen import frozen
from xdptui.view.keys import GROUPS, KEYS, text_in, works

__all__ = ["LEGEND", "Mode", "help_blocks"]

LEGEND = {
    "Letters": (
        ("A D P T R", "aborted, drop, pass, tx (sent back), redirect"),
        ("A D P T R", "in a slot: the next slot runs after it; a dot: the chain ends there"),
        ("P2", "after PASS the chain continues at slot 2 (a route)"),
        ("O", "the slot is off: it does not run but keeps its place and its maps"),
        ("S", "the slot is in shadow: it runs and counts but decides nothing"),
    ),
    "Signs": (
        ("*", "differs from what runs"),
        ("+ - ↕ ~ ≠ «", "added, removed, moved, retuned, replaced, adopted"),
        ("▶ ≡", "the cursor; the slot being dragged"),
        ("■", "before a heading: this pane has the focus"),
        ("!", "a warning; in the list: packets were lost after their program"),
        ("-", "an unknown number"),
    ),
    "Rows": (
        ("second line", "of a slot: the same counters in the other unit (t), and bytes at the end"),
        ("received", "packets that reached the chain; → after N: those that continued after slot N"),
        ("= passed …", "what the chain returned for them"),
        ("trend", "packets/s over the last two minutes, newest on the right"),
    ),
    "The mouse": (
        ("drag", "a slot: moves it; a pane's heading: makes the panes larger or smaller"),
        ("click", "a letter: toggles it; a heading: sorts; double: zooms the pane, opens the slot"),
        ("shift+drag", "selects text, the terminal's way (or start with --no-mouse)"),
    ),
}


@frozen
class Mode:
    """The main screen's mode, as far as it decides which keys work."""

    read_only: bool = False
    replaying: bool = False


def help_blocks(mode: Mode, needle: str = "") -> list[list[tuple[str, str]]]:
    """Blocks of lines, each headed; only lines that contain all words of ``needle``."""
    words = needle.lower().split()
    replaying = mode.replaying
    works_here = [key for key in KEYS if works(key, read_only=mode.read_only, replaying=replaying)]
    blocks: list[tuple[str, list[tuple[str, str]]]] = [
        (group, [(key.label, text_in(key, replaying=replaying)) for key in works_here if key.group == group])
        for group in GROUPS
    ]
    blocks += [(heading, list(lines)) for heading, lines in LEGEND.items()]
    found = []
    for heading, lines in blocks:
        kept = [line for line in lines if all(word in " ".join(line).lower() for word in words)]
        if kept:
            found.append([(heading, ""), *kept])
    return found
