# SPDX-License-Identifier: Apache-2.0
"""XDP counters of drivers, under common names. Pure data.

A counter is found by a regular expression over ethtool's names (matches are added up, one per queue). Drivers
differ in what they count where: a `Group` says which packets of a chain a driver's counters represent, by the
chain's verdicts and later failures (`DriverFailure`). The meaning of the names was read in the kernel sources
given.
"""

from __future__ import annotations

import re
from dataclasses import field
from enum import StrEnum

from xdpchain.frozen import frozen
from xdpchain.model.actions import Action

__all__ = ["DRIVERS", "OTHER", "Driver", "DriverFailure", "Group", "driver_of"]

OTHER = 5
"""Stands for return codes that are not actions, as in `xdpchain.model.counts.SlotCounts`."""
_A, _D, _P, _T, _R = Action


class DriverFailure(StrEnum):
    """Tracepoint reports of packets that a driver could not handle as the chain decided."""

    TX = "tx"
    REDIRECT = "redirect"


@frozen
class Group:
    """``what`` happened to packets, by the driver's ``counters``: as many as the chain returned ``codes``,
    plus those of ``plus``, less those of ``minus``.
    """

    what: str
    counters: tuple[str, ...]
    codes: tuple[int, ...]
    plus: tuple[DriverFailure, ...] = ()
    minus: tuple[DriverFailure, ...] = ()


@frozen
class Driver:
    """``received``: counters of packets that reached the program, "" if none. ``consumed_are_received``: the
    interface's rx_packets include those that XDP consumed. ``sent``: frames redirected there that it
    accepted; ``unsent``: those that it did not.
    """

    source: str
    received: str = ""
    groups: tuple[Group, ...] = ()
    sent: str = ""
    unsent: str = ""
    consumed_are_received: bool = True
    remark: str = ""
    _patterns: dict[str, re.Pattern[str]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def counters(self) -> tuple[str, ...]:
        """All counter expressions."""
        groups = (counter for group in self.groups for counter in group.counters)
        return tuple(pattern for pattern in (self.received, *groups, self.sent, self.unsent) if pattern)


DROPPED, PASSED, BACK, REDIRECTED = "dropped", "passed on", "sent back", "redirected"

DRIVERS: dict[str, Driver] = {
    "veth": Driver(
        "drivers/net/veth.c",
        received=r"rx_queue_\d+_xdp_packets",
        groups=(
            Group(DROPPED, (r"rx_queue_\d+_xdp_drops",), (_A, _D, OTHER)),
            Group(
                BACK,
                (r"rx_queue_\d+_xdp_tx", r"rx_queue_\d+_xdp_tx_errors"),
                (_T,),
                minus=(DriverFailure.TX,),
            ),
            Group(REDIRECTED, (r"rx_queue_\d+_xdp_redirect",), (_R,), minus=(DriverFailure.REDIRECT,)),
        ),
        sent=r"tx_queue_\d+_xdp_xmit",
        unsent=r"tx_queue_\d+_xdp_xmit_errors",
    ),
    "virtio_net": Driver(
        "drivers/net/virtio_net.c",
        # Since kernel 6.10 there are totals too ("rx_xdp_packets"): only per-queue counters are added.
        received=r"rx(?:_queue_)?\d+_xdp_packets",
        groups=(
            Group(
                DROPPED,
                (r"rx(?:_queue_)?\d+_xdp_drops",),
                (_A, _D, OTHER),
                plus=(DriverFailure.TX, DriverFailure.REDIRECT),
            ),
            Group(BACK, (r"rx(?:_queue_)?\d+_xdp_tx",), (_T,)),
            Group(REDIRECTED, (r"rx(?:_queue_)?\d+_xdp_redirects",), (_R,)),
        ),
        sent=r"tx(?:_queue_)?\d+_xdp_tx",
        unsent=r"tx(?:_queue_)?\d+_xdp_tx_drops",
        remark="what it sent for others includes what it sent back itself",
    ),
    "mlx5_core": Driver(
        "drivers/net/ethernet/mellanox/mlx5/core/en_stats.c",
        groups=(
            Group(
                DROPPED,
                ("rx_xdp_drop", "rx_xdp_errors"),
                (_A, _D, OTHER),
                plus=(DriverFailure.TX, DriverFailure.REDIRECT),
            ),
            Group(BACK, ("rx_xdp_tx_xmit",), (_T,), minus=(DriverFailure.TX,)),
            Group(REDIRECTED, ("rx_xdp_redirect",), (_R,), minus=(DriverFailure.REDIRECT,)),
        ),
        sent="tx_xdp_xmit",
        unsent="tx_xdp_err",
        consumed_are_received=False,
    ),
    "ena": Driver(
        "drivers/net/ethernet/amazon/ena/ena_ethtool.c",
        groups=(
            Group(
                "aborted",
                (r"queue_\d+_rx_xdp_aborted",),
                (_A,),
                plus=(DriverFailure.TX, DriverFailure.REDIRECT),
            ),
            Group(DROPPED, (r"queue_\d+_rx_xdp_drop",), (_D,)),
            Group(PASSED, (r"queue_\d+_rx_xdp_pass",), (_P,)),
            Group(BACK, (r"queue_\d+_rx_xdp_tx",), (_T,), minus=(DriverFailure.TX,)),
            Group(REDIRECTED, (r"queue_\d+_rx_xdp_redirect",), (_R,), minus=(DriverFailure.REDIRECT,)),
            Group("no action", (r"queue_\d+_rx_xdp_invalid",), (OTHER,)),
        ),
    ),
    # Intel's drivers count everything their rings received, whatever XDP did, and nothing by action.
    "i40e": Driver("drivers/net/ethernet/intel/i40e/i40e_ethtool.c", received=r"rx-\d+\.packets"),
    "ice": Driver("drivers/net/ethernet/intel/ice/ice_ethtool.c", received=r"rx_queue_\d+_packets"),
    "ixgbe": Driver("drivers/net/ethernet/intel/ixgbe/ixgbe_ethtool.c", received=r"rx_queue_\d+_packets"),
}

_UNKNOWN = Driver(
    "", remark="this driver's counters are not known here; only what the interface received is compared"
)


def driver_of(name: str | None) -> Driver:
    """What is known about a driver; for unknown ones, that the interface's rx_packets are what came in."""
    return DRIVERS.get(name or "", _UNKNOWN)
