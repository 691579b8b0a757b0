# SPDX-License-Identifier: Apache-2.0
"""tailcall linkage: each component is a program of its own that tail-calls the next, chosen by its return
code.

This is the chain call proposed for the kernel in 2019 ("xdp: Support multiple programs on a single interface
through chain calls", Høiland-Jørgensen), done in user space. Every component has a program array with a row
for each kind of return code. The program in the row runs next; if the row is empty, the code is returned.
Each component is threaded alone (`threading.ChainCall`), or called if the kernel refuses that. A component
with tail calls of its own is also called: its programs return to the caller of the function that they were
called from, and so to the chain.

The first slot's program is on the hook, and everything the chain needs is bound to it: the manifest, each
component's unit and maps, each distinct object file, the counters, and the arrays.

References: the hook holds the first program, which holds its array, which holds later programs. Codes only
lead forward, so there are no cycles. The kernel empties a program array when its last descriptor or pin is
gone, so the arrays are pinned for as long as the chain lives (`arrays`).
"""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace

from xdpchain.advice import Advice, Do, advise
from xdpchain.bytecode.instructions import function_starts
from xdpchain.bytecode.linkable_program import LinkableProgram
from xdpchain.bytecode.main_function import makes_tail_calls
from xdpchain.bytecode.opcodes import STACK
from xdpchain.errors import LinkRefused, XdpChainError
from xdpchain.frozen import frozen
from xdpchain.model.actions import Action
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.flow import STRAIGHT, Counters, counted_apart, ways_out
from xdpchain.model.manifest import Author, Manifest
from xdpchain.model.paths import RETURN, entry, row_changed, successors
from xdpchain.model.running import Running
from xdpchain.objects.verdicts import sites_name
from xdpchain.sys import bpf, bpffs
from xdpchain.sys.cpus import possible_cpus
from xdpchain.sys.libbpf import ATTACH_TYPE_XDP, BPF_F_XDP_HAS_FRAGS, FUNC_STATIC

from .array_pins import remove_array_pins
from .compile import NO_ARRAYS
from .counting import OwnCounters, counters_for
from .kits import component_prototype, kit_of
from .linkable_slots import CALL_ROOM, Part, gather_parts, keeping_own_types, too_deep, use_linkage
from .linked import BuiltChain, bind_metadata
from .members import Described, Exits, described, exits_of, is_called, member_of, of_itself
from .policing import REPORTING, reporting, ring_for
from .prog_array_entries import end_of, fill, make_array, set_row
from .threaded import ChainCall, CountInto, Form, Threaded, thread
from .verifier_words import read_log

__all__ = ["RowUpdate", "TailcallLinker", "in_place"]

END = "xdptui_end"


class TailcallLinker:
    """tailcall linkage (see `linkage.Linker`).

    With ``cloning``, the chain gets copies of all maps, so that it can't affect the running ones, and is not
    meant to be pinned. ``replaces_prog_id`` is as for `static.StaticLinker`.
    """

    def __init__(self, *, cloning: bool = False, replaces_prog_id: int | None = None) -> None:
        self._cloning = cloning
        self._replaces_prog_id = replaces_prog_id

    def build(self, candidate: Chain, running: Running, author: Author) -> BuiltChain:
        if not self._cloning:
            bpffs.find()  # the pins need it: fail before anything is loaded
        table = successors(candidate)
        with contextlib.ExitStack() as held:
            parts = gather_parts(candidate, running, held, cloning=self._cloning)
            bound = [part.slot.name for part in parts if part.unit.device_calls]
            if bound and not self._cloning:
                what = f"{bound[0]} can't be linked ({Linkage.TAILCALL})"
                raise LinkRefused(what, NO_ARRAYS, advise(Do.CHOOSE_LINKAGE, "static"))
            _check_tail_calls(parts)
            chain = replace(candidate, slots=tuple(part.slot for part in parts))
            arrays = [held.enter_context(make_array()) for _ in parts]
            linking = _Linking(chain, parts, arrays, running, held)
            programs = linking.load()
            own = linking.counters
            try:
                fill(arrays, table, programs)
            except bpf.BpfError as error:
                raise bpf.refusal(error, "the chain's programs can't be linked") from error
            slots = tuple(
                replace(part.slot, program=None if program is None else bpf.prog_info(program).id)
                for part, program in zip(parts, programs, strict=False)
            )
            manifest = Manifest(
                replace(chain, slots=slots),
                author,
                replaces_prog_id=self._replaces_prog_id,
                form=linking.form,
                form_reason=linking.reason,
            )
            first = programs[entry(candidate)]
            assert first is not None
            linking.report_to(first)
            chain, counts = bind_metadata(first, manifest, parts, held, arrays, counters=own, running=running)
            return BuiltChain(first, chain, running, own, counts, parts, held.pop_all(), arrays)

    def retire(self, running: Running) -> None:
        if running.dispatcher is not None:
            remove_array_pins(running.dispatcher.id)


