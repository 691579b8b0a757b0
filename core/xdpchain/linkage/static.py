# SPDX-License-Identifier: Apache-2.0
"""Static linkage: the components' instructions are spliced behind the dispatcher's, and load as one
program.

Each component was verified by itself when it was first loaded; its unit (instructions, BTF, map references)
is then all that an edit needs. Components become global functions of the linked program, so the verifier
judges each once, from an unknown packet, instead of once for every path through those before it: its work
stays the sum of the parts.

What hangs on the program: the manifest, each component's unit, each distinct object file, and the counters
map, which is handed from one dispatcher to the next.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from xdpchain import image
from xdpchain.btf import Btf
from xdpchain.btf_types import Func, Kind
from xdpchain.chain import MAX_SLOTS, Chain, Component, ObjectRef, Slot
from xdpchain.config import DispatcherConfig, SlotConfig
from xdpchain.errors import InvalidInput, LinkRefused, XdpChainError
from xdpchain.manifest import Author, Manifest
from xdpchain.running import Running
from xdpchain.sys import blobs, bpf
from xdpchain.sys.libbpf import BPF_F_XDP_HAS_FRAGS, FUNC_GLOBAL, FUNC_STATIC, merge_btf, possible_cpus
from xdpchain.unit import Unit

from .arrays import pin_arrays, remove_array_pins
from .compile import Compiled, compile_component, open_maps, verifier_verdict

__all__ = ["MANIFEST", "StaticLinker", "counter_layout"]

PROGRAM = "xdptui_chain"
MANIFEST = "xdptui_manifest"
OBJECT = "xdptui_object"
UNIT = "xdptui_unit"
COUNTERS = "xdptui_counters"

CONFIG_VERSION = 3
ROWS, CODES = 21, 6
ROW_SIZE = CODES * 16
STRIDE = ROWS * ROW_SIZE + 32
"""Bytes of one CPU's counters: ``struct cpu_counts`` of bpf/dispatcher.bpf.c."""

BPF_F_MMAPABLE = 1 << 10
ATTACH_TYPE_XDP = 37

OBJECTS = Path(__file__).resolve().parent.parent / "objects"


def counter_layout() -> tuple[int, int, int]:
    """Bytes from one CPU's counters to the next, bytes of a row, and codes in a row."""
    return STRIDE, ROW_SIZE, CODES


@dataclass
class _Part:
    """A slot on its way into a dispatcher."""

    slot: Slot
    unit: Unit
    maps: dict[str, bpf.Fd]
    pins: tuple[tuple[str, str], ...] = ()


class StaticChain:
    """A linked chain, not attached (see `linkage.Built`)."""

    def __init__(
        self, program: bpf.Fd, chain: Chain, parts: Sequence[_Part], release: contextlib.ExitStack
    ) -> None:
        self.program = program
        self.chain = chain
        self._parts = parts
        self._release = release
        self._undo: list[Callable[[], None]] = []

    def pin(self) -> None:
        number = bpf.prog_info(self.program).id
        arrays = {
            bpf.map_info(fd).id: fd
            for part in self._parts
            for fd in part.maps.values()
            if bpf.map_info(fd).type == bpf.MapType.PROG_ARRAY
        }
        if arrays:
            self._undo.append(lambda: remove_array_pins(number))
            pin_arrays(number, arrays)
        for part in self._parts:
            for name, path in part.pins:
                self._pin_map(part.maps[name], path)

    def _pin_map(self, fd: bpf.Fd, path: str) -> None:
        try:
            Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            bpf.obj_pin(fd, path)
        except OSError as error:
            if error.errno == errno.EEXIST:  # two slots of one instance share the map
                return
            raise bpf.refusal(error, f"a map can't be pinned at {path}") from error
        self._undo.append(lambda: Path(path).unlink(missing_ok=True))

    def unpin(self) -> None:
        while self._undo:
            self._undo.pop()()

    def close(self) -> None:
        self._release.close()


class StaticLinker:
    """Static linkage (see `linkage.Linker`)."""

    def build(self, candidate: Chain, running: Running, author: Author) -> StaticChain:
        with contextlib.ExitStack() as held:
            parts = _parts(candidate, running, held)
            counters = _counters(candidate, running, held)
            program, chain = _link(candidate, parts, counters, held)
            chain = _furnish(program, chain, parts, counters, author, held)
            return StaticChain(program, chain, parts, held.pop_all())

    def retire(self, running: Running) -> None:
        if running.dispatcher is not None:
            remove_array_pins(running.dispatcher.id)


