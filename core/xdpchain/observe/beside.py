# SPDX-License-Identifier: Apache-2.0
"""What else handles an interface's packets, before and after its XDP program. Read-only.

AF_XDP sockets get what the program redirects to them; netkit, tcx and clsact filters see what it passes, in
this order. Anything that can't be read is reported, never assumed absent.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterable
from functools import partial

from xdpchain.errors import XdpChainError
from xdpchain.frozen import frozen
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


@frozen
class Companion:
    """Something else on the interface: ``what`` it is ("AF_XDP socket", "netkit program", "tcx program", "tc
    filter"), ``at`` which point of the interface, its name, its program's ID, and further information as
    ``text``. ``in_hw``: the NIC does it.
    """

    what: str
    at: str
    name: str = ""
    prog_id: int | None = None
    in_hw: bool = False
    text: str = ""


@frozen
class Beside:
    """What was found, in the order of incoming packets, and what could not be read, with the reason."""

    found: tuple[Companion, ...] = ()
    unseen: tuple[str, ...] = ()


def beside(running: Running) -> Beside:
    """Ask the kernel, with about a dozen messages. Errors are collected in ``unseen``, not raised."""
    companions: list[Companion] = []
    unseen: list[str] = []

    def add(what: str, read: Callable[[Running], Iterable[Companion]]) -> None:
        try:
            companions.extend(read(running))
        except XdpChainError as error:
            unseen.append(f"{what}: {error.why or error.what}")
        except OSError as error:
            unseen.append(f"{what}: {_words(what, error)}")

    add("AF_XDP sockets", _sockets)
    if running.device.kind == "netkit":
        add("netkit", lambda running: _programs(running, "netkit"))
    add("tcx", lambda running: _programs(running, "tcx"))
    add("tc", _traffic_control)
    return Beside(tuple(companions), tuple(unseen))


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
            for tc_filter in netlink.filters(where.ifindex, parent):
                yield _filter(at, tc_filter)


def _filter(at: str, tc_filter: Filter) -> Companion:
    chain = f", chain {tc_filter.chain}" if tc_filter.chain else ""
    hardware = (
        (", only on the card" if tc_filter.skip_sw else ", also on the card") if tc_filter.in_hw else ""
    )
    text = f"priority {tc_filter.priority}{chain}{hardware}"
    return Companion(
        "tc filter",
        at,
        f"{tc_filter.kind} {tc_filter.name}".rstrip(),
        tc_filter.prog_id,
        tc_filter.in_hw,
        text,
    )
