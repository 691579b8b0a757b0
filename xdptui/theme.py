# SPDX-License-Identifier: Apache-2.0
"""Colours: a theme for terminals with many colours, one that uses the terminal's own sixteen, and none for
NO_COLOR.

Colour never carries meaning alone: letters, marks and words do too, so that every theme says the same.
"""

from __future__ import annotations

from collections.abc import Mapping

from textual.theme import Theme

__all__ = ["DARK", "LIGHT", "SIXTEEN", "VARIABLES", "choose"]

DARK = Theme(
    name="xdptui",
    primary="#5aa9e6",
    secondary="#8fb8de",
    accent="#e0b050",
    warning="#e0b050",
    error="#ef6b73",
    success="#6cc08b",
    foreground="#cdd6df",
    background="#0e1318",
    surface="#141b22",
    panel="#1e2831",
    variables={
        "action-a": "#c792ea",
        "quiet": "#8b98a5",
        "faint": "#4c5863",
        "bar": "#3d739c",
        "row": "#22303c",
        "row-blurred": "#1a242d",
        "row-drag": "#4a3c18",
        "block-cursor-foreground": "#ffffff",
        "block-cursor-background": "#2b5d86",
        "block-cursor-text-style": "bold",
        "input-selection-background": "#2b5d86",
    },
)

LIGHT = Theme(
    name="xdptui-light",
    dark=False,
    primary="#1f6aa5",
    secondary="#41678a",
    accent="#946200",
    warning="#946200",
    error="#b3202c",
    success="#1d7a45",
    foreground="#1d2731",
    background="#f7f8fa",
    surface="#eef1f4",
    panel="#dfe5ea",
    variables={
        "action-a": "#7d3fb0",
        "quiet": "#5a6875",
        "faint": "#a3adb6",
        "bar": "#6ba3cf",
        "row": "#d3e2ee",
        "row-blurred": "#e4eaef",
        "row-drag": "#f2e2b6",
    },
)

# Lists and buttons of Textual 8.2.8 lack "reverse": without colours, the underline is the cursor.
SIXTEEN = Theme(
    name="xdptui-16",
    ansi=True,
    primary="ansi_blue",
    secondary="ansi_cyan",
    warning="ansi_yellow",
    error="ansi_red",
    success="ansi_green",
    accent="ansi_yellow",
    foreground="ansi_default",
    background="ansi_default",
    surface="ansi_default",
    panel="ansi_default",
    boost="ansi_default",
    variables={
        "ansi-background": "ansi_black",
        "ansi-foreground": "ansi_white",
        "action-a": "ansi_magenta",
        "quiet": "ansi_default",
        "faint": "ansi_default",
        "bar": "ansi_blue",
        "row": "ansi_default",
        "row-blurred": "ansi_default",
        "row-drag": "ansi_default",
        "border-blurred": "ansi_bright_black",
        "block-cursor-foreground": "ansi_black",
        "block-cursor-background": "ansi_white",
        "block-cursor-text-style": "bold underline",
        "input-cursor-background": "ansi_white",
        "input-cursor-foreground": "ansi_black",
        "input-selection-background": "ansi_bright_blue",
        "input-selection-foreground": "ansi_black",
        "screen-selection-background": "ansi_bright_blue",
        "screen-selection-foreground": "ansi_black",
    },
)


VARIABLES = {
    "action-a": "#c792ea",
    "quiet": "#8b98a5",
    "faint": "#5c6873",
    "bar": "#4a86b5",
    "row": "#30404d",
    "row-blurred": "#26323c",
    "row-drag": "#5a4a1f",
}
"""Variables that our styles need and other themes lack."""


def choose(environ: Mapping[str, str], colour_system: str | None, wanted: str = "auto") -> Theme:
    """The theme for a terminal of this environment and colour system; ``wanted`` is ``auto``, ``dark``,
    ``light`` or ``16``.

    With NO_COLOR, Textual strips the colours of the sixteen-colour theme and leaves bold, dim and reverse.
    """
    if "NO_COLOR" in environ or colour_system in (None, "standard", "windows"):
        return SIXTEEN
    return {"light": LIGHT, "16": SIXTEEN}.get(wanted, DARK)
