# SPDX-License-Identifier: Apache-2.0
"""Changes that wait to be confirmed: keep them, roll them back, and whether the next one waits."""

from __future__ import annotations

from dataclasses import replace

from textual import work
from textual.message import Message

from xdpchain.errors import XdpChainError
from xdpchain.model.pending_change import Outcome, State
from xdpchain.model.running import Running
from xdptui.main.flow import Flow
from xdptui.view.session import CONFIRM_SECONDS
from xdptui.widgets.banner import Armed

__all__ = ["ConfirmFlow", "countdown"]

BUT = {State.UNGUARDED: "UNGUARDED", State.OVERTAKEN: "OVERTAKEN", State.MAKING: "IN THE MAKING"}


def countdown(running: Running | None) -> Armed | None:
    """What the banner says of a change that waits."""
    if running is None or running.armed is None:
        return None
    from xdpchain.observe.pending_pins import boot_clock  # late: a replay runs where there is no BPF

    return Armed(round(running.armed.seconds_left(boot_clock())), BUT.get(running.armed.state, ""))


class ConfirmFlow(Flow):
    """Confirm or roll back the change that waits on the selected interface."""

    class Decided(Message):
        """The engine carried a decision out, or refused."""

        def __init__(self, outcome: Running | Exception) -> None:
            super().__init__()
            self.outcome = outcome

    def action_wait(self) -> None:
        session = self.session
        if session.selected is None or not self.editable():
            return
        on = session.confirm is None
        self.put(replace(session, waits={**session.waits, session.selected: on}))
        waits = f"changes wait {CONFIRM_SECONDS:.0f} s to be confirmed"
        self.notify(waits if on else "changes are final at once", timeout=3)

    def action_keep(self) -> None:
        self._decide(keep=True)

    def action_back_out(self) -> None:
        self._decide(keep=False)

    def _decide(self, *, keep: bool) -> None:
        running = self.session.running
        if running is None or running.armed is None:
            self.notify("No change waits to be confirmed", timeout=3)
        elif self.editable():
            self._carry_out(running, keep)

    @work(thread=True, group="decide", exit_on_error=False)
    def _carry_out(self, running: Running, keep: bool) -> None:
        from xdpchain.change.confirm.deciding import confirm, roll_back

        where = running.interface
        outcome: Running | Exception
        try:
            outcome = (confirm if keep else roll_back)(where.name, where.netns)
        except Exception as error:  # shown to the user, in words
            outcome = error
        self.post_message(self.Decided(outcome))

    def on_confirm_flow_decided(self, event: Decided) -> None:
        if isinstance(event.outcome, XdpChainError):
            self.fail(event.outcome, "Not decided")
        elif isinstance(event.outcome, Exception):
            self.fail(event.outcome)
        self.after_apply()

    def after_apply(self) -> None:
        """Catch up with what happened meanwhile."""
        raise NotImplementedError

    def tell_settled(self, before: tuple[Running, ...], now: tuple[Running, ...]) -> None:
        """Say what became of changes that waited."""
        waited = {r.interface.ifindex for r in before if r.armed is not None}
        for running in now:
            settled = running.settled
            if running.interface.ifindex in waited and running.armed is None and settled is not None:
                kept = settled.outcome is Outcome.CONFIRMED
                self.notify(
                    settled.text,
                    title=str(running.interface),
                    severity="information" if kept else "warning",
                    timeout=4 if kept else 15,
                )
