# SPDX-License-Identifier: Apache-2.0
"""The pages of the events screen: what each keeps open while it is shown, and what it reads."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from xdpchain.closing import Closing
from xdpchain.errors import NotFound
from xdpchain.model.running import Running
from xdptui.words.packet_events import packet_event_lines

__all__ = ["PAGES", "Page", "Render", "open_page"]

Render: TypeAlias = Callable[[int], list[list[tuple[str, str]]]]
"""Turns a reading into lines of a given width: for each, a list of texts with their styles."""

EVENTS, ACCOUNT, TIME, LOGS = "events", "account", "time", "logs"
PAGES = (EVENTS, ACCOUNT, TIME, LOGS)
LAST_EVENTS = 12
LAST_LOGS = 200
"""How many printed lines are kept."""
SEARCH = 5
"""Readings until what runs is looked up again."""


class Page(Closing):
    """Owned by one thread; closing releases everything."""

    @abstractmethod
    def read(self) -> Render:
        """Read the page. Raises what the engine raises."""


def open_page(page: str, netns: str | None, running: Running | None, ended: Callable[[], bool]) -> Page:
    """Open what a page needs, until ``ended`` returns True. Raises what the engine raises."""
    return _PAGES[page](netns, running, ended)


class _Events(Page):
    def __init__(self, netns: str | None, running: Running | None, ended: Callable[[], bool]) -> None:
        from xdptui.workers.listening import Listening

        self._running = running
        self._listening = Listening(netns, running.interface.ifindex if running else None)
        self._readings = 0

    def read(self) -> Render:
        if self._running is not None and self._readings % SEARCH == 0:
            self._listening.follow([_again(self._running)])
        self._readings += 1
        found = self._listening.read()
        return lambda width: [
            [(f"for {found.seconds:.0f} s", "")],
            *packet_event_lines(found, width, LAST_EVENTS),
        ]

    def close(self) -> None:
        self._listening.close()


class _Account(Page):
    def __init__(self, netns: str | None, running: Running | None, ended: Callable[[], bool]) -> None:
        from xdpchain.observe.account import Accounting

        self._running = _one(running)
        self._accounting = Accounting(self._running)

    def read(self) -> Render:
        from xdptui.words.account_words import account_lines  # late: a replay runs where there is no BPF

        self._accounting.follow(_again(self._running))
        account, deaf = self._accounting.read(), self._accounting.deaf
        return lambda _: [[(f"for {account.seconds:.0f} s", "")], *account_lines(account, deaf)]

    def close(self) -> None:
        self._accounting.close()


class _Time(Page):
    """The first reading covers the whole chain only; then the slots are timed, which takes a moment."""

    def __init__(self, netns: str | None, running: Running | None, ended: Callable[[], bool]) -> None:
        from xdptui.workers.timing import Timing

        self._timing = Timing(_one(running), ended)

    def read(self) -> Render:
        from xdptui.words.time_words import time_lines

        found = self._timing.read()
        return lambda width: time_lines(found, width)

    def close(self) -> None:
        self._timing.close()


class _Logs(Page):
    """What programs print, newest first."""

    def __init__(self, netns: str | None, running: Running | None, ended: Callable[[], bool]) -> None:
        from xdpchain.observe.logs import Logs

        self._running = _one(running)
        self._logs = Logs()
        self._lines: deque[str] = deque(maxlen=LAST_LOGS)
        self._readings = 0

    def read(self) -> Render:
        from xdptui.words.log_words import said_text

        if self._readings % SEARCH == 0:
            self._logs.follow(_again(self._running))
        self._readings += 1
        self._lines.extendleft(map(said_text, self._logs.read()))
        told = "what programs print, newest first" if self._lines else "nothing printed yet"
        read = (
            f"bpf_printk only: {self._logs.no_streams}"
            if self._logs.no_streams
            else "bpf_printk, BPF streams"
        )
        lines = [[(line, "")] for line in self._lines]
        return lambda _: [[(f"{told} ({read})", "")], *lines]

    def close(self) -> None:
        self._logs.close()


def _one(running: Running | None) -> Running:
    if running is None:
        raise NotFound("This page shows one interface", "none is selected", "Select one")
    return running


def _again(running: Running) -> Running:
    """What runs there now."""
    from xdpchain.observe.discover import look

    return look(running.interface.name, running.interface.netns)


_PAGES: dict[str, Callable[[str | None, Running | None, Callable[[], bool]], Page]] = {
    EVENTS: _Events,
    ACCOUNT: _Account,
    TIME: _Time,
    LOGS: _Logs,
}