MOST_TAIL_CALLS = 33
"""Per packet (the kernel's MAX_TAIL_CALL_CNT): one more does nothing, and the chain would end there."""

LEFT_TO_COMPONENTS = 23
"""How many of those are kept for components that make their own: nobody can tell how many they make. With
more than these the chain can still end early.
"""


def _check_tail_calls(parts: Sequence[Part]) -> None:
    """The chain takes one for each slot behind the first, and one to its end. Raises LinkRefused."""
    on = [part for part in parts if not part.slot.off]
    own = next((part.slot.name for part in on if makes_tail_calls(part.unit.instructions)), None)
    most = MOST_TAIL_CALLS - LEFT_TO_COMPONENTS
    if own is not None and len(on) > most:
        raise LinkRefused(
            f"{len(on)} slots can't be linked by tail calls",
            f"the kernel allows {MOST_TAIL_CALLS} tail calls per packet, and {own} makes its own; with such "
            f"a component the limit is {most} slots",
            advise(Do.CHOOSE_LINKAGE, "static"),
        )


@frozen
class RowUpdate:
    """A change to a running chain that is a single program-array update: from then on, the code of ``row`` in
    the slot's array leads to the program ``leads_to`` (None: out of the chain).
    """

    slot: int
    array: int
    row: int
    leads_to: int | None

    def apply(self) -> None:
        """Raises NotFound, KernelRefused; nothing is changed then."""
        try:
            with contextlib.ExitStack() as held:
                array = held.enter_context(bpf.map_by_id(self.array))
                program = held.enter_context(bpf.prog_by_id(self.leads_to)) if self.leads_to else None
                set_row(array, self.row, program)
        except bpf.BpfError as error:
            raise bpf.refusal(error, f"the program array of slot {self.slot} can't be changed") from error


def in_place(running: Running, candidate: Chain) -> RowUpdate | None:
    """The single update that turns the running chain into the candidate; None if there is none, so that the
    chain must be linked again. Raises NotFound if the chain has gone away.
    """
    chain = running.chain
    found = row_changed(chain, candidate) if chain is not None and running.arrays else None
    if chain is None or found is None:
        return None
    index, row, place = found
    if place == RETURN:
        return RowUpdate(index, running.arrays[index], row, None)
    if place < len(chain):
        return RowUpdate(index, running.arrays[index], row, chain.slots[place].program)
    try:
        with bpf.map_by_id(running.arrays[-1]) as last:
            end = end_of([last])
    except bpf.BpfError as error:
        raise bpf.refusal(error, "the chain's program arrays can't be read") from error
    return RowUpdate(index, running.arrays[index], row, end) if end is not None else None


