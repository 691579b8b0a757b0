# SPDX-License-Identifier: Apache-2.0
"""Woven programs in the kernel: they return what the plain ones return and leave packet and maps the same,
and the last deciding edge a packet passed agrees with the code.
"""

from __future__ import annotations

import contextlib
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.programs import programs
from xdpchain.bytecode import opcodes as op
from xdpchain.bytecode.assembler import Assembly
from xdpchain.bytecode.code_values import Source
from xdpchain.bytecode.deciding import Edge, decisions
from xdpchain.bytecode.flow_graph import flow_of
from xdpchain.bytecode.instructions import patch_maps
from xdpchain.bytecode.linkable_program import LinkableProgram
from xdpchain.bytecode.main_function import main_stack
from xdpchain.bytecode.weaving import Weave, Woven, complete_lines
from xdpchain.linkage.compile import Compiled, compile_component
from xdpchain.model.link_layer import ETHERNET
from xdpchain.objects.components import component_of, programs_of
from xdpchain.objects.verdicts import sites_of_linkable, verdicts_of
from xdpchain.sys import bpf
from xdpchain.sys.cpus import possible_cpus
from xdpchain.sys.libbpf import ATTACH_TYPE_XDP, BPF_F_XDP_HAS_FRAGS
from xdpchain.trial.packets.builtin import builtin
from xdpchain.trial.packets.frames import Host

ROOT = Path(__file__).parents[2]
SAMPLES = sorted((ROOT / "build/samples").glob("*.o"))
FILTERS = sorted(Path("/usr/lib/x86_64-linux-gnu/bpf").glob("xdpfilt_*.o"))
PACKETS = [packet.data for packet in builtin(Host.number(1), Host.number(2), ETHERNET)]
PLAIN = 0xFF
COMPARED = {
    bpf.MapType.HASH,
    bpf.MapType.LRU_HASH,
    bpf.MapType.ARRAY,
    bpf.MapType.PERCPU_HASH,
    bpf.MapType.LRU_PERCPU_HASH,
    bpf.MapType.PERCPU_ARRAY,
}
OF_MAPS = {bpf.MapType.ARRAY_OF_MAPS, bpf.MapType.HASH_OF_MAPS}
HOLDS_TIME = {
    ("ratelimit", "buckets"): "when each bucket was refilled, and what it has gained since",
    ("counter_v3", "packets"): "when the latest packet came",
}
"""Maps that differ between two runs of the same program, by object: what they hold."""
WRITERS = {"counter", "counter_v2", "mapinmap", "monitor", "subprogs", "tailcalls"}
"""Objects that write to their maps for some of PACKETS; xdp-filter's all do."""


def marked(code: bytes, place: int) -> tuple[Woven, dict[int, Edge]]:
    """The program, with the number of the last deciding edge passed in bits 8 to 23 of its result."""
    graph = flow_of(code)
    numbers = {edge: n for n, edge in enumerate(sorted(decisions(code, calls=False).edges), 1)}
    weave = Weave(graph)

    def store(number: int) -> Assembly:
        out = Assembly()
        out.put(op.ST_W, op.FRAME, 0, place, number)
        return out

    weave.at_entry(0, store(PLAIN))
    for edge, number in numbers.items():
        weave.on_edge(*edge, store(number))
    for at in range(graph.main.start, graph.main.end):
        if graph.lines[at].code == op.EXIT:
            out = Assembly()
            out.put(op.LDX_W, 1, op.FRAME, place)
            out.put(op.ALU64 | op.LSH, 1, immediate=8)
            out.put(op.ALU64 | op.AND, 0, immediate=0xFF)
            out.put(op.ALU64 | op.OR | op.X, 0, 1)
            weave.before(at, out)
    return weave.finish(), {number: edge for edge, number in numbers.items()}


def agrees(code: bytes, edges: dict[int, Edge], verdict: int, result: int) -> bool:
    """Whether a marked program's result is consistent with the plain one's."""
    found = decisions(code, calls=False)
    number = result >> 8
    if number == 0:  # another program ended it
        sources = [*found.edges.values(), found.undecided]
        return result == verdict and any(Source.TAIL_CALL in codes for codes in sources)
    can = found.undecided if number == PLAIN else found.last[edges[number]]
    known = verdict in can or any(not isinstance(giver, int) for giver in can)
    return result & 0xFF == verdict and known


@pytest.fixture
def counter() -> Iterator[bpf.Fd]:
    with bpf.map_create(bpf.MapType.ARRAY, 4, 8, 1, name="woven_counter") as fd:
        yield fd


def value(fd: bpf.Fd) -> int:
    found = bpf.map_lookup(fd, struct.pack("=I", 0), 8)
    assert found is not None
    return int(struct.unpack("=Q", found)[0])


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_generated_programs_do_the_same_when_they_are_woven(counter: bpf.Fd, data: st.DataObject) -> None:
    code = data.draw(programs(map_fd=counter.fileno()))
    woven, edges = marked(code, -64)
    with (
        bpf.prog_load(bpf.ProgType.XDP, code, name="plain", log_level=1) as plain,
        bpf.prog_load(bpf.ProgType.XDP, woven.image, name="woven", log_level=1) as marks,
    ):
        for packet in PACKETS:
            before = value(counter)
            run = bpf.prog_test_run(plain, packet)
            between = value(counter)
            other = bpf.prog_test_run(marks, packet)
            assert agrees(code, edges, run.code, other.code)
            assert run.data == other.data
            assert value(counter) - between == between - before


