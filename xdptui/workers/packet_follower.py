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
from xdpchain.model.actions import ActionSet
from xdpchain.model.running import Running
from xdptui.words.path_words import Paths, arrivals

__all__ = ["Began", "Ended", "FollowMessage", "Followings", "Packets", "Progress", "Replays"]

COUNT = 100
"""Packets per following: enough to look at, and it ends by itself."""
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
    """How many packets the filter examined, how many followed packets were lost, and how many had a verdict
    other than those requested.
    """

    def __init__(self, number: int, looked_at: int, lost: int, passed_over: int) -> None:
        super().__init__(number)
        self.looked_at, self.lost, self.passed_over = looked_at, lost, passed_over


class Replays(FollowMessage):
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
        self.number = 0

    def begin(self, expression: str, verdicts: ActionSet) -> Callable[[], None]:
        """Work for a thread: once the previous following has ended, follow matching packets with one of these
        verdicts (none: any).
        """
        self.end()
        stop = self._stop = threading.Event()
        self.number += 1
        number = self.number

        def work() -> None:
            with self._one_at_a_time:
                try:
                    why = self._follow(number, expression, verdicts, stop)
                except Exception as error:  # shown to the user as text
                    self._post(Ended(number, "", error))
                else:
                    self._post(Ended(number, why))

        return work

    def replay(self, packet: Followed) -> Callable[[], None]:
        """Work for a thread: replay a packet through what runs now."""
        number = self.number

        def work() -> None:
            from xdpchain.errors import XdpChainError
            from xdpchain.observe.discover import look
            from xdpchain.trial.replay import replay_packet

            where = self._running.interface
            views = [view.head for _, view in arrivals(packet)]
            paths: Paths
            try:
                paths = replay_packet(look(where.name, where.netns), views)
            except XdpChainError as error:
                paths = dict.fromkeys(range(len(views)), error.why or error.what)
            self._post(Replays(number, packet.number, paths))

        return work

    def end(self) -> None:
        """End the current following soon."""
        self._stop.set()

    def _follow(self, number: int, expression: str, verdicts: ActionSet, stop: threading.Event) -> str:
        from xdpchain.follow import DEFAULT_RATE, SIFTED_RATE, Follower, follow
        from xdpchain.observe.discover import look

        def tell(follower: Follower) -> None:
            looked_at = follower.tally().looked_at
            self._post(Progress(number, looked_at, follower.lost, follower.passed_over))

        if stop.is_set():
            return ""
        where = self._running.interface
        running, rate = look(where.name, where.netns), SIFTED_RATE if verdicts else DEFAULT_RATE
        with follow(running, expression, count=COUNT, rate=rate, verdicts=verdicts) as follower:
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
        return f"{COUNT} packets, the most shown at once" if done else ""