class _Linking:
    """One chain being linked into programs, each in whichever form the kernel accepts."""

    def __init__(
        self,
        chain: Chain,
        parts: Sequence[Part],
        arrays: Sequence[bpf.Fd],
        running: Running,
        held: contextlib.ExitStack,
    ) -> None:
        self._chain, self._parts, self._arrays, self._running = chain, parts, arrays, running
        self._held = held
        self._frags = all(part.slot.component.frags for part in parts)
        self._ring = ring_for(chain, running, held)
        self.counters: OwnCounters | None = None
        self._counted: Counters = {}
        self._forms: dict[int, tuple[Form, str]] = {}

    @property
    def form(self) -> Form:
        """The most expensive form among its programs."""
        return max((form for form, _ in self._forms.values()), key=FORMS.index, default=Form.THREADED)

    @property
    def reason(self) -> str:
        return "; ".join(reason for _, reason in self._forms.values() if reason)

    def report_to(self, first: bpf.Fd) -> None:
        """Bind the ring for policy violations to the program where readers look for it."""
        if self._ring is not None:
            try:
                bpf.prog_bind_map(first, self._ring)
            except bpf.BpfError as error:
                raise bpf.refusal(error, "the ring buffer for what is forbidden can't be kept") from error

    def load(self) -> list[bpf.Fd | None]:
        """The slots' programs (None for one that is off), then that of the chain's end. Raises
        XdpChainError.
        """
        with contextlib.ExitStack() as made:
            try:
                programs = self._programs({}, made)
            except _NotBySite as refused:  # their counters are others then, and all lie elsewhere
                made.close()
                programs = self._programs(refused.slots, made)
            self._held.push(made.pop_all())
        return programs

    def _programs(self, by_code: Mapping[int, str], made: contextlib.ExitStack) -> list[bpf.Fd | None]:
        """With verdict sites counted, except in the slots in ``by_code``. Raises _NotBySite with all slots
        that can't.
        """
        exits = [
            Exits(None) if part.slot.off else exits_of(part.unit, sited=index not in by_code)
            for index, part in enumerate(self._parts)
        ]
        if self._chain.counters:
            self.counters = self._lay_out(exits, by_code, made)
        programs: list[bpf.Fd | None] = []
        refused: dict[int, str] = {}
        for index, part in enumerate(self._parts):
            if part.slot.off:  # its array tells readers of the chain where it would lead
                programs.append(None)
                continue
            try:
                program = self._program(index, exits[index], by_code.get(index))
            except _NotBySite as error:
                refused |= error.slots
                continue
            programs.append(made.enter_context(program))
        if refused:
            raise _NotBySite(refused)
        programs.append(made.enter_context(self._end()))
        return programs

    def _lay_out(
        self, exits: Sequence[Exits], by_code: Mapping[int, str], made: contextlib.ExitStack
    ) -> OwnCounters:
        sites = [
            ("", {}) if part.slot.off else (sites_name(part.unit) * (index not in by_code), one.kinds)
            for index, (part, one) in enumerate(zip(self._parts, exits, strict=True))
        ]
        self._counted, layout = counted_apart(self._chain, sites, verdict=True)
        return counters_for(layout, self._running.counting, made)

    def _count_into(self, counters: Counters) -> CountInto | None:
        own = self.counters
        if own is None:
            return None
        return CountInto(own.fd.fileno(), own.layout.stride, possible_cpus(), counters)

    @property
    def _verdicts(self) -> int:
        """The index of the first verdict counter."""
        return self.counters.layout.verdict[0][0] if self.counters is not None else 0

    def _program(self, index: int, exits: Exits, reason: str | None) -> bpf.Fd:
        """A slot's program; ``reason``: why it is counted by code. Raises _NotBySite, XdpChainError."""
        part = self._parts[index]
        own = {(0, kind): some for (slot, kind), some in self._counted.items() if slot == index}
        call = ChainCall(self._arrays[index].fileno(), self._verdicts, index == len(self._parts) - 1)
        called = is_called(part.unit)
        why = reason or f"called, because it makes tail calls: {part.slot.name}" * called
        report = None
        if part.slot.policy is not None and self._ring is not None:
            report = reporting(self._ring), [part.slot.row or 0]
        for form in (Form.CALLS,) if called else FORMS:
            types = _described(part, form, reports=report is not None)
            member = member_of(part.unit, part.maps, form, exits, types.shifts.get(0, 0))
            threaded = thread(
                [member],
                ways_out(part.slot.policy),
                frags=self._frags,
                counting=self._count_into(own),
                report=report,
                chain_call=call,
            )
            last = form is Form.CALLS
            if threaded is None:
                said = f"its stack leaves no room (limit {STACK} bytes)"
            else:
                try:
                    program = _load(part, threaded, types, self._frags)
                except bpf.BpfError as error:
                    log = _log(part, threaded, types, self._frags)
                    if last or error.errno == errno.EPERM:
                        raise _explained(part, len(self._parts), error, log) from error
                    said = f"the verifier says {read_log(log).why}" if log else str(error)
                else:
                    self._forms[index] = form, why
                    return program
            if reason is None and self.counters is not None and form is Form.THREADED:
                raise _NotBySite({index: f"verdicts of {part.slot.name} are counted by code: {said}"})
            why = f"{part.slot.name} is not {form}: {said}"
        raise _too_deep(part, len(self._parts), said)

    def _end(self) -> bpf.Fd:
        """The program that the last slot calls: it counts XDP_PASS as the verdict and returns it."""
        way = STRAIGHT.slot, STRAIGHT.kind
        counting = self._count_into({way: {None: self._verdicts + Action.PASS}})
        threaded = thread([], {way: STRAIGHT}, frags=self._frags, counting=counting)
        assert threaded is not None
        try:
            return _prog_load(threaded.assembled.image, END, "GPL", self._frags)
        except bpf.BpfError as error:
            raise bpf.refusal(error, "the program of the chain's end can't be loaded") from error


FORMS: Sequence[Form] = tuple(Form)


