# SPDX-License-Identifier: Apache-2.0
"""The top line: which interface, how its chain is linked, and the state of the edit."""

from __future__ import annotations

from dataclasses import dataclass

from textual import events

from xdptui.view.cells import Cell, Line, clip
from xdptui.view.session import Session, State
from xdptui.widgets.cell_grid import CellGrid

__all__ = ["Armed", "Banner", "banner_line"]

STYLE = {
    State.EMPTY: "state-free",
    State.FREE: "state-free",
    State.FOREIGN: "state-foreign",
    State.VIEW: "state-foreign",
    State.RUNNING: "state-running",
    State.CANDIDATE: "state-candidate",
    State.STALE: "state-stale",
    State.ARMED: "state-armed",
}


@dataclass(frozen=True, slots=True)
class Armed:
    """A change that rolls back by itself in ``seconds`` unless it is confirmed; ``but`` says why it won't."""

    seconds: int
    but: str = ""


def banner_line(session: Session, width: int, armed: Armed | None = None) -> Line:
    """The line, exactly ``width`` wide; the states at its right end are never cut off."""
    badges: list[Cell] = []
    if session.frozen:
        badges += [Cell(" FROZEN ", "state-free"), Cell(" ")]
    if session.replaying:
        badges += [Cell(" RECORDING ", "state-readonly"), Cell(" ")]
    elif session.read_only:
        lacks = f": no {', '.join(session.missing)}" if width >= 100 else ""
        badges += [Cell(clip(f" READ-ONLY{lacks} ", max(11, width // 2)), "state-readonly"), Cell(" ")]
    if session.running is not None and session.running.following is not None:
        gone = "" if session.running.following.alive else ", BY NOBODY: d"
        badges += [Cell(f" FOLLOWED{gone} ", "state-free" if not gone else "state-armed"), Cell(" ")]
    state = State.ARMED if armed else session.state
    text = f" {state.value} "
    if armed:
        left = f"{armed.seconds // 60:02}:{armed.seconds % 60:02}"
        text = f" ARMED, {armed.but} " if armed.but else f" ARMED {left} "
    elif state in (State.CANDIDATE, State.STALE):
        text = f" {state.value} ({session.changes} change{'s' * (session.changes != 1)}) "
        if session.confirm is not None:
            badges += [Cell(f" WAITS {session.confirm:.0f} s ", "state-armed"), Cell(" ")]
    badges.append(Cell(text, STYLE[state]))
    used = sum(len(cell.text) for cell in badges)
    room = width - used - 1
    running = session.running
    parts: list[Cell] = []
    if room >= 8:
        parts.append(Cell(" xdptui ", "title"))
    if running is not None:
        parts.append(Cell(f" {running.interface.name} ", "name"))
        facts = [str(running.mode)] if running.mode else []
        if running.linkage:
            facts.append(f"{running.linkage}{' linkage' if width >= 100 else ''}")
        if running.dispatcher:
            facts.append(f"dispatcher {running.dispatcher.id}")
        elif running.hook:
            facts.append(f"program {running.hook.prog_id}")
        if running.chain is not None and not running.chain.counters:
            facts.append("counters off")
        if running.interface.netns:
            facts.append(f"netns {running.interface.netns}")
        parts.append(Cell(" · ".join(facts), "label"))
    kept: list[Cell] = []
    for cell in parts:
        if room <= 1:
            break
        kept.append(Cell(clip(cell.text, room), cell.style))
        room -= len(kept[-1].text)
    return Line((*kept, Cell(" " * (room + 1)), *badges), "banner")


class Banner(CellGrid):
    """The top line."""

    DEFAULT_CSS = "Banner { height: 1; }"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._session = Session()
        self._armed: Armed | None = None

    def present(self, session: Session, armed: Armed | None = None) -> None:
        self._session, self._armed = session, armed
        self.on_resize()

    def on_resize(self, event: events.Resize | None = None) -> None:
        self.paint([banner_line(self._session, self.size.width, self._armed)])
