# SPDX-License-Identifier: Apache-2.0
"""Query and change the network devices of a namespace."""

from __future__ import annotations

import contextlib
import errno
import operator
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, SupportsIndex, TypeVar

from xdpchain.advice import Advice, Do
from xdpchain.closing import Closing
from xdpchain.errors import KernelRefused, NotFound, XdpChainError
from xdpchain.sys import netns as namespaces

from . import codec, ethtool
from .links import Channels, LinkInfo, LinkStats, NeighborEntry, Offload, Way, XdpAttachment, XdpMode
from .opening import REUSED, open_sockets
from .refusals import Attempt, attach_refused
from .transport import NETLINK_XFRM, Refusal, Transport

if TYPE_CHECKING:
    from .traffic_control import Filter
    from .tunnels import IpsecPolicy, IpsecState, WireguardPeer

__all__ = ["Netlink"]

MOST_NAMESPACES = 64
"""Most namespaces searched for a missing interface: about 1 ms each."""


T = TypeVar("T")


class Netlink(Closing):
    """Netlink sockets in a network namespace (None: the calling thread's own).

    All methods may be called from any thread, with or without a running event loop. Opening creates two
    sockets and, for a named namespace, a temporary thread: about 0.4 ms (but see `reuse_sockets`). While open
    it keeps the namespace alive, even if its name is deleted; ``inode`` is that namespace's.

        Opening raises NetnsError and PermissionDenied.
    """

    # The same for the whole kernel, so queried once per process: a kernel without the family starts modprobe
    # each time.
    _netdev_family: ClassVar[int | None] = None
    _netdev_missing: ClassVar[bool] = False

    def __init__(self, netns: str | None = None) -> None:
        self.netns = netns
        self._reusable, found = REUSED.take(netns)
        self.inode, self._route, self._generic = found or namespaces.run(netns, open_sockets)

    def close(self) -> None:
        """Close the sockets. May be called from any thread, repeatedly. Later calls raise ValueError."""
        if not (self._reusable and REUSED.give(self.inode, self._route, self._generic)):
            self._route.close()
            self._generic.close()

    def cookie(self) -> int | None:
        """The kernel's number of the namespace, unique within a boot; None before kernel 5.14."""
        return self._route.cookie

    def links(self, *, settled: bool = True) -> tuple[LinkInfo, ...]:
        """All devices of the namespace, by ifindex, from a consistent dump (Busy: they keep changing).

        With ``settled`` false, a device that appears or disappears meanwhile may be missing, and Busy is not
        raised.
        """
        try:
            replies = self._route.exchange(codec.encode_get_links(), settled=settled)
        except Refusal as refusal:
            raise _unexpected("Can't list the interfaces", refusal) from refusal
        found = (codec.decode_link(message) for kind, message in replies if kind == codec.RTM_NEWLINK)
        by_index = {link.ifindex: link for link in found}
        return tuple(by_index[ifindex] for ifindex in sorted(by_index))

    def names(self) -> dict[int, str]:
        """The names of all devices, by ifindex, in order: as `links` with ``settled`` false, a fifth of its
        cost.
        """
        return dict(sorted(self._brief(codec.decode_name)))

    def hooks(self) -> dict[int, tuple[XdpAttachment, ...]]:
        """The programs on the XDP hooks of all devices, by ifindex, at the cost of `names`."""
        return dict(self._brief(codec.decode_hook))

    def _brief(self, decode: Callable[[bytes], T]) -> Iterator[T]:
        try:
            replies = self._route.exchange(codec.encode_get_links(statistics=False), settled=False)
        except Refusal as refusal:
            raise _unexpected("Can't list the interfaces", refusal) from refusal
        return (decode(message) for kind, message in replies if kind == codec.RTM_NEWLINK)

    def stats(self) -> dict[int, LinkStats]:
        """The counters of all devices, by ifindex: as `links` with ``settled`` false, a tenth of its cost."""
        try:
            replies = self._route.exchange(codec.encode_get_stats(), settled=False)
        except Refusal as refusal:
            raise _unexpected("Can't read the interfaces' counters", refusal) from refusal
        return dict(codec.decode_stats(message) for kind, message in replies if kind == codec.RTM_NEWSTATS)

    def link(self, which: int | str) -> LinkInfo:
        """One device, by ifindex, name, or alternative name. Raises NotFound."""
        try:
            return self._link(which)
        except Refusal as refusal:
            if refusal.code in (errno.ENODEV, errno.ERANGE):  # ERANGE: the name is too long
                raise self._unknown(which, refusal) from refusal
            raise _unexpected(f"Can't read interface {which}", refusal) from refusal

    def _link(self, which: int | str) -> LinkInfo:
        if not _possible(which):
            raise Refusal(errno.ENODEV, "")
        replies = self._route.exchange(codec.encode_get_link(which))
        return next(codec.decode_link(message) for kind, message in replies if kind == codec.RTM_NEWLINK)

    def peer(self, link: LinkInfo) -> tuple[LinkInfo, str | None] | None:
        """The other end of a pair (veth, netkit), and the name of its namespace (None: the process's own);
        None if it is in an unnamed namespace, or not a pair.
        """
        if not link.peer_ifindex:
            return None
        if link.peer_netnsid is None:
            try:
                return self.link(link.peer_ifindex), self.netns
            except NotFound:
                return None
        places = (*((None,) if self.netns is not None else ()), *namespaces.names())
        for name in places:
            try:
                with namespaces.opened(name) as fd:
                    if self._nsid(fd) != link.peer_netnsid:
                        continue
                    with Netlink(name) as there:
                        return there.link(link.peer_ifindex), name
            except XdpChainError:  # it has gone away, or can't be entered
                continue
        return None

    def _nsid(self, fd: int) -> int | None:
        try:
            replies = self._route.exchange(codec.encode_get_nsid(fd))
        except Refusal:
            return None
        return next(
            (codec.decode_nsid(message) for kind, message in replies if kind == codec.RTM_NEWNSID), None
        )

    def route(self, destination: str, source: str) -> int:
        """The ifindex through which packets from ``source``, one of our addresses, go to ``destination``.

        Raises NotFound if there is no route, or ``source`` is not an address of this namespace.
        """
        return self.way(destination, source).ifindex

    def way(self, destination: str, source: str | None, through: int | None = None) -> Way:
        """How packets go to ``destination``; ``source`` None: from any address; ``through``: by the interface
        with this ifindex, which link-local addresses need. Raises the same as `route`.
        """
        from .neighborhood import RTM_NEWROUTE, decode_route, encode_get_route

        try:
            replies = self._route.exchange(encode_get_route(destination, source, through))
        except Refusal as refusal:
            origin = f"from {source} " if source else ""
            raise NotFound(
                f"No route {origin}to {destination}", refusal.words, detail=refusal.detail
            ) from refusal
        found = (decode_route(message) for kind, message in replies if kind == RTM_NEWROUTE)
        way = next((route for route in found if route is not None), None)
        if way is None:
            raise NotFound(f"No route to {destination}", "its route does not use a single interface")
        return way

    def addresses(self, ifindex: int) -> tuple[str, ...]:
        """The addresses of an interface with their prefix lengths ("192.0.2.1/24"), in the kernel's order."""
        from .neighborhood import RTM_NEWADDR, decode_address, encode_get_addresses

        try:
            replies = self._route.exchange(encode_get_addresses(ifindex))
        except Refusal as refusal:
            raise _unexpected("Can't list the addresses", refusal) from refusal
        found = (decode_address(message) for kind, message in replies if kind == RTM_NEWADDR)
        return tuple(text for index, text in found if index == ifindex and text)

    def neighbors(self, ifindex: int) -> tuple[NeighborEntry, ...]:
        """The interface's neighbor table, without entries that have no MAC."""
        from .neighborhood import RTM_NEWNEIGH, decode_neighbor, encode_get_neighbors

        try:
            replies = self._route.exchange(encode_get_neighbors(ifindex))
        except Refusal as refusal:
            raise _unexpected("Can't read the neighbour table", refusal) from refusal
        found = (decode_neighbor(message) for kind, message in replies if kind == RTM_NEWNEIGH)
        return tuple(entry for index, entry in found if index == ifindex and entry is not None)

    def forwarding(self, ifindex: int) -> tuple[tuple[str, str], ...]:
        """The remotes in a VXLAN device's forwarding database: (MAC, address); 00:00:00:00:00:00 is the
        default.
        """
        from . import tunnels

        try:
            replies = self._route.exchange(tunnels.encode_get_forwarding(ifindex))
        except Refusal as refusal:
            raise _unexpected("Can't read the forwarding database", refusal) from refusal
        found = (tunnels.decode_forwarding(message) for _, message in replies)
        return tuple((mac, remote) for index, mac, remote in found if index == ifindex and mac and remote)

    def filters(self, ifindex: int, parent: int) -> tuple[Filter, ...]:
        """tc's filters at a parent (`INGRESS`, `EGRESS`) of an interface, in run order."""
        from . import traffic_control

        try:
            replies = self._route.exchange(traffic_control.encode_get_filters(ifindex, parent))
        except Refusal as refusal:
            raise _unexpected("Can't list tc's filters", refusal) from refusal
        news = (message for kind, message in replies if kind == traffic_control.RTM_NEWTFILTER)
        found = (traffic_control.decode_filter(message) for message in news)
        return tuple(pair[1] for pair in found if pair is not None and pair[0] == ifindex)

    def wireguard(self, ifindex: int) -> tuple[int | None, tuple[WireguardPeer, ...]]:
        """The UDP port that a WireGuard device listens on, and its peers. Takes CAP_NET_ADMIN."""
        from . import tunnels

        try:
            replies = self._generic.exchange(codec.encode_get_family("wireguard"))
            family = codec.decode_family_id(replies[0][1])
            replies = self._generic.exchange(tunnels.encode_get_wireguard(family, ifindex))
        except Refusal as refusal:
            raise _unexpected("Can't read WireGuard's peers", refusal) from refusal
        ports, peers = zip(*(tunnels.decode_wireguard(message[20:]) for _, message in replies), strict=True)
        return next((port for port in ports if port), None), tuple(peer for some in peers for peer in some)

    def ipsec(self) -> tuple[tuple[IpsecPolicy, ...], tuple[IpsecState, ...]]:
        """IPsec's policies for incoming ESP, and its states; empty if the kernel does not have IPsec or has
        not loaded it. Takes CAP_NET_ADMIN.
        """
        from . import tunnels

        transport = namespaces.run(self.netns, _open_xfrm)
        if transport is None:
            return (), ()
        try:
            found = [transport.exchange(tunnels.encode_get_ipsec(states=states)) for states in (False, True)]
        except Refusal as refusal:
            raise _unexpected("Can't read IPsec's policies", refusal) from refusal
        finally:
            transport.close()
        policies = (tunnels.decode_ipsec_policy(message[16:]) for _, message in found[0])
        states = (tunnels.decode_ipsec_state(message[16:]) for _, message in found[1])
        return tuple(policy for policy in policies if policy), tuple(state for state in states if state)

    def attach_xdp(
        self, ifindex: int, prog_fd: SupportsIndex, mode: XdpMode, expected_fd: SupportsIndex | None
    ) -> None:
        """Swap the program on the hook in one step if it is the one that the caller expects, else do nothing.

        ``expected_fd`` is a descriptor of the program that runs there now, None if the hook must be empty.
        ``prog_fd`` is the new program, -1 to leave the hook empty (which takes an ``expected_fd``).
        XDP_FLAGS_UPDATE_IF_NOEXIST is from kernel 4.11, IFLA_XDP_EXPECTED_FD from 5.7 (92234c8f15c8).

        Raises RaceLost (something else runs there now), HookBusy, ModeConflict, NoNativeXdp, MtuTooLarge,
        PermissionDenied, NotFound, KernelRefused; ``detail`` has the kernel's message.
        """
        new, old = operator.index(prog_fd), None if expected_fd is None else operator.index(expected_fd)
        if new < 0 and old is None:
            raise ValueError("removing a program needs a descriptor of that program")
        try:
            self._route.exchange(codec.encode_set_xdp(ifindex, max(new, -1), mode, old))
        except Refusal as refusal:
            expected_id = None if old is None else _program_id(old)
            attempt = Attempt(ifindex, mode, detach=new < 0, expected_id=expected_id)
            raise attach_refused(refusal, attempt, *self._circumstances(ifindex)) from refusal

    def xdp_features(self, ifindex: int | None = None) -> dict[int, frozenset[str]] | None:
        """The XDP features of one device's driver, or of each, by ifindex; None if the kernel can't report
        them. A device that is gone is missing from the result.

        The netdev generic netlink family is from kernel 6.3 (d3d854fd6a1d). The names are those of
        Documentation/netlink/specs/netdev.yaml: basic, redirect, ndo-xmit, xsk-zerocopy, hw-offload, rx-sg,
        ndo-xmit-sg. A driver without "basic" supports generic mode only.
        """
        try:
            family = self._netdev_family
            if family is None:
                if self._netdev_missing:
                    return None
                replies = self._generic.exchange(codec.encode_get_family("netdev"))
                Netlink._netdev_family = family = codec.decode_family_id(replies[0][1])
            replies = self._generic.exchange(codec.encode_get_xdp_features(family, ifindex))
        except Refusal as refusal:
            if refusal.code == errno.ENODEV:
                return {}
            if refusal.code in (errno.ENOENT, errno.EOPNOTSUPP):
                Netlink._netdev_missing = True
                return None
            raise _unexpected("Can't read the drivers' XDP features", refusal) from refusal
        return dict(codec.decode_xdp_features(message) for kind, message in replies if kind == family)

    def driver(self, ifindex: int) -> str | None:
        """The name of a device's driver ("virtio_net", "veth"), None for loopback. Raises NotFound."""
        return self._by_ioctl(ethtool.driver, ifindex, "driver")

    def channels(self, ifindex: int) -> Channels | None:
        """A device's queues, None if its driver does not report them. Raises NotFound."""
        return self._by_ioctl(ethtool.channels, ifindex, "queues")

    def offloads(self, ifindex: int) -> tuple[Offload, ...]:
        """A device's offloads, by ethtool's names. Raises NotFound."""
        return self._by_ioctl(ethtool.offloads, ifindex, "offloads")

    def statistics(self, ifindex: int) -> tuple[tuple[str, int], ...]:
        """A driver's own counters, by its names. Raises NotFound."""
        return self._by_ioctl(ethtool.statistics, ifindex, "statistics")

    def _by_ioctl(self, ask: Callable[[socket.socket, int], T], ifindex: int, what: str) -> T:
        try:
            return ask(self._route.socket, ifindex)
        except OSError as error:
            if error.errno == errno.ENODEV:
                raise self._unknown(ifindex, Refusal(errno.ENODEV, "")) from error
            raise _unexpected(
                f"Can't ask for the {what} of interface {ifindex}", Refusal(error.errno or 0, "")
            ) from error

    def _circumstances(
        self, ifindex: int
    ) -> tuple[LinkInfo | None, frozenset[str] | None, tuple[LinkInfo, str | None] | None]:
        """Details that explain a refusal, as far as still known."""
        try:
            link = self.link(ifindex)
        except NotFound:
            return None, None, None
        try:
            features = self.xdp_features(ifindex)
        except XdpChainError:
            features = None
        return link, None if features is None else features.get(ifindex), self.peer(link)

    def _unknown(self, which: int | str, refusal: Refusal) -> NotFound:
        place = f" in network namespace {self.netns}" if self.netns else ""
        todo = Advice(Do.LIST_INTERFACES, netns=self.netns)
        if isinstance(which, str):
            import difflib

            with contextlib.suppress(XdpChainError, Refusal):
                if near := difflib.get_close_matches(which, [link.name for link in self.links()], n=2):
                    todo = Advice(Do.NEAR_INTERFACE, args=tuple(near)) | todo
            if (elsewhere := self._elsewhere(which)) is not None:
                todo = Advice(Do.OTHER_NETNS, args=(elsewhere,)) | todo
        return NotFound(
            f"No interface {which}{place}", "it does not exist (any more)", todo, detail=refusal.detail
        )

    def _elsewhere(self, name: str) -> str | None:
        """A named namespace that has such an interface; "" is this process's own."""
        known = [other for other in ("", *namespaces.names()) if other != (self.netns or "")]
        for place in known[:MOST_NAMESPACES]:
            with contextlib.suppress(XdpChainError, Refusal), Netlink(place or None) as there:
                there._link(name)
                return place
        return None


def _open_xfrm() -> Transport | None:
    """An XFRM socket; None if the kernel has no XFRM loaded: asking would load the module."""
    try:
        lines = Path("/proc/thread-self/net/netlink").read_text().splitlines()
        listens = any(line.split()[1] == str(NETLINK_XFRM) for line in lines[1:])
        return Transport(NETLINK_XFRM) if listens else None
    except OSError:
        return None


def _possible(which: int | str) -> bool:
    """Whether it is a plausible ifindex or name: for others the kernel's errors are misleading."""
    if isinstance(which, int):
        return 0 < which < 1 << 31
    return bool(which) and "\0" not in which and which == which.encode(errors="replace").decode()


def _program_id(fd: int) -> int:
    """The ID of the BPF program behind a descriptor; 0 if there is none."""
    try:
        lines = Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("prog_id:")), 0)


def _unexpected(what: str, refusal: Refusal) -> KernelRefused:
    return KernelRefused(
        what, refusal.words, "The kernel's log (`dmesg`) may say more", detail=refusal.detail
    )
