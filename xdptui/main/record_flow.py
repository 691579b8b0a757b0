# SPDX-License-Identifier: Apache-2.0
"""Recording by key: into a file of the working folder, until the key is pressed again or the program ends."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable

from xdpchain.errors import XdpChainError
from xdptui.main.desk import Actions, Controller, Desk

__all__ = ["RecordFlow"]


class RecordFlow(Controller):
    """The key that records all interfaces of ``netns``. ``shown`` is called when recording begins or ends."""

    def __init__(self, desk: Desk, netns: str | None, shown: Callable[[], None]) -> None:
        super().__init__(desk)
        self._netns, self._shown = netns, shown
        self._stop: threading.Event | None = None

    @property
    def actions(self) -> Actions:
        return {"record": self.record}

    @property
    def recording(self) -> bool:
        """Whether a recording is being made."""
        return self._stop is not None

    def record(self) -> None:
        if self._stop is not None:
            self.end()
        else:
            self._stop = threading.Event()
            self._shown()
            self._desk.beside(self._record(self._stop))

    def end(self) -> None:
        """End the recording soon; what was recorded stays in the file."""
        if self._stop is not None:
            self._stop.set()

    async def _record(self, stop: threading.Event) -> None:
        from xdptui.workers.recorder import Wanted, record

        file = os.path.abspath(time.strftime("xdptui-%Y%m%d-%H%M%S.jsonl"))
        self._desk.notify(f"Recording to {file}", timeout=4)
        try:
            done = await asyncio.to_thread(record, Wanted(file, self._netns), stop)
        except (XdpChainError, OSError) as error:
            self._desk.fail(error, "Not recorded")
        else:
            self._desk.notify(
                f"{done.readings} readings in {file}. `xdptui replay FILE` shows them", timeout=8
            )
        finally:
            self._stop = None
            self._shown()
