# SPDX-License-Identifier: Apache-2.0
"""Why packets get their verdicts: the verdict sites of what runs, and which part of the counts each has.

Counters tell return codes. A code that one site alone decides is that site's; one that several decide is
theirs together, and which of them it was is not counted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from xdpchain.bytecode.sites import VerdictSite
from xdpchain.bytecode.weaving import LineRecord
from xdpchain.errors import NotFound, XdpChainError
from xdpchain.linkage.linkable_slots import object_bytes
from xdpchain.model.chain import Component, Slot
from xdpchain.model.counts import CODES, FOREIGN
from xdpchain.model.running import Running
from xdpchain.objects.verdicts import sites_of, verdicts_of
from xdpchain.sys import bpf

__all__ = ["Shared", "SlotReasons", "attribute", "reasons_of"]


@dataclass(frozen=True, slots=True)
class SlotReasons:
    """A slot's sites: its place in the chain, the key of its counts, its name. ``why``: why it has none."""

    index: int
    key: str
    name: str
    sites: tuple[VerdictSite, ...]
    why: str = ""


@dataclass(frozen=True, slots=True)
class Shared:
    """What was counted of a return code (`counts.CODES`) that several sites can decide, by their indices."""

    code: int
    sites: tuple[int, ...]
    amount: float


def reasons_of(running: Running) -> tuple[SlotReasons, ...]:
    """The sites of all slots of what runs, or of a single program of somebody else. Of a component whose
    object file is at hand they are read from that, of others from what the kernel shows.
    """
    chain = running.chain or running.shown
    if chain is not None:
        return tuple(_of_slot(index, slot) for index, slot in enumerate(chain.slots))
    if running.hook is None:
        return ()
    hook = running.hook
    sites, why = _loaded(hook.prog_id)
    return (SlotReasons(0, FOREIGN, hook.name, sites, why),)


def attribute(
    sites: Sequence[VerdictSite], amounts: Sequence[float]
) -> tuple[tuple[float | None, ...], tuple[Shared, ...]]:
    """Each site's own part of what was counted by code (None: it has a part of what several share), and what
    is shared.
    """
    own: list[float | None] = [0] * len(sites)
    shared = []
    for code, amount in enumerate(amounts):
        able = tuple(n for n, site in enumerate(sites) if _may_be(site, code))
        if len(able) == 1 and (before := own[able[0]]) is not None:
            own[able[0]] = before + amount
        elif amount:
            shared.append(Shared(code, able, amount))
            for n in able:
                own[n] = None
    return tuple(own), tuple(shared)


def _may_be(site: VerdictSite, code: int) -> bool:
    """Whether a site may have decided a code of a row of counts."""
    return not isinstance(site.code, int) or min(site.code, CODES - 1) == code


def _of_slot(index: int, slot: Slot) -> SlotReasons:
    sites, why = _from_file(slot.component)
    if not sites and slot.component.id is not None:
        sites, why = _loaded(slot.component.id)
    return SlotReasons(index, slot.key, slot.name, sites, why)


def _from_file(component: Component) -> tuple[tuple[VerdictSite, ...], str]:
    if component.object is None:
        return (), "its object file is not known"
    try:
        return verdicts_of(object_bytes(component.object), component.name).sites, ""
    except XdpChainError as error:
        return (), error.why or error.what


def _loaded(prog_id: int) -> tuple[tuple[VerdictSite, ...], str]:
    """Of a program as the kernel shows it: helpers can't be told there."""
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
        return sites_of(image, btf, functions or ((0, 0),), lines), ""
    with contextlib.suppress(XdpChainError):
        return sites_of(image, b"", (), ()), ""
    raise NotFound("the program's code can't be followed")
