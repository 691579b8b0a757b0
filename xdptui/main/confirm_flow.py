# SPDX-License-Identifier: Apache-2.0
"""Pending changes: confirm them, roll them back, and choose whether the next one needs confirmation."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from xdpchain.errors import XdpChainError
from xdpchain.model.pending_change import Outcome, PendingState
from xdpchain.model.running import Running
from xdptui.main.desk import Controller, Desk
from xdptui.widgets.banner import Pending

__all__ = ["ConfirmFlow", "countdown"]

BUT = {
    PendingState.UNGUARDED: "UNGUARDED",
    PendingState.OVERTAKEN: "OVERTAKEN",
    PendingState.MAKING: "IN THE MAKING",
    PendingState.SETTLING: "SETTLING",
}


DECIDED = (Outcome.CONFIRMED, Outcome.ROLLED_BACK)
"""The outcomes of our own decision; anything else is news."""


def countdown(running: Running | None) -> Pending | None:
    """What the banner says about a pending change."""
    if running is None or running.pending is None:
        return None
    from xdpchain.observe.pending_pins import boot_clock  # late: a replay runs where there is no BPF

    return Pending(round(running.pending.seconds_left(boot_clock())), BUT.get(running.pending.state, ""))


class ConfirmFlow(Controller):
    """Confirm or roll back the pending change on the selected interface; calls ``done`` afterwards."""

    keys = ("wait", "keep", "back_out")

    def __init__(self, desk: Desk, done: Callable[[], None]) -> None:
        super().__init__(desk)
        self._done = done
        self._decided: set[int] = set()

    def wait(self) -> None:
        """Turn confirmation on or off for all interfaces of this session; those that carry our own connection
        keep it until it is turned off there.
        """
        session = self.session
        if session.read_only:
            self._desk.notify(f"Read-only: {session.read_only_why}")
            return
        own = {r.interface.ifindex: str(r.interface) for r in session.runnings}
        own = {ifindex: name for ifindex, name in own.items() if ifindex in session.own}
        if session.confirm is None and session.unconfirmable:
            self._desk.notify(session.unconfirmable, title="Not possible here", severity="warning", timeout=8)
            return
        if session.confirm is None:
            self._desk.put(replace(session, waits=True, own_waits=True))
            text = f"changes roll back unless confirmed (C) within {session.patience:.0f} s"
        else:
            own_waits = session.own_waits and session.selected not in own
            self._desk.put(replace(session, waits=False, own_waits=own_waits))
            text = "changes apply without confirmation"
            if own and own_waits:
                text += f", except on {', '.join(own.values())}, which carries your own connection"
        self._desk.notify(f"All interfaces: {text}", timeout=4)

    def keep(self) -> None:
        self._decide(keep=True)

    def back_out(self) -> None:
        self._decide(keep=False)

    def _decide(self, *, keep: bool) -> None:
        running = self.session.running
        if running is None or running.pending is None:
            self._desk.notify("No change is pending", timeout=3)
        elif self._desk.editable():
            self._desk.beside(self._settle(running, keep))

    async def settle_all(self, *, keep: bool) -> bool:
        """Decide all pending changes; returns whether that succeeded. A change of several interfaces takes
        one decision.
        """
        each_decision = {r.pending.decision: r for r in self.session.waiting if r.pending is not None}
        return all([await self._settle(running, keep) for running in each_decision.values()])

    async def _settle(self, running: Running, keep: bool) -> bool:
        from xdpchain.change.confirm.by_hand import confirm, roll_back

        where = running.interface
        self._decided.add(where.ifindex)
        try:
            await asyncio.to_thread(confirm if keep else roll_back, where.name, where.netns)
            return True
        except XdpChainError as error:
            self._desk.fail(error, "Not decided")
        except Exception as error:  # shown to the user as text
            self._desk.fail(error)
        finally:
            self._desk.changed_at = time.monotonic()
            self._done()
        return False

    def tell_settled(self, before: tuple[Running, ...], now: tuple[Running, ...]) -> None:
        """Say what happened to pending changes."""
        waited = {r.interface.ifindex for r in before if r.pending is not None}
        for running in now:
            settled = running.settled
            if running.interface.ifindex in waited and running.pending is None and settled is not None:
                ours = running.interface.ifindex in self._decided and settled.outcome in DECIDED
                self._decided.discard(running.interface.ifindex)
                self._desk.notify(
                    settled.text,
                    title=running.interface.name,
                    severity="information" if ours else "warning",
                    timeout=4 if ours else 15,
                )
