# SPDX-License-Identifier: Apache-2.0
"""Side effects of a program, as far as its object file shows: what a shadow slot still does. Pure."""

from __future__ import annotations

from functools import lru_cache

from xdpchain.bytecode.opcodes import Helper
from xdpchain.errors import InvalidInput, NotFound
from xdpchain.frozen import frozen

__all__ = ["Effects", "effects_of"]

WRITING = (
    Helper.XDP_ADJUST_HEAD,
    Helper.XDP_ADJUST_META,
    Helper.XDP_ADJUST_TAIL,
    Helper.XDP_STORE_BYTES,
    Helper.DYNPTR_WRITE,
)
REDIRECTING = (Helper.REDIRECT, Helper.REDIRECT_MAP)
TELLING = (
    Helper.PERF_EVENT_OUTPUT,
    Helper.RINGBUF_OUTPUT,
    Helper.RINGBUF_SUBMIT,
    Helper.RINGBUF_SUBMIT_DYNPTR,
)

READING_KFUNCS = (
    "bpf_xdp_metadata_rx_", "bpf_dynptr_from_xdp", "bpf_dynptr_adjust", "bpf_dynptr_is_", "bpf_dynptr_size",
    "bpf_dynptr_clone", "bpf_cast_to_kern_ctx", "bpf_rdonly_cast", "bpf_rcu_read_", "bpf_iter_",
    "bpf_xdp_ct_lookup", "bpf_ct_release", "bpf_xdp_get_xfrm_state", "bpf_xdp_xfrm_state_release",
)  # fmt: skip
"""Name prefixes of kernel functions that change neither the packet nor the system."""

READ_SLICE = "bpf_dynptr_slice"  # unlike bpf_dynptr_slice_rdwr


@frozen
class Effects:
    """``writes``: how it changes the packet: the helpers that it calls, and "stores" if it may store to it
    directly. ``redirects`` and ``tells``: helpers that choose a packet's target, or report to user space.
    ``kernel``: kernel functions that may change something. ``pinned``: maps that it shares by pinning.
    ``unsure``: it is too long to search for stores.
    """

    writes: tuple[str, ...] = ()
    redirects: tuple[str, ...] = ()
    tells: tuple[str, ...] = ()
    kernel: tuple[str, ...] = ()
    pinned: tuple[str, ...] = ()
    unsure: bool = False

    def __bool__(self) -> bool:
        return self != Effects()


@lru_cache(maxsize=64)
def effects_of(data: bytes, program: str) -> Effects | None:
    """The effects of a program in the object file ``data``, including everything that it calls or tail-calls;
    None if that can't be read.
    """
    from xdpchain.bytecode.packet_writes import Code, TooLong, writes_packet

    from .elf import Elf
    from .objfile import ObjectFile
    from .objrefs import ObjectFunction, References, read_functions

    def name(function: ObjectFunction) -> str:
        return f"{function.section}:{function.start}"

    try:
        source, elf = ObjectFile.parse(data), Elf.parse(data)
        functions = read_functions(elf)
        wanted = {program, *source.program(program).callees}
        entries = [
            function for function in functions if function.name in wanted and function.section_name != ".text"
        ]
        graph = References(elf, functions, {bpf_map.name for bpf_map in source.maps})
        helpers = frozenset().union(*(graph.helpers(entry) for entry in entries))
        used = {name for entry in entries for name in graph.maps(entry)}
        kfuncs = frozenset().union(*(graph.kfuncs(entry) for entry in entries))
        code = {
            name(function): Code(
                bytes(elf.sections[function.section].data[function.start : function.start + function.size]),
                {at: name(target) for at, target in graph.sites(function).items()},
            )
            for entry in entries
            for function in graph.reached(entry)
        }
    except (InvalidInput, NotFound):
        return None
    changing = sorted(
        kfunc for kfunc in kfuncs if kfunc != READ_SLICE and not kfunc.startswith(READING_KFUNCS)
    )
    writes = [helper.function for helper in WRITING if helper in helpers]
    unsure = False
    try:
        if writes_packet(code, [name(entry) for entry in entries]):
            writes.insert(0, "stores")
    except (InvalidInput, TooLong):
        unsure = True
    return Effects(
        tuple(writes),
        tuple(helper.function for helper in REDIRECTING if helper in helpers),
        tuple(helper.function for helper in TELLING if helper in helpers),
        tuple(changing),
        tuple(bpf_map.name for bpf_map in source.maps if bpf_map.pinning and bpf_map.name in used),
        unsure,
    )
