# SPDX-License-Identifier: Apache-2.0
"""Which loaded programs run on an interface, and whose code is in them."""

from __future__ import annotations

from xdpchain.bytecode import opcodes as op
from xdpchain.bytecode.instructions import decode
from xdpchain.bytecode.linkable_program import LinkableProgram
from xdpchain.errors import XdpChainError
from xdpchain.model.component import Component
from xdpchain.model.running import Running
from xdpchain.sys import blobs, bpf

__all__ = ["linkable_of", "only_stream_writer", "printing_programs"]


def printing_programs(running: Running) -> dict[int, tuple[int, str] | None]:
    """The programs that run there by prog ID, each with its slot (index and name); None: a whole chain."""
    chain = running.chain or running.shown
    programs: dict[int, tuple[int, str] | None] = {hook.prog_id: None for hook in running.hooks}
    for index, slot in enumerate(chain or ()):
        for prog_id in (slot.program, slot.component.id if running.linkage_facts.by_component else None):
            if prog_id is not None:
                programs[prog_id] = index, slot.name
    if chain is None and running.hook is not None:
        programs[running.hook.prog_id] = 0, running.hook.name
    return programs


def only_stream_writer(running: Running) -> tuple[int, str] | None:
    """The slot whose component alone can write to the streams of a static chain's program, since no other
    calls kernel functions; None: several can, or it is not known.
    """
    able = []
    for index, slot in enumerate(running.chain or ()):
        linkable = linkable_of(slot.component)
        if linkable is None:
            return None
        if any(
            line.code == op.CALL and line.source == op.CALL_KFUNC for line in decode(linkable.instructions)
        ):
            able.append((index, slot.name))
    return able[0] if len(able) == 1 else None


def linkable_of(component: Component) -> LinkableProgram | None:
    """A component's linkable form, as its chain keeps it; None: it has none, or it is gone."""
    if component.unit_map is None:
        return None
    try:
        with bpf.map_by_id(component.unit_map) as fd:
            return LinkableProgram.decode(blobs.read(fd))
    except (bpf.BpfError, XdpChainError):
        return None
