# SPDX-License-Identifier: Apache-2.0
"""Whether an interface's own counters and its chain's agree, and where packets went that nobody counted.

`accounting` takes the readings, `balance` compares them, `drivers` is what drivers count and where that is
written.
"""

from __future__ import annotations

from .accounting import Accounting
from .balance import Account, Line
from .drivers import DRIVERS, Driver, DriverFailure, Group, driver_of

__all__ = ["DRIVERS", "Account", "Accounting", "Driver", "DriverFailure", "Group", "Line", "driver_of"]
