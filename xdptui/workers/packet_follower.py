# SPDX-License-Identifier: Apache-2.0
"""The thread that follows packets for the follow screen: each following is told to end before the next
begins.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from textual.message import Message

from xdpchain.errors import RaceLost
from xdpchain.follow.followed import Followed
from xdpchain.model.running import Running
from xdptui.words.path_words import Paths, arrivals

__all__ = ["Began", "Ended", "FollowMessage", "Followings", "Packets", "PathsFound", "Progress"]

POLL = 0.05
TELL_EVERY = 0.5


class FollowMessage(Message):
    """A message about the following with this number."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class Began(FollowMessage):
    """The chain is recording; ``remark`` is a note on the filter."""

    def __init__(self, number: int, expression: str, remark: str) -> None:
        super().__init__(number)
        self.expression, self.remark = expression, remark


class Packets(FollowMessage):
    """Packets arrived."""

    def __init__(self, number: int, found: list[Followed]) -> None:
        super().__init__(number)
        self.found = found


class Progress(FollowMessage):
    """How many packets the filter examined, and how many followed packets were lost."""

    def __init__(self, number: int, looked_at: int, lost: int) -> None:
        super().__init__(number)
        self.looked_at, self.lost = looked_at, lost


class PathsFound(FollowMessage):
    """The lines that ran for a packet, by slot."""

    def __init__(self, number: int, packet: int, paths: Paths) -> None:
        super().__init__(number)
        self.packet, self.paths = packet, paths


class Ended(FollowMessage):
    """The chain is as it was before; ``why`` is the reason (empty: on request), or what failed."""

    def __init__(self, number: int, why: str, error: Exception | None = None) -> None:
        super().__init__(number)
        self.why, self.error = why, error


class Followings:
    """Begins and ends following on one interface. ``number`` identifies the latest; messages from earlier
    ones are outdated.
    """

    def __init__(self, running: Running, post: Callable[[Message], object]) -> None:
        self._running, self._post = running, post
        self._one_at_a_time = threading.Lock()
        self._stop = threading.Event()
        self._why = ""
        self.number = 0
        self.sifting = False
        """Whether few of the packets are wanted: then more of them are followed per second."""

    def begin(self, expression: str) -> Callable[[], None]:
        """Work for a thread: once the previous following has ended, follow matching packets."""
        self.end()
        self._why = ""
        stop = self._stop = threading.Event()
        self.number += 1
        number = self.number

        def work() -> None:
            with self._one_at_a_time:
                try:
                    why = self._follow(number, expression, stop)
                except Exception as error:  # shown to the user as text
                    self._post(Ended(number, "", error))
                else:
                    self._post(Ended(number, why))

        return work

    def paths_of(self, packet: Followed) -> Callable[[], None]:
        """Work for a thread: run a packet once more through what runs now."""
        number = self.number

        def work() -> None:
            from xdpchain.errors import XdpChainError
            from xdpchain.observe.discover import look
            from xdpchain.trial.slot_paths import paths_of_packet

            where = self._running.interface
            views = [view.head for _, view in arrivals(packet)]
            paths: Paths
            try:
                paths = paths_of_packet(look(where.name, where.netns), views)
            except XdpChainError as error:
                paths = dict.fromkeys(range(len(views)), error.why or error.what)
            self._post(PathsFound(number, packet.number, paths))

        return work

    def end(self, why: str = "") -> None:
        """End the current following soon; ``why`` is told."""
        self._why = self._why or why
        self._stop.set()

    def _follow(self, number: int, expression: str, stop: threading.Event) -> str:
        from xdpchain.follow import DEFAULT_RATE, SIFTED_RATE, Follower, follow
        from xdpchain.observe.discover import look

        def tell(follower: Follower) -> None:
            self._post(Progress(number, follower.tally().looked_at, follower.lost))

        if stop.is_set():
            return ""
        where = self._running.interface
        with follow(look(where.name, where.netns), expression, count=None) as follower:
            self._post(Began(number, expression, follower.remark))
            told = 0.0
            while not stop.wait(POLL):
                follower.rate = SIFTED_RATE if self.sifting else DEFAULT_RATE
                if found := follower.poll():
                    self._post(Packets(number, found))
                if follower.ended:
                    break
                if time.monotonic() - told > TELL_EVERY:
                    told = time.monotonic()
                    tell(follower)
            ended = follower.ended
            tell(follower)
        if ended and not stop.is_set():
            raise RaceLost("following ended", ended)
        return self._why
