# SPDX-License-Identifier: Apache-2.0
"""What happened to packets after their program, as recorded."""

from __future__ import annotations

from dataclasses import replace

from xdpchain.model.running import Running
from xdpchain.observe.recording import Recording
from xdptui.words.packet_event_documents import read_packet_events
from xdptui.words.packet_events import Happened, Told, packet_event_lines
from xdptui.workers.event_pages import LAST_EVENTS, Page, Render
from xdptui.workers.replay.player import Player

__all__ = ["RecordedEvents"]


class RecordedEvents(Page):
    """The events page at the player's position, for one interface or for all."""

    def __init__(self, recording: Recording, player: Player, running: Running | None) -> None:
        self._recording, self._player = recording, player
        self._name = running.interface.name if running else None

    def read(self) -> Render:
        number = self._player.number
        found = read_packet_events([event.told for event in self._recording.happened(number)])
        found = replace(
            found,
            lost=tuple(filter(self._meant, found.lost)),
            sent=tuple(filter(self._meant, found.sent)),
            events=tuple(filter(self._meant, found.events)),
        )
        head = f"in the first {self._recording.time(number):.0f} s of the recording"
        return lambda width: [[(head, "")], *packet_event_lines(found, width, LAST_EVENTS)]

    def close(self) -> None:
        return

    def _meant(self, event: Told | Happened) -> bool:
        return self._name in (None, event.interface, event.target)
