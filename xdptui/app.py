# SPDX-License-Identifier: Apache-2.0
"""The terminal program."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from pkgutil import get_data
from typing import TYPE_CHECKING, ClassVar

from textual import events
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.markup import escape
from textual.notifications import Notification, Notify
from textual.screen import Screen

from xdptui.charset import AsciiFilter, wants_ascii
from xdptui.key_queue import KeyQueue
from xdptui.main.confirm_flow import countdown
from xdptui.main.screen import MainScreen
from xdptui.outcome import DEBUG, debugging
from xdptui.screens.palette import Palette
from xdptui.screens.question import Confirm
from xdptui.screens.waiting import WaitingDialog
from xdptui.settings import (
    CHOICES,
    Settings,
    load_settings,
    save_settings,
    settings_path,
    state_dir,
    state_file,
)
from xdptui.theme import DARK, LIGHT, SIXTEEN, VARIABLES, choose
from xdptui.view.keys import KEYS, text_in, works
from xdptui.widgets.inner_outer import forget_widgets
from xdptui.words.printable import printable

if TYPE_CHECKING:
    from textual.notifications import SeverityLevel

    from xdpchain.model.running import Running
    from xdptui.workers.replay import Replay

__all__ = ["XdpTui", "run", "tell_waiting"]

ENDINGS = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
ENDING_SECONDS = 15.0
MOST_SHOWN = 4
"""Messages on the screen at once; the list of messages (`h`) has all."""


class XdpTui(App[None]):
    """One network namespace, one main screen."""

    TITLE = "xdptui"
    CSS = (get_data("xdptui", "theme.tcss") or b"").decode()  # CSS_PATH can't name a file inside a zip
    ENABLE_COMMAND_PALETTE = True
    COMMAND_PALETTE_BINDING = "ctrl+p"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q,ctrl+q,ctrl+c", "quit", "Quit", show=False, priority=False),
        Binding("ctrl+z", "suspend_process", show=False),
        Binding("ctrl+y", "copy_screen", show=False),
    ]

    def __init__(
        self,
        netns: str | None = None,
        interface: str | None = None,
        replay: Replay | None = None,
        settings: Settings | None = None,
    ) -> None:
        environ = dict(os.environ)  # before Textual removes NO_COLOR from it
        forget_widgets()
        self.settings = settings or Settings()
        # With ansi_color set, Textual strips the terminal's own colours for NO_COLOR; without it, they turn
        # grey.
        super().__init__(ansi_color=True if "NO_COLOR" in environ else None)
        for theme in (DARK, LIGHT, SIXTEEN):
            self.register_theme(theme)
        self.theme = choose(environ, self.console.color_system, self.settings.theme).name
        self.stylesheet.set_variables(self.get_css_variables())
        self._styled = self.theme
        """The theme that the styles were read for."""
        if self.settings.ascii == "always" or (
            self.settings.ascii == "auto" and settings and wants_ascii(environ)
        ):
            self._filters.append(AsciiFilter())
        self._keys = KeyQueue(self, super().on_event)
        if environ.get("SSH_CONNECTION"):
            self.animation_level = "none"
        self._last_resort: threading.Timer | None = None
        self.left_waiting: tuple[Running, ...] = ()
        """Interfaces with changes still pending when the program ends."""
        self.elsewhere: MainScreen.Elsewhere | None = None
        """The namespace to go to instead of ending."""
        self._shown: list[Notification] = []
        """The messages on the screen."""
        self._first = MainScreen(netns, interface, replay, self.settings, copies=self)

    @property
    def main(self) -> MainScreen:
        """The main screen on display; a replay may cover the first one."""
        found = (screen for screen in reversed(self.screen_stack) if isinstance(screen, MainScreen))
        return next(found, self._first)

    async def on_event(self, event: events.Event) -> None:
        if isinstance(event, events.Key) and not event.is_forwarded:
            await self._keys.put(event)
        else:
            await super().on_event(event)

    def get_default_screen(self) -> Screen[None]:
        return self._first

    def refresh_css(self, animate: bool = True) -> None:
        # Textual would read and apply all styles a second time at the start, since the theme was chosen.
        if self._styled != self.theme:
            self._styled = self.theme
            super().refresh_css(animate)

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return VARIABLES

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        session = self.main.session
        for key in KEYS:
            if not works(key, read_only=session.read_only, replaying=session.replaying):
                continue
            if key.action in ("quit", "command_palette") or key.action.startswith(("cursor", "page", "pick")):
                continue
            text = text_in(key, replaying=session.replaying)
            yield SystemCommand(text[0].upper() + text[1:], f"key {key.label}", self._does(key.action))
        for word in CHOICES["theme"]:
            yield SystemCommand(f"Theme {word}", "change the colours", self._wears(word))
        yield SystemCommand(
            "Copy the screen", "as text, to the clipboard (key ctrl+y)", self.action_copy_screen
        )
        folder = escape(f"in {state_dir(os.environ)}")
        yield SystemCommand("Save the screen as SVG", folder, self._saves(svg=True))
        yield SystemCommand("Save the screen as text", folder, self._saves(svg=False))
        yield SystemCommand("Quit", "key q", self._does("quit"))

    def action_command_palette(self) -> None:
        """Open the palette, but only over the main screen: its commands belong to the main screen, and a
        dialog beneath the palette could not close.
        """
        if self.screen is self.main and not self.main.desk.busy:
            self.push_screen(Palette(id="--command-palette"))

    def _does(self, action: str) -> Callable[[], object]:
        return lambda: self.main.call_later(self.main.act, action)

    def _wears(self, word: str) -> Callable[[], None]:
        def wear() -> None:
            self.theme = choose(os.environ, self.console.color_system, word).name
            self.settings = replace(self.settings, theme=word)

        return wear

    def notify(
        self,
        message: str,
        *,
        title: str = "",
        severity: SeverityLevel = "information",
        timeout: float | None = None,
        markup: bool = False,
    ) -> None:
        """Show a message and keep it in the notices. Names chosen by others are shown verbatim, never as
        markup: widgets pass ``markup=True`` without being asked to.
        """
        shown = f"{title}: {message}" if title else message
        seconds = self.NOTIFICATION_TIMEOUT if timeout is None else timeout
        toast = Notification(shown, "", severity, seconds, markup=False)
        # Answers to keys do not pile up, and a burst of news does not cover the screen.
        lasting = [one for one in self._shown if one.severity != "information" and not one.has_expired]
        kept = lasting[max(0, len(lasting) - MOST_SHOWN + 1) :]
        for one in self._shown:
            if one not in kept:
                one.timeout = 0
        for place in self.screen.query("ToastHolder"):
            # Textual (8.2.8) leaves the places of messages that expired as another one came: each would keep
            # a widget and its task for good, and take room.
            if not any((place.id or "").endswith(one.identity) for one in kept):
                place.remove()
        self._shown = [*kept, toast]
        self.post_message(Notify(toast))
        self._first.desk.noticed(title, message, serious=severity != "information")

    # Copies

    def screen_text(self) -> str:
        """What is on the screen, as text."""
        shown = self.main if isinstance(self.screen, Palette) else self.screen
        lines = (strip.text.rstrip() for strip in shown._compositor.render_strips())
        return "\n".join(lines).rstrip() + "\n"

    def on_text_selected(self) -> None:
        """The mouse button went up after a selection: copy it, as terminals do."""
        self._copy_selection()

    def on_click(self, event: events.Click) -> None:
        if event.chain == 2:  # paragraph selection happens after this message
            self.call_later(self._copy_selection)

    def _copy_selection(self) -> None:
        text = self.screen.get_selected_text() if self.screen.selections else ""
        if text and text.strip():
            lines = text.count("\n") + 1
            self.copy(text, "the selection" if lines == 1 else f"{lines} lines")

    def action_copy_screen(self) -> None:
        self.copy(self.screen_text(), "the screen")

    def copy(self, text: str, what: str) -> None:
        """Put a text on the user's clipboard through the terminal (OSC 52), and say so."""
        self.copy_to_clipboard(text)
        needs = "the terminal must allow OSC 52"
        if "TMUX" in os.environ:
            needs = "tmux must allow it: set -s set-clipboard on"
        self.notify(f"Copied {what} ({needs})", timeout=4)

    def _saves(self, *, svg: bool) -> Callable[[], None]:
        return lambda: self.save_screen(svg=svg)

    def save_screen(self, *, svg: bool) -> None:
        """Write the screen to a new file."""
        text = self.export_screenshot(title="xdptui") if svg else self.screen_text()
        name = time.strftime(f"xdptui-%Y%m%d-%H%M%S.{'svg' if svg else 'txt'}")
        try:
            path = state_file(os.environ, name)
            with open(path, "x", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            self.notify(f"{error.filename}: {error.strerror}", title="Not saved", severity="error")
        else:
            self.notify(str(path), title="Saved the screen", timeout=8)

    async def action_quit(self) -> None:
        """Leave a replay that covers the first screen. Otherwise quit, asking first if that would lose a
        candidate or if a change waits to be confirmed.
        """
        if self.main is not self._first:
            if self.screen is self.main:
                self.pop_screen()
            return
        self.main.desk.begin(self._quit_flow())

    def on_main_screen_elsewhere(self, message: MainScreen.Elsewhere) -> None:
        """Leaving for another namespace asks the same questions as quitting."""
        desk = self.main.desk
        if desk.busy:  # the flow that sent this is about to finish
            self.call_later(self.on_main_screen_elsewhere, message)
        else:
            desk.begin(self._quit_flow(message))

    def on_mount(self) -> None:
        # On a signal, restore the terminal before exiting. Handlers can only be set in the main thread.
        with contextlib.suppress(RuntimeError, ValueError):
            loop = asyncio.get_running_loop()
            for signum in ENDINGS:
                loop.add_signal_handler(signum, self._told_to_end, 128 + signum)

    def _told_to_end(self, code: int) -> None:
        """Exit; force it if that takes too long, as the terminal may be gone and accept no output."""
        self.left_waiting = self._first.session.waiting
        self.exit(None, code)
        if self._last_resort is None:
            self._last_resort = threading.Timer(ENDING_SECONDS, os._exit, (code,))
            self._last_resort.daemon = True
            self._last_resort.start()

    def ended(self) -> None:
        """Called after the program ended by itself."""
        if self._last_resort is not None:
            self._last_resort.cancel()

    def on_unmount(self) -> None:
        with contextlib.suppress(RuntimeError, ValueError):
            for signum in ENDINGS:
                asyncio.get_running_loop().remove_signal_handler(signum)

    async def _quit_flow(self, elsewhere: MainScreen.Elsewhere | None = None) -> None:
        heading, yes = ("Quit", "Quit") if elsewhere is None else ("Go to another network namespace", "Go")
        unsaved = self.main.session.unsaved
        if unsaved:
            names = ", ".join(running.interface.name for running in unsaved)
            changes = sum(self.main.session.edits[r.interface.ifindex].changes for r in unsaved)
            text = (
                f"{changes} change{'s' * (changes != 1)} not applied: {names}.",
                "What runs is not affected, but the candidate will be lost.",
            )
            if not await self.push_screen_wait(Confirm(heading, text, yes, "Stay")):
                return
        if self.main.session.waiting:
            answer = await self.push_screen_wait(WaitingDialog(heading, self._what_waits))
            if answer is None:
                return
            if answer == "leave":
                self.left_waiting = self.main.session.waiting
            elif not await self.main.confirm.settle_all(keep=answer == "keep"):
                return
        self.elsewhere = elsewhere
        self.exit()

    def _what_waits(self) -> tuple[str, ...]:
        return tuple(
            f"{running.interface.name}: a change is pending ({pending.left})."
            for running in self.main.session.waiting
            if (pending := countdown(running)) is not None
        )

    def _fatal_error(self) -> None:
        # Never print a traceback over the operator's terminal: run() says what happened and how to see more.
        if debugging():
            super()._fatal_error()
        else:
            self._close_messages_no_wait()

    def settings_now(self) -> Settings:
        """The settings, including what was changed on the screen."""
        return self._first.settings_now(self.settings)

    @property
    def unexpected(self) -> Exception | None:
        """The unexpected exception that ended the program, if any."""
        return self._exception


def run(
    netns: str | None = None,
    interface: str | None = None,
    replay: Replay | None = None,
    *,
    mouse: bool = True,
) -> int:
    """Run the terminal program until the user quits. ``mouse`` False leaves the mouse to the terminal.

    ``netns`` is the name of a network namespace (None: our own), ``interface`` the one to select first;
    ``replay`` is shown instead of this machine.

    Returns exit code 0, 1 after an internal error, or 128 plus the signal's number.
    """
    path = settings_path(os.environ)
    settings, trouble = load_settings(path)
    while True:
        app = XdpTui(netns, interface, replay, settings)
        for text in trouble:
            app.call_later(app.notify, text, title="A setting is not used", severity="warning", timeout=10)
        app.run(mouse=mouse and settings.mouse)
        app.ended()
        tell_waiting(app.left_waiting)
        if path is not None and replay is None:
            settings = _kept(path, settings, app.settings_now())
        error = app.unexpected
        if error is not None:
            print(
                f"xdptui: ended by an internal error ({type(error).__name__}: {error}).\n"
                f"The interfaces run what they ran before. {DEBUG}=1 shows where; please report it.",
                file=sys.stderr,
            )
            return 1
        if app.elsewhere is None:
            return app.return_code or 0
        netns, interface, trouble = app.elsewhere.netns, None, ()


def _kept(path: Path, before: Settings, after: Settings) -> Settings:
    """The settings from now on, written to the file if they changed."""
    if after != before:
        try:
            save_settings(path, before, after)
        except OSError as failed:
            print(f"xdptui: the settings can't be saved: {path}: {failed.strerror}", file=sys.stderr)
    return after


def tell_waiting(left: tuple[Running, ...]) -> None:
    """Say how to decide pending changes, now that the keys for it are gone."""
    if not left:
        return
    from xdpchain.observe.pending_pins import boot_clock
    from xdptui.render.pending_text import pending_line

    for running in left:
        if running.pending is not None:
            line = pending_line(running.pending, running, boot_clock())
            print(f"{printable(str(running.interface))}: {line}", file=sys.stderr)
