# SPDX-License-Identifier: Apache-2.0
"""Static linkage: the components become one program.

Each component was verified on its own when it was first loaded; its unit (instructions, BTF, map references)
is all that a later edit needs. The main functions are threaded into one (`threading`): an exit becomes a jump
to where its code leads. If the kernel refuses that, exits are tested for their codes (`Form.INLINED`). As a
last resort the components are global functions: the verifier then checks each once, for an unknown packet,
not once per path through the slots before it, so its work is the sum of the parts.

Bound to the program are the manifest, each component's unit, each distinct object file, and the counters with
their description (`counting`).
"""

from __future__ import annotations

import contextlib
import errno
import re
import struct
from collections.abc import Hashable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from itertools import count
from typing import Any, NamedTuple

from xdpchain.bytecode import opcodes as op
from xdpchain.bytecode.instructions import function_starts, instructions, map_references, patch_maps
from xdpchain.bytecode.linkable_program import LinkableProgram
from xdpchain.errors import LinkRefused, Unsupported, XdpChainError
from xdpchain.frozen import frozen
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.component import Component
from xdpchain.model.counting import Layout, slot_key
from xdpchain.model.flow import counted_ways, ways_of
from xdpchain.model.manifest import Author, Manifest
from xdpchain.model.paths import entry
from xdpchain.model.routes import Route
from xdpchain.model.runconfig import RunConfig
from xdpchain.model.running import Running
from xdpchain.model.slot import Slot
from xdpchain.objects.verdicts import sites_name
from xdpchain.sys import blobs, bpf, netns
from xdpchain.sys.cpus import possible_cpus
from xdpchain.sys.libbpf import (
    ATTACH_TYPE_XDP,
    BPF_F_XDP_DEV_BOUND_ONLY,
    BPF_F_XDP_HAS_FRAGS,
    FUNC_GLOBAL,
    FUNC_STATIC,
)

from .array_pins import remove_array_pins
from .counting import OwnCounters, counters_for
from .dispatcher.emit import NO_METADATA
from .kits import component_prototype, kit_of
from .linkable_slots import CALL_ROOM, Part, gather_parts, keeping_own_types, too_deep, use_linkage
from .linked import BuiltChain, bind, bind_metadata
from .members import Described, Exits, described, exits_of, is_called, member_of, patched
from .policing import REPORTING, reporting, ring_for
from .tap import FILTER, Tap
from .threaded import CountInto, Form, Functions, thread
from .verifier_words import read_log

__all__ = ["FOLLOWED", "StaticLinker"]

PROGRAM = "xdptui_chain"
FOLLOWED = "xdptui_followed"
"""The mark of a chain that records packets; bound last."""


class StaticLinker:
    """Static linkage (see `linkage.Linker`).

    With ``cloning``, the chain gets copies of all maps, so that it can't affect the running ones. With a
    ``tap``, its dispatcher also records the path of packets that match a filter, and is otherwise the same.
    ``replaces_prog_id`` is the ID of a program that ran before and does the same: linking again is then no
    new state of the interface.
    """

    def __init__(
        self, *, cloning: bool = False, tap: Tap | None = None, replaces_prog_id: int | None = None
    ) -> None:
        self._cloning = cloning
        self._tap = tap
        self._replaces_prog_id = replaces_prog_id

    def build(self, candidate: Chain, running: Running, author: Author) -> BuiltChain:
        with contextlib.ExitStack() as held:
            parts = gather_parts(candidate, running, held, cloning=self._cloning)
            chain = replace(candidate, slots=tuple(part.slot for part in parts))
            linking = _Linking(chain, parts, running, self._tap, held, trial=self._cloning)
            made = linking.load()
            program, counters = held.enter_context(made.program), linking.counters
            _hold_maps(program, parts, made.entered)
            manifest = Manifest(
                chain,
                author,
                replaces_prog_id=self._replaces_prog_id,
                form=made.form,
                form_reason=made.reason,
            )
            chain, counting = bind_metadata(
                program, manifest, parts, held, counters=counters, running=running
            )
            if self._tap is not None:
                _mark(program, self._tap.mark, held)
            return BuiltChain(program, chain, running, counters, counting, parts, held.pop_all())

    def retire(self, running: Running) -> None:
        if running.dispatcher is not None:
            remove_array_pins(running.dispatcher.id)


@frozen
class _Made:
    """A linked program, its form, why not a cheaper one, and the slots that codes lead to."""

    program: bpf.Fd
    form: Form
    reason: str
    entered: frozenset[int]


