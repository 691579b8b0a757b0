# SPDX-License-Identifier: Apache-2.0
"""The filters that tc(8) has on a device, in clsact and in ingress. Pure.

The layouts are those of the kernel's linux/rtnetlink.h, pkt_sched.h and pkt_cls.h.
"""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass

from .tunnels import attributes

__all__ = [
    "EGRESS",
    "INGRESS",
    "RTM_NEWTFILTER",
    "Filter",
    "decode_filter",
    "encode_get_filters",
]

RTM_NEWTFILTER, _RTM_GETTFILTER = 44, 46
_REQUEST_AND_DUMP = 0x301
_HEADER = 16
_TCMSG = struct.Struct("=B3xiIII")  # family, ifindex, handle, parent, info

INGRESS, EGRESS = 0xFFFFFFF2, 0xFFFFFFF3
"""Parents of clsact's filters (TC_H_MIN_INGRESS, TC_H_MIN_EGRESS)."""

_KIND, _OPTIONS, _CHAIN = 1, 2, 11
_FLAGS = {"flower": 22, "matchall": 3, "u32": 11, "bpf": 9}
"""Where a classifier keeps TCA_CLS_FLAGS_*."""
_SKIP_SW, _IN_HW = 1 << 1, 1 << 2
_BPF_NAME, _BPF_ID = 7, 11


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter: its classifier ("bpf", "flower"...), its priority and chain; of bpf the program's name and
    id. ``in_hw``: the card does it, with ``skip_sw`` the card alone.
    """

    kind: str
    priority: int
    chain: int
    name: str = ""
    prog_id: int | None = None
    in_hw: bool = False
    skip_sw: bool = False


def encode_get_filters(ifindex: int, parent: int) -> bytearray:
    """Dump the filters at a parent of one device; none where it has neither clsact nor ingress."""
    body = _TCMSG.pack(0, ifindex, 0, parent, 0)
    head = struct.pack("=IHHII", _HEADER + len(body), _RTM_GETTFILTER, _REQUEST_AND_DUMP, 0, 0)
    return bytearray(head + body)


def decode_filter(message: bytes) -> tuple[int, Filter] | None:
    """The ifindex, and the filter; None for what only announces a priority."""
    _, ifindex, _, _, info = _TCMSG.unpack_from(message, _HEADER)
    found = dict(attributes(message[_HEADER + _TCMSG.size :]))
    if _OPTIONS not in found:
        return None
    kind = _text(found.get(_KIND, b""))
    options = dict(attributes(found[_OPTIONS]))
    flags = _number(options.get(_FLAGS.get(kind, -1), b""))
    bpf = kind == "bpf"
    return ifindex, Filter(
        kind,
        info >> 16,
        _number(found.get(_CHAIN, b"")),
        _text(options.get(_BPF_NAME, b"")) if bpf else "",
        _number(options.get(_BPF_ID, b"")) or None if bpf else None,
        bool(flags & _IN_HW),
        bool(flags & _SKIP_SW),
    )


def _number(data: bytes) -> int:
    return int.from_bytes(data[:4], sys.byteorder) if len(data) >= 4 else 0


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode(errors="replace")
