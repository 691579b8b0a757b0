# SPDX-License-Identifier: Apache-2.0
"""The worker that watches the kernel: it looks when something happened, and reports to the screen."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from textual.message import Message
from textual.worker import get_current_worker

from xdpchain.errors import XdpChainError
from xdpchain.model.chain import Linkage
from xdpchain.model.running import Running
from xdptui.words.advice import worded
from xdptui.workers.meter import Known, Opened, open_missing

if TYPE_CHECKING:
    from xdpchain.observe.kept_survey import KeptSurvey

__all__ = ["Capabilities", "Defaults", "Feed", "LookFailed", "Own", "Surveyed", "TakenBack", "Unconfirmable"]

NAP = 0.2
"""Seconds between checks whether the program ends; a thread can't be interrupted."""
RESTS, LONGEST_REST = 20, 1.0
"""However much happens, each look is followed by a rest: this many times the processor time that it and what
the screen makes of it took, and at most this many seconds.
"""
NOBODY = 0
"""The ifindex of no interface."""


class Surveyed(Message):
    """The interfaces as they are now, and counters opened meanwhile. The receiver sets ``heard``."""

    def __init__(self, runnings: tuple[Running, ...], opened: tuple[Opened, ...]) -> None:
        super().__init__()
        self.runnings, self.opened = runnings, opened
        self.heard = threading.Event()


class LookFailed(Message):
    """The kernel could not be read."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class Capabilities(Message):
    """The capabilities that edits lack; empty if none."""

    def __init__(self, missing: tuple[tuple[str, str, str], ...]) -> None:
        super().__init__()
        self.missing = missing


class Own(Message):
    """The interfaces that carry the operator's own connection."""

    def __init__(self, own: frozenset[int]) -> None:
        super().__init__()
        self.own = own


class Defaults(Message):
    """The linkage of new chains here, and why."""

    def __init__(self, linkage: Linkage, why: str) -> None:
        super().__init__()
        self.linkage, self.why = linkage, why


class Unconfirmable(Message):
    """Why no change can wait for confirmation here, with advice."""

    def __init__(self, why: str) -> None:
        super().__init__()
        self.why = why


class TakenBack(Message):
    """A killed follower's recording chain was replaced by the normal dispatcher."""

    def __init__(self, interface: str) -> None:
        super().__init__()
        self.interface = interface


class Feed:
    """Runs in a thread; ``post`` sends messages to the screen, ``known`` says which counters are open.

    It waits until the screen has received the last look. On a busy machine messages would otherwise pile up,
    each with the same counters opened again.
    """

    def __init__(
        self,
        netns: str | None,
        post: Callable[[Message], object],
        known: Callable[[], frozenset[Known]],
        looked_at: Callable[[], int | None],
    ) -> None:
        self._netns, self._post, self._known, self._looked_at = netns, post, known, looked_at
        self._asked = threading.Event()
        self._first = True
        self._tried: set[int] = set()
        self._looked, self._spent = 0.0, 0.0
        self._said: Surveyed | None = None

    def ask(self) -> None:
        """Look again now."""
        self._asked.set()

    def run(self) -> None:
        """The worker's body: returns when the worker is cancelled."""
        worker = get_current_worker()
        while not worker.is_cancelled:
            try:
                self._watch(lambda: worker.is_cancelled)
            except Exception as error:  # reported to the user; the next look may succeed
                self._post(LookFailed(error))
                for _ in range(10):
                    if worker.is_cancelled or self._asked.wait(NAP):
                        break
                self._asked.clear()

    def _watch(self, ended: Callable[[], bool]) -> None:
        from xdpchain.observe.kept_survey import KeptSurvey

        with KeptSurvey(self._netns) as kept:
            self._look(kept)
            if self._first:
                self._first = False
                self._capabilities()
                self._own()
                self._look(kept)  # that took a while
            changed = False
            while not ended():
                changed = changed or kept.wait(NAP)
                if self._said is not None and not self._said.heard.wait(NAP):
                    continue
                rest = self._rest()
                if changed and rest > 0 and not self._asked.is_set():
                    self._asked.wait(min(NAP, rest))
                elif changed or self._asked.is_set():
                    changed = False
                    self._look(kept, whole=self._asked.is_set())

    def _look(self, kept: KeptSurvey, *, whole: bool = False) -> None:
        self._asked.clear()
        self._spent = time.process_time()
        runnings = kept.look(whole=whole)
        self._looked = time.monotonic()
        opened = open_missing(runnings, self._known(), self._looked_at() or NOBODY)
        self._said = Surveyed(runnings, opened)
        self._post(self._said)
        for running in runnings:
            self._take_back(running)

    def _rest(self) -> float:
        """How long to rest from now on."""
        cost = time.process_time() - self._spent
        return self._looked + min(LONGEST_REST, RESTS * cost) - time.monotonic()

    def _take_back(self, running: Running) -> None:
        """Restore the normal dispatcher where the follower is gone; tried once."""
        left = running.following is not None and not running.following.alive
        if not left or running.hook is None or running.hook.prog_id in self._tried:
            return
        from xdpchain.follow import take_back_left_over

        self._tried.add(running.hook.prog_id)
        with contextlib.suppress(XdpChainError):  # the banner shows it; `clean` will say why
            if take_back_left_over(running).following is None:
                self._post(TakenBack(str(running.interface)))

    def _own(self) -> None:
        from xdpchain.trial.packets.own_connection import own_interfaces

        if own := own_interfaces(self._netns):
            self._post(Own(own))

    def _capabilities(self) -> None:
        from xdpchain.observe.permissions import missing_capabilities

        missing = missing_capabilities()
        self._post(Capabilities(tuple((c.name, c.why, worded(c.todo, keys=True)) for c in missing)))
        if not missing:
            from xdpchain.linkage.probe import default_linkage

            self._post(Defaults(*default_linkage()))
            self._confirmation()

    def _confirmation(self) -> None:
        from xdpchain.change.confirm.arming import require_guardian

        try:
            require_guardian("a pending change", "press w to apply without confirmation")
        except XdpChainError as error:
            advice = worded(error.todo, keys=True).removeprefix("Nothing was changed. ")
            self._post(Unconfirmable(f"{error.what}: {error.why}. {advice}"))
