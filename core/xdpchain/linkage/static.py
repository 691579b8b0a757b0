# SPDX-License-Identifier: Apache-2.0
"""Static linkage: the components' instructions are spliced behind the dispatcher's, and load as one
program.

Each component was verified by itself when it was first loaded; its unit (instructions, BTF, map references)
is then all that an edit needs. Their main functions become part of the dispatcher's (`inlining`); where that
is too much for the verifier, they are global functions, which it judges once each, from an unknown packet,
instead of once for every path through those before: its work then is the sum of the parts.

What hangs on the program: the manifest, each component's unit, each distinct object file, and the counters
map, which is handed from one dispatcher to the next.
"""

from __future__ import annotations

import contextlib
import errno
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from xdpchain.advice import Do, advise
from xdpchain.bytecode import instructions
from xdpchain.bytecode.chaincall import main_stack, own_tail_calls
from xdpchain.bytecode.inlining import Inlined, inlined
from xdpchain.bytecode.linkable_program import LinkableProgram
from xdpchain.errors import LinkRefused, XdpChainError
from xdpchain.model.chain import MAX_SLOTS, Chain, Component
from xdpchain.model.manifest import Author, Manifest
from xdpchain.model.paths import is_routed, successors
from xdpchain.model.routes import CODES
from xdpchain.model.running import Running
from xdpchain.objects.btf import Btf
from xdpchain.objects.btf_types import Func, Kind
from xdpchain.sys import blobs, bpf, shipped
from xdpchain.sys.libbpf import BPF_F_XDP_HAS_FRAGS, FUNC_GLOBAL, FUNC_STATIC, merge_btf

from .arrays import remove_array_pins
from .compile import compile_component
from .counting import COUNTERS, counters_for
from .dispatcher.config import DispatcherConfig, SlotConfig, mask_of
from .linkable_slots import Part, gather_parts
from .linked import BuiltChain, bind, bind_metadata
from .policing import VIOLATIONS, encode_policies, ring_for
from .tap import FILTER, HELPERS, Tap
from .verifier_words import read_log

__all__ = ["FOLLOWED", "StaticLinker", "component_prototype"]

PROGRAM = "xdptui_chain"
FOLLOWED = "xdptui_followed"
"""The mark of a chain that records the way of packets; bound last."""

CONFIG_VERSION = 3
ATTACH_TYPE_XDP = 37


class StaticLinker:
    """Static linkage (see `linkage.Linker`).

    With ``cloning``, the chain gets copies of all maps: what it does then leaves no trace in those that run.
    With a ``tap``, its dispatcher records the way of the packets that a filter takes, and does nothing else
    differently. ``replaces_prog_id`` is the id of a program that has run, and that does the same: what is
    linked is no new state of the interface, but that one.
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
            counters = counters_for(candidate, running, held)
            ring = ring_for(candidate, running, held)
            program, chain = _link(candidate, parts, counters, ring, self._tap, held)
            number = bpf.map_info(counters).id if counters is not None else None
            manifest = Manifest(chain, author, number, self._replaces_prog_id)
            chain = bind_metadata(program, manifest, parts, held)
            if self._tap is not None:
                _mark(program, self._tap.mark, held)
            return BuiltChain(program, chain, number, parts, held.pop_all())

    def retire(self, running: Running) -> None:
        if running.dispatcher is not None:
            remove_array_pins(running.dispatcher.id)


@dataclass(frozen=True, slots=True)
class _Dispatcher:
    """The dispatcher's unit, where the stubs of its slots begin (and the filter's, if it follows packets) and
    the functions that stay, and the BTF prototype of a component.
    """

    unit: LinkableProgram
    stubs: tuple[int, ...]
    helpers: tuple[int, ...]
    prototype: int


@cache
def _dispatcher(counting: bool, routed: bool, policed: bool, following: bool) -> _Dispatcher:
    name = "dispatcher_policed" if policed else "dispatcher" + "_routed" * routed + "_counters" * counting
    name += "_follow" * following
    if name == "dispatcher":
        name = f"dispatcher_v{CONFIG_VERSION}"
    compiled = compile_component(Component("xdp_dispatcher"), shipped.read(name), {})
    compiled.close()
    btf = Btf.parse(compiled.unit.btf)
    names = {}
    for at, number in compiled.unit.functions:
        names[btf.type(number).name] = at
    main = btf.find("xdp_dispatcher", Kind.FUNC)
    assert isinstance(main, Func)
    stubs = [names[f"prog{i}"] for i in range(MAX_SLOTS)]
    helpers = [names[name] for name in HELPERS] if following else []
    if following:
        stubs.append(names[FILTER])
    return _Dispatcher(compiled.unit, tuple(stubs), tuple(helpers), main.prototype)


def component_prototype() -> tuple[bytes, int, int]:
    """BTF with the dispatcher's main function in it: the blob, the ids of the function and its prototype."""
    plain = _dispatcher(False, False, False, False)
    return plain.unit.btf, plain.unit.functions[0][1], plain.prototype


