# SPDX-License-Identifier: Apache-2.0
"""How long an interface's chain takes, on behalf of a viewer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from xdpchain.closing import Closing
from xdpchain.errors import XdpChainError
from xdpchain.model.running import Running
from xdptui.words.advice import told
from xdptui.words.time_words import Times

if TYPE_CHECKING:
    from xdpchain.trial.timing import SlotTimes

__all__ = ["Timing"]


class Timing(Closing):
    """Keeps the kernel's run-time statistics on, and times the slots once for each chain: at the second
    reading, so that the first comes at once. For one thread at a time.
    """

    def __init__(self, running: Running, cancelled: Callable[[], bool] = lambda: False) -> None:
        """Raises what `xdpchain.trial.timing.RunTimes` does."""
        from xdpchain.trial.timing import RunTimes

        self._running = running
        self._cancelled = cancelled
        self._run_times = RunTimes(running)
        self._slots: SlotTimes | None = None
        self._why = ""
        self._asked = False
        self._timed = False

    def read(self) -> Times:
        """What is known so far. Raises NotFound when nothing runs there any more."""
        from xdpchain.observe.discover import look

        running = look(self._running.interface.name, self._running.interface.netns)
        if running.identity != self._running.identity:
            self._running, self._timed, self._slots, self._why = running, False, None, ""
            self._run_times.follow(running)
        if self._asked and not self._timed:
            self._timed = True
            self._time()
        self._asked = True
        return Times(self._run_times.read(), self._run_times.cost, self._slots, self._why)

    def _time(self) -> None:
        from xdpchain.trial.timing import slot_times
        from xdptui.workers.trial_frames import NAMED_FRAMES

        if self._running.chain is None:
            self._why = self._running.note or "what runs there is not a chain that can be split"
            return
        try:
            self._slots = slot_times(self._running.chain, NAMED_FRAMES, self._cancelled)
        except XdpChainError as error:
            self._why = told(error)

    def close(self) -> None:
        self._run_times.close()
