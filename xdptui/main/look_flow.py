# SPDX-License-Identifier: Apache-2.0
"""The screens that show more: details, maps, events, packets, the doctor, help. None changes a chain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdpchain.model.running import Running
from xdptui.main.desk import Controller, Desk
from xdptui.view.session import running_chain

if TYPE_CHECKING:
    from xdptui.workers.meter import Meter
    from xdptui.workers.replay import Replay

# Import screens only when needed, so that the first one appears at once.

__all__ = ["LookFlow"]


class LookFlow(Controller):
    """Opens screens for the selected interface of ``netns``, or of a recording."""

    keys = ("details", "what_if", "maps", "why", "events", "follow", "cpus", "doctor", "help")

    def __init__(self, desk: Desk, netns: str | None, replay: Replay | None, meter: Meter) -> None:
        super().__init__(desk)
        self._meter = meter
        self._netns, self._replay = netns, replay

    def help(self) -> None:
        from xdptui.screens.help import HelpScreen
        from xdptui.view.help_lines import Mode

        session = self.session
        self._desk.open(HelpScreen(Mode(read_only=bool(session.missing), replaying=session.replaying)))

    def doctor(self) -> None:
        from xdptui.screens.doctor import DoctorScreen

        running = self.session.running
        self._desk.open(DoctorScreen(self._netns, running.interface.name if running else None))

    def details(self) -> None:
        running, slot = self.session.running, self.session.current
        if running is None or (slot is None and not running.hooks):
            self._desk.notify("There is no slot to inspect", timeout=2)
            return
        if slot is None:
            from xdptui.screens.beside import BesideScreen

            self._desk.open(BesideScreen(running))
            return
        was = next((s for s in self.session.base or () if s.key == slot.key), None)
        from xdptui.screens.details import DetailsScreen

        self._desk.open(DetailsScreen(running, slot, was))

    def what_if(self) -> None:
        session = self.session
        running = session.edit.base if session.edit is not None else session.running
        if running is None:
            self._desk.notify("There is no interface to try packets on", timeout=2)
            return
        from xdptui.screens.whatif import WhatIfScreen

        self._desk.open(WhatIfScreen(running, session.chain, changes=session.changes > 0))

    def follow(self) -> None:
        if (running := self._program(": there is nothing to follow")) is None:
            return
        from xdptui.screens.follow import FollowScreen

        self._desk.open(FollowScreen(running))

    def _program(self, so: str = "") -> Running | None:
        """What is selected, if a program runs there; otherwise that is said."""
        running = self.session.running
        if running is not None and running.hooks:
            return running
        self._desk.notify(f"No program runs there{so}")
        return None

    def why(self) -> None:
        if (running := self._program()) is None:
            return
        from xdptui.screens.why import WhyScreen

        ifindex = running.interface.ifindex
        if self._replay is not None:
            reasons = self._replay.reasons
        else:
            from xdpchain.observe.running_sites import reasons_of as reasons
        screen = WhyScreen(running, self.session.slot_key, lambda: self._meter.last(ifindex), reasons)
        self._desk.open(screen)

    def cpus(self) -> None:
        if (running := self._program()) is None:
            return
        from xdptui.screens.cpus import CpusScreen

        ifindex = running.interface.ifindex
        self._desk.open(CpusScreen(running, lambda: self._meter.cpus(ifindex)))

    def events(self) -> None:
        from xdptui.screens.events import EventsScreen

        recorded = self._replay.events(self.session.running) if self._replay else None
        self._desk.open(EventsScreen(self._netns, self.session.running, recorded))

    def maps(self) -> None:
        session = self.session
        current = session.current
        if (running := self._program()) is None:
            return
        place, name = None, running.hooks[0].name
        if chain := running_chain(running):
            keys = [slot.key for slot in chain]
            if current is None or current.key not in keys:
                self._desk.notify(
                    "That program does not run yet: it has no maps until it is applied", timeout=4
                )
                return
            place, name = keys.index(current.key), current.name
        from xdptui.screens.maps import MapsScreen

        hook, key = running.hooks[0].prog_id, session.slot_key
        ifindex = running.interface.ifindex

        def runs() -> bool:
            now = next((r for r in self.session.runnings if r.interface.ifindex == ifindex), None)
            if place is None or now is None:
                return now is not None and any(program.prog_id == hook for program in now.hooks)
            return any(slot.key == key for slot in running_chain(now) or ())

        missing = ", ".join(session.missing)
        edited = self._desk.map_edited
        self._desk.open(MapsScreen(running, place, name, read_only=missing, runs=runs, edited=edited))
