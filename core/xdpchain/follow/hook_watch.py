# SPDX-License-Identifier: Apache-2.0
"""Whether a program still runs on an interface, asked again and again."""

from __future__ import annotations

import time

from xdpchain.errors import NotFound, XdpChainError
from xdpchain.model.chain import Interface, Mode
from xdpchain.observe.discover import look
from xdpchain.observe.hook import author_of
from xdpchain.sys.netlink import Netlink

__all__ = ["HookWatch"]

LOOK_EVERY = 0.5
"""Seconds between two looks."""


class HookWatch:
    """Watches the hook of an interface for another program than the one with the id ``program``."""

    def __init__(self, interface: Interface, mode: Mode, program: int) -> None:
        self._interface, self._mode, self._program = interface, mode, program
        self._looked = time.monotonic()

    def why_not(self) -> str:
        """Who put what in its place; empty while it runs, or was looked at a moment ago."""
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
