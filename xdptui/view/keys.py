# SPDX-License-Identifier: Apache-2.0
"""The keys: one table, from which the hints, the help and the palette are made. Pure."""

from __future__ import annotations

from dataclasses import replace

from xdpchain.frozen import frozen

__all__ = ["GROUPS", "KEYS", "Key", "cost", "hints", "short_label", "text_in", "works"]


@frozen
class Key:
    """``keys`` as Textual names them, ``label`` as people read them; ``hint`` is the word at the bottom of
    the screen.

    ``rank`` orders the hints: the lowest stay longest when space is short; 0 is never shown there. ``edits``
    marks what a read-only session can't do.
    """

    keys: str
    label: str
    action: str
    text: str
    group: str
    hint: str = ""
    rank: int = 0
    edits: bool = False


GROUPS = ("Move about", "Edit the candidate", "Plan and apply", "Look", "Program", "In a replay")

KEYS: tuple[Key, ...] = (
    Key("up,k", "↑ k", "cursor(-1)", "slot or interface above", GROUPS[0]),
    Key("down,j", "↓ j", "cursor(1)", "slot or interface below", GROUPS[0]),
    Key("pageup", "pgup", "page(-1)", "a page up", GROUPS[0]),
    Key("pagedown", "pgdn", "page(1)", "a page down", GROUPS[0]),
    Key("home", "home", "cursor(-10000)", "first slot or interface", GROUPS[0]),
    Key("end", "end", "cursor(10000)", "last slot or interface", GROUPS[0]),
    Key("left", "←", "pick(-1)", "action to the left", GROUPS[0]),
    Key("right", "→", "pick(1)", "action to the right", GROUPS[0]),
    Key("tab,shift+tab", "tab", "other_pane", "interfaces ⇄ chain", GROUPS[0], "pane", 14),
    Key("slash", "/", "filter", "filter the interfaces", GROUPS[0], "filter", 15),
    Key(
        "s",
        "s",
        "sort",
        "sort the interfaces by the next column, or click one",
        GROUPS[0],
        "sort",
        16,
    ),
    Key("I", "I", "invert", "reverse the sort order", GROUPS[0]),
    Key("1", "1", "hide('interfaces')", "hide or show the interfaces", GROUPS[0]),
    Key("2", "2", "hide('waterfall')", "hide or show the waterfall", GROUPS[0]),
    Key("3", "3", "hide('inspector')", "hide or show the slot details", GROUPS[0]),
    Key("0", "0", "zoom", "zoom the pane, or show all (or double-click its heading)", GROUPS[0]),
    Key("plus", "+", "grow(1)", "make the pane larger (or drag the heading below it)", GROUPS[0]),
    Key("minus", "-", "grow(-1)", "make the pane smaller", GROUPS[0]),
    Key("l", "l", "load", "load a program from an object file", GROUPS[1], "load", 3, True),
    Key(
        "u",
        "u",
        "unload",
        "unload one, several or all; k there keeps their maps",
        GROUPS[1],
        "unload",
        9,
        True,
    ),
    Key(
        "o",
        "o",
        "replace",
        "replace the program with a new object, keeping its maps",
        GROUPS[1],
        "object",
        23,
        True,
    ),
    Key("K,shift+up", "K shift+↑", "move(-1)", "move the slot up (or drag it)", GROUPS[1]),
    Key(
        "J,shift+down", "J shift+↓", "move(1)", "move the slot down (or drag it)", GROUPS[1], "move", 4, True
    ),
    Key(
        "space",
        "space",
        "flip",
        "toggle the action under the cursor (or click it)",
        GROUPS[1],
        "toggle",
        5,
        True,
    ),
    Key("A", "A", "flip_action('A')", "continue after XDP_ABORTED, or not", GROUPS[1], edits=True),
    Key("D", "D", "flip_action('D')", "continue after XDP_DROP, or not", GROUPS[1], edits=True),
    Key("P", "P", "flip_action('P')", "continue after XDP_PASS, or not", GROUPS[1], edits=True),
    Key("T", "T", "flip_action('T')", "continue after XDP_TX, or not", GROUPS[1], edits=True),
    Key("R", "R", "flip_action('R')", "continue after XDP_REDIRECT, or not", GROUPS[1], edits=True),
    Key(
        "S",
        "S",
        "shadow",
        "shadow on or off: run and count, but decide nothing",
        GROUPS[1],
        "shadow",
        30,
        True,
    ),
    Key(
        "O",
        "O",
        "off",
        "off or on: off keeps slot and maps but does not run it",
        GROUPS[1],
        edits=True,
    ),
    Key("e", "e", "priority", "edit the run priority", GROUPS[1], "prio", 20, True),
    Key("E", "E", "labels", "edit the labels (team=edge, tier=1)", GROUPS[1], edits=True),
    Key("g", "g", "routes", "routes: which slot a return code leads to", GROUPS[1], "go to", 24, True),
    Key("v", "v", "policy", "policy: which codes the slot may return", GROUPS[1], "policy", 31, True),
    Key("c", "c", "counters", "counters of the chain on or off", GROUPS[1], "count", 26, True),
    Key("L", "L", "relink", "linkage (freplace, static or tailcall) and mode", GROUPS[1], edits=True),
    Key("M", "M", "mark", "mark or unmark the interface: l loads on all marked ones", GROUPS[1], edits=True),
    Key("z", "z", "undo", "undo the edit; without edits: the last change", GROUPS[1], "undo", 11, True),
    Key("Z", "Z", "redo", "redo the edit; or bring back the discarded candidate", GROUPS[1], edits=True),
    Key("i", "i", "adopt", "adopt somebody else's program into a chain", GROUPS[2], "ADOPT", 3, True),
    Key("p", "p", "plan", "show the plan: differences, steps, warnings", GROUPS[2], "plan", 7, True),
    Key("y", "y", "what_if", "what if: try packets on it and on what runs", GROUPS[2], "what if", 17),
    Key("a", "a", "apply", "apply the candidate in one atomic step", GROUPS[2], "apply", 8, True),
    Key(
        "w",
        "w",
        "wait",
        "on all interfaces: roll changes back unless confirmed within 60 s, or not",
        GROUPS[2],
        "rollback",
        13,
        True,
    ),
    Key("C", "C", "keep", "confirm the pending change: keep it", GROUPS[2], "CONFIRM", 1, True),
    Key("B", "B", "back_out", "roll the pending change back now", GROUPS[2], "ROLL BACK", 1, True),
    Key("ctrl+s", "ctrl+s", "save", "save the chain as a spec", GROUPS[2], "save", 25),
    Key(
        "escape",
        "esc",
        "drop",
        "discard the candidate (Z brings it back); first close what is open",
        GROUPS[2],
        "discard",
        9,
    ),
    Key("enter", "enter", "details", "details of the slot", GROUPS[3], "details", 12),
    Key("m", "m", "maps", "maps of the slot: browse them, edit values", GROUPS[3], "maps", 6),
    Key("b", "b", "why", "because: which source lines decided", GROUPS[3], "why", 7),
    Key("n", "n", "cpus", "packets by CPU and RX queue", GROUPS[3], "CPUs", 32),
    Key("F", "F", "follow", "follow packets through the chain", GROUPS[3], "follow", 10),
    Key("t", "t", "numbers", "packets or bytes, per second or in total", GROUPS[3], "numbers", 27),
    Key("f", "f", "freeze", "freeze or resume the counters", GROUPS[3], "freeze", 28),
    Key("r", "r", "refresh", "refresh everything", GROUPS[3], "refresh", 29),
    Key("d", "d", "doctor", "doctor: what is wrong here, and the fix", GROUPS[3], "doctor", 19),
    Key(
        "x",
        "x",
        "events",
        "events: lost packets, account, time, what programs print",
        GROUPS[3],
        "events",
        19,
    ),
    Key(
        "ctrl+r",
        "ctrl+r",
        "record",
        "record all interfaces to a file; again: stop",
        GROUPS[3],
        "record",
        18,
    ),
    Key("ctrl+o", "ctrl+o", "open_recording", "replay a recording", GROUPS[3], "replay", 21),
    Key("N", "N", "namespaces", "another network namespace", GROUPS[3], "netns", 24),
    Key("Y", "Y", "copy", "copy the slot, the interface or the screen; save it", GROUPS[3], "copy", 22),
    Key("h", "h", "history", "history: who changed what; undo there", GROUPS[3], "history", 8),
    Key("question_mark", "?", "help", "this help", GROUPS[4], "help", 1),
    Key("colon,ctrl+p", ": ctrl+p", "command_palette", "command palette", GROUPS[4]),
    Key("q,ctrl+c", "q", "quit", "quit", GROUPS[4], "quit", 2),
    Key(
        "left_square_bracket", "[", "replay_step(-1)", "one reading back, and pause", GROUPS[5], "earlier", 4
    ),
    Key(
        "right_square_bracket", "]", "replay_step(1)", "one reading forward, and pause", GROUPS[5], "later", 5
    ),
    Key("left_curly_bracket", "{", "replay_leap(-60)", "a minute back", GROUPS[5], "-min", 6),
    Key(
        "right_curly_bracket",
        "}",
        "replay_leap(60)",
        "a minute forward",
        GROUPS[5],
        "+min",
        7,
    ),
)


