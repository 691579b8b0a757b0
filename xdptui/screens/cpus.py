# SPDX-License-Identifier: Apache-2.0
"""What a chain returned, CPU by CPU, live."""

from __future__ import annotations

from collections.abc import Callable

from xdpchain.model.running import Running
from xdptui.render.watch_text import cpu_table
from xdptui.screens.live_text import LiveText
from xdptui.words.rates import CpuCounts

__all__ = ["CpusScreen"]


class CpusScreen(LiveText):
    """``cpus`` gives the newest counters."""

    def __init__(self, running: Running, cpus: Callable[[], tuple[CpuCounts, ...]]) -> None:
        super().__init__()
        self._target, self._cpus = running, cpus
        self.heading = f"Packets by CPU on {running.interface.name}"

    def text(self) -> str:
        return cpu_table(self._target, self._cpus())
