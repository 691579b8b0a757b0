# SPDX-License-Identifier: Apache-2.0
"""The verdict sites of running programs: where they decide what happens to packets."""

from __future__ import annotations

import contextlib

from xdpchain.bytecode.linkable_program import LinkableProgram
from xdpchain.bytecode.sites import VerdictSite
from xdpchain.bytecode.weaving import LineRecord
from xdpchain.errors import NotFound, XdpChainError
from xdpchain.linkage.linkable_slots import object_bytes, shown_sites
from xdpchain.model.component import Component
from xdpchain.model.counts import FOREIGN
from xdpchain.model.running import Running
from xdpchain.model.slot import Slot
from xdpchain.objects.verdicts import sites_of, sites_of_linkable, verdicts_of
from xdpchain.sys import blobs, bpf

from .loaded_helpers import with_helpers
from .site_shares import SlotReasons

__all__ = ["reasons_of"]


def reasons_of(running: Running) -> tuple[SlotReasons, ...]:
    """The sites of all running slots, or of a single foreign program. They are read from the linkable form
    stored with an xdptui chain, else from the object file, else from the kernel.
    """
    chain = running.chain or running.shown
    if chain is not None:
        return tuple(_of_slot(index, slot) for index, slot in enumerate(chain.slots))
    if running.hook is None:
        return ()
    hook = running.hook
    sites, why = _loaded(hook.prog_id)
    return (SlotReasons(0, FOREIGN, hook.name, sites, why),)


def _of_slot(index: int, slot: Slot) -> SlotReasons:
    sites, why = _linked(slot.component)
    if not sites:
        sites, why = _from_file(slot.component)
    if not sites and slot.component.id is not None:
        sites, why = _loaded(slot.component.id)
    return SlotReasons(index, slot.key, slot.name, sites, why)


def _linked(component: Component) -> tuple[tuple[VerdictSite, ...], str]:
    """The sites of the linkable form, which are those that counters count."""
    if component.unit_map is None:
        return (), ""
    try:
        with bpf.map_by_id(component.unit_map) as fd:
            linkable = LinkableProgram.decode(blobs.read(fd))
        return shown_sites(linkable, sites_of_linkable(linkable), component), ""
    except bpf.BpfError as error:
        refused = bpf.refusal(error, "its linkable form can't be read")
        return (), refused.why or refused.what
    except XdpChainError as error:
        return (), error.why or error.what


def _from_file(component: Component) -> tuple[tuple[VerdictSite, ...], str]:
    if component.object is None:
        return (), "its object file is not known"
    try:
        return verdicts_of(object_bytes(component.object), component.name).sites, ""
    except XdpChainError as error:
        return (), error.why or error.what


def _loaded(prog_id: int) -> tuple[tuple[VerdictSite, ...], str]:
    """The sites of a program as the kernel shows it."""
    try:
        with bpf.prog_by_id(prog_id) as program:
            info = bpf.prog_info(program)
            image = bpf.prog_instructions(program)
            functions = bpf.prog_func_info(program)
            lines = tuple(map(LineRecord._make, bpf.prog_line_info(program)))
            btf = bpf.btf_raw(info.btf_id) if info.btf_id else b""
    except bpf.BpfError as error:
        refused = bpf.refusal(error, "the program can't be read")
        return (), refused.why or refused.what
    if not image:
        return (), "the kernel does not show its code"
    with contextlib.suppress(XdpChainError):
        image = with_helpers(image)
    with contextlib.suppress(XdpChainError):
        return sites_of(image, btf, functions or ((0, 0),), lines), ""
    with contextlib.suppress(XdpChainError):
        return sites_of(image, b"", (), ()), ""
    raise NotFound("the program's code can't be analysed")