def _link(
    candidate: Chain,
    parts: Sequence[Part],
    counters: bpf.Fd | None,
    ring: bpf.Fd | None,
    tap: Tap | None,
    held: contextlib.ExitStack,
) -> tuple[bpf.Fd, Chain]:
    routed = is_routed(candidate)
    dispatcher = _dispatcher(counters is not None, routed, ring is not None, tap is not None)
    unit = dispatcher.unit
    frags = all(part.slot.component.frags for part in parts)
    config = DispatcherConfig(
        CONFIG_VERSION,
        tuple(
            SlotConfig(mask_of(p.slot), p.slot.priority, BPF_F_XDP_HAS_FRAGS * p.slot.component.frags)
            for p in parts
        ),
        frags,
    ).encode()
    if counters is not None:
        rows = [part.slot.row or 0 for part in parts]
        config += b"".join(row.to_bytes(4, "little") for row in rows + [0] * (MAX_SLOTS - len(rows)))
    if routed or ring is not None:
        ways = [bytes(place % 256 for place in row) for row in successors(candidate)]
        config += b"".join(ways).ljust(MAX_SLOTS * CODES, b"\0")
    if ring is not None:
        config += encode_policies(candidate)
    config += bytes(-len(config) % 4)  # the compiler's own padding
    if tap is not None:
        config += tap.needs.to_bytes(4, "little")
    try:
        rodata = held.enter_context(blobs.make("xdptui_config", config))
    except bpf.BpfError as error:
        raise bpf.refusal(error, "the dispatcher's configuration can't be made") from error
    descriptors = {".rodata": rodata.fileno()}
    if counters is not None:
        descriptors[COUNTERS] = counters.fileno()
    if ring is not None:
        descriptors[VIOLATIONS] = ring.fileno()
    if tap is not None:
        descriptors |= {name: fd.fileno() for name, fd in tap.maps.items()}
    main = instructions.patch_maps(unit.instructions, unit.references, descriptors)
    codes: list[bytes | None] = [
        instructions.patch_maps(
            part.unit.instructions,
            part.unit.references,
            {name: fd.fileno() for name, fd in part.maps.items()},
        )
        for part in parts
    ]
    if tap is not None:
        codes += [None] * (MAX_SLOTS - len(codes)) + [tap.instructions]
    linked = instructions.splice(main, dispatcher.stubs, codes, dispatcher.helpers)
    btf, functions = _describe(dispatcher, parts, linked)
    licences = [part.slot.component.licence for part in parts]
    odd = [licence for licence in licences if licence not in GPL_COMPATIBLE]

    def load(code: bytes, moved: Mapping[int, int], **options: Any) -> bpf.Fd:
        records = [(moved[at], number) for at, number in functions if at in moved]
        with bpf.btf_load(btf) as btf_fd:
            return bpf.prog_load(
                bpf.ProgType.XDP,
                code,
                name=PROGRAM,
                licence=odd[0] if odd else "GPL",
                attach_type=ATTACH_TYPE_XDP,
                flags=BPF_F_XDP_HAS_FRAGS if frags else 0,
                btf_fd=btf_fd.fileno(),
                func_info=b"".join(struct.pack("<II", *record) for record in records),
                **options,
            )

    program = None
    if (better := _inlined(parts, linked, functions)) is not None:
        with contextlib.suppress(bpf.BpfError):  # it may be too much for one function: calls divide the work
            program = load(better.image, better.moved)
    if program is None:
        unmoved = {at: at for at, _ in functions}
        try:
            program = load(linked.image, unmoved)
        except bpf.BpfError as error:
            log = ""
            try:
                load(linked.image, unmoved, log_level=1, log_size=1 << 24).close()
            except bpf.BpfError as again:
                log = again.log
            raise _refused(error, log, odd, parts) from error
    return held.enter_context(program), replace(candidate, slots=tuple(part.slot for part in parts))


