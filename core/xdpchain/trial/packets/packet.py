# SPDX-License-Identifier: Apache-2.0
"""A packet with a name. Pure."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SHORTEST", "Packet"]

SHORTEST = 14
"""Bytes of an Ethernet header, the least that the kernel tries, on whatever device."""


@dataclass(frozen=True, slots=True)
class Packet:
    """What an XDP program finds of a packet: an Ethernet frame without the frame check sequence, or on
    devices without such a header an IP packet (`link_layer`). ``own``: it is one of the
    operator's own ssh connection. ``length`` is the frame's length on the wire where a capture kept less.
    """

    name: str
    data: bytes
    own: bool = False
    length: int | None = None

    @property
    def cut(self) -> bool:
        """Whether a part of it is missing."""
        return self.length is not None and self.length > len(self.data)
