# SPDX-License-Identifier: Apache-2.0
"""The thread that follows packets for the follow screen: one following after the other, each told to end
before the next begins.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from textual.message import Message

from xdpchain.errors import RaceLost
from xdpchain.follow.followed import Followed
from xdpchain.model.running import Running

__all__ = ["Began", "Ended", "FollowMessage", "Followings", "Packets", "Progress"]

COUNT = 100
"""Packets of one following: enough to look at, and an end by itself."""
POLL = 0.05
TELL_EVERY = 0.5


class FollowMessage(Message):
    """What is said of the following with this number."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class Began(FollowMessage):
    """The chain records now; ``remark`` is what to know of the filter."""

    def __init__(self, number: int, expression: str, remark: str) -> None:
        super().__init__(number)
        self.expression, self.remark = expression, remark


class Packets(FollowMessage):
    """Packets came."""

    def __init__(self, number: int, found: list[Followed]) -> None:
        super().__init__(number)
        self.found = found


class Progress(FollowMessage):
    """How many packets the filter looked at, and how many of those followed were lost."""

    def __init__(self, number: int, looked_at: int, lost: int) -> None:
        super().__init__(number)
        self.looked_at, self.lost = looked_at, lost


class Ended(FollowMessage):
    """The chain is as it was before; ``why`` in words (empty: it was told to), or what failed."""

    def __init__(self, number: int, why: str, error: Exception | None = None) -> None:
        super().__init__(number)
        self.why, self.error = why, error


class Followings:
    """Begins and ends following on one interface. ``number`` is that of the last one; what comes of those
    before is no news any more.
    """

    def __init__(self, running: Running, post: Callable[[Message], object]) -> None:
        self._running, self._post = running, post
        self._one_at_a_time = threading.Lock()
        self._stop = threading.Event()
        self.number = 0

    def begin(self, expression: str) -> Callable[[], None]:
        """Work for a thread: follow what matches, after what went before has ended."""
        self.end()
        stop = self._stop = threading.Event()
        self.number += 1
        number = self.number

        def work() -> None:
            with self._one_at_a_time:
                try:
                    why = self._follow(number, expression, stop)
                except Exception as error:  # shown to the user, in words
                    self._post(Ended(number, "", error))
                else:
                    self._post(Ended(number, why))

        return work

    def end(self) -> None:
        """End the following that goes on, soon."""
        self._stop.set()

    def _follow(self, number: int, expression: str, stop: threading.Event) -> str:
        from xdpchain.follow import Follower, follow
        from xdpchain.observe.discover import look

        def tell(follower: Follower) -> None:
            self._post(Progress(number, follower.tally().looked_at, follower.lost))

        if stop.is_set():
            return ""
        where = self._running.interface
        with follow(look(where.name, where.netns), expression, count=COUNT) as follower:
            self._post(Began(number, expression, follower.remark))
            told = 0.0
            while not stop.wait(POLL):
                if found := follower.poll():
                    self._post(Packets(number, found))
                if follower.ended:
                    break
                if time.monotonic() - told > TELL_EVERY:
                    told = time.monotonic()
                    tell(follower)
            ended, done = follower.ended, follower.followed == COUNT
            tell(follower)
        if ended and not done:
            raise RaceLost("following ended", ended)
        return f"{COUNT} packets came" if done else ""
