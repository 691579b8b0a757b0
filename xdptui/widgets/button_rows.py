# SPDX-License-Identifier: Apache-2.0
"""A dialog's buttons: side by side, in as many lines as a narrow terminal needs."""

from __future__ import annotations

from textual.containers import Horizontal
from textual.events import Resize
from textual.geometry import Size
from textual.layout import ArrangeResult, Layout
from textual.layouts.horizontal import HorizontalLayout
from textual.message import Message
from textual.widget import Widget

__all__ = ["ButtonRows"]


class _Wrapped(HorizontalLayout):
    """The horizontal layout, but what does not fit goes on the next line."""

    name = "wrapped"

    def arrange(
        self, parent: Widget, children: list[Widget], size: Size, greedy: bool = True
    ) -> ArrangeResult:
        placed, line, start = [], 0, 0
        for placement in super().arrange(parent, children, size, greedy):
            region, margin = placement.region, placement.margin
            if region.x - start > margin.left and region.right - start > size.width:
                line, start = line + region.height, region.x - margin.left
            placed.append(placement._replace(region=region.translate((-start, line))))
        return placed


class ButtonRows(Horizontal):
    """Posts ``Changed`` when it takes more lines or fewer."""

    class Changed(Message):
        """The number of lines changed."""

    _wrapped = _Wrapped()

    @property
    def layout(self) -> Layout:
        return self._wrapped

    def on_resize(self, event: Resize) -> None:
        self.post_message(self.Changed())
