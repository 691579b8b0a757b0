# SPDX-License-Identifier: Apache-2.0
"""How long chains take (`xdptui export --time`): each chain by the kernel's run-time statistics; each slot on
test packets, once per running chain, in a separate thread, so that a scrape does not wait for it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from xdpchain.closing import Closing
from xdpchain.errors import XdpChainError
from xdpchain.model.running import Identity, Running
from xdpchain.trial.timing import SlotTimes, hold_statistics, runs_of, slot_times
from xdptui.export.metrics import (
    CHAIN_RUN_SECONDS,
    CHAIN_RUNS,
    SLOT_RUN_SECONDS,
    TIME_METRICS,
    Row,
    slot_labels,
    where,
)
from xdptui.workers.trial_frames import NAMED_FRAMES

__all__ = ["ChainTimes"]


class ChainTimes(Closing):
    """Keeps the kernel's run-time statistics on until closed. Raises PermissionDenied, Unsupported."""

    metrics = TIME_METRICS

    def __init__(self) -> None:
        self._statistics = hold_statistics()
        self._waiting: dict[Identity, Running] = {}
        self._timed: dict[Identity, SlotTimes | None] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._time_slots, daemon=True)
        self._thread.start()

    def read(self, runnings: Sequence[Running]) -> Iterator[Row]:
        """What is known so far: slot times arrive some scrapes after the chain's."""
        chains = {running.identity: running for running in runnings if running.hook is not None}
        with self._changed:
            self._timed = {key: times for key, times in self._timed.items() if key in chains}
            self._waiting = {
                key: running
                for key, running in chains.items()
                if running.chain is not None and key not in self._timed
            }
            self._changed.notify()
            timed = dict(self._timed)
        for key, running in chains.items():
            assert running.hook is not None
            counted = runs_of(running.hook.prog_id)
            if counted is not None:
                runs, ns = counted
                yield Row.of(CHAIN_RUNS, where(running), runs)
                yield Row.of(CHAIN_RUN_SECONDS, where(running), ns / 1e9)
            times = timed.get(key)
            for index, slot in enumerate(running.chain or ()):
                ns_each = times.of_slot(index) if times else None
                if ns_each is not None:
                    yield Row.of(SLOT_RUN_SECONDS, slot_labels(running, slot), ns_each / 1e9)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        self._statistics.close()

    def _time_slots(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._waiting)
                if self._closed:
                    return
                key, running = next(iter(self._waiting.items()))
            assert running.chain is not None
            times: SlotTimes | None = None
            try:
                times = slot_times(running.chain, NAMED_FRAMES, lambda: self._closed)
            except (XdpChainError, OSError):  # it went away, can't be tried here, or we are shutting down
                pass
            with self._changed:
                self._waiting.pop(key, None)
                self._timed[key] = times
