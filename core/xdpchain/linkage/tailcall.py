# SPDX-License-Identifier: Apache-2.0
"""tailcall linkage: each component is a program of its own, which tail-calls the next one by its return code.

The kernel's chain call as it was proposed in 2019, in user space: see `chaincall` for the instructions and
`rows` for the program arrays that link them. The first slot's program is the one on the hook, and all that
the chain needs hangs on it: the manifest, each component's unit and maps, each distinct object file, the
counters, and the arrays.

Who holds whom: the hook holds the first program, that its array, and that the programs that come later; ways
only lead forward, so nothing holds itself. The kernel empties a program array when no descriptor or pin is
left, so the arrays are pinned for as long as the chain lives (`arrays`).
"""

from __future__ import annotations

import contextlib
import errno
import re
import struct
from dataclasses import dataclass, replace

from xdpchain.advice import Advice, Do, advise
from xdpchain.bytecode import instructions
from xdpchain.bytecode.chaincall import (
    Counting,
    Epilogue,
    end_of_chain,
    main_length,
    own_tail_calls,
    woven,
    wrapped,
)
from xdpchain.bytecode.opcodes import STACK
from xdpchain.bytecode.weaving import LineRecord, complete_lines
from xdpchain.errors import InvalidInput, LinkRefused, XdpChainError
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.manifest import Author, Manifest
from xdpchain.model.paths import RETURN, entry, row_changed, successors
from xdpchain.model.running import Running
from xdpchain.sys import bpf, bpffs
from xdpchain.sys.libbpf import ATTACH_TYPE_XDP, BPF_F_XDP_HAS_FRAGS, FUNC_STATIC, merge_btf, possible_cpus

from .arrays import remove_array_pins
from .compile import NO_ARRAYS
from .counting import ROW_SIZE, counters_for, row_layout
from .linkable_slots import CALL_ROOM, Part, gather_parts, keeping_own_types, too_deep
from .linked import BuiltChain, bind_metadata
from .prog_array_entries import end_of, fill, make_array, set_row
from .static import component_prototype
from .verifier_words import read_log

__all__ = ["RowUpdate", "TailcallLinker", "in_place"]

END = "xdptui_end"


class TailcallLinker:
    """tailcall linkage (see `linkage.Linker`).

    With ``cloning``, the chain gets copies of all maps, and is not meant to be pinned: what it does leaves no
    trace in those that run.
    """

    def __init__(self, *, cloning: bool = False) -> None:
        self._cloning = cloning

    def build(self, candidate: Chain, running: Running, author: Author) -> BuiltChain:
        if not self._cloning:
            bpffs.find()  # without it there is no place for the pins: say so before anything is loaded
        table = successors(candidate)
        with contextlib.ExitStack() as held:
            parts = gather_parts(candidate, running, held, cloning=self._cloning)
            bound = [part.slot.name for part in parts if part.unit.device_calls]
            if bound and not self._cloning:
                what = f"{bound[0]} can't be linked ({Linkage.TAILCALL})"
                raise LinkRefused(what, NO_ARRAYS, advise(Do.CHOOSE_LINKAGE, "static"))
            chain = replace(candidate, slots=tuple(part.slot for part in parts))
            own = None
            if candidate.counters:
                own = counters_for(row_layout(chain), running.counting, held, elements=possible_cpus())
            counters = own.fd if own else None
            frags = all(part.slot.component.frags for part in parts)
            arrays: list[bpf.Fd] = []
            programs: list[bpf.Fd | None] = []
            for i, part in enumerate(parts):
                arrays.append(held.enter_context(make_array()))
                if part.slot.off:  # its array tells who reads the chain where it would lead
                    programs.append(None)
                    continue
                counting = _counting(counters, part.slot.row or 0, frags)
                after = Epilogue(arrays[i].fileno(), counting, last=i == len(parts) - 1)
                programs.append(held.enter_context(_load(part, after, frags)))
            try:
                end = end_of_chain(_counting(counters, 0, frags))
                programs.append(held.enter_context(_prog_load(end, END, "GPL", frags)))
                fill(arrays, table, programs)
            except bpf.BpfError as error:
                raise bpf.refusal(error, "the chain's programs can't be linked") from error
            slots = tuple(
                replace(part.slot, program=None if program is None else bpf.prog_info(program).id)
                for part, program in zip(parts, programs, strict=False)
            )
            manifest = Manifest(replace(chain, slots=slots), author)
            first = programs[entry(candidate)]
            assert first is not None
            chain, counts = bind_metadata(first, manifest, parts, held, arrays, counters=own, running=running)
            return BuiltChain(first, chain, running, own, counts, parts, held.pop_all(), arrays)

    def retire(self, running: Running) -> None:
        if running.dispatcher is not None:
            remove_array_pins(running.dispatcher.id)


