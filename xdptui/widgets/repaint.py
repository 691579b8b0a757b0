# SPDX-License-Identifier: Apache-2.0
"""Partial updates that write only what changed.

Textual's compositor (8.2.8, the pinned version) starts each changed stretch of a line at the left edge of its
widget: a counter at the right end of a wide table costs the whole line, and five counters cost five lines.
Over ssh that is ten times what changed. This compositor starts where the change starts; a test counts the
bytes.
"""

from __future__ import annotations

from rich.cells import cell_len
from rich.console import Console
from rich.control import Control
from rich.style import Style
from textual._compositor import ChopsUpdate, Compositor

__all__ = ["ThriftyCompositor"]


class _Stretches(ChopsUpdate):
    """Writes exactly the changed spans, and each style once: most bytes of a counter are its colours."""

    def render_segments(self, console: Console) -> str:
        by_style: dict[Style | None, list[str]] = {}
        ends: dict[Style | None, tuple[int, int]] = {}
        for y, x1, x2 in self.spans:
            for end, (x, strip) in zip(self.chop_ends[y], self.chops[y].items(), strict=False):
                start, stop = max(x, x1), min(end, x2)
                if strip is None or start >= stop:
                    continue
                for text, style, _ in strip.crop(start - x, stop - x):
                    parts = by_style.setdefault(style, [])
                    if ends.get(style) != (y, start):
                        parts.append(Control.move_to(start, y).segment.text)
                    parts.append(text)
                    start += cell_len(text)
                    ends[style] = (y, start)
        system = console._color_system
        return "".join(
            style.render("".join(parts), color_system=system) if style else "".join(parts)
            for style, parts in by_style.items()
        )


class ThriftyCompositor(Compositor):
    """The compositor of the main screen."""

    def render_partial_update(self) -> ChopsUpdate | None:
        update = super().render_partial_update()
        return None if update is None else _Stretches(update.chops, update.spans, update.chop_ends)
