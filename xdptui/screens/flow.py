# SPDX-License-Identifier: Apache-2.0
"""What the main screen's parts share: the session, and the one way to change it."""

from __future__ import annotations

from textual.screen import Screen

from xdptui.view.session import Session, State

from .failure import Failure

__all__ = ["Flow"]


class Flow(Screen[None]):
    """A screen that owns a session."""

    def __init__(self) -> None:
        super().__init__()
        self.session = Session()

    def put(self, session: Session) -> None:
        """Make this the session, and show it."""
        raise NotImplementedError

    def fail(self, error: BaseException, heading: str = "") -> None:
        """Say what failed, why, and what to do."""
        self.app.push_screen(Failure(error, heading))

    def editable(self) -> bool:
        """Whether the selected chain may be edited; says why not if it may not."""
        session = self.session
        running = session.running
        if running is None:
            self.notify("There is no interface to edit", severity="warning")
            return False
        if session.read_only:
            self.notify(f"Read-only: {', '.join(session.missing)} is missing", severity="warning")
            return False
        if session.state in (State.FOREIGN, State.VIEW):
            self.notify(f"This hook can't be edited: {running.note}", severity="warning")
            return False
        return True
