# SPDX-License-Identifier: Apache-2.0
"""A device's tc(8) filters, in clsact and ingress. Pure.

The layouts are those of the kernel's linux/rtnetlink.h, pkt_sched.h and pkt_cls.h.
"""

from __future__ import annotations

import struct

from xdpchain.frozen import frozen

from .messages import DUMP, HEADER, attributes, native, request, text

__all__ = [
    "EGRESS",
    "INGRESS",
    "RTM_NEWTFILTER",
    "Filter",
    "decode_filter",
    "encode_get_filters",
]

RTM_NEWTFILTER, _RTM_GETTFILTER = 44, 46
_TCMSG = struct.Struct("=B3xiIII")  # family, ifindex, handle, parent, info

INGRESS, EGRESS = 0xFFFFFFF2, 0xFFFFFFF3
"""Parents of clsact's filters (TC_H_MIN_INGRESS, TC_H_MIN_EGRESS)."""

_KIND, _OPTIONS, _CHAIN = 1, 2, 11
_FLAGS = {"flower": 22, "matchall": 3, "u32": 11, "bpf": 9}
"""Where a classifier keeps TCA_CLS_FLAGS_*."""
_SKIP_SW, _IN_HW = 1 << 1, 1 << 2
_BPF_NAME, _BPF_ID = 7, 11


@frozen
class Filter:
    """A filter: its classifier ("bpf", "flower"...), priority and chain; for bpf also the program's name and
    ID. ``in_hw``: the NIC does it, with ``skip_sw`` only the NIC.
    """

    kind: str
    priority: int
    chain: int
    name: str = ""
    prog_id: int | None = None
    in_hw: bool = False
    skip_sw: bool = False


def encode_get_filters(ifindex: int, parent: int) -> bytes:
    """Dump the filters at a parent of one device; none if it has neither clsact nor ingress."""
    return request(_RTM_GETTFILTER, DUMP, _TCMSG.pack(0, ifindex, 0, parent, 0))


def decode_filter(message: bytes) -> tuple[int, Filter] | None:
    """The ifindex, and the filter; None for a message that only announces a priority."""
    _, ifindex, _, _, info = _TCMSG.unpack_from(message, HEADER.size)
    found = dict(attributes(message, HEADER.size + _TCMSG.size))
    if _OPTIONS not in found:
        return None
    kind = text(found.get(_KIND))
    options = dict(attributes(found[_OPTIONS]))
    flags = native(options.get(_FLAGS.get(kind, -1)))
    bpf = kind == "bpf"
    return ifindex, Filter(
        kind,
        info >> 16,
        native(found.get(_CHAIN)),
        text(options.get(_BPF_NAME)) if bpf else "",
        native(options.get(_BPF_ID)) or None if bpf else None,
        bool(flags & _IN_HW),
        bool(flags & _SKIP_SW),
    )
