# SPDX-License-Identifier: Apache-2.0
"""A packet with a name. Pure."""

from __future__ import annotations

from xdpchain.frozen import frozen

__all__ = ["SHORTEST", "Packet"]

SHORTEST = 14
"""Shortest test packet in bytes that the kernel accepts, on any device: an Ethernet header."""


@frozen
class Packet:
    """A packet as an XDP program sees it: an Ethernet frame without FCS, or an IP packet on devices without
    such headers (`link_layer`). ``own``: it belongs to the operator's ssh connection. ``length`` is the
    length on the wire if a capture kept less.
    """

    name: str
    data: bytes
    own: bool = False
    length: int | None = None

    @property
    def cut(self) -> bool:
        """Whether it is truncated."""
        return self.length is not None and self.length > len(self.data)
