# SPDX-License-Identifier: Apache-2.0
"""Follow packets from outside, for chains without a dispatcher of ours: fentry where a packet enters, fexit
on each component and on the dispatcher (bpf/follow_trace.bpf.c).

Nothing is swapped and nothing stays: the links belong to this process. Stubs are never traced, because a
traced function can't be replaced. The filter is spliced into the entry program: libbpf loads it once with a
stub in the filter's place, for the relocations, and it is then loaded by hand.
"""

from __future__ import annotations

import contextlib
import errno
import struct
from collections.abc import Mapping
from functools import partial

from xdpchain.advice import Do, advise
from xdpchain.bytecode import instructions
from xdpchain.bytecode.classic import HEAD, Filter
from xdpchain.closing import Closing
from xdpchain.errors import KernelRefused, RaceLost, Unsupported
from xdpchain.frozen import frozen
from xdpchain.linkage.dispatcher.emit import function_ids
from xdpchain.linkage.tap import FILTER, make_maps
from xdpchain.model.counts import FOREIGN
from xdpchain.model.running import Running
from xdpchain.objects.btf import Btf
from xdpchain.observe.discover import look
from xdpchain.observe.hook import author_of
from xdpchain.observe.running_sites import reasons_of
from xdpchain.observe.trace.fexit import TracedFunction, entry_function, explain
from xdpchain.observe.trace.targets import Place, place_of, traceable
from xdpchain.sys import bpf, shipped
from xdpchain.sys.libbpf import ATTACH_TYPE_FENTRY, LoadFailed, Object, ObjectProgram
from xdpchain.sys.perf_buffer import PerfBuffer

from .hook_watch import HookWatch
from .tapping import Keep, Tapping
from .whole_packets import WholePackets

__all__ = ["Outside"]

ENTER, LEFT, LAST = "xdptui_enter", "xdptui_left_", "xdptui_verdict"
WHOLE = "xdptui_whole"
PAGES = 32
"""Of each CPU's buffer: eight packets of the largest size kept, between two readings."""
WHAT = "packets can't be followed here"
TODO = advise(Do.USE_STATIC)


@frozen
class _Attached(Closing):
    """What records, and where packets in fragments come whole (None: nobody asked for as much, or it can't
    be read: ``why``).
    """

    links: tuple[bpf.Fd, ...]
    perf: PerfBuffer | None
    why: str

    def close(self) -> None:
        for link in self.links:
            link.close()
        if self.perf is not None:
            self.perf.close()


@frozen
class _Aim:
    """A function of a loaded program."""

    program: bpf.Fd
    function: TracedFunction


class Outside(Tapping):
    """Tracing programs, attached to what runs (see `Tapping`)."""

    def __init__(self, running: Running, filter: Filter, keep: Keep) -> None:
        """Attach them. Raises RaceLost, PermissionDenied, Unsupported, KernelRefused; nothing is attached
        then.
        """
        now = look(running.interface.name, running.interface.netns)
        if now.identity != running.identity or now.hook is None:
            raise RaceLost(f"{now.interface} no longer runs that chain", author_of(now), "Look at it again")
        self._watch = HookWatch(now.interface, now.hook.mode, now.hook.prog_id)
        chain = now.chain or now.shown
        slots = [(slot.key, slot.name) for slot in chain or ()] or [(FOREIGN, now.hook.name)]
        order = {key: stage for stage, (key, _) in enumerate(slots, 1)}
        with contextlib.ExitStack() as held:
            aims = {}
            for target in traceable(now):
                program = held.enter_context(_program(target.prog_id))
                aims[order.get(target.key, 0)] = _Aim(program, _declared(program))
            maps = make_maps(keep.snap)
            for fd in maps.values():
                held.callback(fd.close)
            super().__init__(maps, keep)
            held.callback(super().close)
            attached = _attach(aims, filter, keep, maps, place_of(now))
            held.callback(attached.close)
            self._perf, self._whole = attached.perf, WholePackets(keep.snap)
            self.remark = attached.why
            self.slots = dict(enumerate(slots, 1))
            self.sites = dict(enumerate((reasons.sites for reasons in reasons_of(now)), 1))
            self._held = held.pop_all()

    def read(self) -> list[bytes]:
        records = super().read()
        if self._perf is None:
            return records
        self._whole.take(self._perf.drain())
        return [self._whole.complete(record) for record in records]

    def why_not(self) -> str:
        return self._watch.why_not()

    def close(self) -> None:
        self._held.close()


def _program(prog_id: int) -> bpf.Fd:
    try:
        return bpf.prog_by_id(prog_id)
    except bpf.BpfError as error:
        raise bpf.refusal(error, f"program {prog_id} can't be followed") from error


