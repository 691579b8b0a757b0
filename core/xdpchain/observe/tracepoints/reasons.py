# SPDX-License-Identifier: Apache-2.0
"""Why packets are lost after their program returned: the kernel's codes, explained. Pure.

Each reason names the deciding kernel function, in the sources of kernel 6.18 unless stated otherwise. Those
that tests/kernel/test_tracepoints.py can provoke were verified.
"""

from __future__ import annotations

import errno
import os

from xdpchain.advice import Advice, Do, advise
from xdpchain.frozen import frozen
from xdpchain.model.actions import Action

from .happenings import LossPlace, Tracepoint

__all__ = ["CPUMAP", "DEVMAPS", "XSKMAP", "Reason", "reason"]

DEVMAPS = (14, 25)  # BPF_MAP_TYPE_DEVMAP, BPF_MAP_TYPE_DEVMAP_HASH
CPUMAP, XSKMAP = 16, 17


@frozen
class Reason:
    """``name`` is the code's ("ENETDOWN", "XDP_ABORTED"); ``words``: why packets are lost; ``todo``: what to
    do ("" if there is no general advice); ``source``: the kernel's function and file.
    """

    name: str
    words: str
    todo: str | Advice = ""
    source: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.words}" if self.name else self.words


_DO_REDIRECT = "xdp_do_redirect, net/core/filter.c"
_ENQUEUE = "__xdp_enqueue, kernel/bpf/devmap.c"
_FORWARD = "xdp_ok_fwd_dev, include/linux/filter.h"
_XSK = "xsk_rcv_check, net/xdp/xsk.c"
_NO_XMIT = (
    "the target's driver does not accept XDP frames now",
    "veth: its peer needs an XDP program or GRO; cards: the target needs an XDP program too",
)

_REDIRECTS: dict[int, Reason] = {
    errno.EINVAL: Reason(
        "EINVAL",
        "no interface has this ifindex, or the map's entry is empty",
        "Fill the entry; or give bpf_redirect_map() an action to return without one",
        _DO_REDIRECT,
    ),
    errno.ENETDOWN: Reason("ENETDOWN", "the target interface is down", advise(Do.BRING_UP), _FORWARD),
    errno.EMSGSIZE: Reason(
        "EMSGSIZE",
        "the packet exceeds the target's MTU",
        "Raise the target's MTU",
        _FORWARD,
    ),
    errno.EOPNOTSUPP: Reason("EOPNOTSUPP", *_NO_XMIT, _ENQUEUE),
    errno.ENXIO: Reason("ENXIO", *_NO_XMIT, "ndo_xdp_xmit of the target's driver"),
    errno.EOVERFLOW: Reason(
        "EOVERFLOW",
        "the packet lacks the headroom for an XDP frame",
        "Make programs grow packets less (bpf_xdp_adjust_head)",
        "xdp_update_frame_from_buff, include/net/xdp.h",
    ),
    errno.EBADRQC: Reason(
        "EBADRQC",
        "a program returned XDP_REDIRECT without setting a target",
        "Check that its redirect helper succeeds first",
        _DO_REDIRECT,
    ),
    errno.ENOENT: Reason("ENOENT", "the map of targets is being removed", "", _DO_REDIRECT),
    errno.ENOMEM: Reason("ENOMEM", "no memory for a copy of the packet", "", "dev_map_enqueue_clone"),
    errno.ENOSPC: Reason(
        "ENOSPC",
        "the queue of the target CPU is full",
        "Use a longer cpumap queue, or more CPUs",
        "cpu_map_generic_redirect, kernel/bpf/cpumap.c",
    ),
}
_SOCKETS: dict[int, Reason] = {
    errno.EINVAL: Reason(
        "EINVAL", "the AF_XDP socket is bound to another queue or interface",
        "The map's index must be the packet's receive queue", _XSK,
    ),
    errno.ENXIO: Reason("ENXIO", "the AF_XDP socket is not bound (any more)", "", _XSK),
    errno.ENOSPC: Reason("ENOSPC", "the packet is longer than a frame of the AF_XDP socket", "", _XSK),
    errno.ENOBUFS: Reason(
        "ENOBUFS", "the AF_XDP socket's receive ring is full", "Its application reads too slowly",
        "__xsk_rcv_zc, net/xdp/xsk.c",
    ),
    errno.ENOMEM: Reason(
        "ENOMEM", "the AF_XDP socket's fill ring is empty", "Its application returns frames too slowly",
        "__xsk_rcv, net/xdp/xsk.c",
    ),
}  # fmt: skip
_SENDING: dict[int, Reason] = {
    errno.ENXIO: Reason("ENXIO", *_NO_XMIT, "ndo_xdp_xmit of the target's driver"),
    errno.ENETDOWN: Reason(
        "ENETDOWN", "the target interface is down, or resets", "", "ndo_xdp_xmit of the target's driver"
    ),
}
_QUEUE = "the send queue was full, or the peer rejects packets of this length"
_EXCEPTIONS: dict[int, Reason] = {
    Action.ABORTED: Reason(
        "XDP_ABORTED",
        "a program aborted the packet",
        "The chain's counters say which slot returned A",
        "trace_xdp_exception in the driver",
    ),
    Action.TX: Reason(
        "XDP_TX",
        "the driver could not send the packet back",
        *_NO_XMIT[1:],
        "trace_xdp_exception in the driver",
    ),
    Action.REDIRECT: Reason(
        "XDP_REDIRECT",
        "the driver could not redirect the packet",
        "The failed redirects say why",
        "trace_xdp_exception in the driver",
    ),
}


def reason(place: LossPlace) -> Reason:
    """Why packets were lost at a place."""
    if place.kind is Tracepoint.EXCEPTION:
        found = _EXCEPTIONS.get(place.code)
        if found is not None:
            return found
        if place.code in Action.__members__.values():
            return Reason(Action(place.code).xdp_name, "the driver could not do it")
        return Reason(f"code {place.code & 0xFFFFFFFF}", "not an XDP action: the packet is dropped")
    if place.kind is Tracepoint.CPUMAP_ENQUEUE:
        return Reason(
            "",
            "the queue of the target CPU was full",
            "Use a longer cpumap queue, or more CPUs",
            "bq_flush_to_queue, kernel/bpf/cpumap.c",
        )
    if place.kind is Tracepoint.CPUMAP_KTHREAD:
        return Reason(
            "", "no memory for the packet on the target CPU", "", "cpu_map_kthread_run, kernel/bpf/cpumap.c"
        )
    if place.kind is Tracepoint.CPUMAP_PROGRAM:
        known = place.code in Action.__members__.values()
        verdict = Action(place.code).xdp_name if known else f"code {place.code}"
        return Reason(verdict, f"the cpumap's program returned {verdict}", "", "cpu_map_bpf_prog_run")
    code = place.errno
    if place.kind in (Tracepoint.BULK_TX, Tracepoint.DEVMAP_XMIT):
        if not code:
            words = _QUEUE
            if place.kind is Tracepoint.DEVMAP_XMIT:
                words += "; or the devmap's own program dropped them"
            return Reason("", words, "", "bq_xmit_all, kernel/bpf/devmap.c")
        table = _SENDING
    else:
        table = {**_REDIRECTS, **_SOCKETS} if place.map_type == XSKMAP else _REDIRECTS
    if code in table:
        return table[code]
    if code in errno.errorcode:
        return Reason(errno.errorcode[code], os.strerror(code).lower())
    return Reason(f"error {code}", "unknown kernel reason")