@dataclass(frozen=True, slots=True)
class RowUpdate:
    """A change of a running chain that is one update of a program array: the code of ``row`` of the slot's
    array leads to the program ``leads_to`` (None: out of the chain) from then on.
    """

    slot: int
    array: int
    row: int
    leads_to: int | None

    def apply(self) -> None:
        """Raises NotFound, KernelRefused: nothing was changed."""
        try:
            with contextlib.ExitStack() as held:
                array = held.enter_context(bpf.map_by_id(self.array))
                program = held.enter_context(bpf.prog_by_id(self.leads_to)) if self.leads_to else None
                set_row(array, self.row, program)
        except bpf.BpfError as error:
            raise bpf.refusal(error, f"the program array of slot {self.slot} can't be changed") from error


def in_place(running: Running, candidate: Chain) -> RowUpdate | None:
    """The one update that makes the running chain the candidate; None where there is none, and the chain has
    to be linked anew. Raises NotFound if the chain went away meanwhile.
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


def _counting(counters: bpf.Fd | None, row: int, frags: bool) -> Counting | None:
    return None if counters is None else Counting(counters.fileno(), row, ROW_SIZE, frags)


@dataclass(frozen=True, slots=True)
class _Image:
    """A slot's program, ready to load: instructions, BTF, func_info and line_info records."""

    code: bytes
    btf: bytes
    functions: tuple[tuple[int, int], ...]
    lines: tuple[LineRecord, ...]


def _image(part: Part, after: Epilogue) -> _Image:
    unit = part.unit
    if own_tail_calls(unit.instructions):
        return _wrapped(part, after)
    code = unit.image(part.maps)
    try:
        code, moved = woven(code, unit.stack[0] if unit.stack else 0, after)
    except InvalidInput as error:
        raise _too_deep(part, str(error)) from error
    functions = tuple((at and at + moved, type_id) for at, type_id in unit.functions)
    end = main_length(unit.instructions)
    lines = tuple(
        line._replace(insn=line.insn and line.insn + (1 if line.insn < end else moved)) for line in unit.lines
    )
    return _Image(code, unit.btf if functions else b"", functions, lines if functions else ())


def _wrapped(part: Part, after: Epilogue) -> _Image:
    """The component becomes a function, which needs a prototype; one without BTF gets it for all of its
    functions, for the verifier takes tail calls from no function without.
    """
    donor, main, prototype = component_prototype()
    starts = [at for at, _ in part.unit.functions] or list(
        instructions.function_starts(part.unit.instructions)
    )
    named = [(part.slot.name, FUNC_STATIC, prototype)]
    if not part.unit.functions:
        named += [(f"{part.slot.name}_{at}", FUNC_STATIC, prototype) for at in starts[1:]]
    btfs = [donor, part.unit.btf] if part.unit.functions else [donor]
    merged = merge_btf(btfs, named, strings=bool(part.unit.lines))
    shift = merged.shifts[1] if part.unit.functions else 0
    whole, start = wrapped(part.unit.image(part.maps, shift), after)
    if part.unit.functions:
        others = [type_id + shift for _, type_id in part.unit.functions[1:]]
    else:
        others = list(merged.functions[1:])
    numbers = [merged.functions[0], *others]
    placed = ((start + at, number) for at, number in zip(starts, numbers, strict=True))
    functions = ((0, main), *placed)
    lines: tuple[LineRecord, ...] = ()
    if part.unit.functions and part.unit.lines:
        shifted = [line.moved(start, merged.strings[1]) for line in part.unit.lines]
        lines = complete_lines(shifted, (at for at, _ in functions))
    return _Image(whole, merged.data, functions, lines)


