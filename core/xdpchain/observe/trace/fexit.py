# SPDX-License-Identifier: Apache-2.0
"""Counting from outside: fexit programs on loaded XDP programs and components (bpf/tracer.bpf.c).

The kernel calls an fexit program whenever its target function returns, in the same context, with the return
code. The function is identified by its BTF, so any loaded program with BTF can be counted, whoever loaded it.
Stubs of a dispatcher are never traced: the kernel refuses to replace a traced function (EBUSY).
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import struct
from collections.abc import Mapping, Sequence

from xdpchain.advice import Advice, Do, advise
from xdpchain.errors import (
    KernelRefused,
    NotFound,
    PermissionDenied,
    Unsupported,
    XdpChainError,
)
from xdpchain.frozen import frozen
from xdpchain.linkage.counting import COUNTERS, ROWS
from xdpchain.objects.btf import Btf, BtfError
from xdpchain.objects.btf_types import Alias, Func, FuncProto, Pointer, Struct
from xdpchain.observe.permissions import missing_capabilities
from xdpchain.sys import bpf, shipped
from xdpchain.sys.cpus import possible_cpus
from xdpchain.sys.libbpf import LoadFailed, Object, kernel_types_missing

from .targets import Place

__all__ = ["Aim", "TracedFunction", "attach", "count_targets", "entry_function", "explain"]

PROGRAM = "xdptui_count_"
CONTEXT = "xdp_md"
_STATIC = advise(Do.USE_STATIC)


@frozen
class TracedFunction:
    """A function of a loaded program. ``declared``: its argument is a ``struct xdp_md *`` as expected; for
    others the kernel provides less, and bytes in fragments are not counted.
    """

    name: str
    declared: bool = True


@frozen
class Aim:
    """A function to count, and its row of counters."""

    program: bpf.Fd
    function: TracedFunction
    row: int


def count_targets(rows: Mapping[int, int], counters: bpf.Fd, place: Place) -> dict[int, bpf.Fd]:
    """Count whole programs, given by program ID with their rows, from now on. Returns the links by program
    ID.

    Only row 0 may be missing, for a dispatcher whose main function was replaced by its only component: then
    that component's return code is the verdict. Raises NotFound, PermissionDenied, Unsupported and
    KernelRefused with nothing attached.
    """
    if not rows:
        return {}
    with contextlib.ExitStack() as held:
        aims = []
        for prog_id, row in rows.items():
            program = held.enter_context(_program(prog_id))
            aims.append(Aim(program, entry_function(program), row))
        links = attach(aims, counters, place)
    replaced = [prog_id for prog_id, row in rows.items() if row and row not in links]
    if replaced:
        for link in links.values():
            link.close()
        raise KernelRefused(
            f"program {replaced[0]} can't be counted",
            "its main function is replaced by another program",
            "Count that one",
        )
    return {prog_id: links[row] for prog_id, row in rows.items() if row in links}


def _program(prog_id: int) -> bpf.Fd:
    try:
        return bpf.prog_by_id(prog_id)
    except bpf.BpfError as error:
        what = f"program {prog_id} can't be counted"
        if error.errno == errno.ENOENT:
            raise NotFound(what, "it is gone", "Look again: the chain has changed") from error
        raise bpf.refusal(error, what) from error


def entry_function(program: bpf.Fd) -> TracedFunction:
    """The entry function of a loaded program. Raises Unsupported if it can't be traced."""
    info = bpf.prog_info(program)
    what = f"program {info.id} ({info.name}) can't be counted"
    if not info.btf_id:
        raise Unsupported(what, "it was loaded without BTF, which tracing needs", _STATIC)
    if not info.jited_len:
        raise Unsupported(
            what,
            "it is not JIT-compiled, which tracing needs",
            advise(Do.SWITCH_JIT_ON),
        )
    try:
        functions = bpf.prog_func_info(program)
        btf = Btf.parse(bpf.btf_raw(info.btf_id))
        found = btf.type(functions[0][1]) if functions else None
    except BtfError as error:
        raise Unsupported(what, f"its BTF can't be read ({error})", _STATIC) from error
    if not isinstance(found, Func):
        raise Unsupported(what, "its BTF names no function", _STATIC)
    return TracedFunction(found.name, _takes_packet(btf, found))


