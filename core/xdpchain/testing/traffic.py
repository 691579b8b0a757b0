# SPDX-License-Identifier: Apache-2.0
"""Send mixed real packets at a limited rate, for a limited time: ``python -m xdpchain.testing.traffic``.

A separate process, so that its pace does not depend on a terminal program. Its parent must make sure that it
does not outlive the parent.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import cycle, islice

from xdpchain.errors import XdpChainError

from . import frames
from .frames import NEAR, Host
from .wire import Sender

__all__ = ["MAX_RATE", "MAX_SECONDS", "add_bounds", "main", "mixture", "schedule"]

MAX_RATE = 2000  # packets per second
MAX_SECONDS = 600

TICK = 0.02  # seconds between bursts: 40 packets at the highest rate, a sixth of a veth queue
WAVE = 20.0  # seconds of one rise and fall of the rate, so that graphs show something


def mixture() -> tuple[bytes, ...]:
    """One round of packets, in a fixed shuffled order.

    One host sends far more than the others, so that a per-source rate limit has something to limit. Some
    packets go to ports that a firewall would block (telnet; UDP 9999).
    """
    busy = Host.number(66)
    hosts = [Host.number(index) for index in range(10, 18)]
    packets: list[bytes] = []
    for number, host in enumerate(hosts):
        packets += [
            frames.icmp_echo(host, NEAR, sequence=number, payload=bytes(56)),
            frames.icmp_echo(host, NEAR, sequence=number, payload=bytes(56), version=6),
            frames.arp_request(host, NEAR),
            frames.neighbor_solicitation(host, NEAR),
            frames.udp(host, NEAR, 53, payload=bytes(32)),
            frames.udp(host, NEAR, 53, payload=bytes(32), version=6),
            frames.udp(host, NEAR, 123, payload=bytes(48)),
            frames.udp(host, NEAR, 443, payload=bytes(1200)),
            frames.udp(host, NEAR, 9999, payload=bytes(100)),
            frames.tcp_syn(host, NEAR, 22, source_port=40000 + number),
            frames.tcp_syn(host, NEAR, 443, source_port=40000 + number),
            frames.tcp_syn(host, NEAR, 443, source_port=40000 + number, version=6),
            frames.tcp_syn(host, NEAR, 23, source_port=40000 + number),
        ]
    packets += [frames.udp(busy, NEAR, 443, source_port=50000 + n, payload=bytes(1200)) for n in range(48)]
    random.Random(0).shuffle(packets)
    return tuple(packets)


def schedule(rate: int, seconds: int) -> Iterator[int]:
    """How many packets to send in each tick: a wave between half of ``rate`` and all of it."""
    owed = 0.0
    for tick in range(round(seconds / TICK)):
        owed += rate * TICK * (0.75 + 0.25 * math.sin(2 * math.pi * tick * TICK / WAVE))
        yield int(owed)
        owed -= int(owed)


def main(arguments: Sequence[str] | None = None) -> int:
    """Send until time is up."""
    parser = argparse.ArgumentParser(
        prog="python -m xdpchain.testing.traffic", description="Bounded mixed traffic."
    )
    parser.add_argument("namespace")
    parser.add_argument("ifname")
    add_bounds(parser)
    options = parser.parse_args(arguments)
    try:
        sender = Sender(options.namespace, options.ifname)
    except (XdpChainError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    with closing(sender):
        _send(sender, options.rate, options.seconds)
    return 0


def _send(sender: Sender, rate: int, seconds: int) -> None:
    packets = cycle(mixture())
    due = time.monotonic()
    for count in schedule(rate, seconds):
        try:
            sender.send(islice(packets, count))
        except OSError:
            return  # the interface is gone
        due += TICK
        now = time.monotonic()
        if due > now:
            time.sleep(due - now)
        else:
            due = now  # this machine is busy: don't catch up with a burst


def add_bounds(parser: argparse.ArgumentParser) -> None:
    """The options --rate and --seconds, with their upper bounds."""
    parser.add_argument(
        "--rate",
        type=_up_to(MAX_RATE),
        default=1000,
        help=f"packets per second, at most {MAX_RATE} (%(default)s)",
    )
    parser.add_argument(
        "--seconds",
        type=_up_to(MAX_SECONDS),
        default=MAX_SECONDS,
        help=f"how long there is traffic, at most {MAX_SECONDS} (%(default)s)",
    )


def _up_to(bound: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
        if not 1 <= value <= bound:
            raise argparse.ArgumentTypeError(f"{value} is not between 1 and {bound}")
        return value

    return number


if __name__ == "__main__":
    sys.exit(main())
