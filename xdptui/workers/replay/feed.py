# SPDX-License-Identifier: Apache-2.0
"""What ran, reported as by the live feed; and the parts of a replay."""

from __future__ import annotations

import os
from collections.abc import Callable

from textual.message import Message

from xdpchain.model.running import Running
from xdpchain.observe.recording import Recording
from xdpchain.observe.site_shares import SlotReasons
from xdptui.workers.feed import Surveyed
from xdptui.workers.replay.events import RecordedEvents
from xdptui.workers.replay.meter import RecordedMeter
from xdptui.workers.replay.player import Player

__all__ = ["RecordedFeed", "Replay"]


class RecordedFeed:
    """Reports what ran at the player's position, whenever asked."""

    def __init__(self, recording: Recording, player: Player, post: Callable[[Message], object]) -> None:
        self._recording, self._player, self._post = recording, player, post

    def ask(self) -> None:
        self._post(Surveyed(self._recording.runnings(self._player.number), ()))

    def run(self) -> None:
        """The worker's body: there is nothing to wait for."""
        self.ask()


class Replay:
    """A recording with a player, in place of the kernel."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.player = Player(recording)
        self.meter = RecordedMeter(recording, self.player)
        self._revision = recording.revision(0)

    @property
    def name(self) -> str:
        return os.path.basename(self.recording.path)

    @property
    def at(self) -> float:
        """The time of day of the reading shown, in seconds since 1970."""
        return self.recording.reading(self.player.number).at

    def feed(self, post: Callable[[Message], object]) -> RecordedFeed:
        return RecordedFeed(self.recording, self.player, post)

    def reasons(self, running: Running) -> tuple[SlotReasons, ...]:
        """The sites at which the programs that ran on an interface decide."""
        return self.recording.reasons(self.player.number).get(running.interface.ifindex, ())

    def events(self, running: Running | None) -> RecordedEvents:
        """The page about what happened to packets."""
        return RecordedEvents(self.recording, self.player, running)

    def turned(self) -> bool:
        """Whether what ran has changed since the last call."""
        before, self._revision = self._revision, self.recording.revision(self.player.number)
        return before != self._revision