REPLAYABLE = frozenset(
    (
        "cursor", "page", "pick", "other_pane", "filter", "sort", "invert", "hide", "zoom", "grow", "numbers",
        "freeze", "help", "command_palette", "quit", "drop",
        "flip", "events", "why", "copy", "replay_step", "replay_leap",
    )
)  # fmt: skip
"""Actions possible in a recording; all others would query or change a kernel."""
IN_A_REPLAY = {
    "pick(-1)": "one reading back, and pause",
    "pick(1)": "one reading forward, and pause",
    "flip": "play or pause",
    "drop": "clear the filter, or leave the zoomed pane",
    "quit": "leave the replay",
}
"""Keys with a different meaning in a replay, by action."""
HINTS_IN_A_REPLAY = {"flip": "play/pause", "quit": "end replay"}
DECIDE = ("keep", "back_out")
NEED_OURS = ("load", "undo", "wait")
"""What is refused while somebody else's program holds the hook."""
NEED_PROGRAM = ("why", "cpus", "follow", "maps")
NEED_SLOTS = (
    "unload",
    "replace",
    "move(1)",
    "flip",
    "priority",
    "routes",
    "counters",
    "details",
    "shadow",
    "off",
    "policy",
)


def works(key: Key, *, read_only: bool, replaying: bool) -> bool:
    """Whether a key does anything in a mode."""
    if replaying:
        return key.action.partition("(")[0] in REPLAYABLE
    return not key.action.startswith("replay") and not (read_only and key.edits)


