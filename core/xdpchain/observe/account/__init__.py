# SPDX-License-Identifier: Apache-2.0
"""Compare an interface's own counters with its chain's, and find uncounted packets.

`accounting` takes the readings, `balance` compares them, `drivers` lists what drivers count, with sources,
`queues` sorts that by RX queue.
"""

from __future__ import annotations

from .accounting import Accounting
from .balance import Account, Line
from .drivers import DRIVERS, Driver, DriverFailure, Group, driver_of
from .queues import QueueCounts, by_queue, read_queues

__all__ = [
    "DRIVERS",
    "Account",
    "Accounting",
    "Driver",
    "DriverFailure",
    "Group",
    "Line",
    "QueueCounts",
    "by_queue",
    "driver_of",
    "read_queues",
]
