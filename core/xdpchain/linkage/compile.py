# SPDX-License-Identifier: Apache-2.0
"""From object file to loaded component: libbpf loads it, the verifier checks it on its own, its unit is kept.

Nothing is attached or pinned here. The result holds descriptors until it is closed; all of it is freed if it
is closed before a dispatcher takes over the maps.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path

from xdpchain.advice import Do, advise
from xdpchain.bytecode import instructions
from xdpchain.bytecode import opcodes as op
from xdpchain.bytecode.linkable_program import LinkableProgram
from xdpchain.bytecode.weaving import LineRecord
from xdpchain.errors import (
    InvalidInput,
    KernelRefused,
    LinkRefused,
    NotFound,
    PermissionDenied,
    XdpChainError,
)
from xdpchain.frozen import frozen
from xdpchain.maps.globals import patched
from xdpchain.model.component import Component, MapRef
from xdpchain.objects.kernel_calls import THROW, kernel_calls, metadata_calls
from xdpchain.objects.objfile import ObjectFile
from xdpchain.objects.type_ids import type_id_places
from xdpchain.sys import bpf, bpffs
from xdpchain.sys.clones import clone_map
from xdpchain.sys.libbpf import (
    ATTACH_TYPE_XDP,
    LoadFailed,
    Object,
    ObjectMap,
    ObjectProgram,
    kernel_function_ids,
)
from xdpchain.sys.rehearsal import rehearse

from .map_pins import pinned_map
from .verifier_words import read_log

__all__ = [
    "NO_ARRAYS",
    "Compiled",
    "Stub",
    "as_loaded",
    "compile_component",
    "explain",
    "main_program",
    "map_key",
    "open_maps",
    "rehearse_load",
    "shape",
    "unit_of",
]


@dataclass
class Compiled:
    """A component in linkable form, with all maps of its object open; ``component.maps`` names those that it
    uses.

    ``pins`` are maps that the object wants pinned and that are not pinned yet, as (name, path). ``fresh``:
    all maps are new, and none is to be pinned.
    """

    component: Component
    unit: LinkableProgram
    maps: dict[str, bpf.Fd] = field(default_factory=dict)
    pins: tuple[tuple[str, str], ...] = ()
    fresh: bool = False

    def close(self) -> None:
        for fd in self.maps.values():
            fd.close()


def compile_component(
    component: Component,
    data: bytes,
    reuse: Mapping[str, bpf.Fd],
    *,
    frags: bool | None = None,
    isolated: bool = False,
) -> Compiled:
    """Load ``component`` from the object file ``data`` as an XDP program and read its unit.

    Maps in ``reuse`` (by name) replace new ones, after a check of their shape. ``frags`` overrides the
    component's own flag, for a chain that does not support fragments as a whole. ``isolated`` copies pinned
    maps. Raises KernelRefused with the end of the verifier's log, LinkRefused if a map's shape differs.
    """
    if THROW in kernel_calls(data, component.name):
        raise LinkRefused(
            f"{component.name} can't be linked into a chain",
            "it calls bpf_throw, which leaves the whole program: later slots would not run, and the "
            "packet would not be counted",
            advise(Do.MEND, "Return the code instead of throwing it") | advise(Do.CHOOSE_LINKAGE, "freplace"),
        )
    if asking := [callee for callee in component.callees if metadata_calls(data, callee)]:
        raise LinkRefused(
            f"{component.name} can't be linked into a chain",
            f"it tail-calls {', '.join(asking)}, which reads RX metadata: {NO_ARRAYS}",
            advise(Do.MEND, "Call functions in place of programs"),
        )
    frags = component.frags if frags is None else frags
    label = f"{component.object.path if component.object and component.object.path else component.name}"
    rehearse_load(component, data, reuse, frags, label)
    with Object(data, component.name) as opened:
        fresh = not reuse and all(bpf_map.pin_path is None for bpf_map in opened.maps())
        pins = shape(opened, component, reuse, frags, isolated=isolated)
        try:
            opened.load()
        except LoadFailed as error:
            raise explain(error, component, data, reuse, frags, label) from error
        program = main_program(opened, component)
        info = bpf.prog_info(program.fd)
        maps = {map_key(bpf_map): bpf.Fd(os.dup(bpf_map.fd)) for bpf_map in opened.maps() if bpf_map.fd >= 0}
        try:
            if instructions.module_calls(program.instructions()):
                raise LinkRefused(
                    f"{component.name} can't be linked into a chain",
                    "it calls kernel module functions",
                    advise(Do.CHOOSE_LINKAGE, "freplace"),
                )
            unit = unit_of(opened, program, frags=frags)
            used = {name for _, name in unit.references}
            refs = tuple(MapRef(name, bpf.map_info(fd).id) for name, fd in maps.items() if name in used)
        except BaseException:
            for fd in maps.values():
                fd.close()
            raise
        loaded = as_loaded(component, info, refs)
        return Compiled(loaded, unit, maps, tuple((n, p) for n, p in pins if n in used), fresh)


def as_loaded(component: Component, info: bpf.ProgInfo, maps: tuple[MapRef, ...]) -> Component:
    """The component with what the kernel says of its program; its linkable form is not stored yet."""
    return replace(
        component,
        id=info.id,
        tag=info.tag,
        loaded_at=info.load_time,
        instructions=info.xlated_len // instructions.SIZE,
        maps=maps,
        unit_map=None,
    )


def unit_of(opened: Object, program: ObjectProgram, *, frags: bool) -> LinkableProgram:
    """The linkable form of a loaded program. Raises BpfError, LinkRefused."""
    info, code = bpf.prog_info(program.fd), program.instructions()
    names = {bpf_map.fd: map_key(bpf_map) for bpf_map in opened.maps()}
    functions = program.func_info()
    places = type_id_places(opened.data, functions)
    if any(instructions.decode(code)[at].immediate != type_id for at, type_id in places):
        raise LinkRefused(
            f"{program.name} can't be linked into a chain",
            "an instruction that a CO-RE relocation names does not hold its BTF type ID",
            advise(Do.CHOOSE_LINKAGE, "freplace"),
        )
    references = tuple((index, names[fd]) for index, fd in instructions.map_references(code))
    return LinkableProgram(
        # Without this process's descriptors, so that a program always has the same linkable form.
        instructions=instructions.patch_maps(code, references, dict.fromkeys(names.values(), 0)),
        functions=functions,
        btf=bpf.btf_raw(info.btf_id) if info.btf_id else b"",
        references=references,
        frags=frags,
        stack=_stack_depths(opened.log(program)),
        verified=info.verified_instructions,
        jited=info.jited_len,
        lines=tuple(map(LineRecord._make, program.line_info())),
        type_ids=tuple(at for at, _ in places),
        device_calls=_device_calls(code, _device_functions(opened.data, program.name)),
    )


NO_ARRAYS = "the kernel keeps programs that are bound to a device out of program arrays"

UNKNOWN_NUMBER = instructions.Instruction(op.CALL, 0, op.CALL_HELPER, 0, op.Helper.GET_PRANDOM_U32)
"""Replaces a call for RX metadata while the verifier checks a component on its own: only the chain is bound
to the device, and it is verified again.
"""


def _device_functions(data: bytes, program: str) -> frozenset[int]:
    names = metadata_calls(data, program)
    return kernel_function_ids(names) if names else frozenset()


def _device_calls(code: bytes, functions: frozenset[int]) -> tuple[int, ...]:
    return tuple(
        index
        for index, line in (instructions.instructions(code) if functions else ())
        if (line.code, line.source) == (op.CALL, op.CALL_KFUNC) and line.immediate in functions
    )


def _unbound(functions: frozenset[int], code: bytes) -> bytes:
    return instructions.put_at(code, _device_calls(code, functions), UNKNOWN_NUMBER)


def open_maps(refs: tuple[MapRef, ...]) -> dict[str, bpf.Fd]:
    """Descriptors of running maps, by name. Raises NotFound if one is gone."""
    found: dict[str, bpf.Fd] = {}
    try:
        for ref in refs:
            found[ref.name] = bpf.map_by_id(ref.id)
    except OSError as error:
        for fd in found.values():
            fd.close()
        raise bpf.refusal(error, f"map {ref.name} (id {ref.id}) can't be opened") from error
    return found


def map_key(bpf_map: ObjectMap) -> str:
    """A map's name in its object; for a data section only the section, since libbpf prefixes the object's
    name.
    """
    return (
        bpf_map.name[bpf_map.name.index(".") :] if bpf_map.internal and "." in bpf_map.name else bpf_map.name
    )


def rehearse_load(
    component: Component,
    data: bytes,
    reuse: Mapping[str, bpf.Fd],
    frags: bool,
    label: str,
    *,
    target: Stub | None = None,
) -> None:
    """Load a non-plain object once in a separate process first: libbpf has crashed on such. Raises
    Unsupported if it does.
    """
    key = hashlib.sha256(data).digest(), component.name, target is None
    if key in _REHEARSED or _plain(data):
        return

    def load() -> None:
        with Object(data, component.name) as opened:
            shape(opened, component, reuse, frags, isolated=True, target=target)
            opened.load()

    rehearse(load, label)
    _REHEARSED.add(key)


@lru_cache(maxsize=64)
def _plain(data: bytes) -> bool:
    return ObjectFile.parse(data).plain


_REHEARSED: set[tuple[bytes, str, bool]] = set()


def main_program(opened: Object, component: Component) -> ObjectProgram:
    """The component's own program in its opened object. Raises InvalidInput."""
    for program in opened.programs():
        if program.name == component.name:
            return program
    raise InvalidInput(f"the object has no program {component.name}")


