# SPDX-License-Identifier: Apache-2.0
"""A component that counts what it returns and keeps to its policy: threaded as a chain of one slot whose ways
all lead out.

In libxdp's protocol the dispatcher may have no map but its configuration, but a component may have any. So in
freplace linkage each component counts for itself, whoever builds the dispatcher around it and in whatever
order, and replaces what its policy forbids before the dispatcher sees it. The code of twins is identical,
because libxdp's order depends on the tag.
"""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Mapping
from dataclasses import replace

from xdpchain.bytecode import opcodes as op
from xdpchain.bytecode.instructions import module_calls
from xdpchain.bytecode.linkable_program import LinkableProgram
from xdpchain.frozen import frozen
from xdpchain.model.chain import Chain
from xdpchain.model.component import Component
from xdpchain.model.counting import Counting, Layout
from xdpchain.model.flow import Counters, counted_apart, ways_out
from xdpchain.model.policy import Answer, Policy
from xdpchain.model.slot import Slot
from xdpchain.objects.kernel_calls import THROW, kernel_calls
from xdpchain.objects.verdicts import sites_name
from xdpchain.sys import bpf
from xdpchain.sys.cpus import possible_cpus

from .counting import OwnCounters, counters_for
from .dispatcher.emit import takes_frags
from .kits import kit_of
from .members import Described, Exits, exits_of, member_of, of_itself
from .policing import REPORTING, reporting
from .threaded import CountInto, Form, Threaded, thread
from .verifier_words import read_log

__all__ = ["Place", "SelfCounting", "load_counting", "policy_within", "uncountable"]

FORMS = ((Form.THREADED, True), *((form, False) for form in Form))
"""What is tried, in this order; in the first, each verdict site has its own counter."""


@frozen
class Place:
    """Where a component belongs: the loaded dispatcher, and the BTF ID of the function that it replaces."""

    dispatcher: bpf.Fd
    function: int


@frozen
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


def policy_within(slot: Slot) -> Policy | None:
    """The policy that is part of a slot's program. In shadow nothing is answered: the chain goes on anyway,
    and who looks sees what the component itself would have done.
    """
    if slot.policy is None or not slot.shadow:
        return slot.policy
    return replace(slot.policy, otherwise=Answer.AS_IS)


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
    counting: Counting | None,
    ring: bpf.Fd | None,
    place: Place,
    held: contextlib.ExitStack,
) -> SelfCounting:
    """Load the slot's component again as a program that counts, in the cheapest form the kernel accepts.
    ``counting``: the chain's counts so far. ``ring``: for reports of what its policy forbids.
    """
    component, reason = slot.component, ""
    units: dict[Hashable, LinkableProgram] = {0: unit}
    if ring is not None:
        units["report"] = kit_of(REPORTING).unit
    types = of_itself(units)
    counters: OwnCounters | None = None
    with contextlib.ExitStack() as made:
        for form, sited in FORMS:
            exits = exits_of(unit, sited=sited)
            counted, layout = _laid_out(slot, unit, exits, sited=sited)
            if counters is None or counters.layout != layout:
                made.close()  # nobody counts in those of a form that was refused
                counters = counters_for(layout, counting, made)
            threaded = thread(
                [member_of(unit, maps, form, exits, types.shifts.get(0, 0))],
                ways_out(policy_within(slot)),
                frags=component.frags and takes_frags(),
                counting=CountInto(counters.fd.fileno(), layout.stride, possible_cpus(), counted),
                report=None if ring is None else (reporting(ring), [0]),
            )
            if threaded is None:
                reason = f"its stack leaves no room (limit {op.STACK} bytes)"
                continue
            try:
                program = held.enter_context(_load(component, types, threaded, place))
            except bpf.BpfError as error:
                why = read_log(_log(component, types, threaded, place)).why
                what = "counted by code" if sited else f"not {form}"
                reason = f"{what}: the verifier says {why}" if why else f"{what}: {error}"
                continue
            held.push(made.pop_all())
            return SelfCounting(program, counters, form, reason)
    return SelfCounting(None, reason=reason)


def _load(
    component: Component,
    types: Described,
    threaded: Threaded,
    place: Place,
    *,
    log_level: int = 0,
) -> bpf.Fd:
    with bpf.btf_load(types.btf) as btf:
        return bpf.prog_load(
            bpf.ProgType.EXT,
            threaded.assembled.image,
            name=component.name,
            licence=component.licence,
            btf_fd=btf.fileno(),
            func_info=types.func_info(threaded),
            line_info=types.line_info(threaded),
            attach_btf_id=place.function,
            attach_fd=place.dispatcher.fileno(),
            log_level=log_level,
            log_size=1 << 24 if log_level else 1 << 16,
        )


def _log(component: Component, types: Described, threaded: Threaded, place: Place) -> str:
    with contextlib.suppress(bpf.BpfError):
        try:
            _load(component, types, threaded, place, log_level=1).close()
        except bpf.BpfError as error:
            return error.log
    return ""
