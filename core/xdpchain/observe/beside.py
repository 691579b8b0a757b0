# SPDX-License-Identifier: Apache-2.0
"""What else sits on an interface, on the packet's way before and behind its XDP program. Only looked at.

AF_XDP sockets take what the program redirects to them; netkit, tcx and the filters of clsact see what it
passes, in this order. What can't be read is said, never taken for nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from xdpchain.errors import XdpChainError
from xdpchain.model.running import Running
from xdpchain.sys import bpf, netns
from xdpchain.sys.netlink import Netlink
from xdpchain.sys.netlink.traffic_control import EGRESS, INGRESS, Filter
from xdpchain.sys.netlink.xdp_sockets import list_xdp_sockets
from xdpchain.sys.socket_owners import processes

__all__ = ["Beside", "Companion", "beside"]

PARENTS = {"ingress": INGRESS, "egress": EGRESS}
HOOKS = {
    "netkit": {"primary": bpf.AttachType.NETKIT_PRIMARY, "peer": bpf.AttachType.NETKIT_PEER},
    "tcx": {"ingress": bpf.AttachType.TCX_INGRESS, "egress": bpf.AttachType.TCX_EGRESS},
}
SINCE = {"netkit": "6.7", "tcx": "6.6"}


@dataclass(frozen=True, slots=True)
class Companion:
    """Something else on the interface: ``what`` it is ("AF_XDP socket", "netkit program", "tcx program", "tc
    filter"), ``at`` which place of the interface, its name, its program's id, and what else is known
    of it, in words. ``in_hw``: the card does it.
    """

    what: str
    at: str
    name: str = ""
    prog_id: int | None = None
    in_hw: bool = False
    text: str = ""


@dataclass(frozen=True, slots=True)
class Beside:
    """What was found, in the order of packets that come in; and what could not be seen, with the reason."""

    found: tuple[Companion, ...] = ()
    unseen: tuple[str, ...] = ()


def beside(running: Running) -> Beside:
    """Ask the kernel, with some dozen messages. Raises nothing that the engine raises."""
    found: list[Companion] = []
    unseen: list[str] = []

    def add(what: str, read: Callable[[Running], Iterable[Companion]]) -> None:
        try:
            found.extend(read(running))
        except XdpChainError as error:
            unseen.append(f"{what}: {error.what}{f': {error.why}' if error.why else ''}")
        except OSError as error:
            unseen.append(f"{what}: {_words(what, error)}")

    add("AF_XDP sockets", _sockets)
    if running.device.kind == "netkit":
        add("netkit", lambda running: _programs(running, "netkit"))
    add("tcx", lambda running: _programs(running, "tcx"))
    add("tc", _traffic_control)
    return Beside(tuple(found), tuple(unseen))


def _words(what: str, error: OSError) -> str:
    if error.errno in (errno.EPERM, errno.EACCES):
        return "not permitted; needs CAP_NET_ADMIN"
    if what in SINCE and error.errno in (errno.EINVAL, errno.E2BIG, errno.EOPNOTSUPP):
        return f"this kernel has none (available from {SINCE[what]})"
    return os.strerror(error.errno or 0)


def _sockets(running: Running) -> Iterable[Companion]:
    where = running.interface
    here = [socket for socket in list_xdp_sockets(where.netns) if socket.ifindex == where.ifindex]
    owners = {}
    if here:
        owners = {
            inode: f"{process.command} (pid {process.pid})"
            for process in processes()
            for inode in process.inodes
        }
    for xdp_socket in sorted(here, key=lambda xdp_socket: xdp_socket.queue):
        how = "zero copy" if xdp_socket.zero_copy else "copies"
        owner = owners.get(xdp_socket.inode, "a hidden process")
        yield Companion("AF_XDP socket", f"queue {xdp_socket.queue}", owner, text=how)


def _programs(running: Running, what: str) -> Iterable[Companion]:
    where = running.interface
    for at, hook in HOOKS[what].items():
        for attachment in netns.run(where.netns, partial(bpf.prog_query, where.ifindex, hook)):
            link = "" if attachment.link_id is None else f"held by bpf_link {attachment.link_id}"
            yield Companion(f"{what} program", at, _name(attachment.prog_id), attachment.prog_id, text=link)


def _name(prog_id: int) -> str:
    with contextlib.suppress(bpf.BpfError), bpf.prog_by_id(prog_id) as program:
        return bpf.prog_info(program).name
    return "?"


def _traffic_control(running: Running) -> Iterable[Companion]:
    where = running.interface
    with Netlink(where.netns) as netlink:
        for at, parent in PARENTS.items():
            for one in netlink.filters(where.ifindex, parent):
                yield _filter(at, one)


def _filter(at: str, one: Filter) -> Companion:
    chain = f", chain {one.chain}" if one.chain else ""
    hardware = (", only on the card" if one.skip_sw else ", also on the card") if one.in_hw else ""
    text = f"priority {one.priority}{chain}{hardware}"
    return Companion("tc filter", at, f"{one.kind} {one.name}".rstrip(), one.prog_id, one.in_hw, text)