@frozen
class Stub:
    """The function of a loaded dispatcher that a component will replace (freplace)."""

    dispatcher: bpf.Fd
    function: str


def shape(
    opened: Object,
    component: Component,
    reuse: Mapping[str, bpf.Fd],
    frags: bool,
    *,
    isolated: bool = False,
    target: Stub | None = None,
) -> list[tuple[str, str]]:
    """Set which programs and maps to load, and how. Returns the pins that the object asks for and that do not
    exist yet, as (name, path).
    """
    wanted = {component.name, *component.callees}
    for program in opened.programs():
        program.set_autoload(program.name in wanted)
        if program.name in wanted:
            # Programs in an array must have their caller's attach type (4540aed51b12); an EXT program has
            # none.
            program.as_xdp(frags, attach_type=0 if target else ATTACH_TYPE_XDP)
    main = main_program(opened, component)
    if target is not None:
        main.as_freplace(target.dispatcher, target.function)
    elif functions := _device_functions(opened.data, component.name):
        main.rewrite_at_load(partial(_unbound, functions))
    pins: list[tuple[str, str]] = []
    entries = dict(component.map_entries)
    unknown = {share.name for share in component.shares} - {map_key(bpf_map) for bpf_map in opened.maps()}
    if unknown:
        raise NotFound(f"{component.name} has no map {min(unknown)!r} to share")
    for bpf_map in opened.maps():
        name, path = map_key(bpf_map), _pin_path(bpf_map, component)
        bpf_map.set_pin_path(None)
        if bpf_map.type == bpf.MapType.STRUCT_OPS or (
            bpf_map.type == bpf.MapType.PROG_ARRAY and name not in component.uses
        ):
            # libbpf would fill it with programs that are not wanted here; libbpf 1.1 crashes if programs that
            # a struct_ops map names are not loaded.
            bpf_map.leave_out()
            continue
        if name in entries:
            bpf_map.set_max_entries(entries[name])
        if name in reuse:
            _check_shape(component, bpf_map, reuse[name])
            bpf_map.reuse(reuse[name])
        elif path:
            try:
                with pinned_map(path) as pinned:
                    _check_shape(component, bpf_map, pinned, path)
                    with clone_map(pinned)[0] if isolated else pinned.duplicate() as shared:
                        bpf_map.reuse(shared)
            except bpf.BpfError as error:
                if error.errno != errno.ENOENT:
                    raise bpf.refusal(error, f"the pinned map {path} can't be opened") from error
                pins.append((name, path))
        if (
            bpf_map.internal
            and name not in reuse
            and any(value.section == name for value in component.globals)
        ):
            bpf_map.set_initial_value(patched(name, bpf_map.initial_value(), component.globals))
    return pins


