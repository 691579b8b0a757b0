# SPDX-License-Identifier: Apache-2.0
"""Compare what an interface counted with what its chain counted. Pure.

The counters can't be read at the same instant, so the device is read before and after the chain: the chain's
counts must lie between the two. If nothing came in meanwhile they are equal and the account is exact; while
packets flow, each line has bounds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from xdpchain.frozen import frozen
from xdpchain.model.actions import Action
from xdpchain.model.counts import SlotCounts

from .drivers import OTHER, Driver, DriverFailure, Group

__all__ = ["Account", "AccountReading", "DeviceCounts", "Line", "balance", "device_counts"]

BATCH = 64
"""Packets per queue that a driver may have processed but not counted yet (NAPI_POLL_WEIGHT in the kernel's
netdevice.h): drivers count at the end of a poll, chains at each packet.
"""
RECEIVED, MET = "received", "met XDP"
REST = {
    Action.PASS: "passed on",
    Action.DROP: "dropped",
    Action.TX: "sent back",
    Action.REDIRECT: "redirected",
    Action.ABORTED: "aborted",
    OTHER: "no action",
}
"""Names of verdicts that a driver does not count."""


@frozen
class DeviceCounts:
    """A device's counters: the interface's own, and its driver's under our names (None: it has none).
    ``groups`` are in the order of `Driver.groups`.
    """

    rx_packets: int
    rx_dropped: int
    rx_errors: int
    tx_packets: int
    received: int | None = None
    groups: tuple[int | None, ...] = ()
    sent: int | None = None
    unsent: int | None = None


@frozen
class AccountReading:
    """All counters at about the same time. ``slots`` are by key; ``failures``: from the tracepoints, None if
    not listened to.
    """

    before: DeviceCounts
    verdict: SlotCounts
    slots: Mapping[str, SlotCounts]
    failures: Mapping[DriverFailure, int] | None
    after: DeviceCounts


@frozen
class Line:
    """``device`` and ``chain`` are packets since the account started; ``device`` is None if it does not count
    them. ``expected``: what the device should have counted, the chain's number adjusted for later failures.
    The device's count was between ``low`` and ``high`` when the chain was read. ``agree`` is None if there is
    nothing to compare.
    """

    what: str
    chain: int
    device: int | None = None
    expected: int = 0
    low: int | None = None
    high: int | None = None
    agree: bool | None = None
    note: str = ""

    @property
    def missing(self) -> int:
        """Packets certainly counted by the device but not the chain (negative: the reverse)."""
        if self.low is None or self.high is None:
            return 0
        return max(0, self.low - self.expected) or -max(0, self.expected - self.high)


@frozen
class Account:
    """``exact``: no counter changed while being read, at the start and now. The first of ``lines`` is what
    was received (with some drivers, the second is what reached the program); the chain's numbers of ``parts``
    add up to it.

    ``rx_dropped``: packets that the interface dropped before or after the program (by the kernel's
    definition, including unwanted ones); ``sent_for_others``: frames redirected there.
    """

    seconds: float
    exact: bool
    lines: tuple[Line, ...]
    outcomes: tuple[int, ...]
    failures: Mapping[DriverFailure, int] | None
    driver: str | None
    source: str
    remark: str
    rx_dropped: int = 0
    sent_for_others: int | None = None
    unsent_for_others: int | None = None
    tx_packets: int = 0

    @property
    def parts(self) -> tuple[Line, ...]:
        """The lines about what happened to packets."""
        return tuple(line for line in self.lines if line.what not in (RECEIVED, MET))

    @property
    def agrees(self) -> bool:
        """Whether no line disagrees."""
        return all(line.agree is not False for line in self.lines)

    @property
    def uncounted(self) -> int:
        """Packets that the interface received and the chain certainly did not count (negative: the chain
        counted packets that did not come in there, such as test runs).
        """
        return self.lines[0].missing if self.lines else 0


def device_counts(
    driver: Driver, statistics: Iterable[tuple[str, int]], rx: tuple[int, int, int], tx: int
) -> DeviceCounts:
    """A device's counters by our names. ``rx`` are the interface's rx_packets, rx_dropped and rx_errors."""
    listed = tuple(statistics)

    def total(*patterns: str) -> int | None:
        values = [
            value
            for name, value in listed
            if any(re.fullmatch(pattern, name) for pattern in patterns if pattern)
        ]
        return sum(values) if values else None

    return DeviceCounts(
        *rx,
        tx,
        total(driver.received),
        tuple(total(*group.counters) for group in driver.groups),
        total(driver.sent),
        total(driver.unsent),
    )


def balance(
    driver: Driver,
    name: str | None,
    first: AccountReading,
    last: AccountReading,
    seconds: float,
    queues: int,
    native: bool,
) -> Account:
    """Compare two readings. ``native``: the driver runs the chain (in generic mode it is not involved)."""
    exact = first.before == first.after and last.before == last.after
    slack = 0 if exact else BATCH * max(1, queues)
    verdict = last.verdict.since(first.verdict).packets
    failures = _since(first.failures, last.failures)

    def device(pick: str, place: int | None = None) -> tuple[int, int, int] | None:
        """(now, at least, at most) of a device counter."""
        values = []
        for counts in (first.before, first.after, last.before, last.after):
            value = getattr(counts, pick)
            if place is not None:
                value = value[place]
            if value is None:
                return None
            values.append(value)
        one, two, three, four = values
        return four - one, max(0, three - two - slack), four - one + slack

    def line(what: str, counted: tuple[int, int, int] | None, chain: int, due: int, note: str = "") -> Line:
        if counted is None:
            return Line(what, chain, expected=due, note=note)
        now, low, high = counted
        return Line(what, chain, now, due, low, high, low <= due <= high, note)

    total = sum(verdict)
    came = device("rx_packets") if driver.consumed_are_received or not native else None
    met = device("received") if native else None
    lines = [line(RECEIVED, came, total, total)]
    if met is not None:
        lines.append(line(MET, met, total, total))
    grouped: set[int] = set()
    for place, group in enumerate(driver.groups if native else ()):
        grouped |= set(group.codes)
        chain = sum(verdict[code] for code in group.codes)
        lines.append(line(group.what, device("groups", place), chain, *_due(group, chain, failures)))
    for code, what in REST.items():
        if code not in grouped:
            lines.append(Line(what, verdict[code], expected=verdict[code]))
    return Account(
        seconds,
        exact,
        tuple(lines),
        verdict,
        failures,
        name,
        driver.source if native else "",
        driver.remark if native else "generic mode: the driver is not involved in XDP",
        _moved(first, last, "rx_dropped"),
        _optional(first, last, "sent"),
        _optional(first, last, "unsent"),
        _moved(first, last, "tx_packets"),
    )


def _due(group: Group, chain: int, failures: Mapping[DriverFailure, int] | None) -> tuple[int, str]:
    """What a driver should have counted, and why it differs from the chain's count."""
    if failures is None:
        return chain, "failures are not listened to" if group.plus or group.minus else ""
    less = sum(failures.get(failure, 0) for failure in group.minus)
    more = sum(failures.get(failure, 0) for failure in group.plus)
    notes = [f"{less} of them failed"] if less else []
    notes += [f"the device adds {more} that failed"] if more else []
    return chain - less + more, ", ".join(notes)


def _moved(first: AccountReading, last: AccountReading, pick: str) -> int:
    return int(getattr(last.after, pick) - getattr(first.before, pick))


def _optional(first: AccountReading, last: AccountReading, pick: str) -> int | None:
    if getattr(last.after, pick) is None or getattr(first.before, pick) is None:
        return None
    return _moved(first, last, pick)


def _since(
    first: Mapping[DriverFailure, int] | None, last: Mapping[DriverFailure, int] | None
) -> Mapping[DriverFailure, int] | None:
    if first is None or last is None:
        return None
    return {failure: last.get(failure, 0) - first.get(failure, 0) for failure in DriverFailure}
