# SPDX-License-Identifier: Apache-2.0
"""Load a dispatcher of libxdp's protocol, version 2 or 3, with its configuration frozen into .rodata."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Sequence
from functools import cache

from xdpchain.errors import Unsupported
from xdpchain.model.actions import Action
from xdpchain.model.interface import Interface
from xdpchain.objects.btf import Btf
from xdpchain.sys import bpf, netns, shipped
from xdpchain.sys.libbpf import ATTACH_TYPE_XDP, BPF_F_XDP_HAS_FRAGS, LoadFailed, Object

from . import MAIN
from .config import DispatcherConfig, SlotConfig

__all__ = [
    "MAIN",
    "NO_METADATA",
    "beyond_pass",
    "function_ids",
    "load_dispatcher",
    "slot_function",
    "takes_frags",
]

NO_METADATA = "it reads RX metadata, which this device's driver does not provide"

RETURN_PASS = bytes.fromhex("b7000000020000009500000000000000")


def slot_function(index: int, slots: Sequence[SlotConfig]) -> str:
    """The function that the component in slot ``index`` replaces. A single component replaces main, as with
    libxdp, unless that changes its meaning: in main's place its return code is the verdict, and actions
    beyond XDP_PASS would have no effect.
    """
    return MAIN if len(slots) == 1 and not beyond_pass(slots[0]) else f"prog{index}"


def beyond_pass(slot: SlotConfig) -> bool:
    """Whether the chain continues after a code other than XDP_PASS."""
    return bool(slot.actions & ~(1 << Action.PASS))


@cache
def takes_frags() -> bool:
    """Whether this kernel supports XDP programs for multi-buffer packets (5.18, c2f2cdbeffda), found by
    trying.
    """
    with contextlib.suppress(bpf.BpfError):
        bpf.prog_load(
            bpf.ProgType.XDP,
            RETURN_PASS,
            name="xdptui_probe",
            attach_type=ATTACH_TYPE_XDP,
            flags=BPF_F_XDP_HAS_FRAGS,
        ).close()
        return True
    return False


def load_dispatcher(config: DispatcherConfig, device: Interface | None = None) -> bpf.Fd:
    """Load a dispatcher with this configuration, attached to nothing; .rodata is its only map. If it is
    bound, it is bound to ``device``.

    With an extra map, or one of another size, libxdp would take it for somebody else's program. Raises
    InvalidInput (the object is missing), KernelRefused, PermissionDenied, Unsupported.
    """
    block = config.encode()
    with Object(shipped.read(f"dispatcher_v{config.version}"), MAIN) as opened:
        (program,) = opened.programs()
        program.as_xdp(config.frags)
        if config.devbound and device is not None:
            program.bind_to(device.ifindex)
        for bpf_map in opened.maps():
            bpf_map.set_initial_value(block)
        try:
            netns.run(device.netns if config.devbound and device is not None else None, opened.load)
        except LoadFailed as error:
            if config.devbound and error.errno == errno.EOPNOTSUPP:
                raise Unsupported("the dispatcher can't be bound to its device", NO_METADATA) from error
            raise bpf.refusal(error, "the dispatcher can't be loaded", log=error.log) from error
        return bpf.Fd(os.dup(program.fd))


def function_ids(dispatcher: bpf.Fd) -> dict[str, int]:
    """The BTF type IDs of a loaded dispatcher's functions, by name."""
    btf = Btf.parse(bpf.btf_raw(bpf.prog_info(dispatcher).btf_id))
    return {function.name: function.id for function in btf.functions()}
