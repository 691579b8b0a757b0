# SPDX-License-Identifier: Apache-2.0
"""Two network namespaces joined by veth pairs: interfaces to run XDP on, and peers to send from.

The interfaces under test are ``xdp0``, ``xdp1``... in the near namespace; their peers ``peer0``, ``peer1``...
are in the peer namespace. Only the caller sends: IPv6 and ARP are off on both sides, so every packet can be
accounted for. ``remove_leftovers`` removes what killed owners left behind.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterable
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self

from xdpchain.bytecode.instructions import LET_PASS
from xdpchain.errors import PermissionDenied
from xdpchain.frozen import frozen
from xdpchain.sys import bpf, netns

from . import names
from .errors import PlaygroundError
from .frames import NEAR, PEER
from .wire import Counters, DeviceCounters, Listener, Sender

__all__ = ["Link", "Playground", "leftovers", "remove", "remove_leftovers"]

BURST = 64  # well below the 256 frames that a veth queue holds
ARRIVAL_TIMEOUT = 5.0  # seconds

BPF_XDP = 37  # the attach type of a bpf_link that holds an XDP program


@frozen
class Link:
    """One veth pair: the interface under test, and its peer in the peer namespace."""

    ifname: str
    ifindex: int
    peer_ifname: str
    peer_ifindex: int


class Playground:
    """Made on entry (10 ms), removed on exit (50 ms).

    :param links: how many veth pairs.
    :param mtu: of both ends of each, in bytes.
    :param peer_takes_xdp: the peers accept frames that an XDP program sends (XDP_TX, redirects). veth wants
        an XDP program on the receiving end for that, so each peer gets one that lets everything pass.

    Raises PlaygroundError, and PermissionDenied without root, from ``__enter__``.
    """

    def __init__(self, *, links: int = 1, mtu: int = 1500, peer_takes_xdp: bool = False) -> None:
        self.netns, self.peer_netns = names.fresh()
        self.links: tuple[Link, ...] = ()
        self._count = links
        self._mtu = mtu
        self._peer_takes_xdp = peer_takes_xdp
        self._held = ExitStack()

    @property
    def ifname(self) -> str:
        """The (first) interface under test."""
        return self.links[0].ifname

    @property
    def ifindex(self) -> int:
        """Its index in its namespace."""
        return self.links[0].ifindex

    @property
    def peer_ifname(self) -> str:
        """The other end of its veth pair."""
        return self.links[0].peer_ifname

    def __enter__(self) -> Self:
        try:
            self._make()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove everything. May be repeated, and called after others removed parts of it."""
        self._held.close()
        remove(self.netns)
        remove(self.peer_netns)

    def send(self, frames: Iterable[bytes], *, link: int = 0) -> int:
        """Send exactly these frames from the peer; returns their number once the interface has received all.

        Received means: processed by the device's XDP program in native mode, or passed to the network stack.
        Raises PlaygroundError if not all have arrived after 5 s.
        """
        ifname = self.links[link].ifname
        remaining = iter(frames)
        total = 0
        while burst := list(islice(remaining, BURST)):
            expected = self._counters.read(ifname).packets + len(burst)
            total += self._senders[link].send(burst)
            self._wait_until_received(ifname, expected)
        return total

    def received(self, *, link: int = 0) -> Counters:
        """What the interface under test has received since it was created."""
        return self._counters.read(self.links[link].ifname)

    def listen(self, *, link: int = 0) -> Listener:
        """Listen to what passes XDP on the interface under test; closed with the playground at the latest."""
        return self._held.enter_context(Listener(self.netns, self.links[link].ifname))

    def listen_at_peer(self, *, link: int = 0) -> Listener:
        """Listen to what comes back to the peer (see ``peer_takes_xdp``)."""
        return self._held.enter_context(Listener(self.peer_netns, self.links[link].peer_ifname))

    def _make(self) -> None:
        _ip([f"netns add {self.netns}", f"netns add {self.peer_netns}"])
        for namespace in (self.netns, self.peer_netns):
            netns.run(namespace, _silence_ipv6)
        numbers = range(self._count)
        mtu = f"mtu {self._mtu}"
        _ip(
            [
                f"link add xdp{n} {mtu} address {_mac(NEAR.mac, n)} type veth "
                f"peer name peer{n} netns {self.peer_netns} {mtu} address {_mac(PEER.mac, n)}"
                for n in numbers
            ]
            + [f"link set xdp{n} arp off up" for n in numbers],
            namespace=self.netns,
        )
        _ip([f"link set peer{n} arp off up" for n in numbers], namespace=self.peer_netns)
        near = netns.run(self.netns, _ifindexes)
        peer = netns.run(self.peer_netns, _ifindexes)
        self.links = tuple(Link(f"xdp{n}", near[f"xdp{n}"], f"peer{n}", peer[f"peer{n}"]) for n in numbers)
        if self._peer_takes_xdp:
            netns.run(self.peer_netns, self._let_peers_take_xdp)
        self._counters = DeviceCounters(self.netns)
        self._held.callback(self._counters.close)
        self._senders = [Sender(self.peer_netns, link.peer_ifname) for link in self.links]
        for sender in self._senders:
            self._held.callback(sender.close)

    def _let_peers_take_xdp(self) -> None:
        # GRO on the peer should do too, but kernel 6.18 then loses the frames.
        with bpf.prog_load(bpf.ProgType.XDP, LET_PASS, name="let_pass") as program:
            for link in self.links:
                self._held.enter_context(bpf.link_create(program, link.peer_ifindex, BPF_XDP))

    def _wait_until_received(self, ifname: str, expected: int) -> None:
        deadline = time.monotonic() + ARRIVAL_TIMEOUT
        while (received := self._counters.read(ifname).packets) < expected:
            if time.monotonic() > deadline:
                raise PlaygroundError(
                    f"{expected - received} packets did not arrive at {ifname}",
                    f"{ARRIVAL_TIMEOUT:g} s after they were sent",
                    "Check that both ends are up (ip -n NAMESPACE link)",
                )
            time.sleep(0.0001)


