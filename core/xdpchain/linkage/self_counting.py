# SPDX-License-Identifier: Apache-2.0
"""A component that counts what it returns: threaded as a chain of one slot whose ways all lead out.

In libxdp's protocol the dispatcher may have no map but its configuration, but a component may have any. So in
freplace linkage each component counts for itself, whoever builds the dispatcher around it and in whatever
order. The code of twins is identical, because libxdp's order depends on the tag.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace

from xdpchain.bytecode import opcodes as op
from xdpchain.bytecode.instructions import module_calls
from xdpchain.bytecode.linkable_program import LinkableProgram
from xdpchain.model.chain import Chain, Component, Slot
from xdpchain.model.counting import Layout
from xdpchain.model.flow import Counters, counted_apart, ways_out
from xdpchain.objects.kernel_calls import THROW, kernel_calls
from xdpchain.objects.verdicts import sites_name
from xdpchain.sys import bpf
from xdpchain.sys.libbpf import possible_cpus

from .counting import OwnCounters
from .dispatcher.emit import takes_frags
from .members import Described, Exits, exits_of, member_of
from .threading import CountInto, Form, Threaded, thread
from .verifier_words import read_log

__all__ = ["Place", "SelfCounting", "load_counting", "uncountable"]

FORMS = ((Form.THREADED, True), *((form, False) for form in Form))
"""What is tried, in this order; in the first, each verdict site has its own counter."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a component belongs: the loaded dispatcher, and the BTF ID of the function that it replaces."""

    dispatcher: bpf.Fd
    function: int


@dataclass(frozen=True, slots=True)
class SelfCounting:
    """A loaded program that counts, and where; None if the kernel accepted no form. ``reason``: why not in a
    form that tells more or costs less.
    """

    program: bpf.Fd | None
    counters: OwnCounters | None = None
    form: str = ""
    reason: str = ""


def _laid_out(slot: Slot, unit: LinkableProgram, exits: Exits, *, sited: bool) -> tuple[Counters, Layout]:
    """The counter of each way, and what the counters mean. A component goes on counting in shadow, but it
    can't tell what it would have done from what it did, so its counts are never a shadow's.
    """
    alone = Chain((replace(slot, shadow=False),))
    return counted_apart(alone, [(sites_name(unit) if sited else "", exits.kinds)], verdict=False)


def uncountable(component: Component, data: bytes, unit: LinkableProgram) -> str:
    """Why a component can't count for itself, whatever the kernel says; "" if it can."""
    if module_calls(unit.instructions):
        return "it calls kernel module functions"
    if THROW in kernel_calls(data, component.name):
        return "it calls bpf_throw, which would bypass the counters"
    return ""


def load_counting(
    slot: Slot,
    unit: LinkableProgram,
    maps: Mapping[str, bpf.Fd],
    counters_in: Callable[[Layout], OwnCounters],
    place: Place,
) -> SelfCounting:
    """Load the slot's component again as a program that counts, in the cheapest form the kernel accepts."""
    component, reason = slot.component, ""
    for form, sited in FORMS:
        exits = exits_of(unit, sited=sited)
        counted, layout = _laid_out(slot, unit, exits, sited=sited)
        counters = counters_in(layout)
        threaded = thread(
            [member_of(unit, maps, form, exits)],
            ways_out(),
            frags=component.frags and takes_frags(),
            counting=CountInto(counters.fd.fileno(), layout.stride, possible_cpus(), counted),
        )
        if threaded is None:
            reason = f"its stack leaves no room (limit {op.STACK} bytes)"
            continue
        try:
            return SelfCounting(_load(component, unit, threaded, place), counters, form, reason)
        except bpf.BpfError as error:
            why = read_log(_log(component, unit, threaded, place)).why
            what = "counted by code" if sited else f"not {form}"
            reason = f"{what}: the verifier says {why}" if why else f"{what}: {error}"
    return SelfCounting(None, reason=reason)


def _load(
    component: Component,
    unit: LinkableProgram,
    threaded: Threaded,
    place: Place,
    *,
    log_level: int = 0,
) -> bpf.Fd:
    functions: dict[Hashable, int] = {(0, at): type_id for at, type_id in unit.functions}
    described = Described(unit.btf, {"main": functions[0, 0], **functions}, {0: unit.lines})
    with bpf.btf_load(unit.btf) as btf:
        return bpf.prog_load(
            bpf.ProgType.EXT,
            threaded.assembled.image,
            name=component.name,
            licence=component.licence,
            btf_fd=btf.fileno(),
            func_info=described.func_info(threaded),
            line_info=described.line_info(threaded),
            attach_btf_id=place.function,
            attach_fd=place.dispatcher.fileno(),
            log_level=log_level,
            log_size=1 << 24 if log_level else 1 << 16,
        )


def _log(component: Component, unit: LinkableProgram, threaded: Threaded, place: Place) -> str:
    with contextlib.suppress(bpf.BpfError):
        try:
            _load(component, unit, threaded, place, log_level=1).close()
        except bpf.BpfError as error:
            return error.log
    return ""
