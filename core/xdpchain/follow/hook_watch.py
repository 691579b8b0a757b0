# SPDX-License-Identifier: Apache-2.0
"""Check repeatedly whether a program still runs on an interface."""

from __future__ import annotations

import time

from xdpchain.errors import NotFound, XdpChainError
from xdpchain.model.interface import Interface, Mode
from xdpchain.observe.discover import look
from xdpchain.observe.hook import author_of
from xdpchain.sys.netlink import Netlink

__all__ = ["HookWatch"]

LOOK_EVERY = 0.5
"""Seconds between checks."""


class HookWatch:
    """Watches an interface's hook for any program other than the one with the ID ``program``."""

    def __init__(self, interface: Interface, mode: Mode, program: int) -> None:
        self._interface, self._mode, self._program = interface, mode, program
        self._looked = time.monotonic()

    def why_not(self) -> str:
        """Who replaced it, and with what; empty while it runs, or if it was just checked."""
        if time.monotonic() - self._looked < LOOK_EVERY:
            return ""
        self._looked = time.monotonic()
        where = self._interface
        try:
            with Netlink(where.netns) as netlink:
                there = netlink.link(where.ifindex).program(self._mode.value)
            if there == self._program:
                return ""
            if there is None:
                return f"the program was removed from {where}"
            return author_of(look(where.name, where.netns))
        except NotFound:
            return f"{where} is gone"
        except XdpChainError as error:
            return str(error)
