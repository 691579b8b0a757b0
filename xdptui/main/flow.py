# SPDX-License-Identifier: Apache-2.0
"""What the main screen's parts share: the session, and the one way to change it."""

from __future__ import annotations

from collections.abc import Coroutine

from textual.screen import Screen

from xdptui.screens.failure import Failure
from xdptui.view.session import Session, State

__all__ = ["Flow"]


class Flow(Screen[None]):
    """A screen that owns a session."""

    def __init__(self) -> None:
        super().__init__()
        self.session = Session()
        self.busy = False
        """Whether a dialog is open or about to be: until it has been answered, nothing else begins."""
        self.applying = False
        """Whether a change of ours is under way: what the kernel shows meanwhile is our doing."""

    def begin(self, flow: Coroutine[None, None, None]) -> None:
        """Run a flow of dialogs, unless another one is under way."""
        if self.busy:
            flow.close()
            return
        self.busy = True
        self.run_worker(self._to_its_end(flow), group="flow", exit_on_error=True)

    async def _to_its_end(self, flow: Coroutine[None, None, None]) -> None:
        try:
            await flow
        finally:
            self.busy = False

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        # Keys typed ahead of a dialog that is about to open are not meant for the chain behind it.
        return False if self.busy else super().check_action(action, parameters)

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
            self.notify(f"Read-only: {session.read_only_why}", severity="warning")
            return False
        if session.state in (State.FOREIGN, State.VIEW):
            adopt = ". i adopts the program" * (session.state is State.FOREIGN)
            self.notify(f"This hook can't be edited: {running.note}{adopt}", severity="warning")
            return False
        return True
