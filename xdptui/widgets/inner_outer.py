# SPDX-License-Identifier: Apache-2.0
"""Widgets that are gone leave nothing.

Textual (8.2.8, the pinned version) caches a widget's two background styles under keys that hold the widget's
rendered lines. The last thousand messages, each a widget, so stayed in memory: 12 MiB.
"""

from __future__ import annotations

from functools import lru_cache

from textual._styles_cache import StylesCache
from textual.color import Color
from textual.style import Style

__all__ = ["forget_widgets"]


def forget_widgets() -> None:
    """Cache these styles by their colours only, in this process."""

    def get_inner_outer(self: StylesCache, base_background: Color, background: Color) -> tuple[Style, Style]:
        return _inner_outer(base_background, background)

    StylesCache.get_inner_outer = get_inner_outer  # type: ignore[method-assign,assignment]


@lru_cache(maxsize=64)
def _inner_outer(base_background: Color, background: Color) -> tuple[Style, Style]:
    return Style(background=base_background + background), Style(background=base_background)
