# SPDX-License-Identifier: Apache-2.0
"""Compare an interface's own counters with its chain's, and find uncounted packets.

`accounting` takes the readings, `balance` compares them, `drivers` lists what drivers count, with sources.
"""

from __future__ import annotations

from .accounting import Accounting
from .balance import Account, Line
from .drivers import DRIVERS, Driver, DriverFailure, Group, driver_of

__all__ = ["DRIVERS", "Account", "Accounting", "Driver", "DriverFailure", "Group", "Line", "driver_of"]
