# SPDX-License-Identifier: Apache-2.0
"""Turns the workers' reports on the kernel into session changes and messages to the user."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from xdpchain.errors import XdpChainError
from xdpchain.model.chain import Linkage
from xdpchain.model.naming import some
from xdpchain.model.running import Running
from xdptui.main.confirm_flow import ConfirmFlow
from xdptui.main.desk import Controller, Desk
from xdptui.main.panes import Panes
from xdptui.view.history_lines import summary
from xdptui.view.session import Session
from xdptui.words.advice import told
from xdptui.words.numbers import short
from xdptui.words.printable import printable
from xdptui.workers.alarm import Alarmed
from xdptui.workers.feed import (
    NOBODY,
    Capabilities,
    Defaults,
    LookFailed,
    Own,
    Surveyed,
    TakenBack,
    Unconfirmable,
)
from xdptui.workers.meter import Meter

__all__ = ["KernelNews"]


JOURNAL_DELAY = 1.0
"""Seconds after which the journal has recorded a change."""
RECENT = 8
"""Entries of the journal that a change is looked for in: others may have followed it."""
FEW = 3
"""Up to this many interfaces, each gets its own message."""


class KernelNews(Controller):
    """``wanted`` names the interface to select first, ``linkage`` the linkage of new chains (auto: this
    kernel's first choice). ``count`` reads the counters and shows them."""

    def __init__(
        self,
        desk: Desk,
        panes: Panes,
        meter: Meter,
        confirm: ConfirmFlow,
        wanted: str | None,
        linkage: str,
        count: Callable[[], None],
    ) -> None:
        super().__init__(desk)
        self._panes, self._meter, self._confirm = panes, meter, confirm
        self._wanted, self._linkage, self._count = wanted, linkage, count
        self._unreadable = False
        self._held_back = Surveyed((), ())

    def catch_up(self) -> None:
        """Process what was held back while our own change was in progress."""
        held, self._held_back = self._held_back, Surveyed((), ())
        if held.runnings:
            self.surveyed(held)

    def surveyed(self, event: Surveyed) -> None:
        event.heard.set()
        if self._desk.applying:
            # Halfway through a change of our own, this is not another editor's doing.
            self._held_back = Surveyed(event.runnings, (*self._held_back.opened, *event.opened))
            return
        self._panes.trouble = ""
        before = self.session
        self._meter.sync(event.runnings, event.opened, before.selected or NOBODY)
        session = before.surveyed_as(event.runnings)
        if self._wanted is not None:
            for running in event.runnings:
                if running.interface.name == self._wanted:
                    session = session.select(running.interface.ifindex)
            self._wanted = None
        self._confirm.tell_settled(before.runnings, event.runnings)
        self._tell_changed(before, event.runnings)
        gone = [r.interface.name for r in before.unsaved if r.interface.ifindex not in session.edits]
        self._desk.put(session)
        if event.opened:
            self._count()
        if gone:
            self._desk.notify(f"{', '.join(gone)} is gone, and its candidate with it", severity="warning")
        if session.stale and not before.stale and session.changes:
            self._desk.notify(
                "Another editor changed the chain under your candidate. Press p to compare, rebase or "
                "discard",
                title=session.running.interface.name if session.running else "",
                severity="warning",
                timeout=10,
            )

    def _tell_changed(self, before: Session, now: tuple[Running, ...]) -> None:
        """Report changes that somebody else made. Excludes pending changes, which `tell_settled` reports, and
        changes under a candidate, which `surveyed` reports.
        """
        was = {r.interface.ifindex: r for r in before.runnings}
        changed = [
            running
            for running in now
            if (earlier := was.get(running.interface.ifindex)) is not None
            and _programs(earlier) != _programs(running)
            and earlier.pending is None
            and running.interface.ifindex not in before.edits
        ]
        if changed and not before.replaying and not self._desk.changed_lately:
            self._desk.beside(self._tell_who(changed))

    async def _tell_who(self, changed: list[Running]) -> None:
        from xdpchain.change.journal.undoing import history  # late: a replay runs where there is no BPF

        await asyncio.sleep(JOURNAL_DELAY)
        for running in changed[:FEW]:
            now = running.hook.prog_id if running.hook is not None else None
            try:
                known = await asyncio.to_thread(history, running, RECENT)
            except XdpChainError:
                known = ()
            entry = next((entry for entry in reversed(known) if entry.after.program == now), None)
            text = "somebody else changed what runs, and xdptui's journal does not know who"
            if entry is not None:
                text = f"{entry.author.user} changed what runs: {summary(entry)} ({entry.author.command})"
            self._desk.notify(text, title=running.interface.name, severity="warning", timeout=8)
        if rest := [running.interface.name for running in changed[FEW:]]:
            self._desk.notify(f"{some(rest)}: somebody else changed what runs", severity="warning", timeout=8)

    def alarmed(self, event: Alarmed) -> None:
        names = {r.interface.ifindex: str(r.interface) for r in self.session.runnings}
        for ifindex in event.lost.keys() - self._panes.lost.keys():
            text = f"{short(event.lost[ifindex])} packets were lost after their program. Press x to see why"
            self._desk.noticed(names.get(ifindex, f"ifindex {ifindex}"), text, serious=True)
        self._panes.lost = event.lost
        if not self.session.frozen:
            self._panes.show_tables()

    def look_failed(self, event: LookFailed) -> None:
        self._panes.trouble = printable(told(event.error, keys=True))
        self._panes.show()
        if not self._unreadable and self.session.surveyed:
            self._desk.notify(self._panes.trouble, title="The kernel can't be read", severity="error")
        self._unreadable = True

    def capabilities(self, event: Capabilities) -> None:
        self._desk.put(replace(self.session, missing=tuple(name for name, _, _ in event.missing)))
        if event.missing:
            name, why, todo = event.missing[0]
            self._desk.notify(
                f"{name} is missing: {why}. {todo}", title="Read-only", severity="warning", timeout=10
            )

    def own(self, event: Own) -> None:
        self._desk.put(replace(self.session, own=event.own))

    def defaults(self, event: Defaults) -> None:
        linkage, why = event.linkage, event.why
        wanted = None if self._linkage == "auto" else Linkage(self._linkage)
        missing = "" if linkage.facts.libxdp else why
        if wanted and wanted.facts.libxdp and missing:
            title = f"{wanted} is not available here"
            self._desk.notify(f"{why}. New chains get {linkage} linkage", title=title)
        elif wanted:
            linkage, why = wanted, "as set in config.toml"
        self._desk.put(replace(self.session, linkage=linkage, linkage_why=why, freplace_missing=missing))

    def unconfirmable(self, event: Unconfirmable) -> None:
        self._desk.put(replace(self.session, unconfirmable=event.why))
        self._desk.notify(
            event.why, title="Changes can't be rolled back by themselves here", severity="warning", timeout=10
        )

    def taken_back(self, event: TakenBack) -> None:
        self._desk.notify(
            f"{event.interface}: the packet follower was killed; the normal dispatcher is running again",
            severity="warning",
            timeout=5,
        )


def _programs(running: Running) -> tuple[object, ...]:
    """What runs, wherever: a network namespace that is made anew under the same name changes nothing that
    runs.
    """
    _, programs, turns, _ = running.identity
    return programs, turns
