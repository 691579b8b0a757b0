# SPDX-License-Identifier: Apache-2.0
"""A pending change, and the outcome of one, as text. Pure."""

from __future__ import annotations

import time

from xdpchain.model.commands import Commands
from xdpchain.model.naming import some
from xdpchain.model.pending_change import ConfirmOutcome, PendingChange, PendingState
from xdpchain.model.running import Running
from xdptui.words.printable import printable

__all__ = ["command", "pending_line", "settled_line"]


def command(word: str, running: Running) -> str:
    """The command line that decides it."""
    return Commands(running.interface.netns).xdptui(word, running.interface.name)


def pending_line(pending: PendingChange, running: Running, now: float) -> str:
    """One line; ``now`` is in seconds of `sys.boot_clock`."""
    back = f"program {pending.old}" if pending.old is not None else "no program"
    by = printable(str(pending.author))
    others = [name for name in pending.together if name != str(running.interface)]
    them = f", together with {some(others)}" if others else ""
    choice = f"`{command('confirm', running)}` keeps it, `{command('rollback', running)}` rolls back now"
    if pending.state is PendingState.MAKING:
        return f"a change that needs confirmation is being made; by {by}"
    if pending.state is PendingState.SETTLING:
        return f"a pending change is being settled; by {by}"
    if pending.state is PendingState.OVERTAKEN:
        ends = f"`{command('confirm', running)}` ends the wait"
        but = "pending change, but another tool has changed the chain since, which will be left alone"
        return f"{but}; {ends}; by {by}"
    if pending.state is PendingState.UNGUARDED:
        dead = "its guardian was killed, so it will not roll back by itself"
        return f"pending change{them}, but {dead} to {back}; {choice}; by {by}"
    left = pending.seconds_left(now)
    return f"pending change{them}: rolls back to {back} in {left:.0f} s; {choice}; by {by}"


def settled_line(settled: ConfirmOutcome) -> str:
    """One line."""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(settled.at))
    return f"{when}: {printable(settled.text)}; the change was made by {printable(str(settled.author))}"