def _load(part: Part, after: Epilogue, frags: bool) -> bpf.Fd:
    made = _image(part, after)
    records = b"".join(struct.pack("<II", *record) for record in made.functions)
    lines = b"".join(struct.pack("<IIII", *record) for record in made.lines)
    name, licence = part.slot.name, part.slot.component.licence
    try:
        with bpf.btf_load(made.btf) if made.btf else contextlib.nullcontext() as btf:
            number = btf.fileno() if btf else 0
            try:
                return _prog_load(made.code, name, licence, frags, number, records, lines)
            except bpf.BpfError as error:
                log = _reasoning(made.code, name, licence, frags, number, records, lines)
                raise _explained(part, error, log) from error
    except bpf.BpfError as error:
        raise bpf.refusal(error, f"the types of {name} can't be loaded") from error


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
        # Programs of an array and the program that calls them must agree on these two.
        attach_type=ATTACH_TYPE_XDP,
        flags=BPF_F_XDP_HAS_FRAGS if frags else 0,
        btf_fd=btf,
        func_info=records,
        line_info=lines,
        log_level=1 if log_size else 0,
        log_size=log_size,
    )


def _reasoning(
    code: bytes, name: str, licence: str, frags: bool, btf: int, records: bytes, lines: bytes
) -> str:
    """The verifier's words on a program that it refused."""
    try:
        _prog_load(code, name, licence, frags, btf, records, lines, log_size=1 << 24).close()
    except bpf.BpfError as error:
        return error.log
    return ""


def _explained(part: Part, error: bpf.BpfError, log: str) -> XdpChainError:
    if error.errno == errno.EPERM:
        return bpf.refusal(error, f"{part.slot.name} can't be loaded with its chain call", log=log)
    verdict = read_log(log).verdict
    detail = f"{error}\n" + "\n".join(log.rstrip().splitlines()[-40:])
    if re.search(r"combined stack size|invalid stack|tail_calls are not allowed when call stack", log):
        used = " + ".join(map(str, part.unit.stack)) or "an unknown number of"
        return _too_deep(part, f"it uses {used} bytes of stack ({verdict})", detail)
    if re.search(r"mixing of tail_calls|tail_calls are not allowed in (programs|non-JITed)", log):
        why = (
            "it has functions, and this kernel takes tail calls only from programs of one function "
            f"({verdict}; x86-64 takes both from 5.10 on)"
        )
        return _refusal(part, why, detail)
    if kept := keeping_own_types([part], verdict):
        return _refusal(part, kept, detail, advise(Do.CHOOSE_LINKAGE, "freplace"))
    return _refusal(part, verdict, detail)


def _too_deep(part: Part, why: str, detail: str = "") -> LinkRefused:
    room = f"the chain call needs up to {CALL_ROOM[Linkage.TAILCALL]} more of the {STACK}"
    return _refusal(part, f"{why}, and {room}", detail, too_deep([part], Linkage.STATIC))


ELSEWHERE = advise(Do.CHOOSE_LINKAGE, "static", "freplace")


def _refusal(part: Part, why: str, detail: str = "", todo: Advice = ELSEWHERE) -> LinkRefused:
    return LinkRefused(f"{part.slot.name} can't be linked by tail calls", why, todo, detail=detail)
