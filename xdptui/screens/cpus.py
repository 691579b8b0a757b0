# SPDX-License-Identifier: Apache-2.0
"""What a chain returned by CPU, and what the driver counts by RX queue, live."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import wrap

from textual.widgets import Static

from xdpchain.model.running import Running
from xdptui.render.watch_text import cpu_table, queue_rows
from xdptui.screens.live_text import LiveText
from xdptui.words.rates import CpuCounts
from xdptui.workers.queue_meter import QueueMeter

__all__ = ["CpusScreen"]


class CpusScreen(LiveText):
    """``cpus`` returns the newest counters."""

    def __init__(self, running: Running, cpus: Callable[[], tuple[CpuCounts, ...]]) -> None:
        super().__init__()
        self._target, self._cpus, self._queues = running, cpus, QueueMeter()
        self.heading = f"Packets by CPU and RX queue on {running.interface.name}"

    def text(self) -> str:
        width = self.query_one("#live", Static).content_size.width or 80
        rows = queue_rows(self._queues.read(self._target))
        lines = [line for row in rows for line in wrap(row, width, subsequent_indent=" " * 7)]
        return "\n".join((cpu_table(self._target, self._cpus()), "", *lines))
