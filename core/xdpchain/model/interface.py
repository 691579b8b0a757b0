# SPDX-License-Identifier: Apache-2.0
"""A network device, and the modes in which XDP programs run on one. Pure."""

from __future__ import annotations

from enum import StrEnum

from xdpchain.frozen import frozen

__all__ = ["Interface", "Mode", "WantedMode"]


class Mode(StrEnum):
    """Where the program runs: in the driver, in the network stack (generic), or on the NIC (offload)."""

    NATIVE = "native"
    GENERIC = "generic"
    OFFLOAD = "offload"


class WantedMode(StrEnum):
    """A requested mode: ``best`` is native if that works, else generic."""

    NATIVE = "native"
    GENERIC = "generic"
    BEST = "best"


@frozen
class Interface:
    """A network device in a network namespace; ``netns`` is its name, None for this process's own."""

    name: str
    ifindex: int
    netns: str | None = None

    def __str__(self) -> str:
        return f"{self.name} (netns {self.netns})" if self.netns else self.name
