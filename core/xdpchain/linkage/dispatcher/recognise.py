# SPDX-License-Identifier: Apache-2.0
"""Is a program a dispatcher of libxdp's protocol, whose is it, and what does its configuration say?

The tests and their order are libxdp's own, so that both agree on what is a chain: the name, the single map
and its shape, the magic byte or else the version in BTF, and the size of the configuration.
"""

from __future__ import annotations

from struct import unpack_from
from typing import NamedTuple

from xdpchain.errors import InvalidInput
from xdpchain.frozen import frozen
from xdpchain.model.chain import DISPATCHER_SLOTS
from xdpchain.objects.btf import Btf, BtfError
from xdpchain.objects.runconfig_btf import read_metadata_version
from xdpchain.sys import bpf
from xdpchain.sys.while_it_lives import while_it_lives

from .config import MAGIC, SIZES, DispatcherConfig
from .emit import MAIN

__all__ = ["Recognised", "btf_of", "recognise"]

BPF_F_RDONLY_PROG = 1 << 7
BPFMAN_PRIORITY = 50
FIRST_STUB = "prog0"
"""Every version has this function, whatever else it has."""
MOST_BTF = 4 << 20
"""Most bytes of a program's BTF: others load it."""
MOST_CONFIG = 4096
"""Most bytes of a configuration of any version, present or future."""


@frozen
class Recognised:
    """A dispatcher. If they can't be read, ``version`` is 0, ``config`` is None, and ``trouble`` says why.

    ``ours``: it has our own dispatchers' mark. ``bpfman``: it looks like bpfman's, which sets priority 50 in
    all ten slots, used or not; libxdp leaves unused ones at zero. ``priorities_50``: all slots have that
    priority, which for a chain of ten means something only together with how it is attached.
    """

    id: int
    version: int = 0
    config: DispatcherConfig | None = None
    ours: bool = False
    bpfman: bool = False
    priorities_50: bool = False
    trouble: str = ""


def recognise(program: bpf.Fd, info: bpf.ProgInfo, map_ids: tuple[int, ...]) -> Recognised | None:
    """Recognise a running program; None if it is not a dispatcher at all. Raises BpfError."""
    if info.name != MAIN or not info.btf_id:  # without BTF nothing can replace its functions
        return None
    declared = _declared(info.btf_id)
    if declared is None:
        return None  # somebody's own program of that name
    ours = declared.ours
    if len(map_ids) != 1:
        return Recognised(info.id, ours=ours, trouble=f"it has {len(map_ids)} maps instead of one")
    with bpf.map_by_id(map_ids[0]) as fd:
        shape = bpf.map_info(fd)
        plain = (shape.type, shape.key_size, shape.max_entries) == (bpf.MapType.ARRAY, 4, 1)
        if not plain or shape.value_size > MOST_CONFIG or not shape.flags & BPF_F_RDONLY_PROG:
            return Recognised(info.id, ours=ours, trouble="its map is not a configuration")
        block = bpf.map_lookup(fd, bytes(4), shape.value_size)
    version = block[1] if block[0] == MAGIC else declared.version
    if not version:
        return Recognised(info.id, ours=ours, trouble="it does not state its version")
    if SIZES.get(version) != len(block):
        what = f"version {version} with a configuration of {len(block)} bytes"
        return Recognised(info.id, version, ours=ours, trouble=f"{what} is unknown")
    try:
        config = DispatcherConfig.decode(block)
    except InvalidInput as error:
        return Recognised(info.id, version, ours=ours, trouble=error.why or error.what)
    priorities = set(unpack_from(f"={DISPATCHER_SLOTS}I", block, 44))
    unused = unpack_from(f"={DISPATCHER_SLOTS}I", block, 44)[len(config.slots) :]
    return Recognised(
        info.id,
        version,
        config,
        ours,
        bpfman=bool(unused) and set(unused) == {BPFMAN_PRIORITY},
        priorities_50=priorities == {BPFMAN_PRIORITY},
    )


class _Declared(NamedTuple):
    """What a dispatcher's BTF says: whether it has our mark, and its version, if it states one."""

    ours: bool
    version: int | None


@while_it_lives(bpf.btf_by_id)
def _declared(btf_id: int) -> _Declared | None:
    """None: it has no function that a component could replace."""
    btf = btf_of(btf_id)
    if all(function.name != FIRST_STUB for function in btf.functions()):
        return None
    return _Declared(
        read_metadata_version(btf, "xdptui_metadata", "xdptui_dispatcher") is not None,
        read_metadata_version(btf, "xdp_metadata", "dispatcher_version"),
    )


def btf_of(btf_id: int) -> Btf:
    """The BTF with this ID. Raises BpfError, BtfError."""
    raw = bpf.btf_raw(btf_id)
    if len(raw) > MOST_BTF:
        raise BtfError(f"it has {len(raw)} bytes; at most {MOST_BTF} are read")
    return Btf.parse(raw)