def _takes_packet(btf: Btf, function: Func) -> bool:
    prototype = btf.type(function.prototype)
    if not isinstance(prototype, FuncProto) or len(prototype.parameters) != 1:
        return False
    argument = _plain(btf, prototype.parameters[0].type_id)
    if not isinstance(argument, Pointer):
        return False
    pointee = _plain(btf, argument.target)
    return isinstance(pointee, Struct) and pointee.name == CONTEXT


def _plain(btf: Btf, type_id: int) -> object:
    """A type without const, volatile and typedefs."""
    found = btf.type(type_id)
    while isinstance(found, Alias):
        found = btf.type(found.target)
    return found


def attach(aims: Sequence[Aim], counters: bpf.Fd, place: Place) -> dict[int, bpf.Fd]:
    """Count each function in its row of ``counters`` while its link exists.

    Returns the links by row. A function that was replaced by another program can't be traced: its row is
    missing. Raises PermissionDenied, Unsupported and KernelRefused with nothing attached.
    """
    data = shipped.read("tracer")
    by_name = {f"{PROGRAM}{aim.row}": aim for aim in aims}
    with contextlib.ExitStack() as held, Object(data, "tracer") as opened:
        programs = list(opened.programs())
        for program in programs:
            aim = by_name.get(program.name)
            program.set_autoload(aim is not None)
            if aim is not None:
                program.as_fexit(aim.program, aim.function.name)
        for bpf_map in opened.maps():
            if bpf_map.name == COUNTERS:
                bpf_map.set_max_entries(possible_cpus())
                bpf_map.reuse(counters)
            elif bpf_map.internal:
                bpf_map.set_initial_value(_config(aims, place).ljust(len(bpf_map.initial_value()), b"\0"))
        try:
            opened.load()
        except LoadFailed as error:
            raise explain(error) from error
        links = {}
        for program in programs:
            if program.name in by_name:
                try:
                    link = held.enter_context(bpf.trace_attach(program.fd))
                except bpf.BpfError as error:
                    if error.errno == errno.EBUSY:
                        continue
                    raise explain(error) from error
                links[by_name[program.name].row] = link
        held.pop_all()
        return links


def _config(aims: Sequence[Aim], place: Place) -> bytes:
    """The tracer's ``config``."""
    declared = bytearray(ROWS)
    for aim in aims:
        declared[aim.row] = aim.function.declared
    return struct.pack("=iI", place.ifindex, place.netns) + declared


def explain(
    error: bpf.BpfError, what: str = "counting can't be attached", todo: Advice = _STATIC
) -> XdpChainError:
    """The engine's error for a tracing program that was refused."""
    messages = error.messages if isinstance(error, LoadFailed) else ""
    words = "\n".join(part for part in (str(error), error.log.rstrip(), messages.rstrip()) if part)
    if error.errno in (errno.EPERM, errno.EACCES) and not error.log.strip():
        missing = missing_capabilities()
        if missing:
            why = f"this process lacks {', '.join(capability.name for capability in missing)}"
            return PermissionDenied(what, why, missing[0].todo, detail=words)
        return PermissionDenied(what, "this kernel blocks TRACING programs (EPERM)", todo, detail=words)
    if "valid kernel BTF" in messages:
        why, helps = kernel_types_missing()
        return Unsupported(what, why, helps or todo, detail=words)
    if error.errno in (errno.EOPNOTSUPP, 524):
        return Unsupported(what, "this kernel has no BPF trampolines on this machine", todo, detail=words)
    if re.search(r"(?:unknown|invalid) func", error.log):
        why = "a program does not declare its argument as struct xdp_md; counting it needs kernel 5.17"
        return Unsupported(what, why, todo, detail=words)
    lines = [line for line in error.log.splitlines() if line and not line.startswith("processed ")]
    why = f"{os.strerror(error.errno or 0)} ({errno.errorcode.get(error.errno or 0, '?')})"
    return KernelRefused(what, f"{lines[-1]}; {why}" if lines else why, todo, detail=words)
