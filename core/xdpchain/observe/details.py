# SPDX-License-Identifier: Apache-2.0
"""Everything known about a slot of a running chain, for display."""

from __future__ import annotations

import contextlib
import re

from xdpchain.bytecode.linkable_program import LinkableProgram
from xdpchain.errors import Unsupported, XdpChainError
from xdpchain.frozen import frozen
from xdpchain.model.component import MapRef
from xdpchain.model.runconfig import RunConfig
from xdpchain.model.running import Running
from xdpchain.model.slot import Slot
from xdpchain.sys import blobs, bpf, bpftool

__all__ = ["Details", "MapDetails", "describe"]


@frozen
class MapDetails:
    """A map of a component: sizes in bytes, ``type`` by the kernel's name."""

    name: str
    id: int
    type: str
    key_size: int
    value_size: int
    max_entries: int
    flags: int


@frozen
class Details:
    """A slot in detail. ``stack`` (bytes per frame), ``verified`` (instructions that the verifier processed)
    and ``jited`` (bytes of machine code) are the component's, from when it was loaded alone; None if not
    recorded.
    """

    name: str
    id: int | None
    tag: str | None
    path: str | None
    sha256: str | None
    section: str
    licence: str
    declared: RunConfig
    instructions: int | None
    stack: tuple[int, ...] | None
    verified: int | None
    jited: int | None
    maps: tuple[MapDetails, ...]
    program: int | None
    """The ID of the program with the component's code: its own, the slot's under tailcall linkage, or the
    dispatcher's under static linkage.
    """
    alone: bool = False
    """Whether that program runs only this component."""
    form: str = ""
    form_reason: str = ""
    """How a static chain's components were linked into its program, and why not in a cheaper form."""

    def translated(self) -> str:
        """The component's instructions as rewritten by the kernel. Raises Unsupported, KernelRefused."""
        return self._dump("xlated")

    def jited_code(self) -> str:
        """The component's machine code. Raises Unsupported, KernelRefused (a bpftool without a
        disassembler).
        """
        return self._dump("jited")

    def _dump(self, what: str) -> str:
        if self.program is None:
            raise Unsupported(f"{self.name} is not loaded", todo="Apply the candidate first")
        dump = bpftool.text("prog", "dump", what, "id", str(self.program))
        return dump if self.alone else _function(dump, self.name)


def describe(running: Running, slot: Slot) -> Details:
    """Gather what the kernel and the chain know about ``slot``."""
    component = slot.component
    unit = _unit(component.unit_map)
    own = next(
        (prog_id for prog_id in (slot.program, component.id) if prog_id is not None and _alive(prog_id)), None
    )
    whole = running.hook.prog_id if running.hook and running.linkage_facts.one_program else None
    shared = whole if component.unit_map is not None else None
    verified, jited = (unit.verified, unit.jited) if unit else (None, None)
    if unit is None and own is not None:
        with contextlib.suppress(bpf.BpfError), bpf.prog_by_id(own) as program:
            info = bpf.prog_info(program)
            verified, jited = info.verified_instructions, info.jited_len
    return Details(
        name=component.name,
        id=component.id,
        tag=component.tag,
        path=component.object.path if component.object else None,
        sha256=component.object.sha256 if component.object else None,
        section=component.section,
        licence=component.licence,
        declared=component.declared,
        instructions=component.instructions,
        stack=unit.stack if unit else None,
        verified=verified,
        jited=jited,
        maps=tuple(details for ref in component.maps if (details := _map(ref))),
        program=own if own is not None else shared,
        alone=own is not None,
        form=running.form,
        form_reason=running.form_reason,
    )


def _unit(map_id: int | None) -> LinkableProgram | None:
    if map_id is None:
        return None
    try:
        return blobs.decoded(map_id, LinkableProgram.decode)
    except (bpf.BpfError, XdpChainError):
        return None


def _alive(program: int) -> bool:
    try:
        bpf.prog_by_id(program).close()
    except bpf.BpfError:
        return False
    return True


def _map(ref: MapRef) -> MapDetails | None:
    try:
        with bpf.map_by_id(ref.id) as fd:
            info = bpf.map_info(fd)
    except bpf.BpfError:
        return None
    return MapDetails(
        ref.name,
        ref.id,
        bpf.map_type_name(info.type),
        info.key_size,
        info.value_size,
        info.max_entries,
        info.flags,
    )


def _function(dump: str, name: str) -> str:
    """The part of a dump that belongs to one component: from its function to the next component's.

    bpftool prints a function's signature before its code. A component's subprograms follow it, and the next
    component's first function has the dispatcher's prototype again.
    """
    head = re.compile(
        rf"^(int {re.escape(name)}\(struct xdp_md \*\s*ctx\):|bpf_prog_\w+_{re.escape(name)[:15]}\w*:)"
    )
    lines = dump.splitlines()
    start = next((i for i, line in enumerate(lines) if head.match(line)), None)
    if start is None:
        return dump
    following = re.compile(r"^int \w+\(struct xdp_md \*\s*ctx\):")
    end = next((i for i in range(start + 1, len(lines)) if following.match(lines[i])), len(lines))
    return "\n".join(lines[start:end])