MOST_STEPS = 100_000
"""Instructions that the verifier walked for all components alone, beyond which they stay functions: in one
function each of the ways through one multiplies those through the next.
"""


def _inlined(
    parts: Sequence[Part], linked: instructions.Linked, functions: Sequence[tuple[int, int]]
) -> Inlined | None:
    """With those components in the dispatcher's main function that can be there. One that makes tail calls
    can't: what it calls would return to the kernel, instead of the chain.
    """
    if sum(part.unit.verified for part in parts) > MOST_STEPS:
        return None
    bodies = {
        start: main_stack(part.unit.instructions, part.unit.stack[0])
        for start, part in zip(linked.starts, parts, strict=False)
        if start is not None and part.unit.stack and not own_tail_calls(part.unit.instructions)
    }
    return inlined(linked.image, [at for at, _ in functions], bodies) if bodies else None


# What license_is_gpl_compatible() of the kernel's linux/license.h accepts.
GPL_COMPATIBLE = frozenset(
    ("GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL")
)


def _describe(
    dispatcher: _Dispatcher, parts: Sequence[Part], linked: instructions.Linked
) -> tuple[bytes, list[tuple[int, int]]]:
    """BTF and functions (index, type) of the linked program: each part's own, shifted; each component's main
    made a global function with the dispatcher's prototype, whatever its author called the type of its
    argument.
    """
    unit, prototype = dispatcher.unit, dispatcher.prototype
    starts = linked.starts
    functions = [(part.slot.name, FUNC_GLOBAL, prototype) for part in parts]
    bare = [(i, at) for i, p in enumerate(parts) if not p.unit.functions
            for at in instructions.function_starts(p.unit.instructions)[1:]]  # fmt: skip
    functions += [(f"{parts[i].slot.name}_{at}", FUNC_STATIC, prototype) for i, at in bare]
    merged = merge_btf([unit.btf, *(p.unit.btf for p in parts if p.unit.btf)], functions)
    shifts = iter(merged.shifts[1:])
    records = [(linked.kept[at], number) for at, number in unit.functions if at in linked.kept]
    spare = dict(zip(bare, merged.functions[len(parts) :], strict=True))
    for i, (part, start) in enumerate(zip(parts, starts, strict=False)):
        assert start is not None
        shift = next(shifts) if part.unit.btf else 0
        records.append((start, merged.functions[i]))
        if part.unit.functions:
            records += [(start + at, number + shift) for at, number in part.unit.functions[1:]]
        else:
            records += [(start + at, number) for (j, at), number in spare.items() if j == i]
    if len(starts) > MAX_SLOTS:  # the filter takes its stub's place, and its type
        number = dict(unit.functions)[dispatcher.stubs[MAX_SLOTS]]
        records.append((starts[MAX_SLOTS] or 0, number))
    return merged.data, records


def _refused(error: bpf.BpfError, log: str, odd: Sequence[str], parts: Sequence[Part]) -> XdpChainError:
    """Why the linked program was refused, in words."""
    if error.errno == errno.EPERM:
        return bpf.refusal(error, "the linked chain can't be loaded", log=log)
    verdict = read_log(log).verdict
    stacks = ", ".join(f"{p.slot.name} {sum(p.unit.stack)} bytes" for p in parts)
    todo = advise(Do.CHOOSE_LINKAGE, "freplace", "tailcall")
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


def _mark(program: bpf.Fd, mark: bytes, held: contextlib.ExitStack) -> None:
    try:
        bind(program, None, FOLLOWED, lambda: mark, held)
    except bpf.BpfError as error:
        raise bpf.refusal(error, "the followed chain can't be marked") from error
