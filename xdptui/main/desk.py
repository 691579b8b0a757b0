# SPDX-License-Identifier: Apache-2.0
"""What the controllers share: the session and the only way to change it, dialogs, messages to the user."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, TypeVar

from textual.screen import Screen

from xdpchain.errors import XdpChainError
from xdptui.screens.failure import Failure
from xdptui.view.notices import KEPT, Notice
from xdptui.view.session import BannerState, Session
from xdptui.words.advice import told, worded

if TYPE_CHECKING:
    from textual.notifications import SeverityLevel

__all__ = ["Actions", "Controller", "Desk"]

Answer = TypeVar("Answer")

Actions = dict[str, Callable[..., object]]
"""What a controller does, by action name in the key table."""


OURS = 3.0
"""Seconds after our own change during which news of a change may be about ours."""


class Desk:
    """``shown`` is called with the previous session after every change."""

    def __init__(self, screen: Screen[None], session: Session, shown: Callable[[Session], None]) -> None:
        self.session = session
        self.busy = False
        """Whether a dialog is open or about to open: until it is answered, nothing else starts."""
        self.changed_at = float("-inf")
        """When we last changed what runs, by the monotonic clock."""
        self.applying = False
        """Whether our own change is in progress: what the kernel shows meanwhile is our doing."""
        self.directory: str | None = None
        """The directory of the last object file chosen."""
        self.notices: list[Notice] = []
        """Messages shown so far, oldest first."""
        self.map_edits: list[Notice] = []
        """Map entries written in this session, oldest first."""
        self._screen, self._shown = screen, shown

    def put(self, session: Session) -> None:
        """The only place where the session changes."""
        if session is self.session:
            return
        before, self.session = self.session, session
        self._shown(before)

    # Dialogs

    def begin(self, flow: Coroutine[None, None, None]) -> None:
        """Start a flow of dialogs, unless one is already in progress."""
        if self.busy:
            flow.close()
            return
        self.busy = True
        self._screen.run_worker(self._to_its_end(flow), group="flow", exit_on_error=True)

    async def _to_its_end(self, flow: Coroutine[None, None, None]) -> None:
        try:
            await flow
        finally:
            self.busy = False

    def beside(self, work: Coroutine[None, None, object]) -> None:
        """Run work that opens no dialog; keys keep working meanwhile."""
        self._screen.run_worker(work, group="beside", exit_on_error=True)

    async def ask(self, dialog: Screen[Answer]) -> Answer | None:
        """Show a dialog and wait for its answer. Only within a flow."""
        return await self._screen.app.push_screen_wait(dialog)

    def open(self, screen: Screen[None]) -> None:
        """Show a screen over the main screen."""
        self._screen.app.push_screen(screen)

    # Messages

    def notify(
        self,
        text: str,
        *,
        title: str = "",
        severity: SeverityLevel = "information",
        timeout: float | None = None,
    ) -> None:
        """Show a message that needs no answer. It counts as unread if its severity is above ``information``:
        a warning, or what somebody else did; never the answer to a key that does nothing here.
        """
        self._screen.notify(text, title=title, severity=severity, timeout=timeout)

    def noticed(self, title: str, text: str, *, serious: bool) -> None:
        """Keep a message in the notices, so that one that vanishes can be read again."""
        self.notices = [*self.notices[1 - KEPT :], Notice(time.time(), title, text, serious)]
        if serious:
            self._shown(self.session)

    def map_edited(self, where: str, text: str) -> None:
        """Remember a map entry that was written."""
        self.map_edits = [*self.map_edits[1 - KEPT :], Notice(time.time(), where, text, serious=False)]

    @property
    def changed_lately(self) -> bool:
        """Whether we may have caused a change in what runs."""
        return self.applying or time.monotonic() - self.changed_at < OURS

    def read_notices(self) -> None:
        """Mark all notices as read."""
        self.notices = [replace(notice, read=True) for notice in self.notices]
        self._shown(self.session)

    def fail(self, error: BaseException, heading: str = "") -> None:
        """Say what failed, why, and what to do."""
        running = self.session.running
        self.open(Failure(error, heading, netns=running.interface.netns if running else None))

    def refuse(self, error: XdpChainError) -> None:
        """Say why a key does nothing here, and what to do, where no answer is needed."""
        running = self.session.running
        netns = running.interface.netns if running else None
        self.notify(told(error, netns, keys=True), timeout=8)

    # Whether an action is possible, and if not, why

    def editable(self) -> bool:
        """Whether the selected chain can be edited; says why if it can't."""
        session = self.session
        running = session.running
        if running is None:
            self.notify("There is no interface to edit")
            return False
        if session.read_only:
            self.notify(f"Read-only: {session.read_only_why}")
            return False
        if session.state in (BannerState.FOREIGN, BannerState.VIEW):
            todo = worded(running.todo, running.interface.netns, keys=True)
            why = ". ".join(filter(None, (f"This hook can't be edited: {running.note}", todo)))
            self.notify(why)
            return False
        return True

    def needs_slot(self) -> bool:
        """Whether there is a slot under the cursor; says so if not."""
        if self.session.current is None:
            self.notify("There is no slot: press l to load a program")
            return False
        return True

    def still_has(self, key: str) -> bool:
        """Whether a slot still exists after a dialog; says so if it is gone."""
        if any(slot.key == key for slot in self.session.chain):
            return True
        self.notify("That slot is no longer there", severity="warning")
        return False

    def still_at(self, ifindex: int) -> bool:
        """Whether the interface that a dialog concerned still exists; selects it again if so."""
        if any(r.interface.ifindex == ifindex for r in self.session.runnings):
            self.put(self.session.select(ifindex))
            return True
        self.notify("That interface is gone", severity="warning")
        return False


class Controller:
    """Carries out some of the keys: ``keys`` are the actions for which it has methods of that name."""

    keys: ClassVar[tuple[str, ...]] = ()

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    @property
    def session(self) -> Session:
        return self._desk.session

    @property
    def actions(self) -> Actions:
        """What to call for each action."""
        return {name: getattr(self, name) for name in self.keys}
