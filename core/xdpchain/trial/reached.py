# SPDX-License-Identifier: Apache-2.0
"""Packets through one program that is attached to nothing, and which line decided what became of each.

The program runs with fresh maps, in which what one packet changes is found by the next; it is woven to leave
a mark at its verdict sites, and does nothing else differently (BPF_PROG_TEST_RUN).
"""

from __future__ import annotations

import contextlib
import struct
from dataclasses import dataclass

from xdpchain.bytecode.deciding import Source
from xdpchain.bytecode.linkable_program import LinkableProgram
from xdpchain.bytecode.site_marks import NO_EDGE, mark_sites
from xdpchain.bytecode.sites import VerdictSite
from xdpchain.bytecode.weaving import Woven, complete_lines
from xdpchain.closing import Closing
from xdpchain.errors import InvalidInput, Unsupported
from xdpchain.linkage.compile import compile_component
from xdpchain.linkage.linkable_slots import object_bytes
from xdpchain.model.chain import Component
from xdpchain.objects.verdicts import sites_of_linkable
from xdpchain.sys import bpf
from xdpchain.sys.libbpf import ATTACH_TYPE_XDP, BPF_F_XDP_HAS_FRAGS

from .packets.packet import SHORTEST

__all__ = ["Ran", "SiteTrial", "load_woven", "make_cell"]

BPF_F_MMAPABLE = 1 << 10
UNMARKED = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of a packet: the return code, the site that decided it (an index into `SiteTrial.sites`;
    None: it is not known), and the packet afterwards. What was handed on to another program by a tail call
    has the site of that call, whatever the other one returned.
    """

    code: int
    site: int | None
    data: bytes


class SiteTrial(Closing):
    """A component, loaded for packets to be sent through it until it is closed."""

    def __init__(self, component: Component) -> None:
        """Raises KernelRefused, LinkRefused, PermissionDenied, Unsupported (its stack has no room for the
        mark), InvalidInput.
        """
        if component.object is None:
            raise InvalidInput(f"{component.name} can't be tried", "its object file is not known")
        with contextlib.ExitStack() as held:
            compiled = compile_component(component, object_bytes(component.object), {}, isolated=True)
            held.callback(compiled.close)
            self._cell = held.enter_context(make_cell(8))
            unit = compiled.unit.unbound()
            code = unit.image(compiled.maps)
            marked = mark_sites(code, unit.stack[0] if unit.stack else 0, self._cell.fileno())
            if marked is None:
                raise Unsupported(
                    f"the deciding lines of {component.name} can't be observed",
                    f"it uses {unit.stack[0]} bytes of stack, which leaves no room for a mark",
                )
            self._program = held.enter_context(load_woven(unit, marked.woven, component))
            self.sites: tuple[VerdictSite, ...] = sites_of_linkable(unit, calls=False)
            self._edges = marked.edges
            self._held = held.pop_all()

    def run(self, packet: bytes) -> Ran:
        """Send one packet through; a frame of less than 14 bytes is padded."""
        bpf.map_update(self._cell, bytes(4), struct.pack("=Q", UNMARKED))
        ran = bpf.prog_test_run(self._program, packet.ljust(SHORTEST, b"\0"))
        (mark,) = struct.unpack("=Q", bpf.map_lookup(self._cell, bytes(4), 8))
        return Ran(ran.code, self._site(mark, ran.code), ran.data)

    def _site(self, mark: int, code: int) -> int | None:
        if mark == UNMARKED:
            return next((n for n, site in enumerate(self.sites) if site.code is Source.TAIL_CALL), None)
        edge = self._edges.get(mark)
        mine = [
            index
            for index, site in enumerate(self.sites)
            if (not site.edges if mark == NO_EDGE else edge in site.edges)
        ]
        exact = [number for number in mine if self.sites[number].code == code]
        return next(iter(exact or [n for n in mine if not isinstance(self.sites[n].code, int)]), None)

    def close(self) -> None:
        self._held.close()


def make_cell(size: int) -> bpf.Fd:
    """A map of one element, for marks. Raises KernelRefused and its kin."""
    try:
        return bpf.map_create(bpf.MapType.ARRAY, 4, size, 1, name="xdptui_mark", flags=BPF_F_MMAPABLE)
    except bpf.BpfError as error:
        raise bpf.refusal(error, "the mark's map can't be created") from error


def load_woven(unit: LinkableProgram, woven: Woven, component: Component) -> bpf.Fd:
    """Load a component that leaves marks. Raises KernelRefused and its kin."""
    functions = woven.functions(unit.functions)
    lines = complete_lines(woven.line_records(unit.lines), (at for at, _ in functions))
    try:
        with contextlib.ExitStack() as held:
            btf = held.enter_context(bpf.btf_load(unit.btf)).fileno() if functions else 0
            return bpf.prog_load(
                bpf.ProgType.XDP,
                woven.image,
                name=component.name,
                licence=component.licence,
                attach_type=ATTACH_TYPE_XDP,
                flags=BPF_F_XDP_HAS_FRAGS if unit.frags else 0,
                btf_fd=btf,
                func_info=b"".join(struct.pack("<II", *function) for function in functions),
                line_info=b"".join(struct.pack("<IIII", *line) for line in lines) if functions else b"",
            )
    except bpf.BpfError as error:
        raise bpf.refusal(error, f"{component.name} can't be loaded with marks") from error
