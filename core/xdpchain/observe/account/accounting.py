# SPDX-License-Identifier: Apache-2.0
"""Take an account: counters of the interface, its driver and the chain, and tracepoint reports."""

from __future__ import annotations

import contextlib
import time

from xdpchain.advice import Do, advise
from xdpchain.closing import Closing
from xdpchain.errors import NotFound, RaceLost, Unsupported, XdpChainError
from xdpchain.model.actions import Action
from xdpchain.model.interface import Mode
from xdpchain.model.running import Running
from xdpchain.observe.counters import open_counters
from xdpchain.observe.tracepoints import Listener, Scope, Tracepoint, listen
from xdpchain.sys import netns
from xdpchain.sys.netlink import Netlink

from .balance import Account, AccountReading, DeviceCounts, balance, device_counts
from .drivers import DriverFailure, driver_of

__all__ = ["Accounting"]

TRIES = 5
"""Most attempts at a reading during which no counter changed; while packets flow, some ms apart."""


class Accounting(Closing):
    """An account of an interface from now on, until closed.

    A chain without counters is traced meanwhile. Failures are listened to if the kernel allows it; otherwise
    lines that depend on them may disagree, and say so. Not thread-safe.
    """

    def __init__(self, running: Running) -> None:
        """Start now. Raises NotFound (nothing runs there, or it is gone), and what `open_counters` raises."""
        self._running = running
        interface = running.interface
        if not running.hooks:
            raise NotFound(
                f"can't compare {interface}'s counters with its chain's",
                "no XDP program runs there",
                advise(Do.LOAD, on=interface),
            )
        with contextlib.ExitStack() as held:
            self._netlink = Netlink(interface.netns)
            held.callback(self._netlink.close)
            link = self._netlink.link(interface.ifindex)
            self._queues = link.num_rx_queues
            self._driver_name = self._netlink.driver(interface.ifindex) or link.kind
            self._driver = driver_of(self._driver_name)
            self._home = netns.inode(interface.netns)
            reader = open_counters(running)
            if reader is None:
                raise Unsupported(
                    f"can't compare {interface}'s counters with its chain's",
                    running.note or "its chain counts nothing",
                    advise(Do.SWITCH_COUNTERS_ON, on=interface) if running.chain else "",
                )
            self._reader = reader
            held.callback(lambda: self._reader.close())
            self._listener: Listener | None = None
            self.deaf = ""
            """Why failures are not listened to, "" if they are."""
            try:
                self._listener = held.enter_context(listen(Scope.FAILURES, self._home))
            except XdpChainError as error:
                self.deaf = str(error)
            self._first = self._read()
            self._begun = time.monotonic()
            self._held = held.pop_all()

    def read(self) -> Account:
        """The account so far. Raises RaceLost if the program was replaced by one with other counters,
        NotFound if the interface is gone.
        """
        last = self._read()
        return balance(
            self._driver,
            self._driver_name,
            self._first,
            last,
            time.monotonic() - self._begun,
            self._queues,
            self._running.mode is Mode.NATIVE,
        )

    def follow(self, running: Running) -> None:
        """Continue with what runs now, after an edit. Raises RaceLost if its counters are different ones:
        start a new account then.
        """
        if (running.identity, running.counting) == (self._running.identity, self._running.counting):
            return
        if running.counters_map is None or running.counters_map != self._running.counters_map:
            raise RaceLost(
                f"the account of {running.interface} ends here",
                "a different program runs there now, with its own counters",
                "Begin again",
            )
        reader = open_counters(running)
        assert reader is not None
        self._reader.close()
        self._reader, self._running = reader, running

    def _read(self) -> AccountReading:
        for _ in range(TRIES):
            before = self._device()
            sample = self._reader.read()
            failures = self._failures()
            after = self._device()
            if before == after:
                break
        if sample.verdict is None:
            what = f"can't compare {self._running.interface}'s counters with its chain's"
            raise Unsupported(what, sample.why or "what its chain returns is not counted")
        return AccountReading(before, sample.verdict, sample.slots, failures, after)

    def _device(self) -> DeviceCounts:
        index = self._running.interface.ifindex
        stats = self._netlink.link(index).stats
        return device_counts(
            self._driver,
            self._netlink.statistics(index),
            (stats.rx_packets, stats.rx_dropped, stats.rx_errors),
            stats.tx_packets,
        )

    def _failures(self) -> dict[DriverFailure, int] | None:
        if self._listener is None:
            return None
        found = dict.fromkeys(DriverFailure, 0)
        for row in self._listener.read().rows:
            place = row.place
            if (place.netns, place.ifindex) != (self._home, self._running.interface.ifindex):
                continue
            if place.kind is Tracepoint.REDIRECT_ERR:
                found[DriverFailure.REDIRECT] += row.tally.lost
            elif place.kind is Tracepoint.EXCEPTION and place.code == Action.TX:
                found[DriverFailure.TX] += row.tally.lost
        return found

    def close(self) -> None:
        self._held.close()