class _Linking:
    """One chain being linked into one program, in whichever form the kernel accepts."""

    def __init__(
        self,
        chain: Chain,
        parts: Sequence[Part],
        running: Running,
        tap: Tap | None,
        held: contextlib.ExitStack,
        *,
        trial: bool,
    ) -> None:
        """In a ``trial`` each site is counted separately, whatever that costs."""
        self._chain, self._parts, self._tap, self._held = chain, parts, tap, held
        self._alike, self._trial = _alike(chain), trial
        self._frags = all(part.slot.component.frags for part in parts)
        # A slot that is off is not in the program, so it can't be the reason for anything.
        self._on = [part for part in parts if not part.slot.off]
        self._called = [part for part in self._on if is_called(part.unit)]
        self._bound = not trial and any(part.unit.device_calls for part in self._on)
        self._running = running
        self.counters: OwnCounters | None = None
        self._laid_out = held.enter_context(contextlib.ExitStack())
        self._ring = ring_for(chain, running, held)

    def _lay_out(self, alike: Layout | None) -> None:
        """Make the counters; ``alike`` has the keys of `_alike`."""
        if alike is None:
            return
        layout = alike.of(map(slot_key, self._chain))
        if self.counters is None or self.counters.layout != layout:
            self._laid_out.close()  # nobody counts in those of a form that was refused
            self.counters = counters_for(layout, self._running.counting, self._laid_out)

    def load(self) -> _Made:
        """Raises XdpChainError."""
        called = ", ".join(part.slot.name for part in self._called)
        sited = self._chain.counters or self._tap is not None
        forms = (
            [(Form.CALLS, False)]
            if self._on and len(self._called) == len(self._on)
            else [*[(Form.THREADED, True)] * sited, *((form, False) for form in FORMS)]
        )
        total = sum(part.unit.verified for part in self._on)
        reason = f"called, because it makes tail calls: {called}" if called else ""
        if total > MOST_STEPS and len(forms) > 1:
            forms = [(Form.CALLS, False)]
            reason = f"the verifier takes {total} steps for the components alone (limit {MOST_STEPS})"
        for form, sited in forms:
            linked = self._linked(form, sited=sited)
            if linked is None:
                reason = f"the components' stacks leave no room (limit {op.STACK} bytes)"
                continue
            self._lay_out(linked.layout)
            try:
                return _Made(self._load(linked), form, reason, linked.entered)
            except bpf.BpfError as error:
                log = self._log(linked)
                if (form, sited) == forms[-1]:
                    raise _refused(error, log, self._odd(), self._on, len(self._parts)) from error
                why = read_log(log).why if log else str(error)
                what = "verdicts are counted by code" if sited else f"not {form}"
                reason = f"{what}: the verifier says {why}"
        todo = use_linkage(len(self._parts), Linkage.FREPLACE, Linkage.TAILCALL)
        raise LinkRefused("these components can't be linked statically", reason, todo)

    def _linked(self, form: Form, *, sited: bool) -> _Linked | None:
        design = _Design(
            self._alike,
            tuple(part.unit for part in self._parts),
            sited,
            form,
            possible_cpus() if self._chain.counters else None,
            not self._trial,
        )
        if self._tap is None and self._ring is None:
            return _link_known(design)
        report = None
        if self._ring is not None:
            report = reporting(self._ring), [part.slot.row or 0 for part in self._parts]
        return _link(design, self._follow(), report)

    def _follow(self) -> Functions | None:
        if self._tap is None:
            return None
        kit = kit_of("following")
        config = struct.pack("=IIII", self._tap.needs, self._frags, self._tap.snap, self._tap.fates)
        try:
            rodata = self._held.enter_context(blobs.make("xdptui_config", config))
        except bpf.BpfError as error:
            raise bpf.refusal(error, "the follower's configuration can't be created") from error
        code = patched(kit.unit, {".rodata": rodata, **self._tap.maps})
        return Functions(code, kit.starts, {kit.starts[FILTER]: self._tap.instructions})

    def _load(self, linked: _Linked, **options: Any) -> bpf.Fd:
        odd = self._odd()
        where = self._running.interface
        maps = [part.maps[name] for part in self._parts for name in _map_names(part.unit)]
        if self.counters is not None:
            maps.append(self.counters.fd)
        with bpf.btf_load(linked.btf) as btf_fd:
            load = partial(
                bpf.prog_load,
                bpf.ProgType.XDP,
                patch_maps(linked.image, linked.references, dict(enumerate(maps))),
                name=PROGRAM,
                licence=odd[0] if odd else "GPL",
                attach_type=ATTACH_TYPE_XDP,
                flags=BPF_F_XDP_HAS_FRAGS * self._frags | BPF_F_XDP_DEV_BOUND_ONLY * self._bound,
                btf_fd=btf_fd.fileno(),
                func_info=linked.func_info,
                line_info=linked.line_info,
                ifindex=where.ifindex * self._bound,
                **options,
            )
            return netns.run(where.netns, load) if self._bound else load()

    def _log(self, linked: _Linked) -> str:
        try:
            self._load(linked, log_level=1, log_size=1 << 24).close()
        except bpf.BpfError as error:
            return error.log
        return ""

    def _odd(self) -> list[str]:
        """Licences that do not allow GPL-only functions."""
        licences = [part.slot.component.licence for part in self._on]
        return [licence for licence in licences if licence not in GPL_COMPATIBLE]