def _pin_path(bpf_map: ObjectMap, component: Component) -> str | None:
    """Where the object wants this map pinned; libbpf assumes /sys/fs/bpf, wherever bpffs is mounted."""
    if bpf_map.pin_path is None:
        return None
    root = Path(component.pin_root) if component.pin_root else bpffs.find()
    return str(root / Path(bpf_map.pin_path).name)


def _check_shape(component: Component, wanted: ObjectMap, running: bpf.Fd, pin: str = "") -> None:
    theirs = next((share.theirs for share in component.shares if share.name == map_key(wanted)), "")
    info = bpf.map_info(running)
    has = (info.type, info.key_size, info.value_size, info.max_entries, info.flags)
    # The kernel sets BPF_F_RDONLY_PROG on devmaps itself (0cdbb4b09a06); libbpf sets it for frozen sections.
    rdonly = 1 << 7
    wants = (*wanted.shape[:4], wanted.shape[4] | has[4] & rdonly)
    if theirs:  # the object need not know how many entries another slot's map has
        wants = (*wants[:3], info.max_entries, wants[4])
    if has != wants and wanted.type != 0:
        words = ("type", "key size", "value size", "entries", "flags")
        odd = ", ".join(f"{w} {a} → {b}" for w, a, b in zip(words, has, wants, strict=True) if a != b)
        if pin:  # the object chose this name: a map with it exists, from this or another object
            raise LinkRefused(
                f"map {map_key(wanted)} of {component.name} can't be shared with the pinned one",
                f"{pin} has a different shape: {odd}",
                advise(Do.MOVE_PINNED_MAP, pin),
            )
        if theirs:
            raise LinkRefused(
                f"map {map_key(wanted)} of {component.name} can't be another slot's map {theirs}",
                f"that map has a different shape: {odd}",
                advise(Do.MEND, "Build both with the same map definition"),
            )
        raise LinkRefused(
            f"map {map_key(wanted)} of {component.name} can't be kept",
            f"its shape changed: {odd}",
            advise(Do.START_WITH_FRESH_MAPS),
        )


