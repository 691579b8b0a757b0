# SPDX-License-Identifier: Apache-2.0
"""Sample current traffic for a what-if: a limited number of packets, within about a second.

If a program runs they are followed, as by `follow`. If none runs every packet passes, so a packet socket sees
them all.
"""

from __future__ import annotations

import threading
import time
from itertools import islice

from xdpchain.bytecode.classic import HEAD
from xdpchain.errors import NotFound
from xdpchain.model.running import Running
from xdpchain.sys import bpf, netns
from xdpchain.sys.packet_socket import incoming, packet_socket
from xdpchain.trial.packets.describe import describe
from xdpchain.trial.packets.packet import Packet
from xdpchain.trial.packets.sources import Supply, packets_of

from .follower import POLL, follow

__all__ = ["LIVE", "SECONDS", "live_packets", "sampling_swaps", "supply_of"]

LIVE = "live"
"""The what-if source for current traffic."""
MOST = 200
"""Most packets in a sample."""
RATE = 100
"""Packets followed per second: the first at once, the others spread over the time."""
SECONDS = 1.0
LOCK_SECONDS = 2.0

CUT = f"only the first {HEAD} bytes of sampled packets are known; the rest are zeros"
AS_THE_STACK_SEES = (
    "the packets were sampled in the network stack: VLAN tags may be stripped and packets merged (GRO), "
    "unlike what a program would see"
)


def sampling_swaps(running: Running) -> bool:
    """Whether sampling swaps the running chain for one that records."""
    return running.hook is not None and running.linkage_facts.records_inside


def supply_of(source: str, running: Running) -> Supply:
    """The packets of any source, including ``live``. Raises what `packets_of` and `live_packets` do."""
    return live_packets(running) if source == LIVE else packets_of(source, running.interface)


def live_packets(running: Running, stop: threading.Event | None = None) -> Supply:
    """What arrives on an interface, until ``stop`` is set. Raises NotFound if nothing does, and what `follow`
    raises if a chain runs.
    """
    stop = stop or threading.Event()
    found = _followed(running, stop) if running.hook is not None else _received(running, stop)
    if not found.packets:
        raise NotFound(
            f"no packet arrived on {running.interface} within {SECONDS:.0f} s", "there was no traffic"
        )
    return found


def _followed(running: Running, stop: threading.Event) -> Supply:
    layer = running.device.layer
    packets: list[Packet] = []
    with follow(running, count=MOST, rate=RATE, lock_timeout=LOCK_SECONDS) as follower:
        deadline = time.monotonic() + SECONDS
        while not follower.ended and time.monotonic() < deadline and not stop.wait(POLL):
            for followed in follower.poll():
                # Programs look at a packet's length more often than at its payload.
                whole = followed.entry.head.ljust(followed.entry.length, b"\0")
                packets.append(Packet(describe(followed.entry.head, layer), whole))
    cut = any(len(packet.data) > HEAD for packet in packets)
    return Supply(tuple(packets), (CUT,) if cut else ())


def _received(running: Running, stop: threading.Event) -> Supply:
    interface, layer = running.interface, running.device.layer
    try:
        with netns.run(interface.netns, lambda: packet_socket(interface.name, receives=True)) as source:
            came = incoming(source, seconds=SECONDS, stopped=stop.is_set)
            frames = list(islice(came, MOST))
    except OSError as error:
        raise bpf.refusal(error, f"packets of {interface} can't be sampled") from error
    return Supply(tuple(Packet(describe(frame, layer), frame) for frame in frames), (AS_THE_STACK_SEES,))
