# SPDX-License-Identifier: Apache-2.0
"""What a pane says when it has nothing to show: the situation, and what to press. Pure."""

from __future__ import annotations

from xdptui.view.session import Session
from xdptui.words.advice import worded

__all__ = ["chain_note", "empty_list", "matches", "waterfall_note"]


FIRST_STEPS = """\
1. l  choose an object file (.o): see what it does, try it on packets
2. p  see the plan: warnings first, then what changes
3. a  apply it in one atomic step (w before it: it rolls back unless confirmed)
Nothing changes on the interface before step 3. ? lists all keys."""
"""What to do while nothing runs."""


def empty_list(session: Session, trouble: str) -> str:
    """Shown instead of interfaces."""
    if trouble:
        return f"The interfaces can't be read: {trouble}"
    if not session.surveyed:
        return "reading the interfaces…"
    if session.needle:
        return f"No interface matches {session.needle!r}. esc clears the filter."
    return "This network namespace has no interface."


def matches(session: Session) -> str:
    """The effect of the filter on the list; empty without a filter."""
    if not session.needle:
        return ""
    return f"filter: {len(session.visible)} of {len(session.runnings)}"


def chain_note(session: Session) -> str:
    """Shown below the slots, or instead of them."""
    running = session.running
    if running is None:
        return "" if not session.surveyed else "Select an interface."
    if not running.editable and session.edit is None:
        hook = running.hook
        assert hook is not None
        what = f"{hook.name} (id {hook.prog_id}, tag {hook.tag or '?'}) holds the hook"
        todo = worded(running.todo, running.interface.netns, keys=not session.read_only)
        # What to do comes first: there may be no room for the rest.
        return ". ".join(filter(None, (what, todo, f"{running.note[:1].upper()}{running.note[1:]}"))) + "."
    if not session.chain.slots:
        if session.removed:
            return "The candidate is empty: applying it frees the hook."
        if session.read_only:
            return f"No XDP program runs on {running.interface.name}."
        return f"No XDP program runs on {running.interface.name}. Press l to load one.\n{FIRST_STEPS}"
    return ""


def waterfall_note(session: Session, why: str, counting: bool) -> str:
    """Shown instead of the waterfall."""
    running = session.running
    if counting:
        return "counting…"
    if running is None:
        return ""
    if not running.hooks:
        return "Packet flow appears here once a program is running."
    if why:
        return f"No counters: {why}"
    if running.chain is None:
        return "No counters: the program is not part of an xdptui chain."
    if not running.chain.counters:
        return "This chain's counters are off. Press c to turn them on, then a to apply."
    return "No counters here."