def _hold(held: contextlib.ExitStack, fd: bpf.Fd) -> bpf.Fd:
    held.callback(fd.close)
    return fd


def _parts(candidate: Chain, running: Running, held: contextlib.ExitStack) -> list[_Part]:
    """Units and open maps of all slots: read from the kernel for those that run, compiled for the rest."""
    frags = all(slot.component.frags for slot in candidate.slots)
    rows = _rows(candidate, running)
    shared: dict[str, dict[str, bpf.Fd]] = {}
    parts = []
    for slot, row in zip(candidate.slots, rows, strict=True):
        component = slot.component
        unit = None
        if component.unit_map is not None:
            with _by_id(component.unit_map, f"the linkable form of {component.name}") as fd:
                unit = Unit.decode(blobs.read(fd))
            # A program array and the program that uses it must agree on the frags flag: fresh arrays then.
            if component.callees and unit.frags != frags:
                unit = None
        maps = open_maps(component.maps)
        for fd in maps.values():
            _hold(held, fd)
        if unit is not None:
            parts.append(_Part(replace(slot, row=row), unit, maps))
            continue
        compiled = _compile(component, shared.setdefault(component.instance, {}), maps, frags)
        held.callback(compiled.close)
        if component.instance:
            shared[component.instance].update(compiled.maps)
        used = {ref.name: compiled.maps[ref.name] for ref in compiled.component.maps}
        fresh = replace(compiled.component, unit_map=None)
        parts.append(_Part(replace(slot, component=fresh, row=row), compiled.unit, used, compiled.pins))
    return parts


def _compile(
    component: Component, shared: dict[str, bpf.Fd], maps: dict[str, bpf.Fd], frags: bool
) -> Compiled:
    if component.object is None:
        raise LinkRefused(
            f"{component.name} can't be linked statically",
            "another tool loaded it, and its object file is not known",
            "Load it again from its object file, or use freplace linkage",
        )
    # A program array holds programs, not state, and its object fills it: each load gets its own. Constants
    # belong to the code that was compiled with them.
    reuse = shared | {
        name: fd
        for name, fd in maps.items()
        if not name.startswith(".rodata")
        and not (component.callees and bpf.map_info(fd).type == bpf.MapType.PROG_ARRAY)
    }
    return compile_component(
        component, object_bytes(component.object), reuse, frags=frags and component.frags
    )


def object_bytes(source: ObjectRef) -> bytes:
    """The bytes of an object file, from memory or from the map that carries them. Raises NotFound."""
    if source.data is not None:
        return source.data
    if source.map_id is None:
        raise InvalidInput(f"the object file {source.path or source.sha256[:12]} is not at hand")
    with _by_id(source.map_id, f"the object file {source.path or source.sha256[:12]}") as fd:
        return blobs.read(fd)[: source.size]


def _by_id(number: int, what: str) -> bpf.Fd:
    try:
        return bpf.map_by_id(number)
    except bpf.BpfError as error:
        raise bpf.refusal(error, f"{what} can't be read") from error


def _rows(candidate: Chain, running: Running) -> list[int]:
    """A counters row for each slot: its own if it runs, one that no running slot uses otherwise. Row 0 is
    the verdict.
    """
    taken = {s.row for s in running.chain.slots if s.row} if running.chain else set()
    own = {s.key: s.row for s in running.chain.slots if s.row} if running.chain else {}
    free = iter(sorted(set(range(1, ROWS)) - taken))
    return [own.get(slot.key) or next(free) for slot in candidate.slots]


