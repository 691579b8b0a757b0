# SPDX-License-Identifier: Apache-2.0
"""Packets that interfaces count as sent, for comparison with redirects."""

from __future__ import annotations

from collections.abc import Mapping

from xdpchain.errors import XdpChainError
from xdpchain.sys.netlink import Netlink

__all__ = ["Transmitted"]


class Transmitted:
    """Packets that each interface of a namespace sent since this was created, by its own counters.

    These include everything that it sends. Whether they include XDP frames depends on the driver (veth's do).
    """

    def __init__(self, netns: str | None = None) -> None:
        """Raises NetnsError, PermissionDenied, KernelRefused."""
        self._netlink = Netlink(netns)
        try:
            self._start = self._sent()
        except BaseException:
            self._netlink.close()
            raise

    def read(self) -> Mapping[int, int]:
        """Packets by ifindex. New interfaces count from their creation; empty if it can't be read."""
        try:
            now = self._sent()
        except XdpChainError:
            return {}
        # Less than before: another interface has this ifindex now.
        return {
            index: sent - start if sent >= (start := self._start.get(index, 0)) else sent
            for index, sent in now.items()
        }

    def _sent(self) -> dict[int, int]:
        return {ifindex: stats.tx_packets for ifindex, stats in self._netlink.stats().items()}

    def close(self) -> None:
        self._netlink.close()
