# SPDX-License-Identifier: Apache-2.0
"""Moving about in a recording; refuses what a recording can't do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from xdptui.main.desk import Actions, Controller, Desk
from xdptui.view.keys import KEYS, REPLAYABLE
from xdptui.view.time_line import TimeView

if TYPE_CHECKING:
    from xdptui.workers.replay import Replay

__all__ = ["ReplayFlow"]

_ASKING = frozenset(key.action.partition("(")[0] for key in KEYS) - REPLAYABLE


class ReplayFlow(Controller):
    """``replay`` is None when watching the kernel itself. ``moved`` shows the player's current reading,
    ``shown`` its position.
    """

    def __init__(
        self, desk: Desk, replay: Replay | None, moved: Callable[[], None], shown: Callable[[], None]
    ) -> None:
        super().__init__(desk)
        self.replay = replay
        self._moved, self._shown = moved, shown

    @property
    def actions(self) -> Actions:
        steps: Actions = {"replay_step": self.step, "replay_leap": self.leap}
        if self.replay is None:
            return steps
        return {**steps, "flip": self.play_or_pause, "pick": self.step}

    def refuses(self, action: str) -> bool:
        """Whether an action would query or change a kernel that is not there; says so."""
        if self.replay is None or action not in _ASKING:
            return False
        self._desk.notify("This is a recording: it is read-only", timeout=3)
        return True

    def step(self, by: int) -> None:
        if self.replay is None:
            self._only_in_a_replay()
        elif self.replay.player.step(by):
            self._moved()
        self._shown()

    def leap(self, seconds: int) -> None:
        if self.replay is None:
            self._only_in_a_replay()
        elif self.replay.player.leap(seconds):
            self._moved()
        self._shown()

    def _only_in_a_replay(self) -> None:
        self._desk.notify("Only in a replay: ctrl+o opens a recording", timeout=3)

    def play_or_pause(self) -> None:
        if self.replay is not None:
            self.replay.player.toggle()
            self._moved()
            self._shown()

    def time_view(self) -> TimeView | None:
        """The player's position; None if this is not a replay."""
        replay = self.replay
        if replay is None:
            return None
        recording, player = replay.recording, replay.player
        return TimeView(
            replay.name,
            recording.began,
            recording.ended,
            player.elapsed,
            replay.at,
            player.playing,
            recording.revisions,
        )
