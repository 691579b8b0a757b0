# SPDX-License-Identifier: Apache-2.0
"""What programs print with bpf_printk(), while a listener is open (bpf/logs.bpf.c).

It attaches to the kernel's tracepoint directly: no tracing instance is created, nothing must be mounted, and
readers of trace_pipe still get every line. The stack at that moment contains an address in the printing
program, which line information maps to a source line. Output of unrelated programs is skipped.
"""

from __future__ import annotations

import contextlib
import os
import struct
import time
from bisect import bisect_right
from collections.abc import Mapping

from xdpchain.bytecode.sites import SourceLine
from xdpchain.bytecode.weaving import LineRecord
from xdpchain.closing import Closing
from xdpchain.errors import Unsupported, XdpChainError
from xdpchain.frozen import frozen
from xdpchain.model.running import Running
from xdpchain.objects.btf import Btf
from xdpchain.objects.source_lines import source_map
from xdpchain.objects.verdicts import source_of_linkable
from xdpchain.observe.permissions import require_capabilities
from xdpchain.sys import bpf, shipped
from xdpchain.sys.cpus import possible_cpus
from xdpchain.sys.libbpf import LoadFailed, Object
from xdpchain.sys.ring import Ring

from .printers import linkable_of, printing_programs
from .said import Output, Said

__all__ = ["Printk"]

WHAT = "program output can't be read"
TRACEPOINT = "bpf_trace_printk"
FRAMES = 16
_HEAD = struct.Struct(f"=QII{FRAMES}Q")


@frozen
class _Code:
    """A program in kernel memory: the addresses of its functions, and its source lines by address. ``slot``:
    its slot; None: it is a whole chain.
    """

    functions: tuple[tuple[int, int], ...]
    places: tuple[tuple[int, SourceLine], ...]
    slot: tuple[int, str] | None

    def lines(self, address: int) -> tuple[SourceLine | None, SourceLine | None]:
        """The line of the code there, and the last one before that is known: where compilers join the code
        of several lines they name none.
        """
        place = bisect_right(self.places, address, key=lambda entry: entry[0])
        before = (self.places[at][1] for at in range(place - 1, -1, -1))
        own = next(before, None)
        if own is None or own.number:
            return own, own
        return None, next((line for line in before if line.number), None)

    def __contains__(self, address: int) -> bool:
        return any(start < address <= start + size for start, size in self.functions)


class Printk(Closing):
    """Listens until closed. Only programs given to ``follow`` are reported."""

    def __init__(self) -> None:
        """Raises PermissionDenied, Unsupported (no such tracepoint: kernel 5.9), KernelRefused."""
        require_capabilities()
        self._clock = time.time() - time.monotonic()
        self._codes: tuple[_Code, ...] = ()
        self._owners: Mapping[SourceLine, tuple[int, str] | None] = {}
        with contextlib.ExitStack() as held:
            with Object(shipped.read("logs"), "logs") as opened:
                try:
                    opened.load()
                except LoadFailed as error:
                    raise bpf.refusal(error, WHAT, log=error.log) from error
                maps = {
                    bpf_map.name: held.enter_context(bpf.Fd(os.dup(bpf_map.fd))) for bpf_map in opened.maps()
                }
                (program,) = opened.programs()
                try:
                    held.enter_context(bpf.trace_attach(program.fd, TRACEPOINT))
                except FileNotFoundError as error:
                    why = f"this kernel has no tracepoint {TRACEPOINT}"
                    raise Unsupported(WHAT, why, "Kernel 5.9 is needed") from error
                except bpf.BpfError as error:
                    raise bpf.refusal(error, WHAT) from error
            self._lost_map = maps["xdptui_lost"]
            self._ring = held.enter_context(Ring(maps["xdptui_ring"].fileno()))
            self._held = held.pop_all()

    def follow(self, running: Running) -> None:
        """Report what an interface's programs print from now on. Raises BpfError."""
        owners: dict[SourceLine, tuple[int, str] | None] = {}
        for index, slot in enumerate(running.chain or running.shown or ()):
            own, linkable = (index, slot.name), linkable_of(slot.component)
            for _, line in source_of_linkable(linkable).lines if linkable is not None else ():
                owners[line] = own if owners.get(line, own) == own else None
        programs = printing_programs(running)
        self._codes = tuple(code for prog_id, slot in programs.items() if (code := _code(prog_id, slot)))
        self._owners = owners

    @property
    def blind(self) -> bool:
        """Whether the kernel hides program addresses, so that the printing program is unknown."""
        return not any(code.functions for code in self._codes)

    @property
    def lost(self) -> int:
        """The number of lines lost because the buffer was full."""
        return sum(
            struct.unpack(
                f"={possible_cpus()}Q", bpf.map_lookup(self._lost_map, bytes(4), 8 * possible_cpus())
            )
        )

    def read(self) -> list[Said]:
        """The lines printed since the last call, oldest first."""
        printed = []
        for record in self._ring.drain():
            at, cpu, frames, *stack = _HEAD.unpack_from(record)
            text = record[_HEAD.size :].partition(b"\0")[0].decode(errors="replace").rstrip("\n")
            when = at / 1e9 + self._clock
            owner = self._owner(stack[:frames])
            if owner is not None:
                code, line, near = owner
                slot = code.slot or (self._owners.get(near) if near is not None else None)
                printed.append(Said(when, cpu, text, slot, line, Output.PRINTK))
            elif self.blind and self._codes:
                printed.append(Said(when, cpu, text, None, None, Output.PRINTK))
        return printed

    def _owner(self, stack: list[int]) -> tuple[_Code, SourceLine | None, SourceLine | None] | None:
        for address in stack:
            for code in self._codes:
                if address in code:
                    return code, *code.lines(address - 1)  # the return address is after the call
        return None

    def close(self) -> None:
        self._held.close()


def _code(prog_id: int, slot: tuple[int, str] | None) -> _Code | None:
    """Read a program's addresses and lines; None if it is gone."""
    try:
        with bpf.prog_by_id(prog_id) as program:
            jited, records = bpf.prog_jited(program), bpf.prog_line_info(program)
            btf_id = bpf.prog_info(program).btf_id
            types = Btf.parse(bpf.btf_raw(btf_id)) if btf_id else None
    except (bpf.BpfError, XdpChainError):
        return None
    places: list[tuple[int, SourceLine]] = []
    if types is not None and len(records) == len(jited.lines):
        lines = dict(source_map(types, (), map(LineRecord._make, records)).lines)
        places = [(address, lines[record[0]]) for address, record in zip(jited.lines, records, strict=True)]
    return _Code(jited.functions, tuple(sorted(places, key=lambda entry: entry[0])), slot)