def _counters(candidate: Chain, running: Running, held: contextlib.ExitStack) -> bpf.Fd | None:
    """The counters map: the running chain's, with the rows of new slots emptied, or a new one."""
    if not candidate.counters:
        return None
    if running.counters_map is None:
        flags = BPF_F_MMAPABLE
        try:
            fd = bpf.map_create(bpf.MapType.ARRAY, 4, STRIDE, possible_cpus(), name=COUNTERS, flags=flags)
        except bpf.BpfError as error:
            raise bpf.refusal(error, "the counters can't be made") from error
        return _hold(held, fd)
    fd = _hold(held, _by_id(running.counters_map, "the running chain's counters"))
    kept = {slot.key for slot in running.chain.slots} if running.chain else set()
    rows = _rows(candidate, running)
    size = STRIDE * possible_cpus()
    with mmap.mmap(fd.fileno(), -(-size // mmap.PAGESIZE) * mmap.PAGESIZE) as view:
        for slot, row in zip(candidate.slots, rows, strict=True):
            if slot.key not in kept:
                for cpu in range(possible_cpus()):
                    at = cpu * STRIDE + row * ROW_SIZE
                    view[at : at + ROW_SIZE] = bytes(ROW_SIZE)
    return fd


@cache
def _dispatcher(counting: bool) -> tuple[Unit, tuple[int, ...], int]:
    """The dispatcher's unit, where the stubs of its slots begin, and the BTF prototype of a component."""
    name = "dispatcher_counters" if counting else f"dispatcher_v{CONFIG_VERSION}"
    path = OBJECTS / f"{name}.o"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidInput(
            f"the dispatcher {path.name} is missing", str(error.strerror), "Build it: make bpf"
        ) from None
    compiled = compile_component(Component("xdp_dispatcher"), data, {})
    compiled.close()
    btf = Btf.parse(compiled.unit.btf)
    names = {}
    for at, number in compiled.unit.functions:
        names[btf.type(number).name] = at
    main = btf.find("xdp_dispatcher", Kind.FUNC)
    assert isinstance(main, Func)
    return compiled.unit, tuple(names[f"prog{i}"] for i in range(MAX_SLOTS)), main.prototype


def _link(
    candidate: Chain, parts: Sequence[_Part], counters: bpf.Fd | None, held: contextlib.ExitStack
) -> tuple[bpf.Fd, Chain]:
    unit, stubs, prototype = _dispatcher(counters is not None)
    frags = all(part.slot.component.frags for part in parts)
    config = DispatcherConfig(
        CONFIG_VERSION,
        tuple(
            SlotConfig(p.slot.actions.mask, p.slot.priority, BPF_F_XDP_HAS_FRAGS * p.slot.component.frags)
            for p in parts
        ),
        frags,
    ).encode()
    if counters is not None:
        rows = [part.slot.row or 0 for part in parts]
        config += b"".join(row.to_bytes(4, "little") for row in rows + [0] * (MAX_SLOTS - len(rows)))
    try:
        rodata = _hold(held, blobs.make("xdptui_config", config))
    except bpf.BpfError as error:
        raise bpf.refusal(error, "the dispatcher's configuration can't be made") from error
    descriptors = {".rodata": rodata.fileno()}
    if counters is not None:
        descriptors[COUNTERS] = counters.fileno()
    main = image.patch_maps(unit.instructions, unit.references, descriptors)
    codes = [
        image.patch_maps(p.unit.instructions, p.unit.references, {n: fd.fileno() for n, fd in p.maps.items()})
        for p in parts
    ]
    linked = image.splice(main, stubs, codes)
    btf, records = _describe(unit, prototype, parts, linked.starts)
    licences = [part.slot.component.licence for part in parts]
    odd = [licence for licence in licences if licence not in GPL_COMPATIBLE]
    try:
        with bpf.btf_load(btf) as btf_fd:
            program = bpf.prog_load(
                bpf.ProgType.XDP,
                linked.image,
                name=PROGRAM,
                licence=odd[0] if odd else "GPL",
                attach_type=ATTACH_TYPE_XDP,
                flags=BPF_F_XDP_HAS_FRAGS if frags else 0,
                btf_fd=btf_fd.fileno(),
                func_info=records,
            )
    except bpf.BpfError as error:
        raise _refused(error, linked.image, btf, records, odd, frags, parts) from error
    return _hold(held, program), replace(candidate, slots=tuple(part.slot for part in parts))


# What license_is_gpl_compatible() of the kernel's linux/license.h accepts.
GPL_COMPATIBLE = frozenset(
    ("GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL")
)


def _describe(
    dispatcher: Unit, prototype: int, parts: Sequence[_Part], starts: Sequence[int]
) -> tuple[bytes, bytes]:
    """BTF and func_info of the linked program: each part's own, shifted; each component's main made a
    global function with the dispatcher's prototype, whatever its author called the type of its argument.
    """
    functions = [(part.slot.name, FUNC_GLOBAL, prototype) for part in parts]
    bare = [(i, at) for i, p in enumerate(parts) if not p.unit.functions
            for at in image.function_starts(p.unit.instructions)[1:]]  # fmt: skip
    functions += [(f"{parts[i].slot.name}_{at}", FUNC_STATIC, prototype) for i, at in bare]
    merged = merge_btf([dispatcher.btf, *(p.unit.btf for p in parts if p.unit.btf)], functions)
    shifts = iter(merged.shifts[1:])
    records = [dispatcher.functions[0]]
    spare = dict(zip(bare, merged.functions[len(parts) :], strict=True))
    for i, (part, start) in enumerate(zip(parts, starts, strict=True)):
        shift = next(shifts) if part.unit.btf else 0
        records.append((start, merged.functions[i]))
        if part.unit.functions:
            records += [(start + at, number + shift) for at, number in part.unit.functions[1:]]
        else:
            records += [(start + at, number) for (j, at), number in spare.items() if j == i]
    packed = b"".join(at.to_bytes(4, "little") + number.to_bytes(4, "little") for at, number in records)
    return merged.data, packed


def _refused(
    error: bpf.BpfError,
    code: bytes,
    btf: bytes,
    records: bytes,
    odd: Sequence[str],
    frags: bool,
    parts: Sequence[_Part],
) -> XdpChainError:
    """Why the linked program was refused, in words; it is loaded again for the verifier's reasoning."""
    log = ""
    try:
        with bpf.btf_load(btf) as btf_fd:
            bpf.prog_load(
                bpf.ProgType.XDP, code, name=PROGRAM, licence=odd[0] if odd else "GPL",
                attach_type=ATTACH_TYPE_XDP, flags=BPF_F_XDP_HAS_FRAGS if frags else 0,
                btf_fd=btf_fd.fileno(), func_info=records, log_level=1, log_size=1 << 24,
            ).close()  # fmt: skip
    except bpf.BpfError as again:
        log = again.log
    if error.errno == errno.EPERM:
        return bpf.refusal(error, "the linked chain can't be loaded", log=log)
    verdict = verifier_verdict(log)
    stacks = ", ".join(f"{p.slot.name} {sum(p.unit.stack)} bytes" for p in parts)
    todo = "Use freplace or tailcall linkage, where each component has a stack and limits of its own"
    if re.search(r"combined stack size|stack frames|tail_calls are not allowed when call stack", log):
        why = (
            f"the components share the dispatcher's stack of 512 bytes ({verdict}); alone they use: {stacks}"
        )
    elif "GPL" in verdict and odd:
        why = f"a component's licence is {odd[0]!r}, but functions for GPL programs only are used"
    elif error.errno == errno.E2BIG or "too large" in verdict or "too many" in verdict:
        total = sum(p.unit.verified for p in parts)
        why = (
            f"the linked program goes beyond the verifier's limits ({verdict}; alone they took {total} steps)"
        )
    else:
        why = verdict
    tail = "\n".join(log.rstrip().splitlines()[-40:])
    return LinkRefused("these components can't be linked statically", why, todo, detail=f"{error}\n{tail}")


def _furnish(
    program: bpf.Fd,
    chain: Chain,
    parts: Sequence[_Part],
    counters: bpf.Fd | None,
    author: Author,
    held: contextlib.ExitStack,
) -> Chain:
    """Hang units, object files and the manifest on the program; return the chain with the map ids."""
    objects: dict[str, int] = {}
    slots = []
    try:
        for part in parts:
            component = part.slot.component
            source = component.object
            if source is not None:
                if source.sha256 not in objects:
                    objects[source.sha256] = _bind(
                        program, source.map_id, OBJECT, partial(object_bytes, source), held
                    )
                source = replace(source, map_id=objects[source.sha256], data=None)
            unit = _bind(program, component.unit_map, UNIT, part.unit.encode, held)
            slots.append(replace(part.slot, component=replace(component, object=source, unit_map=unit)))
        chain = replace(chain, slots=tuple(slots))
        number = bpf.map_info(counters).id if counters is not None else None
        _bind(program, None, MANIFEST, Manifest(chain, author, number).encode, held)
    except bpf.BpfError as error:
        raise bpf.refusal(error, "the chain's own description can't be stored in the kernel") from error
    return chain


def _bind(
    program: bpf.Fd, number: int | None, name: str, content: Callable[[], bytes], held: contextlib.ExitStack
) -> int:
    """Bind the map with this id, or a new one with ``content``; returns its id."""
    fd = _hold(held, bpf.map_by_id(number) if number is not None else blobs.make(name, content()))
    bpf.prog_bind_map(program, fd)
    return number if number is not None else bpf.map_info(fd).id
