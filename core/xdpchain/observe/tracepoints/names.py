# SPDX-License-Identifier: Apache-2.0
"""Resolve the numbers in tracepoint reports to names."""

from __future__ import annotations

from xdpchain.errors import XdpChainError
from xdpchain.sys import bpf, netns
from xdpchain.sys.netlink import Netlink

from .happenings import Row, Tracepoint
from .reasons import CPUMAP, DEVMAPS, XSKMAP

__all__ = ["Names"]


class Names:
    """Names as seen from one network namespace, cached.

    Interfaces' names are those reported by the kernel at the time of the event. Not thread-safe.
    """

    def __init__(self, namespace: str | None = None) -> None:
        """Raises NetnsError, PermissionDenied."""
        self.home = netns.inode(namespace)
        self._namespace = namespace
        self._namespaces: dict[int, str] = {}
        self._devices: dict[tuple[int, int], str] = {}
        self._maps: dict[int, str] = {}
        self._programs: dict[int, str] = {}

    def device(self, row: Row) -> str:
        """The interface where the packets came in (XDP_TX: and went out); "" if not reported."""
        place = row.place
        if not place.ifindex:
            return ""
        return self._in(place.netns, row.device or self._interface(place.netns, place.ifindex))

    def target(self, row: Row) -> str:
        """Where the packets were to go; "" if there is no other place."""
        place = row.place
        if place.kind in (Tracepoint.EXCEPTION, Tracepoint.BULK_TX):
            return ""
        if place.map_type == CPUMAP:
            return f"CPU {place.entry}"
        if place.target:
            return self._in(
                place.target_netns, row.target or self._interface(place.target_netns, place.target)
            )
        if place.map_type == XSKMAP:
            return f"AF_XDP socket {place.entry}"
        if place.map_type in DEVMAPS:
            return "all interfaces of the map"
        return "ifindex 0"

    def target_interface(self, row: Row) -> tuple[str, str | None] | None:
        """The interface that the packets were sent to, and its namespace's name; None if there was none, or
        if its namespace has no name.
        """
        place = row.place
        if (
            not place.target
            or place.map_type == CPUMAP
            or place.kind in (Tracepoint.EXCEPTION, Tracepoint.BULK_TX)
        ):
            return None
        home = place.target_netns in (0, self.home)
        namespace = self._namespace if home else self.namespace(place.target_netns)
        name = row.target or self._interface(place.target_netns, place.target)
        if name.startswith("ifindex ") or (namespace or "").startswith("net:["):
            return None
        return name, namespace

    def via(self, row: Row) -> str:
        """The map with the target, "" if there was none."""
        place = row.place
        if not place.map:
            return ""
        name = self.map(place.map)
        return f"{name}[{place.entry}]" if place.kind is Tracepoint.REDIRECT_ERR else name

    def program(self, prog_id: int) -> str:
        """A program's name, or its ID if it is gone."""
        if prog_id not in self._programs:
            try:
                with bpf.prog_by_id(prog_id) as fd:
                    self._programs[prog_id] = bpf.prog_info(fd).name or f"program {prog_id}"
            except OSError:
                return f"program {prog_id}"
        return self._programs[prog_id]

    def map(self, map_id: int) -> str:
        """A map's name, or its ID if it is gone."""
        if map_id not in self._maps:
            try:
                with bpf.map_by_id(map_id) as fd:
                    self._maps[map_id] = bpf.map_info(fd).name or f"map {map_id}"
            except OSError:
                return f"map {map_id}"
        return self._maps[map_id]

    def namespace(self, inode: int) -> str:
        """A network namespace's name, or its inode in the kernel's notation if unnamed."""
        if inode not in self._namespaces:
            try:
                name = netns.name_of(inode)
            except XdpChainError:
                name = None
            self._namespaces[inode] = name or f"net:[{inode}]"
        return self._namespaces[inode]

    def _in(self, inode: int, name: str) -> str:
        return name if inode in (0, self.home) else f"{name} (netns {self.namespace(inode)})"

    def _interface(self, inode: int, ifindex: int) -> str:
        """The name of an interface that was reported only by its ifindex."""
        where = (inode, ifindex)
        if where not in self._devices:
            if inode == self.home:
                namespace = self._namespace
            else:
                namespace = self.namespace(inode)
            try:
                with Netlink(namespace) as netlink:
                    self._devices[where] = netlink.link(ifindex).name
            except XdpChainError:
                return f"ifindex {ifindex}"
        return self._devices[where]
