# SPDX-License-Identifier: Apache-2.0
"""The linkages, and what the rest of the engine needs to know of each.

Outside `xdpchain.linkage`, the engine never asks which linkage it is, only for one of these facts.
"""

from __future__ import annotations

from enum import StrEnum

from xdpchain.frozen import frozen

__all__ = ["DISPATCHER_SLOTS", "MAX_SLOTS", "UNLINKED", "Linkage", "LinkageFacts"]

MAX_SLOTS = 32
"""Most slots of any chain. In a tail-call chain each way to a slot and to the chain's end is a tail call, and
the kernel stops at 33 (MAX_TAIL_CALL_CNT).
"""

DISPATCHER_SLOTS = 10
"""Slots of libxdp's dispatcher, the protocol's MAX_DISPATCHER_ACTIONS."""


@frozen
class LinkageFacts:
    """What a linkage can do, and how its chains are built."""

    most_slots: int
    """Most slots of a chain."""

    libxdp: bool = False
    """Its dispatcher follows libxdp's protocol, in one of its versions, so libxdp's tools edit the chain."""

    routes: bool = False
    """A return code may lead to any later slot."""

    counts_chain: bool = False
    """The chain counts by itself what each slot and the whole returned; ``Chain.counters`` switches this."""

    by_component: bool = False
    """Components run as programs of their own: each holds its policy, counters and program arrays itself."""

    one_program: bool = False
    """All slots are functions of one program."""

    through_arrays: bool = False
    """Slots lead to each other through program arrays, where actions and routes change without a new program.
    The first slot's program is on the hook.
    """

    records_inside: bool = False
    """To follow packets, the same chain is linked as one program that records, and swapped in."""

    tried: bool = False
    """Trials link chains this way; those of other linkages are tried under static linkage."""


class Linkage(StrEnum):
    """How the slots become one program."""

    STATIC = "static"
    FREPLACE = "freplace"
    TAILCALL = "tailcall"

    @property
    def facts(self) -> LinkageFacts:
        return _FACTS[self]


_FACTS = {
    Linkage.STATIC: LinkageFacts(
        most_slots=MAX_SLOTS,
        routes=True,
        counts_chain=True,
        one_program=True,
        records_inside=True,
        tried=True,
    ),
    Linkage.FREPLACE: LinkageFacts(
        most_slots=DISPATCHER_SLOTS,
        libxdp=True,
        by_component=True,
    ),
    Linkage.TAILCALL: LinkageFacts(
        most_slots=MAX_SLOTS,
        routes=True,
        counts_chain=True,
        through_arrays=True,
        records_inside=True,
        tried=True,
    ),
}

UNLINKED = LinkageFacts(most_slots=0)
"""Of what is not a chain."""
