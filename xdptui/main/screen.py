# SPDX-License-Identifier: Apache-2.0
"""The main screen: interfaces, the selected chain, its waterfall. It owns the session and shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Input

from xdpchain.model.actions import ALL_ACTIONS
from xdpchain.model.chain import Chain
from xdptui.main.adopt_flow import AdoptFlow
from xdptui.main.confirm_flow import ConfirmFlow, countdown
from xdptui.main.edit_flow import EditFlow
from xdptui.main.replay_flow import ReplayFlow
from xdptui.main.save_flow import SaveFlow
from xdptui.main.undo_flow import UndoFlow
from xdptui.view.chain_lines import ChainView
from xdptui.view.interface_lines import InterfaceView
from xdptui.view.keys import KEYS
from xdptui.view.layout import Layout, share
from xdptui.view.notes import chain_note, empty_list, waterfall_note
from xdptui.view.session import Session, Shown, State, running_chain
from xdptui.view.waterfall import flow
from xdptui.widgets.banner import Banner
from xdptui.widgets.chain_table import ChainTable
from xdptui.widgets.filter_line import FilterLine
from xdptui.widgets.inspector import Inspector
from xdptui.widgets.interface_table import InterfaceTable
from xdptui.widgets.key_bar import KeyBar
from xdptui.widgets.repaint import ThriftyCompositor
from xdptui.widgets.time_bar import TimeBar
from xdptui.widgets.waterfall import Waterfall
from xdptui.words.numbers import short
from xdptui.words.rates import Reading
from xdptui.workers.alarm import Alarm, Alarmed
from xdptui.workers.feed import NOBODY, Capabilities, Defaults, Feed, LookFailed, Own, Surveyed, TakenBack
from xdptui.workers.meter import Meter

if TYPE_CHECKING:
    from xdptui.workers.replay import Replay
    from xdptui.workers.replay.feed import RecordedFeed

__all__ = ["MainScreen"]

PERIOD = 1.0
"""Seconds between two looks at the counters."""
EMPTY_ROWS = 3
"""Rows for saying why there is no interface to list."""


class MainScreen(ReplayFlow, EditFlow, UndoFlow, AdoptFlow, ConfirmFlow, SaveFlow):
    """``interface`` names the one to select at first; ``replay`` takes the place of the kernel."""

    ALLOW_SELECT = False
    DEFAULT_CSS = "MainScreen { layout: vertical; overflow: hidden; background: $background; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(key.keys, key.action, key.text, show=False) for key in KEYS if key.action != "quit"
    ]

    def __init__(
        self, netns: str | None = None, interface: str | None = None, replay: Replay | None = None
    ) -> None:
        super().__init__()
        self._compositor = ThriftyCompositor()
        self.replay = replay
        self.session = replace(self.session, replaying=replay is not None)
        self.meter = replay.meter if replay else Meter()
        self._wanted = interface
        self._netns = netns
        self._shares: Layout | None = None
        self._trouble = ""
        self._unreadable = False
        self._held_back = Surveyed((), ())
        self._lost: Mapping[int, int] = {}
        self.alarm = Alarm(netns, self.post_message)
        self.feed: Feed | RecordedFeed = (
            replay.feed(self.post_message)
            if replay
            else Feed(netns, self.post_message, lambda: self.meter.known, lambda: self.session.selected)
        )

    def compose(self) -> ComposeResult:
        yield Banner(id="banner")
        yield TimeBar(id="time")
        yield FilterLine(id="filter")
        yield InterfaceTable(id="interfaces")
        yield ChainTable(id="chain")
        yield Waterfall(id="waterfall")
        yield Inspector(id="inspector")
        yield KeyBar(id="keys")

    def on_mount(self) -> None:
        self.query_one(FilterLine).display = False
        self.query_one(TimeBar).display = self.query_one(KeyBar).replaying = self.replay is not None
        self.query_one(ChainTable).focus()
        self.run_worker(self.feed.run, thread=True, group="feed", exit_on_error=False)
        if self.replay is None:
            self.run_worker(self.alarm.run, thread=True, group="alarm", exit_on_error=False)
        self.set_interval(PERIOD, self.count)
        self.show()

    def on_unmount(self) -> None:
        self.alarm.end()
        self.meter.close()

    # State

    def put(self, session: Session) -> None:
        """The one place where the session changes."""
        if session is self.session:
            return
        moved = session.selected != self.session.selected
        self.session = session
        self.show()
        if moved and self.meter.lacks(session.running):
            self.feed.ask()

    def show(self) -> None:
        """Hand every widget its part of the session; they repaint what differs."""
        session = self.session
        self._arrange()
        self.query_one(Banner).present(session, countdown(session.running))
        self.query_one(KeyBar).present(
            read_only=session.read_only or session.running is None,
            candidate=session.changes > 0,
            slots=len(session.chain) > 0,
            armed=session.running is not None and session.running.armed is not None,
            foreign=session.state is State.FOREIGN,
        )
        self._show_interfaces()
        self._show_chain()

    def _arrange(self) -> None:
        session = self.session
        filtering = self.query_one(FilterLine)
        height = self.size.height - (1 if filtering.display else 0) - (1 if self.replay else 0)
        rows = len(session.chain) + len(session.removed)
        layout = share(height, len(session.visible) or EMPTY_ROWS, rows)
        if layout == self._shares:
            return
        self._shares = layout
        for name, size in (
            ("banner", layout.banner),
            ("interfaces", layout.interfaces),
            ("chain", layout.chain),
            ("waterfall", layout.waterfall),
            ("inspector", layout.inspector),
            ("keys", layout.keys),
        ):
            pane = self.query_one(f"#{name}")
            pane.display = size > 0
            pane.styles.height = max(1, size)

    def _show_interfaces(self) -> None:
        session = self.session
        unsaved = {running.interface.ifindex for running in session.unsaved}
        views = [
            InterfaceView(
                r,
                r.interface.ifindex in unsaved,
                self.meter.rate(r.interface.ifindex),
                r.interface.ifindex in self._lost,
            )
            for r in session.visible
        ]
        self.query_one(InterfaceTable).present(views, session.selected, empty_list(session, self._trouble))

    def _show_chain(self) -> None:
        session = self.session
        reading = self.meter.last(session.selected)
        view = ChainView(
            chain=session.chain,
            base=session.base,
            removed=session.removed,
            candidate=session.changes > 0,
            reading=reading,
            trends=self.meter.trends(session.selected),
            slot=session.slot,
            action=session.action,
            shown=session.shown,
        )
        two = self._shares is not None and self._shares.lines == 2
        self.query_one(ChainTable).present(view, chain_note(session), two=two, movable=not session.read_only)
        running = session.running
        current = None
        unit = session.shown
        if reading is not None and running is not None:
            chain = running_chain(running) or Chain()
            if unit in (Shown.PACKETS, Shown.BYTES):
                current = flow(chain, reading.totals, reading.verdict_totals)
            elif reading.verdict_rates is not None:
                current = flow(chain, reading.rates, reading.verdict_rates)
        what = "packets in total" if unit in (Shown.PACKETS, Shown.BYTES) else "packets/s"
        if session.changes:
            what += " of what runs"
        cost = self.meter.cost(session.selected)
        if cost is not None:
            what = f"counting adds {cost} ns a packet · {what}"
        lost = self._lost.get(session.selected) if session.selected is not None else None
        if lost:
            what = f"! {short(lost)} lost, x: why · {what.rpartition(' · ')[2]}"
        note = waterfall_note(session, self.meter.why(session.selected), reading is not None)
        self.query_one(Waterfall).present(current, what, note)
        self._show_slot(reading)

    def _show_slot(self, reading: Reading | None) -> None:
        session = self.session
        was = next((slot for slot in session.base or () if slot.key == session.slot_key), None)
        base = session.edit.base if session.edit else session.running
        self.query_one(Inspector).present(session.chain, session.current, was, base, reading)

    def count(self) -> None:
        """Once a second: read the counters that are on the screen, show what they say."""
        if self.replay is not None:
            if self.replay.player.tick(PERIOD):
                self.replay_moved()
            self.show_time()
            return
        self._count()

    def replay_moved(self) -> None:
        if self.replay is not None and self.replay.turned():
            self.feed.ask()
        self._count()

    def show_time(self) -> None:
        if view := self.time_view():
            self.query_one(TimeBar).present(view)

    def action_flip(self) -> None:
        if self.replay is not None:
            self.play_or_pause()
        else:
            super().action_flip()

    def _count(self) -> None:
        session = self.session
        if session.selected is not None:
            self.meter.read(session.selected)
        visible = session.visible
        for place in self.query_one(InterfaceTable).shown_rows:
            index = visible[place].interface.ifindex if place < len(visible) else session.selected
            if index is not None and index != session.selected:
                self.meter.read(index)
        if any(running.armed is not None for running in session.runnings):
            # Who confirms it elsewhere makes no event; and its deadline may be over.
            self.query_one(Banner).present(session, countdown(session.running))
            self.feed.ask()
        if session.frozen or self.query_one(ChainTable).dragging:
            return
        self._show_interfaces()
        self._show_chain()

    # What the workers say

    def after_apply(self) -> None:
        """Catch up with what was held back meanwhile."""
        held, self._held_back = self._held_back, Surveyed((), ())
        if held.runnings:
            self.on_surveyed(held)
        self.feed.ask()

    def on_surveyed(self, event: Surveyed) -> None:
        if self.applying:
            # Half-way through a change of ours, that is no news of another editor's.
            self._held_back = Surveyed(event.runnings, (*self._held_back.opened, *event.opened))
            return
        self._trouble = ""
        before = self.session
        was_stale = before.stale
        self.meter.sync(event.runnings, event.opened, before.selected or NOBODY)
        session = before.surveyed_as(event.runnings)
        if self._wanted is not None:
            for running in event.runnings:
                if running.interface.name == self._wanted:
                    session = session.select(running.interface.ifindex)
            self._wanted = None
        self.tell_settled(before.runnings, event.runnings)
        gone = [r.interface.name for r in before.unsaved if r.interface.ifindex not in session.edits]
        self.put(session)
        if self.replay is not None:
            self._count()
            self.show_time()
        if event.opened:
            self.count()
            # A rate needs two looks: take the second early, so that the first screen soon says something.
            self.set_timer(0.3, self.count)
        if gone:
            self.notify(f"{', '.join(gone)} is gone, and its candidate with it", severity="warning")
        if session.stale and not was_stale and session.changes:
            self.notify(
                "Another editor changed the chain under your candidate. p: see how, rebase or drop",
                title=str(session.running.interface) if session.running else "",
                severity="warning",
                timeout=10,
            )

    def on_alarmed(self, event: Alarmed) -> None:
        self._lost = event.lost
        if not self.session.frozen:
            self._show_interfaces()
            self._show_chain()

    def on_look_failed(self, event: LookFailed) -> None:
        self._trouble = str(event.error)
        self.show()
        if not self._unreadable and self.session.surveyed:
            self.notify(str(event.error), title="The kernel can't be read", severity="error")
        self._unreadable = True

    def on_capabilities(self, event: Capabilities) -> None:
        self.put(replace(self.session, missing=tuple(name for name, _, _ in event.missing)))
        if event.missing:
            name, why, todo = event.missing[0]
            self.notify(
                f"{name} is missing: {why}. {todo}", title="Read-only", severity="warning", timeout=10
            )

    def on_own(self, event: Own) -> None:
        self.put(replace(self.session, own=event.own))

    def on_taken_back(self, event: TakenBack) -> None:
        self.notify(
            f"{event.interface}: who followed packets was killed; the plain dispatcher runs again", timeout=5
        )

    def on_defaults(self, event: Defaults) -> None:
        self.put(replace(self.session, linkage=event.linkage, linkage_why=event.why))

    # Looking

    def on_resize(self, event: events.Resize) -> None:
        self.show()

    def on_interface_table_picked(self, event: InterfaceTable.Picked) -> None:
        self.put(self.session.select(event.ifindex))

    def on_chain_table_picked(self, event: ChainTable.Picked) -> None:
        self.put(self.session.at_slot(event.slot))

    def on_key_bar_pressed(self, event: KeyBar.Pressed) -> None:
        self.call_later(self.run_action, event.action if event.action != "quit" else "app.quit")

    def action_cursor(self, by: int) -> None:
        session = self.session
        if not self.query_one(InterfaceTable).has_focus:
            self.put(session.at_slot(session.slot + by))
            return
        places = [r.interface.ifindex for r in session.visible]
        if places:
            here = places.index(session.selected) if session.selected in places else 0
            self.put(session.select(places[max(0, min(len(places) - 1, here + by))]))
            self.count()

    def action_pick(self, by: int) -> None:
        place = ALL_ACTIONS.index(self.session.action) + by
        self.put(replace(self.session, action=ALL_ACTIONS[max(0, min(len(ALL_ACTIONS) - 1, place))]))

    def action_other_pane(self) -> None:
        interfaces, chain = self.query_one(InterfaceTable), self.query_one(ChainTable)
        self.set_focus(chain if interfaces.has_focus or not interfaces.display else interfaces)

    def action_sort(self) -> None:
        orders = list(type(self.session.order))
        order = orders[(orders.index(self.session.order) + 1) % len(orders)]
        self.put(replace(self.session, order=order, traffic=self.meter.rates()))
        self.notify(f"sorted by {order}", timeout=2)

    def action_numbers(self) -> None:
        shown = list(Shown)
        self.put(replace(self.session, shown=shown[(shown.index(self.session.shown) + 1) % len(shown)]))

    def action_freeze(self) -> None:
        self.put(replace(self.session, frozen=not self.session.frozen))

    def action_refresh(self) -> None:
        self.feed.ask()
        self.notify("read anew", timeout=1)

    def action_help(self) -> None:
        from xdptui.screens.help import HelpScreen

        self.app.push_screen(HelpScreen())

    def action_doctor(self) -> None:
        from xdptui.screens.doctor import DoctorScreen

        running = self.session.running
        self.app.push_screen(DoctorScreen(self._netns, running.interface.name if running else None))

    def action_follow(self) -> None:
        running = self.session.running
        if running is None or not running.hooks:
            self.notify("No program runs there: there is nothing to follow", severity="warning")
            return
        from xdptui.screens.follow import FollowScreen

        self.app.push_screen(FollowScreen(running))

    def action_maps(self) -> None:
        session = self.session
        running, current = session.running, session.current
        if running is None or not running.hooks:
            self.notify("No program runs there", severity="warning")
            return
        place, name = None, running.hooks[0].name
        ifindex, hook, key = running.interface.ifindex, running.hooks[0].prog_id, session.slot_key
        if chain := running_chain(running):
            keys = [slot.key for slot in chain]
            if current is None or current.key not in keys:
                self.notify("That program does not run yet: it has no maps before it is applied", timeout=4)
                return
            place, name = keys.index(current.key), current.name
        from xdptui.screens.maps import MapsScreen

        def runs() -> bool:
            now = next((r for r in self.session.runnings if r.interface.ifindex == ifindex), None)
            if place is None or now is None:
                return now is not None and any(one.prog_id == hook for one in now.hooks)
            return any(slot.key == key for slot in running_chain(now) or ())

        missing = ", ".join(session.missing)
        self.app.push_screen(MapsScreen(running, place, name, read_only=missing, runs=runs))

    def action_events(self) -> None:
        from xdptui.screens.events import EventsScreen

        recorded = self.replay.events(self.session.running) if self.replay else None
        self.app.push_screen(EventsScreen(self._netns, self.session.running, recorded))

    def action_command_palette(self) -> None:
        self.app.action_command_palette()

    # The filter

    def action_filter(self) -> None:
        line = self.query_one(FilterLine)
        line.display = True
        line.focus()
        self.show()

    def on_input_changed(self, event: Input.Changed) -> None:
        if isinstance(event.input, FilterLine):
            session = replace(self.session, needle=event.value)
            visible = [r.interface.ifindex for r in session.visible]
            if visible and session.selected not in visible:
                session = session.select(visible[0])
            self.put(session)

    def on_filter_line_closed(self, event: FilterLine.Closed) -> None:
        line = self.query_one(FilterLine)
        if event.clear:
            line.value = ""
        line.display = bool(line.value)
        self.set_focus(self.query_one(InterfaceTable))
        self.show()
