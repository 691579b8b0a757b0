# SPDX-License-Identifier: Apache-2.0
"""A component that counts what it returns: threaded as a chain of one slot, whose ways all lead out.

The dispatcher of libxdp's protocol may have no map but its configuration. A component may have any; so under
freplace linkage each counts for itself, whoever builds the dispatcher around it and in whatever order.
Nothing in the code differs between twins, since its tag takes part in libxdp's order.
"""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from xdpchain.bytecode import opcodes as op
from xdpchain.bytecode.instructions import module_calls
from xdpchain.bytecode.linkable_program import LinkableProgram
from xdpchain.model.chain import Component, Slot
from xdpchain.model.counting import NOTHING, Layout
from xdpchain.model.counts import CODES
from xdpchain.model.flow import KINDS, Way
from xdpchain.model.paths import RETURN
from xdpchain.model.routes import OTHER
from xdpchain.objects.kernel_calls import THROW, kernel_calls
from xdpchain.sys import bpf
from xdpchain.sys.libbpf import possible_cpus

from .counting import OwnCounters
from .dispatcher.emit import takes_frags
from .members import Described, exits_of, member_of
from .threading import CountInto, Form, Threaded, thread
from .verifier_words import read_log

__all__ = ["Place", "SelfCounting", "counts_of", "load_counting", "uncountable"]

STRIDE = 128
"""Bytes of one CPU's counters, one a code: whole cache lines."""

WAYS = {(0, kind): Way(0, kind, RETURN) for kind in KINDS}
COUNTERS: dict[tuple[int, int], dict[int | None, int]] = {
    (0, kind): {None: min(kind, OTHER)} for kind in KINDS
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a component belongs: the loaded dispatcher, and the BTF id of the function that it replaces."""

    dispatcher: bpf.Fd
    function: int


@dataclass(frozen=True, slots=True)
class SelfCounting:
    """A loaded program that counts; None where the kernel took it in no form: ``reason`` says why."""

    program: bpf.Fd | None
    form: str = ""
    reason: str = ""


def counts_of(slot: Slot) -> Layout:
    """What the counters of a component stand for. In shadow it counts on, but what it would have done is not
    told from what it did: so those counts are never a shadow's.
    """
    return Layout(STRIDE, {(slot.key, False): tuple((code,) for code in range(CODES))}, NOTHING)


def uncountable(component: Component, data: bytes, unit: LinkableProgram) -> str:
    """Why a component can't count for itself, whatever the kernel says; "" if it can."""
    if module_calls(unit.instructions):
        return "it calls kernel module functions"
    if THROW in kernel_calls(data, component.name):
        return "it calls bpf_throw, which would bypass the counters"
    return ""


def load_counting(
    component: Component,
    unit: LinkableProgram,
    maps: Mapping[str, bpf.Fd],
    counters: OwnCounters,
    place: Place,
) -> SelfCounting:
    """Load the component once more, as a program that counts, in the form that costs least."""
    reason = ""
    for form in Form:
        threaded = thread(
            [member_of(unit, maps, form, exits_of(unit, sited=False))],
            WAYS,
            frags=component.frags and takes_frags(),
            counting=CountInto(counters.fd.fileno(), STRIDE, possible_cpus(), COUNTERS),
        )
        if threaded is None:
            reason = f"its stack leaves no room (limit {op.STACK} bytes)"
            continue
        try:
            return SelfCounting(_load(component, unit, threaded, place), form, reason)
        except bpf.BpfError as error:
            said = read_log(_log(component, unit, threaded, place)).why
            reason = f"not {form}: the verifier says {said}" if said else f"not {form}: {error}"
    return SelfCounting(None, "", reason)


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