def _alike(chain: Chain) -> Chain:
    """The chain without what chains of the same code differ in: its slots' keys are their places."""
    places = {slot.key: str(place) for place, slot in enumerate(chain)}
    slots = (
        Slot(
            Component(slot.name, frags=slot.component.frags),
            RunConfig(0, slot.actions),
            places[slot.key],
            routes=tuple(Route(route.code, places.get(route.target, "")) for route in slot.routes),
            shadow=slot.shadow,
            policy=slot.policy,
            off=slot.off,
        )
        for slot in chain
    )
    return Chain(tuple(slots))


@frozen
class _Design:
    """All that a linked program follows from but the maps of its slots: the chain (`_alike`), its slots'
    units, whether verdict sites are told apart, the CPUs that it counts on (None: it does not count), and
    whether a way may be the sum of others (`flow.counted_ways`).
    """

    chain: Chain
    units: tuple[LinkableProgram, ...]
    sited: bool
    form: Form
    cpus: int | None
    sums: bool


class _Linked(NamedTuple):
    """A linked program as it is loaded, but for the descriptors of maps: ``references`` has the instructions
    that name one, and which (those of the slots, then the counters). ``entered``: the slots that codes
    lead to. ``layout``: the meaning of its counters, with the keys of `_alike`.
    """

    image: bytes
    references: tuple[tuple[int, int], ...]
    btf: bytes
    func_info: bytes
    line_info: bytes
    entered: frozenset[int]
    layout: Layout | None


def _link(
    design: _Design, follow: Functions | None = None, report: tuple[Functions, Sequence[int]] | None = None
) -> _Linked | None:
    """None if the stack is too small."""
    described = _described(design, follow=follow is not None, report=report is not None)
    numbers = count(-1, -1)  # no descriptor is negative
    chain, units = design.chain, design.units
    exits = [
        Exits(None) if slot.off else exits_of(unit, sited=design.sited)
        for slot, unit in zip(chain, units, strict=True)
    ]
    members = []
    for i, unit in enumerate(units):
        maps = dict(zip(_map_names(unit), numbers, strict=False))
        members.append(member_of(unit, maps, design.form, exits[i], described.shifts[i]))
    counting = layout = None
    if design.cpus is not None:
        counted, layout = counted_ways(
            chain,
            [able.kinds for able in exits],
            [_keeps_length(unit.instructions) for unit in units],
            [
                (sites_name(unit) if design.sited else "", able.kinds)
                for unit, able in zip(units, exits, strict=True)
            ],
            sums=design.sums,
        )
        counting = CountInto(next(numbers), layout.stride, design.cpus, counted)
    threaded = thread(
        members,
        ways_of(chain),
        frags=all(slot.component.frags for slot in chain),
        first=entry(chain),
        counting=counting,
        follow=follow,
        report=report,
    )
    if threaded is None:
        return None
    image = threaded.assembled.image
    return _Linked(
        image,
        tuple((index, -1 - number) for index, number in map_references(image) if number < 0),
        described.btf,
        described.func_info(threaded),
        described.line_info(threaded),
        threaded.slots,
        layout,
    )


_link_known = lru_cache(maxsize=32)(_link)
"""A chain is often linked again as it was, or alike for many interfaces."""


def _map_names(unit: LinkableProgram) -> tuple[str, ...]:
    """The maps that a unit refers to."""
    return tuple(dict.fromkeys(name for _, name in unit.references))