def _declared(program: bpf.Fd) -> TracedFunction:
    function = entry_function(program)
    if not function.declared:
        raise Unsupported(
            WHAT,
            f"{function.name} does not declare its argument as struct xdp_md, so its packets can't be read",
            TODO,
        )
    return function


def _attach(
    aims: Mapping[int, _Aim], filter: Filter, keep: Keep, maps: Mapping[str, bpf.Fd], place: Place
) -> _Attached:
    """Attach everything, the entry last. A dispatcher whose main function was replaced by its single
    component can't be traced and needn't be: what that component returns is the verdict.
    """
    components = {stage: aim for stage, aim in aims.items() if stage}
    main = aims.get(0)
    if main is not None:
        try:
            return _attach_all({**components, 0: main}, main, filter, keep, maps, place)
        except _Replaced:
            pass
    if len(components) != 1:
        raise Unsupported(WHAT, "its dispatcher can't be traced", "Reload the chain")
    return _attach_all(components, next(iter(components.values())), filter, keep, maps, place)


class _Replaced(Exception):
    """The dispatcher's main function is replaced by another program."""


def _attach_all(
    aims: Mapping[int, _Aim], door: _Aim, filter: Filter, keep: Keep, maps: Mapping[str, bpf.Fd], place: Place
) -> _Attached:
    data = shipped.read("follow_trace")
    wanted = {LEFT + str(stage): aim for stage, aim in aims.items() if stage}
    if 0 in aims:
        wanted[LAST] = aims[0]
    whole = keep.snap > HEAD
    with contextlib.ExitStack() as held, Object(data, "follow_trace") as opened:
        programs = {program.name: program for program in opened.programs()}
        for name, program in programs.items():
            program.set_autoload(name == ENTER or name in wanted)
            if name == ENTER:
                program.as_fentry(door.program, door.function.name)
            elif name in wanted:
                program.as_fexit(wanted[name].program, wanted[name].function.name)
        for bpf_map in opened.maps():
            if bpf_map.name in maps:
                bpf_map.set_max_entries(bpf.map_info(maps[bpf_map.name]).max_entries)
                bpf_map.reuse(maps[bpf_map.name])
            elif bpf_map.internal:
                alone = 0 not in aims
                bpf_map.set_initial_value(
                    struct.pack(
                        "=iIIIIII",
                        place.ifindex,
                        place.netns,
                        filter.needs,
                        alone,
                        keep.snap,
                        keep.fates,
                        whole,
                    )
                )
        try:
            opened.load()
            enter = held.enter_context(_with_filter(programs[ENTER], door, filter))
            perf, why = None, ""
            if whole:
                (target,) = (bpf_map for bpf_map in opened.maps() if bpf_map.name == WHOLE)
                try:
                    perf = held.enter_context(PerfBuffer(target.fd, PAGES))
                except KernelRefused as error:
                    why = f"of packets in fragments only the first is kept: {error.what}: {error.why}"
            links = []
            fds: list[bpf.Fd | int] = [*(programs[name].fd for name in wanted), enter]
            for fd in fds:
                links.append(held.enter_context(bpf.trace_attach(fd)))
        except (LoadFailed, bpf.BpfError) as error:
            if error.errno == errno.EBUSY and 0 in aims:
                raise _Replaced from error
            raise explain(error, WHAT, TODO) from error
        enter.close()
        held.pop_all()
        return _Attached(tuple(links), perf, why)


def _with_filter(loaded: ObjectProgram, door: _Aim, filter: Filter) -> bpf.Fd:
    """The entry program again, with the filter in place of its stub. Raises BpfError."""
    code, functions = loaded.instructions(), loaded.func_info()
    types = bpf.prog_info(loaded.fd).btf_id
    btf = Btf.parse(bpf.btf_raw(types))
    names = {btf.type(type_id).name: at for at, type_id in functions}
    others = [at for at, _ in functions if at not in (0, names[FILTER])]
    linked = instructions.splice(code, (names[FILTER],), (filter.instructions,), others)
    numbers = dict(functions)
    records = [(linked.kept[at], type_id) for at, type_id in functions if at in linked.kept]
    records.append((linked.starts[0] or 0, numbers[names[FILTER]]))
    with bpf.btf_by_id(types) as btf_fd:
        load = partial(
            bpf.prog_load,
            bpf.ProgType.TRACING,
            linked.image,
            name=ENTER,
            licence="Dual BSD/GPL",
            attach_type=ATTACH_TYPE_FENTRY,
            btf_fd=btf_fd.fileno(),
            func_info=b"".join(struct.pack("<II", *record) for record in records),
            attach_btf_id=function_ids(door.program)[door.function.name],
            attach_fd=door.program.fileno(),
        )
        try:
            return load()
        except bpf.BpfError:
            return load(log_level=1, log_size=1 << 22)  # for the verifier's log