def leftovers() -> tuple[str, ...]:
    """The namespaces of playgrounds whose owners are gone."""
    return tuple(name for name in netns.names() if (owned := names.parse(name)) and owned.orphaned)


def remove_leftovers() -> tuple[str, ...]:
    """Remove them; returns their names."""
    found = leftovers()
    for name in found:
        remove(name)
    return found


def remove(namespace: str) -> None:
    """Remove a playground's namespace with its interfaces, if it exists."""
    if names.parse(namespace) is None:
        raise ValueError(f"{namespace!r} does not belong to a playground")
    if not (netns.RUN_DIR / namespace).exists():
        return
    # The kernel would remove the interfaces too, but later; this way their XDP programs are gone when this
    # returns. An interface that is already gone, with its other end, is not an error.
    try:
        pairs = [name for name in netns.run(namespace, _ifindexes) if name != "lo"]
        if pairs:
            _ip([f"link del {name}" for name in pairs], namespace=namespace, force=True)
    except netns.NetnsError:
        pass
    subprocess.run(
        ["ip", "netns", "del", namespace], capture_output=True, check=False, stdin=subprocess.DEVNULL
    )


def _ip(commands: list[str], *, namespace: str | None = None, force: bool = False) -> None:
    where = ["-n", namespace] if namespace else []
    how = ["-force"] if force else []
    try:
        done = subprocess.run(
            ["ip", *where, *how, "-batch", "-"], input="\n".join(commands), capture_output=True, text=True
        )
    except FileNotFoundError as error:
        raise PlaygroundError(
            "Can't create a playground", "the command `ip` is missing", "Install iproute2 (make setup)"
        ) from error
    if done.returncode and not force:
        raise _refused(done.stderr)


def _refused(stderr: str) -> PlaygroundError | PermissionDenied:
    what = "Can't create a playground"
    reason = stderr.strip().splitlines()[0] if stderr.strip() else "ip failed and did not say why"
    if os.geteuid() != 0:
        return PermissionDenied(what, reason, "Network namespaces need root: sudo make demo", detail=stderr)
    return PlaygroundError(
        what,
        reason,
        "Check that this machine allows network namespaces and veth (ip netns add test)",
        detail=stderr,
    )


def _mac(first: bytes, number: int) -> str:
    return (first[:4] + bytes([number]) + first[5:]).hex(":")


def _ifindexes() -> dict[str, int]:
    return {name: index for index, name in socket.if_nameindex()}


def _silence_ipv6() -> None:
    """No duplicate address detection, solicitations or reports from new interfaces."""
    for which in ("default", "all"):
        switch = Path(f"/proc/sys/net/ipv6/conf/{which}/disable_ipv6")
        if switch.exists():  # otherwise this kernel has no IPv6
            switch.write_text("1")