def contents(fd: bpf.Fd) -> dict[bytes, object] | None:
    """A map's entries (per-CPU: the values of all CPUs), in a map of maps those of each; None of a map whose
    entries programs don't write.
    """
    info = bpf.map_info(fd)
    if info.type in OF_MAPS:
        found: dict[bytes, object] = {}
        for key in bpf.map_keys(fd, info.key_size):
            with contextlib.suppress(bpf.BpfError):  # an array's place may be empty
                number = int.from_bytes(bpf.map_lookup(fd, key, 4), sys.byteorder)
                found[key] = contents(bpf.map_by_id(number))
        return found
    if info.type not in COMPARED:
        return None
    size = info.value_size
    if "PERCPU" in bpf.MapType(info.type).name:
        size = (size + 7 & ~7) * possible_cpus()
    try:
        return dict(bpf.map_lookup_batch(fd, None, info.max_entries, info.key_size, size)[0])
    except bpf.BpfError:  # not for this type of map, or not in this kernel
        return {key: bpf.map_lookup(fd, key, size) for key in bpf.map_keys(fd, info.key_size)}


def dump(compiled: Compiled, path: Path) -> dict[str, dict[bytes, object] | None]:
    """The maps of an object's copy, by name."""
    return {name: contents(fd) for name, fd in compiled.maps.items() if (path.stem, name) not in HOLDS_TIME}


@pytest.fixture
def one_cpu() -> Iterator[None]:
    """This thread's programs run on one CPU, so that their per-CPU values can be compared."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    yield
    os.sched_setaffinity(0, allowed)


def load(unit: LinkableProgram, code: bytes, woven: Woven | None, log: int = 0) -> bpf.Fd:
    functions = unit.functions if woven is None else woven.functions(unit.functions)
    lines = unit.lines if woven is None else woven.line_records(unit.lines)
    lines = complete_lines(lines, (at for at, _ in functions))
    with contextlib.ExitStack() as held:
        btf = held.enter_context(bpf.btf_load(unit.btf)).fileno() if functions else 0
        return bpf.prog_load(
            bpf.ProgType.XDP,
            code if woven is None else woven.image,
            name="woven",
            attach_type=ATTACH_TYPE_XDP,
            flags=BPF_F_XDP_HAS_FRAGS if unit.frags else 0,
            btf_fd=btf,
            func_info=b"".join(struct.pack("<II", *function) for function in functions),
            line_info=b"".join(struct.pack("<IIII", *line) for line in lines) if functions else b"",
            log_level=log,
            log_size=1 << 20,
        )


@pytest.mark.parametrize("path", [*SAMPLES, *FILTERS], ids=lambda path: path.stem)
def test_real_programs_do_the_same_when_they_are_woven(path: Path, one_cpu: None) -> None:
    """And leave the same in their maps, but for HOLDS_TIME."""
    source = programs_of(str(path))
    for spec in source.xdp_programs():
        component = component_of(source, name=spec.name)
        if path.stem == "refused":
            continue  # the verifier accepts it in no form
        compiled = compile_component(component, source.data, {})
        again = compile_component(component, source.data, {})
        with contextlib.closing(compiled), contextlib.closing(again):
            untouched = dump(compiled, path)
            unit = compiled.unit
            depth = main_stack(unit.instructions, unit.stack[0] if unit.stack else 0)
            place = -(-(-depth // 8) * 8) - 8
            if -place > op.STACK:
                continue
            codes = [
                patch_maps(unit.instructions, unit.references, {k: fd.fileno() for k, fd in one.maps.items()})
                for one in (compiled, again)
            ]
            woven, edges = marked(codes[1], place)
            nothing = Weave(flow_of(codes[0])).finish()
            with load(unit, codes[0], None) as plain, load(unit, codes[0], nothing) as same:
                assert bpf.prog_info(plain).tag == bpf.prog_info(same).tag, "nothing was put in"
            with load(unit, codes[0], None) as plain, load(unit, codes[1], woven) as marks:
                if unit.lines:
                    assert bpf.prog_line_info(marks)[0][0] == 0
                for packet in PACKETS:
                    run, other = bpf.prog_test_run(plain, packet), bpf.prog_test_run(marks, packet)
                    assert agrees(codes[1], edges, run.code, other.code), spec.name
                    assert run.data == other.data
            left = [dump(compiled, path), dump(again, path)]
            assert left[0] == left[1], spec.name
            if path.stem in WRITERS or path in FILTERS:
                assert left[0] != untouched, "no packet left anything"


@pytest.mark.parametrize("path", [*SAMPLES, *FILTERS], ids=lambda path: path.stem)
def test_the_sites_of_a_file_are_those_of_what_is_loaded(path: Path) -> None:
    """Before the load, and for the linkable form."""
    source = programs_of(str(path))
    for spec in source.xdp_programs():
        if path.stem == "refused":
            continue
        component = component_of(source, name=spec.name)
        with contextlib.closing(compile_component(component, source.data, {})) as compiled:
            linked = sites_of_linkable(compiled.unit)
        before = verdicts_of(source.data, spec.name)
        assert [(site.word, site.line) for site in before.sites] == [
            (site.word, site.line) for site in linked
        ]
        if compiled.unit.btf:
            assert [site.function for site in before.sites] == [site.function for site in linked]