def explain(
    error: LoadFailed,
    component: Component,
    data: bytes,
    reuse: Mapping[str, bpf.Fd],
    frags: bool,
    label: str,
    target: Stub | None = None,
) -> XdpChainError:
    """Turn a refused load into an error, loading again for the verifier's log."""
    log = error.log
    if error.program:
        with contextlib.suppress(XdpChainError), Object(data, component.name) as again:
            shape(again, component, reuse, frags, isolated=True, target=target)
            try:
                again.load(verbose=True)
            except LoadFailed as verbose:
                log = verbose.log or log
        if error.errno != errno.EPERM or log.strip():
            said = read_log(log)
            return KernelRefused(
                f"the verifier rejected {error.program} of {label}",
                said.why,
                said.advice or "Read the verifier's log in the details, then fix the program",
                detail="\n".join(log.rstrip().splitlines()[-40:]),
            )
    refused = bpf.refusal(error, f"{label} can't be loaded", log=error.messages)
    reason = libbpf_reason(error.messages)
    if not reason:
        return refused
    if isinstance(refused, PermissionDenied):
        refused.why = f"{refused.why}; {reason}"
        return refused
    # libbpf gave up before the verifier: its errno says little (ENOENT for a missing symbol).
    return KernelRefused(refused.what, reason, _before_the_verifier(reason, data), detail=refused.detail)


_NO_REASON = re.compile(
    r"elf: skipping|failed to load (object|program)|Error in bpf_create_map|permission error|-- (BEGIN|END)|"
    r"prog '.*': (BPF program load failed|failed to load)|\s*$"
)


def libbpf_reason(messages: str) -> str:
    """The first problem that libbpf reported, with the map's or symbol's name; "" if it reported none."""
    told = (line.strip().removeprefix("libbpf: ") for line in messages.splitlines())
    return next((line for line in told if not _NO_REASON.match(line)), "")


def _before_the_verifier(reason: str, data: bytes) -> str:
    unsized = re.match(r"map '([^']+)': failed to create", reason)
    if unsized and any(
        bpf_map.name == unsized[1] and not bpf_map.max_entries for bpf_map in ObjectFile.parse(data).maps
    ):
        return f"The object leaves its size to be set at load time: --map-entries {unsized[1]}=N"
    if re.search(r"extern '(?:CONFIG|LINUX)_", reason):
        return "This kernel is built without that option: declare it __weak, and it reads as 0"
    if "extern" in reason:
        return (
            "This kernel lacks that symbol: load the module that has it, or declare it __weak and test for it"
        )
    if re.match(r"map '", reason):
        return "Correct the map's definition: this kernel must accept its type, sizes, entries and flags"
    return ""


def _stack_depths(log: str) -> tuple[int, ...]:
    found = re.search(r"^stack depth ([\d+]+)", log, re.MULTILINE)
    return tuple(int(depth) for depth in found[1].split("+")) if found else ()
