# SPDX-License-Identifier: Apache-2.0
"""Start and stop recording with a key (it also ends with the program), and open a recording."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from xdpchain.errors import XdpChainError
from xdptui.main.desk import Actions, Controller, Desk
from xdptui.settings import state_dir, state_file

if TYPE_CHECKING:
    from xdptui.workers.replay import Replay

__all__ = ["RecordFlow"]


class RecordFlow(Controller):
    """The keys that record all interfaces of ``netns`` and open a recording. ``shown`` is called when
    recording begins or ends, ``replay`` with the recording to show.
    """

    def __init__(
        self, desk: Desk, netns: str | None, shown: Callable[[], None], replay: Callable[[Replay], None]
    ) -> None:
        super().__init__(desk)
        self._netns, self._shown, self._replay = netns, shown, replay
        self._stop: threading.Event | None = None

    @property
    def actions(self) -> Actions:
        return {"record": self.record, "open_recording": self.open}

    @property
    def recording(self) -> bool:
        """Whether a recording is in progress."""
        return self._stop is not None

    def record(self) -> None:
        if self._stop is not None:
            self.end()
        else:
            self._desk.begin(self._begin())

    def end(self) -> None:
        """End the recording soon; what was recorded stays in the file."""
        if self._stop is not None:
            self._stop.set()

    async def _begin(self) -> None:
        from xdptui.screens.recordings import RecordTo

        folder = state_dir(os.environ)
        file = await self._desk.ask(RecordTo(folder))
        if file is None:
            return
        if os.path.dirname(file) == str(folder):
            with contextlib.suppress(OSError):  # the recorder reports what is wrong
                state_file(os.environ, "")
        self._stop = threading.Event()
        self._shown()
        self._desk.beside(self._record(file, self._stop))

    async def _record(self, file: str, stop: threading.Event) -> None:
        from xdptui.workers.recorder import Wanted, record

        self._desk.notify(f"Recording to {file}", timeout=4)
        try:
            done = await asyncio.to_thread(record, Wanted(file, self._netns), stop)
        except (XdpChainError, OSError) as error:
            self._desk.fail(error, "Not recorded")
        else:
            self._desk.notify(f"{done.readings} readings in {file}. ctrl+o replays them", timeout=8)
        finally:
            self._stop = None
            self._shown()

    def open(self) -> None:
        self._desk.begin(self._open())

    async def _open(self) -> None:
        from xdptui.screens.recordings import OpenRecording

        path = await self._desk.ask(OpenRecording(state_dir(os.environ)))
        if path is None:
            return
        from xdpchain.observe.recording import Recording
        from xdptui.workers.replay import Replay

        try:
            recording = await asyncio.to_thread(Recording, path)
        except XdpChainError as error:
            self._desk.fail(error, "Not replayed")
            return
        self._replay(Replay(recording))
