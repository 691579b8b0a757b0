# SPDX-License-Identifier: Apache-2.0
"""Follow packets: a filter, a number of packets, a rate, and each packet's path through the chain."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from xdpchain.bytecode.classic import HEAD, Filter, translate, unpack
from xdpchain.closing import Closing
from xdpchain.errors import InvalidInput, LinkRefused, NotFound, NotOurs, Unsupported
from xdpchain.linkage.tap import LEAST_SNAP, MOST_SNAP
from xdpchain.model.actions import ActionSet
from xdpchain.model.link_layer import LinkLayer
from xdpchain.model.running import Running
from xdpchain.observe.permissions import require_capabilities
from xdpchain.sys.pcap import compile_expression

from .fates import Fates
from .followed import Followed
from .inside import Inside
from .outside import Outside
from .records import Assembly, Record
from .tapping import FollowTally, Keep, Tapping

__all__ = ["DEFAULT_RATE", "MOST_RATE", "SIFTED_RATE", "Follower", "compile_filter", "follow"]

DEFAULT_RATE, SIFTED_RATE = 100, 1000
MOST_RATE = 10_000
"""Packets per second: the default, the default if only some verdicts are requested, and the maximum."""

ANY = ActionSet()
"""No verdict is requested: every packet is returned."""

POLL = 0.02
"""Seconds between reads of the ring buffer."""

BEAT = 0.5
"""Seconds between signs of life, which a thread gives because the reader of the packets may be slow."""


def compile_filter(expression: str, layer: LinkLayer) -> Filter:
    """A filter in tcpdump's syntax (pcap-filter(7)), for packets of a device with that link layer; an empty
    one matches every packet.

    Raises InvalidInput with libpcap's message; Unsupported if libpcap is missing, or if the device's packet
    format is unknown.
    """
    if expression and not layer.known:
        raise Unsupported(
            f"the filter {expression!r} can't be used",
            f"the packet format on this interface ({layer.name}) is not known",
            "Follow all packets, without a filter",
        )
    return translate(unpack(compile_expression(expression, layer.dlt)))


class Follower(Closing):
    """Follows packets until it is closed. Iterating waits for packets and ends at the requested number, when
    `stop` is called, or when there is nothing left to follow; ``ended`` then says why. ``passed_over`` counts
    packets that were followed but whose verdict was not requested.
    """

    def __init__(
        self,
        running: Running,
        expression: str,
        count: int | None,
        rate: int,
        lock_timeout: float,
        verdicts: ActionSet = ANY,
        snaplen: int = HEAD,
        fates: bool = False,
    ) -> None:
        """Use `follow`."""
        if not 1 <= rate <= MOST_RATE:
            raise InvalidInput(f"{rate} packets a second is out of range", f"the range is 1 to {MOST_RATE}")
        if count is not None and count < 1:
            raise InvalidInput(f"{count} packets can't be followed", "the minimum is 1")
        if not LEAST_SNAP <= snaplen <= MOST_SNAP:
            why = f"the range is {LEAST_SNAP} to {MOST_SNAP}"
            raise InvalidInput(f"a snaplen of {snaplen} bytes is out of range", why)
        layer = running.device.layer
        self.filter = compile_filter(expression, layer)
        self.count, self.rate, self.verdicts = count, rate, verdicts
        self.ended = ""
        self.followed = self.passed_over = 0
        first = self._most(rate, lost=0)
        keep = Keep(-(-snaplen // 8) * 8, fates, 0 if fates else first)
        self._tapping = _tapping(running, self.filter, expression, lock_timeout, keep)
        self._fates: Fates | None = None
        if fates:
            try:
                self._fates = Fates(self._tapping.passed)
                self._tapping.grant(first)  # not earlier: the fate of what came before would not be seen
            except BaseException:
                self._tapping.close()
                raise
        self._stopped = threading.Event()
        clock = time.time_ns() - time.monotonic_ns()
        tapping = self._tapping
        self._assembly = Assembly(running.interface.ifindex, tapping.slots, clock, layer, tapping.sites)
        self._granted = float(rate)
        self._at = time.monotonic()
        self._closed = False
        self._tally = FollowTally(0, 0, 0)
        self._over = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="xdptui-follow", daemon=True)
        self._heart.start()

    def _beat(self) -> None:
        while not self._over.wait(BEAT):
            self._tapping.live()

    @property
    def remark(self) -> str:
        """A remark about the filter or about what is kept; usually empty."""
        remarks = [self._tapping.remark] if self._tapping.remark else []
        if self.filter.beyond:
            where = ", ".join(map(str, self.filter.beyond))
            remarks.append(
                f"the filter looks at byte {where}, but only the first {HEAD} of a packet are examined"
            )
        return "; ".join(remarks)

    @property
    def lost(self) -> int:
        """Followed packets of which a record was lost."""
        return self._assembly.lost

    def tally(self) -> FollowTally:
        """How many packets were looked at, and how many not."""
        if not self._closed:
            self._tally = self._tapping.tally()
        return self._tally

    def poll(self, *, last: bool = False) -> list[Followed]:
        """The packets that arrived since the last call, without waiting. If fates are requested, packets come
        when theirs is known, or, at the ``last`` call, as they are. This also grants the packets for the next
        second.
        """
        if self._closed or self.ended:
            return []
        if self._fates is not None:
            self._fates.read()
        found = list(self._assembly.add(map(Record.decode, self._tapping.read())))
        if self._fates is not None:
            found = self._fates.settled(found, all_of_them=last)
        if self.verdicts:
            every, found = found, [followed for followed in found if followed.outcome in self.verdicts]
            self.passed_over += len(every) - len(found)
        if self.count is not None:
            found = found[: self.count - self.followed]  # each CPU may have taken one more
        self.followed += len(found)
        if self.followed == self.count:
            self.ended = "requested number of packets reached"
            self._tapping.grant(0)
        else:
            self._refill()
            if why := self._tapping.why_not():
                self.ended = why
        return found

    def _refill(self) -> None:
        now = time.monotonic()
        due = (now - self._at) * self.rate
        self._at = now
        # At most one second's packets at once; what was granted and not used is not lost.
        self._grant(min(self._granted + due, self._tapping.taken + self.rate))

    def _grant(self, packets: float) -> None:
        self._granted = packets
        self._tapping.grant(self._most(packets, self._assembly.lost))

    def _most(self, packets: float, lost: int) -> int:
        """How many of these to grant: as many as are asked for, unless that takes their verdicts."""
        return int(packets if self.count is None or self.verdicts else min(packets, self.count + lost))

    def stop(self) -> None:
        """End the iteration, from any thread."""
        self._stopped.set()

    def __iter__(self) -> Iterator[Followed]:
        while not self._stopped.is_set():
            yield from self.poll()
            if self.ended:
                return
            self._stopped.wait(POLL)
        if self._fates is not None:
            yield from self.poll(last=True)

    def close(self) -> None:
        """Stop following and restore the plain chain. Raises the same as `Inside.close`."""
        if self._closed:
            return
        self._over.set()
        self._heart.join()
        self.tally()
        self._closed = True
        if self._fates is not None:
            self._fates.close()
        self._tapping.close()


def _tapping(running: Running, filter: Filter, expression: str, lock_timeout: float, keep: Keep) -> Tapping:
    interface = running.interface
    if running.hook is None:
        raise NotFound(f"there is nothing to follow on {interface}", "no XDP program runs there")
    if not running.linkage_facts.records_inside:
        return Outside(running, filter, keep)
    if running.chain is None:
        raise NotOurs(f"packets can't be followed on {interface}", running.note)
    try:
        return Inside(running, filter, expression, lock_timeout, keep)
    except LinkRefused as error:
        if running.linkage_facts.one_program:
            raise
        why = f"its chain runs as one program while it is followed, and {error.what}: {error.why}"
        raise Unsupported(f"packets can't be followed on {interface}", why, detail=error.detail) from error


def follow(
    running: Running,
    expression: str = "",
    *,
    count: int | None = 10,
    rate: int = DEFAULT_RATE,
    lock_timeout: float = 10.0,
    verdicts: ActionSet = ANY,
    snaplen: int = HEAD,
    fates: bool = False,
) -> Follower:
    """Follow the first ``count`` packets (None: all) that match ``expression``, at most ``rate`` per second,
    with ``snaplen`` bytes of each, rounded up to a multiple of 8 (in freplace linkage, of a multi-buffer
    packet's first buffer only, unless that is more than `HEAD`). With ``fates``, each passed packet also
    reports what the network stack did with it, if that is seen within `followed.WAIT` seconds; this examines
    each buffer that the kernel frees. With ``verdicts``, only packets that get one of these are returned;
    since a verdict is known only at the end, the others are recorded too, and count towards the rate.

    In static and tailcall linkage the chain is swapped for one that records, and swapped back when the
    follower is closed: same components, same maps, and no packet is lost. In freplace linkage, and for a
    single program of somebody else's, tracing programs are attached meanwhile. Raises InvalidInput for the
    filter, NotFound and NotOurs if there is nothing to follow, Busy if somebody else is following or a change
    is pending, RaceLost if the chain changed, and what the linkage and the kernel refuse.
    """
    require_capabilities()
    return Follower(running, expression, count, rate, lock_timeout, verdicts, snaplen, fates)
