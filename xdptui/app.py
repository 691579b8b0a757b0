# SPDX-License-Identifier: Apache-2.0
"""The terminal program."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, ClassVar

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen

from xdptui.main.screen import MainScreen
from xdptui.outcome import DEBUG, debugging
from xdptui.screens.confirm import Confirm
from xdptui.screens.palette import Palette
from xdptui.theme import DARK, LIGHT, SIXTEEN, VARIABLES, choose
from xdptui.view.keys import KEYS

if TYPE_CHECKING:
    from xdptui.workers.replay import Replay

__all__ = ["XdpTui", "run"]

ENDINGS = (signal.SIGTERM, signal.SIGHUP)
ENDING_SECONDS = 15.0


class XdpTui(App[None]):
    """One network namespace, one main screen."""

    TITLE = "xdptui"
    CSS_PATH = "theme.tcss"
    ENABLE_COMMAND_PALETTE = True
    COMMAND_PALETTE_BINDING = "ctrl+p"
    ALLOW_SELECT = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q,ctrl+q,ctrl+c", "quit", "Quit", show=False, priority=False),
    ]

    def __init__(
        self, netns: str | None = None, interface: str | None = None, replay: Replay | None = None
    ) -> None:
        environ = dict(os.environ)  # before Textual takes NO_COLOR out of it
        # Told at once that colours are the terminal's own, Textual strips them; else it turns them to greys.
        super().__init__(ansi_color=True if "NO_COLOR" in environ else None)
        for theme in (DARK, LIGHT, SIXTEEN):
            self.register_theme(theme)
        self.theme = choose(environ, self.console.color_system).name
        if environ.get("SSH_CONNECTION"):
            self.animation_level = "none"
        self._last_resort: threading.Timer | None = None
        self.main = MainScreen(netns, interface, replay)

    def get_default_screen(self) -> Screen[None]:
        return self.main

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return VARIABLES

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        for key in KEYS:
            if key.action in ("quit", "command_palette") or key.action.startswith(("cursor", "pick")):
                continue
            yield SystemCommand(
                key.text[0].upper() + key.text[1:], f"key {key.label}", self._does(key.action)
            )
        for theme in (DARK, LIGHT, SIXTEEN):
            yield SystemCommand(f"Theme {theme.name}", "change the colours", self._wears(theme.name))
        yield SystemCommand("Quit", "key q", self._does("quit"))

    def action_command_palette(self) -> None:
        """The palette, over the main screen only: its commands are the main screen's, and a dialog that it
        covered could not go when it is done.
        """
        if self.screen is self.main and not self.main.desk.busy:
            self.push_screen(Palette(id="--command-palette"))

    def _does(self, action: str) -> Callable[[], object]:
        return lambda: self.main.call_later(self.main.act, action)

    def _wears(self, name: str) -> Callable[[], None]:
        def wear() -> None:
            self.theme = name

        return wear

    async def action_quit(self) -> None:
        """Quit; asks first if a candidate would be lost."""
        self.main.desk.begin(self._quit_flow())

    def on_mount(self) -> None:
        # Ended by a signal, the terminal is still given back as it was. Not possible outside the main thread.
        with contextlib.suppress(RuntimeError, ValueError):
            loop = asyncio.get_running_loop()
            for number in ENDINGS:
                loop.add_signal_handler(number, self._told_to_end, 128 + number)

    def _told_to_end(self, code: int) -> None:
        """Exit; without ceremony where that takes too long: the terminal may be gone, and take no text."""
        self.exit(None, code)
        if self._last_resort is None:
            self._last_resort = threading.Timer(ENDING_SECONDS, os._exit, (code,))
            self._last_resort.daemon = True
            self._last_resort.start()

    def ended(self) -> None:
        """It came to an end by itself."""
        if self._last_resort is not None:
            self._last_resort.cancel()

    def on_unmount(self) -> None:
        with contextlib.suppress(RuntimeError, ValueError):
            for number in ENDINGS:
                asyncio.get_running_loop().remove_signal_handler(number)

    async def _quit_flow(self) -> None:
        unsaved = self.main.session.unsaved
        if unsaved:
            names = ", ".join(running.interface.name for running in unsaved)
            changes = sum(self.main.session.edits[r.interface.ifindex].changes for r in unsaved)
            text = (
                f"{changes} change{'s' * (changes != 1)} not applied: {names}.",
                "What runs is not touched, but the candidate will be forgotten.",
            )
            if not await self.push_screen_wait(Confirm("Quit", text, "Quit", "Stay")):
                return
        self.exit()

    def _fatal_error(self) -> None:
        # Never a traceback over the operator's terminal: run() says what happened, and how to see more.
        if debugging():
            super()._fatal_error()
        else:
            self._close_messages_no_wait()

    @property
    def unexpected(self) -> Exception | None:
        """What ended the program although nothing should have."""
        return self._exception


def run(netns: str | None = None, interface: str | None = None, replay: Replay | None = None) -> int:
    """Run the terminal program until the user quits.

    The exit code is 0; 1 after an internal error; 128 and the signal's number after a signal.

    ``netns`` is the name of a network namespace (None: our own), ``interface`` the one to select at first;
    ``replay`` is looked at in place of this machine.
    """
    app = XdpTui(netns, interface, replay)
    app.run()
    app.ended()
    error = app.unexpected
    if error is not None:
        print(
            f"xdptui: ended by an internal error ({type(error).__name__}: {error}).\n"
            f"The interfaces run what they ran. {DEBUG}=1 shows where; please report it.",
            file=sys.stderr,
        )
        return 1
    return app.return_code or 0