def _described(design: _Design, *, follow: bool, report: bool) -> Described:
    """The BTF for the kernel. Each part's own types are shifted; each component's main is a global
    function with the dispatcher's prototype, whatever its author called the argument's type.
    """
    donor, main, prototype = component_prototype()
    units: dict[Hashable, LinkableProgram] = dict(enumerate(design.units))
    if follow:
        units["follow"] = kit_of("following").unit
    if report:
        units["report"] = kit_of(REPORTING).unit
    names = [slot.name for slot in design.chain]
    functions = [(name, FUNC_GLOBAL, prototype) for name in names]
    bare = [
        (i, at)
        for i, unit in enumerate(design.units)
        if not unit.functions
        for at in function_starts(unit.instructions)[1:]
    ]
    functions += [(f"{names[i]}_{at}", FUNC_STATIC, prototype) for i, at in bare]
    types, added = described(units, functions, donor)
    mains = [(i, 0) for i in range(len(design.units))]
    return types.knowing({"main": main, **dict(zip((*mains, *bare), added, strict=True))})


FORMS: Sequence[Form] = tuple(Form)
"""What is tried, in this order."""

MOST_STEPS = 250_000
"""Instructions that the verifier walked for all components loaded alone, above which they stay functions:
inside one function, the paths through one component multiply those through the next.
"""

# What license_is_gpl_compatible() in the kernel's linux/license.h accepts.
GPL_COMPATIBLE = frozenset(
    ("GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL")
)


def _hold_maps(program: bpf.Fd, parts: Sequence[Part], entered: frozenset[int]) -> None:
    """Bind the maps of slots that are not in the program because no code leads there: they still belong to
    the chain.
    """
    try:
        for index, part in enumerate(parts):
            for fd in () if index in entered else part.maps.values():
                bpf.prog_bind_map(program, fd)
    except bpf.BpfError as error:
        raise bpf.refusal(error, "the maps of an unreachable slot can't be kept") from error


RESIZING = (op.Helper.XDP_ADJUST_HEAD, op.Helper.XDP_ADJUST_TAIL, op.Helper.TAIL_CALL)


@lru_cache(maxsize=64)
def _keeps_length(code: bytes) -> bool:
    """Whether a component never changes a packet's length. One that calls kernel functions (kfuncs) may."""
    return not any(
        line.code == op.CALL
        and (line.source == op.CALL_KFUNC or (line.source == op.CALL_HELPER and line.immediate in RESIZING))
        for _, line in instructions(code)
    )


MOST_MAPS = 64
"""Maps that one program may use (MAX_USED_MAPS of the kernel's verifier)."""


def _refused(
    error: bpf.BpfError, log: str, odd: Sequence[str], parts: Sequence[Part], slots: int
) -> XdpChainError:
    """Why the program linked of these parts, in a chain of so many slots, was refused, in words."""
    if error.errno == errno.EPERM:
        return bpf.refusal(error, "the linked chain can't be loaded", log=log)
    asking = ", ".join(part.slot.name for part in parts if part.unit.device_calls)
    if asking and error.errno == errno.EOPNOTSUPP:
        return Unsupported(f"{asking} can't run here", NO_METADATA)
    verdict = read_log(log).verdict
    stacks = ", ".join(f"{p.slot.name} {sum(p.unit.stack)} bytes" for p in parts)
    todo = use_linkage(slots, Linkage.FREPLACE, Linkage.TAILCALL)
    maps = len({bpf.map_info(fd).id for part in parts for fd in part.maps.values()})
    if re.search(r"combined stack size|stack frames|tail_calls are not allowed when call stack", log):
        why = (
            f"their stacks are too deep for one program ({op.STACK} bytes, of which the chain "
            f"needs up to {CALL_ROOM[Linkage.STATIC]}): {stacks} ({verdict})"
        )
        todo = too_deep(parts, slots, Linkage.TAILCALL)
    elif kept := keeping_own_types(parts, verdict):
        why, todo = kept, use_linkage(slots, Linkage.FREPLACE)
    elif "GPL" in verdict and odd:
        why = f"a component's licence is {odd[0]!r}, but GPL-only functions are used"
    elif error.errno == errno.E2BIG and maps >= MOST_MAPS:
        why = f"they use {maps} maps besides the chain's own, and the kernel allows {MOST_MAPS} in a program"
    elif error.errno == errno.E2BIG or "too large" in verdict or "too many" in verdict:
        total = sum(p.unit.verified for p in parts)
        why = (
            f"the linked program exceeds the verifier's limits ({verdict}; separately they took {total} "
            f"steps)"
        )
    else:
        why = verdict
    tail = "\n".join(log.rstrip().splitlines()[-40:])
    return LinkRefused("these components can't be linked statically", why, todo, detail=f"{error}\n{tail}")


def _mark(program: bpf.Fd, mark: bytes, held: contextlib.ExitStack) -> None:
    try:
        bind(program, None, FOLLOWED, lambda: mark, held)
    except bpf.BpfError as error:
        raise bpf.refusal(error, "the followed chain can't be marked") from error
