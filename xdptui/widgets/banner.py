# SPDX-License-Identifier: Apache-2.0
"""The top line: the interface, the linkage of its chain, and the state of the edit."""

from __future__ import annotations

from xdpchain.frozen import frozen
from xdpchain.model.running import Running
from xdptui.view.cells import Cell, Line, clip, size_of
from xdptui.view.session import BannerState, Session
from xdptui.widgets.cell_grid import CellGrid

__all__ = ["Banner", "Pending", "banner_line"]

STYLE = {
    BannerState.EMPTY: "state-free",
    BannerState.FREE: "state-free",
    BannerState.FOREIGN: "state-foreign",
    BannerState.VIEW: "state-foreign",
    BannerState.RUNNING: "state-running",
    BannerState.CANDIDATE: "state-candidate",
    BannerState.STALE: "state-stale",
    BannerState.PENDING: "state-armed",
}

NOT_EDITABLE = (BannerState.EMPTY, BannerState.FOREIGN, BannerState.VIEW)


@frozen
class Pending:
    """A change that rolls back in ``seconds`` unless confirmed; ``but`` says why it won't."""

    seconds: int
    but: str = ""

    @property
    def left(self) -> str:
        """The time left, or why it won't roll back."""
        return self.but or f"{self.seconds // 60:02}:{self.seconds % 60:02}"


def banner_line(
    session: Session, width: int, pending: Pending | None = None, *, recording: bool = False, unread: int = 0
) -> Line:
    """The line, exactly ``width`` wide; the states at its right end are never truncated."""
    badges: list[Cell] = []
    if session.frozen:
        badges += [Cell(" FROZEN ", "state-free"), Cell(" ")]
    if session.replaying:
        badges.append(Cell(" REPLAY ", "state-foreign"))
    elif session.read_only:
        lacks = f": no {', '.join(session.missing)}" if width >= 100 else ""
        badges += [Cell(clip(f" READ-ONLY{lacks} ", max(11, width // 2)), "state-readonly"), Cell(" ")]
    if unread:
        badges += [Cell(f" {unread} unread: h ", "state-foreign"), Cell(" ")]
    if recording:
        badges += [Cell(" ● REC: ctrl+r ", "state-armed"), Cell(" ")]
    if session.running is not None and session.running.following is not None:
        gone = "" if session.running.following.alive else ", BY NOBODY: d"
        badges += [Cell(f" FOLLOWED{gone} ", "state-free" if not gone else "state-armed"), Cell(" ")]
    state = BannerState.PENDING if pending else session.state
    waits = session.confirm is not None and not session.read_only and session.state not in NOT_EDITABLE
    if waits and not pending:  # a setting, not a request: calm
        badges += [Cell(f" ROLLBACK {session.confirm:.0f} s ", "state-free"), Cell(" ")]
    text = f" {state.value} "
    if pending:
        keeps = ": C confirms" if width >= 72 and not pending.but else ""
        text = f" PENDING{',' * bool(pending.but)} {pending.left}{keeps} "
    elif state in (BannerState.CANDIDATE, BannerState.STALE):
        text = f" {state.value} ({session.changes} change{'s' * (session.changes != 1)}) "
    if not session.replaying:  # what ran then is among the facts; it does not run now
        badges.append(Cell(text, STYLE[state]))
    used = sum(size_of(cell.text) for cell in badges)
    room = width - used - 1
    running = session.running
    parts: list[Cell] = []
    if room >= 8:
        parts.append(Cell(" xdptui ", "title"))
    if running is not None:
        parts.append(Cell(f" {running.interface.name} ", "name"))
        facts = [str(running.mode)] if running.mode else []
        if linkage := _linkage(session, running):
            facts.append(f"{linkage}{' linkage' if width >= 100 else ''}")
        if running.dispatcher:
            facts.append(f"dispatcher {running.dispatcher.id}{', bound' * running.dispatcher.bound}")
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
        room -= size_of(kept[-1].text)
    return Line((*kept, Cell(" " * (room + 1)), *badges), "banner")


def _linkage(session: Session, running: Running) -> str:
    """The chain's linkage; both if the candidate has another one."""
    now = str(running.linkage or "")
    if session.edit is None or not session.chain.slots:
        return now
    then = str(session.chain.linkage)
    return then if now in ("", then) else f"{now} → {then}"


class Banner(CellGrid):
    """The top line."""

    DEFAULT_CSS = "Banner { height: 1; }"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._session = Session()
        self._pending: Pending | None = None
        self._recording = False
        self._unread = 0

    def present(
        self, session: Session, pending: Pending | None = None, *, recording: bool = False, unread: int = 0
    ) -> None:
        self._session, self._pending, self._recording, self._unread = session, pending, recording, unread
        self.resized()

    def resized(self) -> None:
        line = banner_line(
            self._session, self.size.width, self._pending, recording=self._recording, unread=self._unread
        )
        self.paint([line])