class _NotBySite(Exception):
    """The kernel accepts no program of these slots that counts its verdict sites; why, by index."""

    def __init__(self, slots: Mapping[int, str]) -> None:
        super().__init__("; ".join(slots.values()))
        self.slots = slots


def _described(part: Part, form: Form, *, reports: bool) -> Described:
    """The BTF of a slot's program, which may include the function that reports. A called component becomes a
    function, which needs a prototype; one without BTF gets it for all its functions, because the verifier
    does not allow tail calls from functions without BTF.
    """
    unit, called = part.unit, form is Form.CALLS
    if not called and not unit.functions:
        return Described(b"", {}, {})
    units: dict[Hashable, LinkableProgram] = {0: unit}
    if reports:
        units["report"] = kit_of(REPORTING).unit
    if not called:
        return of_itself(units)
    donor, main, prototype = component_prototype()
    bare = function_starts(unit.instructions)[1:] if not unit.functions else ()
    names = (part.slot.name, *(f"{part.slot.name}_{at}" for at in bare))
    types, added = described(units, [(name, FUNC_STATIC, prototype) for name in names], donor)
    return types.knowing({"main": main, **dict(zip(((0, at) for at in (0, *bare)), added, strict=True))})


def _load(part: Part, threaded: Threaded, described: Described, frags: bool, *, log_size: int = 0) -> bpf.Fd:
    name, licence = part.slot.name, part.slot.component.licence
    code = threaded.assembled.image
    if not described.functions:
        return _prog_load(code, name, licence, frags, log_size=log_size)
    records, lines = described.func_info(threaded), described.line_info(threaded)
    with bpf.btf_load(described.btf) as btf:
        return _prog_load(code, name, licence, frags, btf.fileno(), records, lines, log_size=log_size)


def _prog_load(
    code: bytes,
    name: str,
    licence: str,
    frags: bool,
    btf: int = 0,
    records: bytes = b"",
    lines: bytes = b"",
    *,
    log_size: int = 0,
) -> bpf.Fd:
    return bpf.prog_load(
        bpf.ProgType.XDP,
        code,
        name=name,
        licence=licence,
        # The programs of an array and their callers must agree on these two.
        attach_type=ATTACH_TYPE_XDP,
        flags=BPF_F_XDP_HAS_FRAGS if frags else 0,
        btf_fd=btf,
        func_info=records,
        line_info=lines,
        log_level=1 if log_size else 0,
        log_size=log_size,
    )


def _log(part: Part, threaded: Threaded, described: Described, frags: bool) -> str:
    """The verifier's log of a program that it refused."""
    try:
        _load(part, threaded, described, frags, log_size=1 << 24).close()
    except bpf.BpfError as error:
        return error.log
    return ""


def _explained(part: Part, slots: int, error: bpf.BpfError, log: str) -> XdpChainError:
    """Why the kernel refused the program of one part in a chain of so many slots, in words."""
    if error.errno == errno.EPERM:
        return bpf.refusal(error, f"{part.slot.name} can't be loaded with its chain call", log=log)
    verdict = read_log(log).verdict
    detail = f"{error}\n" + "\n".join(log.rstrip().splitlines()[-40:])
    if re.search(r"combined stack size|invalid stack|tail_calls are not allowed when call stack", log):
        used = " + ".join(map(str, part.unit.stack)) or "an unknown number of"
        return _too_deep(part, slots, f"it uses {used} bytes of stack ({verdict})", detail)
    if re.search(r"mixing of tail_calls|tail_calls are not allowed in (programs|non-JITed)", log):
        why = (
            "it has functions, and this kernel allows tail calls only in programs with a "
            f"single function ({verdict}; x86-64 allows both from 5.10)"
        )
        return _refusal(part, slots, why, detail)
    if kept := keeping_own_types([part], verdict):
        return _refusal(part, slots, kept, detail, use_linkage(slots, Linkage.FREPLACE))
    return _refusal(part, slots, verdict, detail)


def _too_deep(part: Part, slots: int, why: str, detail: str = "") -> LinkRefused:
    room = f"the chain call needs up to {CALL_ROOM[Linkage.TAILCALL]} more of the {STACK}"
    return _refusal(part, slots, f"{why}, and {room}", detail, too_deep([part], slots, Linkage.STATIC))


def _refusal(part: Part, slots: int, why: str, detail: str = "", todo: Advice | None = None) -> LinkRefused:
    todo = todo or use_linkage(slots, Linkage.STATIC, Linkage.FREPLACE)
    return LinkRefused(f"{part.slot.name} can't be linked by tail calls", why, todo, detail=detail)
