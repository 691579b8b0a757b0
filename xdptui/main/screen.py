# SPDX-License-Identifier: Apache-2.0
"""The main screen: interfaces, the selected chain, its waterfall. Owns the desk and the controllers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from textual import events, on
from textual.actions import parse
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Input

from xdptui.main.adopt_flow import AdoptFlow
from xdptui.main.apply_flow import ApplyFlow
from xdptui.main.browse_flow import BrowseFlow
from xdptui.main.confirm_flow import ConfirmFlow
from xdptui.main.copy_flow import Copies, CopyFlow
from xdptui.main.desk import Actions, Desk
from xdptui.main.edit_flow import EditFlow
from xdptui.main.kernel_news import KernelNews
from xdptui.main.load_flow import LoadFlow
from xdptui.main.look_flow import LookFlow
from xdptui.main.namespace_flow import NamespaceFlow
from xdptui.main.panes import Panes
from xdptui.main.record_flow import RecordFlow
from xdptui.main.replay_flow import ReplayFlow
from xdptui.main.save_flow import SaveFlow
from xdptui.main.undo_flow import UndoFlow
from xdptui.settings import Settings
from xdptui.view.keys import KEYS
from xdptui.view.layout import PANES, Wish
from xdptui.view.session import Order, Session, Shown
from xdptui.widgets.cell_grid import Selecting
from xdptui.widgets.chain_table import ChainTable
from xdptui.widgets.filter_line import FilterLine
from xdptui.widgets.interface_table import InterfaceTable
from xdptui.widgets.key_bar import KeyBar
from xdptui.widgets.pane import Pane
from xdptui.widgets.repaint import ThriftyCompositor
from xdptui.workers.alarm import Alarm, Alarmed
from xdptui.workers.feed import (
    Capabilities,
    Defaults,
    Feed,
    LookFailed,
    Own,
    Surveyed,
    TakenBack,
    Unconfirmable,
)
from xdptui.workers.meter import BETWEEN_LOOKS, Meter

if TYPE_CHECKING:
    from xdptui.workers.replay import Replay
    from xdptui.workers.replay.feed import RecordedFeed

__all__ = ["MainScreen"]

PERIOD = 1.0
"""Seconds between two looks at the counters."""
SECOND_LOOK = 0.3
"""Seconds until the second look: a rate needs two, so that the first screen soon shows something."""


class MainScreen(Selecting[None]):
    """``interface`` is selected first; ``replay`` takes the place of the kernel."""

    class Elsewhere(Message):
        """Switch to another network namespace (None: the one in which xdptui was started)."""

        def __init__(self, netns: str | None) -> None:
            super().__init__()
            self.netns = netns

    DEFAULT_CSS = "MainScreen { layout: vertical; overflow: hidden; background: $background; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(key.keys, f"act({key.action!r})", key.text, show=False)
        for key in KEYS
        if key.action != "quit"
    ]

    def __init__(
        self,
        netns: str | None = None,
        interface: str | None = None,
        replay: Replay | None = None,
        settings: Settings | None = None,
        *,
        copies: Copies,
    ) -> None:
        super().__init__()
        self._compositor = ThriftyCompositor()
        self._copies = copies
        settings = settings or Settings()
        self._period = settings.refresh_seconds if replay is None else PERIOD
        self.meter = replay.meter if replay else Meter(BETWEEN_LOOKS)
        session = Session(
            replaying=replay is not None,
            shown=Shown(settings.numbers),
            order=Order(settings.sort),
            reverse=settings.sort_reversed,
            confirm_seconds=settings.confirm_seconds,
        )
        self.desk = Desk(self, session, self._changed)
        self.panes = Panes(self, self.desk, self.meter, replaying=replay is not None)
        self.panes.wish = Wish(hidden=frozenset(settings.hidden_panes))
        self.alarm = Alarm(netns, self.post_message)
        self.feed: Feed | RecordedFeed = (
            replay.feed(self.post_message)
            if replay
            else Feed(netns, self.post_message, lambda: self.meter.known, lambda: self.desk.session.selected)
        )
        self.edit = EditFlow(self.desk)
        self.apply = ApplyFlow(self.desk, self.meter, self._catch_up)
        self.confirm = ConfirmFlow(self.desk, self._catch_up)
        self.look = LookFlow(self.desk, netns, replay, self.meter)
        self.browse = BrowseFlow(self.desk, self.panes, self.meter)
        self.replay = ReplayFlow(self.desk, replay, self._moved, self._show_time)
        self.record = RecordFlow(self.desk, netns, self._show_recording, self._open_replay)
        self.news = KernelNews(
            self.desk, self.panes, self.meter, self.confirm, interface, settings.linkage, self._count_anew
        )
        self._actions: Actions = {
            "refresh": self._refresh,
            "command_palette": lambda: self.app.action_command_palette(),
        }
        for controller in (
            self.edit,
            LoadFlow(self.desk, self.edit, self.apply),
            self.apply,
            UndoFlow(self.desk, self.apply),
            AdoptFlow(self.desk, self.apply),
            self.confirm,
            SaveFlow(self.desk),
            self.look,
            self.browse,
            self.record,
            NamespaceFlow(self.desk, netns, lambda place: self.post_message(self.Elsewhere(place))),
            CopyFlow(self.desk, copies),
            self.replay,  # last: space plays where there is a recording
        ):
            self._actions.update(controller.actions)
        self._actions["drop"] = self._let_go

    @property
    def session(self) -> Session:
        return self.desk.session

    def compose(self) -> ComposeResult:
        panes = self.panes
        yield from (panes.banner, panes.time, panes.filter, panes.interfaces, panes.chain)
        yield from (panes.waterfall, panes.inspector, panes.keys)

    def on_mount(self) -> None:
        self.panes.chain.focus()
        self.run_worker(self.feed.run, thread=True, group="feed", exit_on_error=False)
        if not self.session.replaying:
            self.run_worker(self.alarm.run, thread=True, group="alarm", exit_on_error=False)
        self.set_interval(self._period, self.count)
        self.panes.show()

    def on_unmount(self) -> None:
        self.alarm.end()
        self.record.end()
        self.meter.close()

    # Keys

    def action_act(self, action: str) -> None:
        """Run a key's action as written in the key table: ``move(1)``."""
        _, name, arguments = parse(action)
        self._actions[name](*arguments)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action != "act":
            return super().check_action(action, parameters)
        # Keys typed before a dialog opens are not meant for the chain behind it.
        return not self.desk.busy and not self.replay.refuses(str(parameters[0]).partition("(")[0])

    async def act(self, action: str) -> None:
        """Run an action from elsewhere: a click on its hint, or the palette."""
        await self.run_action("app.quit" if action == "quit" else f"act({action!r})")

    def _let_go(self) -> None:
        """Escape: end the first that applies: a drag, a maximized pane, the filter, the edits."""
        if self.panes.chain.cancel_drag():
            return
        if self.panes.wish.zoomed:
            self.panes.wished(self.panes.wish.zooming(self.panes.wish.zoomed))
        elif self.session.needle:
            self.panes.close_filter(clear=True)
        elif not self.session.replaying:
            self.apply.drop()

    def settings_now(self, settings: Settings) -> Settings:
        """The settings with what was chosen on this screen."""
        session = self.session
        return replace(
            settings,
            numbers=session.shown.value,
            sort=session.order.value,
            sort_reversed=session.reverse,
            hidden_panes=tuple(pane for pane in PANES if pane in self.panes.wish.hidden),
        )

    def _show_recording(self) -> None:
        self.panes.recording = self.record.recording
        self.panes.show()

    def _open_replay(self, replay: Replay) -> None:
        """Open it over this screen, until the user leaves it."""
        settings = self.settings_now(Settings())
        self.app.push_screen(MainScreen(replay=replay, settings=settings, copies=self._copies))

    def _refresh(self) -> None:
        self.feed.ask()
        self.desk.notify("refreshed", timeout=1)

    # Display

    def _changed(self, before: Session) -> None:
        self.panes.show()
        began = before.selected == self.session.selected and self.session.edit and not before.chain.slots
        if self.session.surveyed and (not before.surveyed or (began and self.session.chain.slots)):
            self.panes.focus_first()
        if self.session.selected != before.selected and self.meter.lacks(self.session.running):
            self.feed.ask()

    def count(self) -> None:
        """Once a second: read the counters on the screen and show them."""
        replay = self.replay.replay
        if replay is None:
            self._count()
            return
        if replay.player.tick(PERIOD):
            self._moved()
        self._show_time()

    def _count(self) -> None:
        self.panes.count()
        if any(running.pending is not None for running in self.session.runnings):
            # Confirmation elsewhere raises no event, and the deadline may have passed.
            self.panes.show_countdown()
            self.feed.ask()
        if not self.session.frozen and not self.panes.chain.dragging:
            self.panes.show_tables()

    def _count_anew(self) -> None:
        self.count()
        self.set_timer(SECOND_LOOK, self.count)

    def _moved(self) -> None:
        if self.replay.replay is not None and self.replay.replay.turned():
            self.feed.ask()
        self._count()

    def _show_time(self) -> None:
        self.panes.show_time(self.replay.time_view())

    def _catch_up(self) -> None:
        self.news.catch_up()
        self.feed.ask()

    def on_resize(self, event: events.Resize) -> None:
        self.panes.show()

    # Messages from the workers

    def on_surveyed(self, event: Surveyed) -> None:
        self.news.surveyed(event)
        if self.replay.replay is not None:
            self._count()
            self._show_time()

    def on_alarmed(self, event: Alarmed) -> None:
        self.news.alarmed(event)

    def on_look_failed(self, event: LookFailed) -> None:
        self.news.look_failed(event)

    def on_capabilities(self, event: Capabilities) -> None:
        self.news.capabilities(event)

    def on_own(self, event: Own) -> None:
        self.news.own(event)

    def on_defaults(self, event: Defaults) -> None:
        self.news.defaults(event)

    def on_unconfirmable(self, event: Unconfirmable) -> None:
        self.news.unconfirmable(event)

    def on_taken_back(self, event: TakenBack) -> None:
        self.news.taken_back(event)

    # Mouse

    @on(InterfaceTable.Picked)
    def _interface_picked(self, event: InterfaceTable.Picked) -> None:
        self.desk.put(self.session.select(event.ifindex))

    @on(InterfaceTable.Sorted)
    def _heading_picked(self, event: InterfaceTable.Sorted) -> None:
        self.browse.sort_by(event.order)

    @on(Pane.Dragged)
    def _border_dragged(self, event: Pane.Dragged) -> None:
        shown = [pane for pane in PANES if self.query_one(f"#{pane}").display]
        place = shown.index(event.pane.id or "")
        if place:  # the heading is the border of the pane above
            self.panes.wished(self.panes.wish.grown(shown[place - 1], event.rows))

    @on(Pane.Zoomed)
    def _heading_doubled(self, event: Pane.Zoomed) -> None:
        self.panes.wished(self.panes.wish.zooming(event.pane.id or ""))

    @on(ChainTable.Picked)
    def _slot_picked(self, event: ChainTable.Picked) -> None:
        if isinstance(event, ChainTable.Toggled):
            self.edit.toggle(event.slot, event.action or self.session.action)
            return
        self.desk.put(self.session.at_slot(event.slot))
        if isinstance(event, ChainTable.Opened):
            self.look.details()
        elif isinstance(event, ChainTable.PriorityAsked):
            self.edit.priority()

    @on(ChainTable.Moved)
    def _slot_moved(self, event: ChainTable.Moved) -> None:
        self.edit.move_to(event.source, event.target)

    @on(KeyBar.Pressed)
    def _hint_pressed(self, event: KeyBar.Pressed) -> None:
        self.call_later(self.act, event.action)

    # The filter

    @on(Input.Changed, "#filter")
    def _filtered(self, event: Input.Changed) -> None:
        self.browse.filter(event.value)

    @on(FilterLine.Closed)
    def _filter_closed(self, event: FilterLine.Closed) -> None:
        self.panes.close_filter(clear=event.clear)
