# SPDX-License-Identifier: Apache-2.0
"""Cell styles: from the names that lines give them, in the theme's colours.

This is a table instead of CSS component classes because Textual recomputes each of those for each pane on any
change, which took half of the time until the first paint.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from rich.color import Color as RichColor
from rich.style import Style
from textual.color import Color

__all__ = ["cell_style"]

CELLS = {
    "zero": "faint",
    "off": "faint",
    "free": "faint",
    "label": "quiet",
    "index": "quiet",
    "hint": "quiet",
    "note": "quiet",
    "name": "foreground bold",
    "pointer": "primary bold",
    "key": "primary bold",
    "title": "primary bold",
    "mark": "accent bold",
    "changed": "accent bold",
    "added": "accent bold",
    "removed": "quiet italic",
    "gone": "quiet strike",
    "picked": "bold reverse",
    "trend": "secondary",
    "bar": "bar",
    "foreign": "warning",
    "warn": "warning",
    "error": "error bold",
    "on-A": "action-a bold",
    "on-D": "error bold",
    "on-P": "success bold",
    "on-T": "primary bold",
    "on-R": "accent bold",
    "bar-A": "action-a",
    "bar-D": "error",
    "bar-P": "success",
    "bar-T": "primary",
    "bar-R": "accent",
    "state-running": "background on success bold",
    "state-free": "background on faint bold",
    "state-foreign": "background on warning bold",
    "state-candidate": "background on accent bold",
    "state-stale": "background on error bold",
    "state-armed": "background on error bold",
    "state-readonly": "background on quiet bold",
    # for whole lines
    "head": "quiet on panel",
    "head-focused": "foreground on row bold",
    "banner": "on panel",
    "cursor": "on row",
    "blurred": "on row-blurred",
    "drag": "on row-drag bold",
}
"""A theme variable, ``on`` one for the background, and attributes; names not listed are plain."""

SIXTEEN = {
    **dict.fromkeys(("zero", "off", "free", "label", "index", "hint", "note", "removed"), "ansi_default dim"),
    "gone": "ansi_default dim strike",
    "bar": "ansi_blue",
    "on-A": "ansi_magenta bold",
    "bar-A": "ansi_magenta",
    "state-running": "ansi_green on ansi_default bold reverse",
    "state-free": "background on ansi_default reverse",
    "state-foreign": "background on ansi_default reverse",
    "state-candidate": "ansi_yellow on ansi_default bold reverse",
    "state-stale": "ansi_red on ansi_default bold reverse",
    "state-armed": "ansi_red on ansi_default bold reverse",
    "state-readonly": "ansi_default on ansi_default bold reverse",
    "head": "ansi_default on panel underline",
    "head-focused": "ansi_default on panel bold reverse",
    "cursor": "on row bold",
    "drag": "on row-drag reverse",
}
"""Differences with the terminal's own sixteen colours."""

ATTRIBUTES = frozenset({"bold", "dim", "italic", "reverse", "strike", "underline"})


def cell_style(name: str, variables: Mapping[str, str], *, ansi: bool) -> Style:
    """Only what the name defines; everything else is unchanged."""
    words = ((ansi and SIXTEEN.get(name)) or CELLS.get(name, "")).split()
    colors: dict[bool, RichColor] = {}
    for before, word in pairwise(["", *words]):
        if word not in ATTRIBUTES and word != "on":
            color = Color.parse(variables.get(word, word))
            if color.a > 0:
                colors[before == "on"] = color.rich_color
    attributes = " ".join(word for word in words if word in ATTRIBUTES)
    return Style(color=colors.get(False), bgcolor=colors.get(True)) + Style.parse(attributes)
