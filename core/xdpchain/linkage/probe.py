# SPDX-License-Identifier: Apache-2.0
"""What this kernel supports: linkages are tried, not guessed from the version."""

from __future__ import annotations

import errno
import os
import struct
from functools import cache

from xdpchain.bytecode.instructions import decode
from xdpchain.bytecode.unfolding import unfold
from xdpchain.errors import XdpChainError
from xdpchain.frozen import frozen
from xdpchain.model.chain import Linkage
from xdpchain.model.flow import KINDS, ways_out
from xdpchain.sys import bpf, bpffs

from .dispatcher.config import DispatcherConfig, SlotConfig
from .dispatcher.emit import function_ids, load_dispatcher, slot_function
from .dispatcher.installed import DEFAULT_VERSION
from .threaded import ChainCall, Code, Member, thread

__all__ = [
    "LinkageProbe",
    "TailcallProbe",
    "default_linkage",
    "probe_freplace",
    "probe_linkage",
    "probe_tailcall",
]

RETURN_PASS = bytes.fromhex("b7000000020000009500000000000000")
ENOTSUPP = 524


@frozen
class LinkageProbe:
    """Whether chains can be linked in one way here; ``reason`` says why, or why not, in words."""

    works: bool
    reason: str
    detail: str = ""


def probe_linkage(linkage: Linkage) -> LinkageProbe:
    """Whether a linkage works here: tried once per process."""
    match linkage:
        case Linkage.STATIC:
            return LinkageProbe(True, "it needs nothing but XDP")
        case Linkage.FREPLACE:
            return probe_freplace()
        case Linkage.TAILCALL:
            tried = probe_tailcall()
            return LinkageProbe(tried.works, tried.reason)


def default_linkage() -> tuple[Linkage, str]:
    """The linkage for a new chain, and why: freplace wherever the kernel allows it, otherwise static.

    The kernel is probed once per process, bpffs, which may get mounted, every time. With
    LIBXDP_SKIP_DISPATCHER in the environment libxdp makes no dispatcher, and neither do we.
    """
    if os.environ.get("LIBXDP_SKIP_DISPATCHER", "0") not in ("", "0"):
        return Linkage.STATIC, "LIBXDP_SKIP_DISPATCHER is set, so libxdp's dispatcher is not used"
    probed = probe_freplace()
    if not probed.works:
        return Linkage.STATIC, probed.reason
    try:
        bpffs.find()
    except bpffs.BpffsMissing as error:
        return Linkage.STATIC, f"freplace linkage needs pins, but {_lower(error)}"
    return Linkage.FREPLACE, probed.reason


@cache
def probe_freplace() -> LinkageProbe:
    """Load a dispatcher, replace one of its functions, and discard both. Needs no bpffs and no interface."""
    slot = SlotConfig(actions=0, priority=0)
    try:
        dispatcher = load_dispatcher(DispatcherConfig(DEFAULT_VERSION, (slot, slot)))
    except XdpChainError as error:
        return LinkageProbe(False, f"not even the dispatcher can be loaded: {error.why}", error.detail)
    with dispatcher:
        info = bpf.prog_info(dispatcher)
        if not info.btf_id:
            return LinkageProbe(
                False,
                "this kernel does not support BTF, which freplace needs to find the function to replace",
            )
        try:
            _replace(dispatcher, info, slot_function(1, (slot, slot)))
        except bpf.BpfError as error:
            return LinkageProbe(False, _why_not(error), f"{error}\n{error.log}".strip())
    return LinkageProbe(True, "this kernel supports freplace, so the chain can be shared with libxdp")


@frozen
class TailcallProbe:
    """Whether chains can be linked by tail calls here (``works``), also with components that have functions
    of their own (``functions``); ``reason`` says what is missing, in words.
    """

    works: bool
    functions: bool
    reason: str


@cache
def probe_tailcall() -> TailcallProbe:
    """Load a program with a chain call, then one that also calls a function, and discard both."""
    try:
        with bpf.map_create(bpf.MapType.PROG_ARRAY, 4, 4, len(KINDS), name="xdptui_probe") as array:
            _load_chain_call(array, called=False)
            try:
                _load_chain_call(array, called=True)
            except bpf.BpfError as error:
                why = "a program with functions can't make tail calls on this kernel"
                return TailcallProbe(True, False, f"{why} ({error.strerror}; x86-64 allows both from 5.10)")
    except bpf.BpfError as error:
        why = f"this kernel refuses a program with tail calls ({error.strerror})"
        if error.errno in (errno.EPERM, errno.EACCES):
            why = f"not tried: loading a program with tail calls is not permitted ({error.strerror})"
        return TailcallProbe(False, False, why)
    return TailcallProbe(True, True, "components with their own functions and tail calls can be linked")


def _load_chain_call(array: bpf.Fd, *, called: bool) -> None:
    lines = decode(RETURN_PASS)
    member = Member(Code(lines, (0,)), 0, None if called else unfold(lines))
    threaded = thread([member], ways_out(), frags=False, chain_call=ChainCall(array.fileno()))
    assert threaded is not None
    bpf.prog_load(bpf.ProgType.XDP, threaded.assembled.image, name="xdptui_probe").close()


def _replace(dispatcher: bpf.Fd, info: bpf.ProgInfo, function: str) -> None:
    """Replace a function with `return XDP_PASS`, described by the dispatcher's own types."""
    type_id = function_ids(dispatcher)[function]
    with (
        bpf.btf_by_id(info.btf_id) as types,
        bpf.prog_load(
            bpf.ProgType.EXT,
            RETURN_PASS,
            name="xdptui_probe",
            btf_fd=types.fileno(),
            func_info=struct.pack("<II", 0, type_id),
            attach_btf_id=type_id,
            attach_fd=dispatcher.fileno(),
        ) as program,
    ):
        bpf.link_create(program, dispatcher, target_btf_id=type_id).close()


def _why_not(error: bpf.BpfError) -> str:
    if error.errno in (errno.EPERM, errno.EACCES):
        # An XDP program, the dispatcher, was just loaded: it is not a missing capability.
        return "this kernel blocks EXT programs (EPERM), which freplace needs"
    if error.errno in (ENOTSUPP, errno.EOPNOTSUPP):
        return "this kernel has no BPF trampolines for this processor, which freplace needs"
    if error.errno == errno.EINVAL:
        return "this kernel lacks what freplace needs: EXT programs (5.6) that can be reattached (5.10)"
    name = errno.errorcode.get(error.errno or 0, str(error.errno))
    return f"this kernel refused to replace a function of the dispatcher ({name})"


def _lower(error: XdpChainError) -> str:
    text = str(error)
    return text[0].lower() + text[1:]
