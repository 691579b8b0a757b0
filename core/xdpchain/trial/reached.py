# SPDX-License-Identifier: Apache-2.0
"""Run packets through one unattached program, and find the line that decided each verdict.

The program runs with fresh maps that keep their state from packet to packet (BPF_PROG_TEST_RUN). It is
instrumented to leave a mark at its verdict sites and is otherwise unchanged.
"""

from __future__ import annotations

import contextlib
import struct

from xdpchain.bytecode.code_values import Source
from xdpchain.bytecode.linkable_program import LinkableProgram
from xdpchain.bytecode.site_marks import NO_EDGE, mark_sites
from xdpchain.bytecode.sites import VerdictSite
from xdpchain.bytecode.weaving import Woven, complete_lines
from xdpchain.closing import Closing
from xdpchain.errors import InvalidInput, Unsupported
from xdpchain.frozen import frozen
from xdpchain.linkage.compile import compile_component
from xdpchain.linkage.linkable_slots import object_bytes, shown_sites
from xdpchain.model.component import Component
from xdpchain.objects.verdicts import sites_of_linkable
from xdpchain.sys import bpf
from xdpchain.sys.libbpf import ATTACH_TYPE_XDP, BPF_F_XDP_HAS_FRAGS

from .packets.packet import SHORTEST

__all__ = ["Ran", "SiteTrial", "load_woven", "make_cell"]

BPF_F_MMAPABLE = 1 << 10
UNMARKED = 0xFFFFFFFF


@frozen
class Ran:
    """The result for a packet: the return code, the site that decided it (an index into `SiteTrial.sites`;
    None: unknown), and the packet afterwards. After a tail call to another program the site is that of the
    call, whatever the other program returned.
    """

    code: int
    site: int | None
    data: bytes


class SiteTrial(Closing):
    """A component, loaded for running packets through it until closed."""

    def __init__(self, component: Component) -> None:
        """Raises KernelRefused, LinkRefused, PermissionDenied, Unsupported (no stack left for the mark),
        InvalidInput.
        """
        if component.object is None:
            raise InvalidInput(f"{component.name} can't be tried", "its object file is unknown")
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
            self.sites: tuple[VerdictSite, ...] = shown_sites(
                unit, sites_of_linkable(unit, calls=False), component
            )
            self._edges = marked.edges
            self._held = held.pop_all()

    def run(self, packet: bytes) -> Ran:
        """Run one packet; frames shorter than 14 bytes are padded."""
        bpf.map_update(self._cell, bytes(4), struct.pack("=Q", UNMARKED))
        ran = bpf.prog_test_run(self._program, packet.ljust(SHORTEST, b"\0"))
        (mark,) = struct.unpack("=Q", bpf.map_lookup(self._cell, bytes(4), 8))
        return Ran(ran.code, self._site(mark, ran.code), ran.data)

    def _site(self, mark: int, code: int) -> int | None:
        if mark == UNMARKED:
            return next(
                (index for index, site in enumerate(self.sites) if site.code is Source.TAIL_CALL), None
            )
        edge = self._edges.get(mark)
        reached = [
            index
            for index, site in enumerate(self.sites)
            if (not site.edges if mark == NO_EDGE else edge in site.edges)
        ]
        exact = [index for index in reached if self.sites[index].code == code]
        return next(
            iter(exact or [index for index in reached if not isinstance(self.sites[index].code, int)]), None
        )

    def close(self) -> None:
        self._held.close()


def make_cell(size: int) -> bpf.Fd:
    """A map of one element, for marks. Raises KernelRefused, PermissionDenied."""
    try:
        return bpf.map_create(bpf.MapType.ARRAY, 4, size, 1, name="xdptui_mark", flags=BPF_F_MMAPABLE)
    except bpf.BpfError as error:
        raise bpf.refusal(error, "the mark's map can't be created") from error


def load_woven(unit: LinkableProgram, woven: Woven, component: Component) -> bpf.Fd:
    """Load an instrumented component. Raises KernelRefused, PermissionDenied."""
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
