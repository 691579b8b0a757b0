# SPDX-License-Identifier: Apache-2.0
"""Moving about in a recording, and nothing that a recording can't do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdptui.main.flow import Flow
from xdptui.view.keys import KEYS, REPLAYABLE
from xdptui.view.time_line import TimeView

if TYPE_CHECKING:
    from xdptui.workers.replay import Replay

__all__ = ["ReplayFlow"]

_ASKING = frozenset(key.action.partition("(")[0] for key in KEYS) - REPLAYABLE


class ReplayFlow(Flow):
    """``replay`` is None where the kernel itself is looked at."""

    replay: Replay | None = None

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if self.replay is not None and action in _ASKING:
            self.notify("This is a recording: it can be looked at, and nothing else", timeout=3)
            return False
        return super().check_action(action, parameters)

    def action_replay_step(self, by: int) -> None:
        if self._replays() and self.replay is not None and self.replay.player.step(by):
            self.replay_moved()
        self.show_time()

    def action_replay_leap(self, seconds: int) -> None:
        if self._replays() and self.replay is not None and self.replay.player.leap(seconds):
            self.replay_moved()
        self.show_time()

    def play_or_pause(self) -> None:
        if self.replay is not None:
            self.replay.player.toggle()
            self.replay_moved()
            self.show_time()

    def _replays(self) -> bool:
        if self.replay is None:
            self.notify("Only in a replay: xdptui replay FILE", timeout=3)
        return self.replay is not None

    def time_view(self) -> TimeView | None:
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

    def replay_moved(self) -> None:
        """Show the reading that the player stands at."""
        raise NotImplementedError

    def show_time(self) -> None:
        """Show where the player stands."""
        raise NotImplementedError
