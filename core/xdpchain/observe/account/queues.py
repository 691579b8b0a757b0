# SPDX-License-Identifier: Apache-2.0
"""What happened to packets by RX queue, as counted by the driver, which adds no cost per packet."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

from xdpchain.errors import Unsupported
from xdpchain.frozen import frozen
from xdpchain.model.interface import Mode
from xdpchain.model.running import Running
from xdpchain.sys.netlink import Netlink

from .drivers import Driver, driver_of

__all__ = ["RECEIVED", "QueueCounts", "by_queue", "read_queues"]

RECEIVED = "received"


@frozen
class QueueCounts:
    """One RX queue: packets since the device was set up, by what happened to them (`RECEIVED`, or a group's
    ``what``). What a driver does not count is missing.
    """

    queue: int
    packets: Mapping[str, int]


def by_queue(driver: Driver, statistics: Iterable[tuple[str, int]]) -> tuple[QueueCounts, ...]:
    """Sort a driver's counters by queue, which is the first number in their names. Pure."""
    wanted = [(RECEIVED, driver.received)]
    wanted += [(group.what, pattern) for group in driver.groups for pattern in group.counters]
    found: dict[int, dict[str, int]] = defaultdict(dict)
    for name, value in statistics:
        digits = re.search(r"\d+", name)
        for what, pattern in wanted:
            if digits and pattern and re.fullmatch(pattern, name):
                packets = found[int(digits[0])]
                packets[what] = packets.get(what, 0) + value
    order = dict(wanted)
    return tuple(
        QueueCounts(queue, {what: packets[what] for what in order if what in packets})
        for queue, packets in sorted(found.items())
    )


def read_queues(running: Running) -> tuple[QueueCounts, ...]:
    """An interface's current XDP counters from its driver. Raises Unsupported if there are none, NotFound if
    the interface is gone.
    """
    interface = running.interface
    what = f"packets on {interface} are not counted by RX queue"
    if running.mode is not None and running.mode is not Mode.NATIVE:
        raise Unsupported(what, f"in {running.mode} mode the driver does not run the chain")
    with Netlink(interface.netns) as netlink:
        name = netlink.driver(interface.ifindex)
        found = by_queue(driver_of(name), netlink.statistics(interface.ifindex))
    if not found:
        raise Unsupported(
            what, f"the driver ({name or 'none'}) has no per-queue XDP counters that xdptui knows"
        )
    return found