def text_in(key: Key, *, replaying: bool) -> str:
    """What a key does."""
    return IN_A_REPLAY.get(key.action, key.text) if replaying else key.text


def hints(
    width: int,
    *,
    read_only: bool,
    candidate: bool,
    runs: bool = True,
    slots: bool = True,
    pending: bool = False,
    foreign: bool = False,
    replaying: bool = False,
    rows: int = 1,
) -> list[list[Key]]:
    """The hints that fit whole into ``rows``, row by row: the lowest ranks, in table order.

    Excludes what a read-only session can't do, and what needs a candidate, a program that ``runs``, slots, a
    pending change, or somebody else's program where there is none.
    """
    offered = [
        key
        for key in KEYS
        if key.rank
        and works(key, read_only=read_only, replaying=replaying)
        and (candidate or key.action not in ("drop", "apply", "plan"))
        and (pending or key.action not in DECIDE)
        and (foreign if key.action == "adopt" else not foreign or key.action not in NEED_OURS)
        and (runs or key.action not in NEED_PROGRAM)
        and (slots or key.action not in NEED_SLOTS or (foreign and key.action == "details"))
    ]
    if replaying:
        offered = [replace(key, hint=HINTS_IN_A_REPLAY.get(key.action, key.hint)) for key in offered]
    order = {key.action: i for i, key in enumerate(offered)}
    urgent: tuple[str, ...] = DECIDE if pending else ()
    urgent += ("plan", "apply", "drop", "undo", "wait") if candidate else ()
    kept: list[Key] = []
    found: list[list[Key]] = [[]]
    for key in sorted(offered, key=lambda k: (k.rank > 2, k.action not in urgent, k.rank)):
        tried = sorted([*kept, key], key=lambda k: (k.rank < 3, order[k.action]))
        flowed = _flow(tried, width)
        if len(flowed) <= rows and cost(key) <= width:
            kept, found = tried, flowed
    if len(kept) < len(offered):  # the help has the rest
        found = [[replace(key, hint="more") if key.action == "help" else key for key in row] for row in found]
    return found


def _flow(keys: list[Key], width: int) -> list[list[Key]]:
    """As many per row as fit."""
    rows: list[list[Key]] = [[]]
    room = width
    for key in keys:
        if cost(key) > room:
            rows.append([])
            room = width
        rows[-1].append(key)
        room -= cost(key)
    return rows


def cost(key: Key) -> int:
    """The columns that a hint takes."""
    return len(short_label(key)) + len(key.hint) + 3


def short_label(key: Key) -> str:
    """The one key that a hint names."""
    return "J K" if key.action == "move(1)" else key.label.split()[0]
