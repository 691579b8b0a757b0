# SPDX-License-Identifier: Apache-2.0
"""The metadata readers agree with bpftool, libbpf, libxdp and the kernel, on every available object

Objects: those of Debian's xdp-tools and libxdp packages, the project's own, and one made for these tests that
contains everything.
"""

from __future__ import annotations

import contextlib
import ctypes as c
import functools
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.oracles import (
    as_bpftool,
    bpftool_types,
    described_by_libbpf,
    info,
    kernel_btf,
    libbpf,
    maps_of,
    opened,
    programs_of,
    said_by_libxdp,
    written_by_libbpf,
)
from tests.objects.compile import EVERYTHING, SECOND, compile_file
from xdpchain.model.runconfig import RunConfig
from xdpchain.objects.btf import Btf
from xdpchain.objects.btf_types import Kind
from xdpchain.objects.elf import Elf
from xdpchain.objects.objfile import MapSpec, ObjectFile, ProgramSpec
from xdpchain.objects.runconfig_btf import read_metadata_version, read_run_configs
from xdpchain.objects.section_names import classify

ROOT = Path(__file__).parents[2]
PACKAGES = ("xdp-tools", "libxdp1")
VMLINUX = Path("/sys/kernel/btf/vmlinux")
XDP, EXT, UNSPEC = 6, 28, 0
PROGRAM_TYPES = {"xdp": XDP, "ext": EXT, "": UNSPEC}
ATTACH_TYPES = {"xdp": 37, "devmap": 33, "cpumap": 35}
MADE_TO_BE_REFUSED = ("refused", "hugestack")


@functools.cache
def packaged() -> tuple[Path, ...]:
    """The BPF objects in the packages."""
    answer = subprocess.run(["dpkg", "-L", *PACKAGES], capture_output=True, text=True, check=False)
    return tuple(sorted({Path(line) for line in answer.stdout.splitlines() if line.endswith(".o")}))


@functools.cache
def every_object() -> tuple[Path, ...]:
    own = (*ROOT.glob("core/xdpchain/bpf_objects/*.o"), *ROOT.glob("build/samples/*.o"))
    return (*packaged(), *sorted(own))


@pytest.fixture(scope="session")
def made_objects(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Path]:
    """Objects made for these tests: compiled, and compiled and linked."""
    folder = tmp_path_factory.mktemp("objects")
    everything, second, linked = (folder / name for name in ("everything.o", "second.o", "linked.o"))
    everything.write_bytes(compile_file(EVERYTHING))
    second.write_bytes(compile_file(SECOND))
    subprocess.run(["bpftool", "gen", "object", linked, everything, second], check=True)
    return {EVERYTHING: everything, SECOND: linked}


@pytest.fixture(params=[*every_object(), EVERYTHING, SECOND], ids=lambda path: path.name)
def path(request: pytest.FixtureRequest, samples: Path, made_objects: dict[Path, Path]) -> Path:
    """Each object in turn. ``samples`` makes sure they exist."""
    wanted: Path = request.param
    return made_objects.get(wanted, wanted)


@pytest.fixture(
    params=[one for one in (*every_object(), EVERYTHING, SECOND) if one.stem not in MADE_TO_BE_REFUSED],
    ids=lambda path: path.name,
)
def path_to_load(request: pytest.FixtureRequest, samples: Path, made_objects: dict[Path, Path]) -> Path:
    """Those that the verifier is meant to accept."""
    wanted: Path = request.param
    return made_objects.get(wanted, wanted)


def test_the_packages_have_objects() -> None:
    if not Path("/usr/bin/dpkg").exists():
        pytest.skip("no Debian: no packages to compare with")
    names = {one.name for one in packaged()}
    assert "xdp-dispatcher.o" in names
    assert "xsk_def_xdp_prog.o" in names
    assert any(name.startswith("xdpfilt_") for name in names)


# -- BTF against bpftool -------------------------------------------------------------------------------------


def assert_same_types(btf: Btf, expected: list[dict[str, Any]], first: int = 1) -> None:
    mine = [as_bpftool(btf_type) for btf_type in btf if btf_type.id >= first]
    for one, other in zip(mine, expected, strict=False):
        if one["kind"] == "ENUM" and one["encoding"] == "UNSIGNED":
            # bpftool prints them with a signed format; the kernel's header says they are unsigned
            other["values"] = [{**value, "val": value["val"] & 0xFFFFFFFF} for value in other["values"]]
        if one["kind"] == "ENUM64" and one["encoding"] == "UNSIGNED":
            other["values"] = [{**value, "val": value["val"] & (1 << 64) - 1} for value in other["values"]]
        assert one == other
    assert len(mine) == len(expected)


def test_types_of_an_object(path: Path) -> None:
    section = Elf.parse(path.read_bytes()).section(".BTF")
    if section is None:
        assert "nobtf" in path.name
        return
    btf = Btf.parse(section.data)
    btf.check()
    assert_same_types(btf, bpftool_types(path))


def test_types_of_the_kernel() -> None:
    if not VMLINUX.exists():
        pytest.skip("this kernel has no BTF")
    btf = Btf.parse(VMLINUX.read_bytes())
    btf.check()
    assert_same_types(btf, bpftool_types(VMLINUX))


def test_types_in_the_other_byte_order(tmp_path: Path) -> None:
    path = tmp_path / "big.o"
    path.write_bytes(compile_file(EVERYTHING, target="bpfeb"))
    raw = tmp_path / "big.btf"
    subprocess.run(["llvm-objcopy", f"--dump-section=.BTF={raw}", str(path), "/dev/null"], check=True)
    btf = Btf.parse(raw.read_bytes())
    assert btf.byteorder == "big"
    assert_same_types(btf, bpftool_types(path))


def test_kinds_that_this_clang_does_not_write(tmp_path: Path) -> None:
    path = tmp_path / "written.btf"
    path.write_bytes(written_by_libbpf(None))
    btf = Btf.parse(path.read_bytes())
    btf.check()
    assert {btf_type.kind for btf_type in btf} == set(Kind) - {Kind.VOID, Kind.OPAQUE}
    assert_same_types(btf, bpftool_types(path))


def test_split_btf(tmp_path: Path) -> None:
    base_path, path = tmp_path / "base.btf", tmp_path / "split.btf"
    base_path.write_bytes(written_by_libbpf(None))
    path.write_bytes(written_by_libbpf(base_path))
    base = Btf.parse(base_path.read_bytes())
    btf = Btf.parse(path.read_bytes(), base=base)
    btf.check()
    assert btf.first_id == base.type_count
    assert_same_types(btf, bpftool_types(path, "-B", str(base_path)), first=base.type_count)
    assert list(btf)[: base.type_count - 1] == list(base)


# -- objects against libbpf ----------------------------------------------------------------------------------


def test_programs_of_an_object(path: Path) -> None:
    lib = libbpf()
    found = ObjectFile.open(path)
    with opened(path) as made:
        expected = []
        for one in programs_of(made):
            program_type = lib.bpf_program__type(one)
            expected.append(
                {
                    "name": lib.bpf_program__name(one).decode(),
                    "section": lib.bpf_program__section_name(one).decode(),
                    "type": program_type,
                    "attach": lib.bpf_program__expected_attach_type(one) if program_type == XDP else None,
                    "autoload": lib.bpf_program__autoload(one),
                    "insn_count": lib.bpf_program__insn_cnt(one),
                }
            )
    other = {one["name"]: one["type"] for one in expected}
    assert [
        {
            "name": program.name,
            "section": program.section,
            "type": PROGRAM_TYPES.get(program.kind, other[program.name]),
            "attach": ATTACH_TYPES[program.attach] if program.kind == "xdp" else None,
            "autoload": program.autoload,
            "insn_count": program.insn_count,
        }
        for program in found.programs
    ] == expected
    for spec in found.programs:
        assert (other[spec.name] in PROGRAM_TYPES.values()) == (spec.kind in PROGRAM_TYPES)


def described(map_spec: MapSpec) -> dict[str, Any]:
    names = ("type", "key_size", "value_size", "max_entries", "flags", "pinning")
    inner = described(map_spec.inner) if map_spec.inner else None
    return {**{name: getattr(map_spec, name) for name in names}, "inner": inner}


def data_map_name(section: str, object_name: str) -> str:
    """The kernel's name of the map for a section of global variables.

    ``object_name``: the file's name up to its first dot. The kernel keeps 15 characters: libbpf prefixes a
    standard section's name with as much of the object's name as fits (at most 8), truncates a custom
    section's, and replaces characters that the kernel does not allow.
    """
    if "." not in section[1:]:
        section = object_name[: max(0, 15 - max(7, len(section)))] + section
    kept = (c if c.isascii() and (c.isalnum() or c in "_.") else "_" for c in section[:15])
    return "".join(kept)


def test_maps_of_an_object(path: Path) -> None:
    lib = libbpf()
    found = ObjectFile.open(path)
    with opened(path) as made:
        expected = list(maps_of(made))
        assert len(found.maps) == len(expected)
        for map_spec, other in zip(found.maps, expected, strict=True):
            assert described(map_spec) == described_by_libbpf(other)
            assert (map_spec.kind == "data") == lib.bpf_map__is_internal(other)
            whole = data_map_name(map_spec.section, found.object_name)
            custom = map_spec.section.count(".") > 1  # libbpf shows the full name, the kernel gets a part
            name = map_spec.name if map_spec.kind == "btf" or custom else whole
            assert name == lib.bpf_map__name(other).decode()
            if map_spec.kind == "btf":
                assert (map_spec.key_type or 0) == lib.bpf_map__btf_key_type_id(other)
                assert (map_spec.value_type or 0) == lib.bpf_map__btf_value_type_id(other)


NAMES = """
    xdp xdp/ xdp/filter xdp_filter xdp.frags xdp.frags/ xdp.frags/filter xdp.frags/devmap xdp/devmap
    xdp/devmap/more xdp_devmap xdp_devmap/more xdp/cpumap xdp.frags/cpumap xdp/nothing XDP xdp1 prog filter
    freplace freplace/ freplace/function freplace_function freplace.s/function
    tc tc/more classifier action socket socket/more socket1 sk_skb sk_skb/stream_parser sk_skb/more sk_lookup
    kprobe kprobe/ kprobe/function kprobe.multi/function uprobe.s/more ksyscall/bpf usdt/more tracepoint/a/b
    tp/a/b raw_tp raw_tp/more raw_tp.w/more tp_btf/more fentry/f fentry.s/f fexit/f fmod_ret/f lsm/f
    lsm.s/f lsm_cgroup/f
    iter/task iter.s/task struct_ops/more syscall syscall/more perf_event perf_event/more sockops sk_msg
    cgroup_skb/ingress cgroup_skb/more cgroup/skb cgroup/dev cgroup/sysctl cgroup/connect4 cgroup/more
    lwt_in lwt_xmit lwt_more lirc_mode2 flow_dissector sk_reuseport sk_reuseport/migrate
"""
SECTIONS = NAMES.split()


@pytest.mark.parametrize("section", SECTIONS)
def test_meaning_of_a_section_name(section: str) -> None:
    kind, attach = c.c_int(), c.c_int()
    known = libbpf().libbpf_prog_type_by_name(section.encode(), c.byref(kind), c.byref(attach)) == 0
    known &= kind.value != UNSPEC  # reported by the engine's handler for all other sections, if present
    found = classify(section)
    assert bool(found.kind) == known
    assert (found.kind == "xdp") == (known and kind.value == XDP)
    assert (found.kind == "ext") == (known and kind.value == EXT)
    if found.kind == "xdp":
        assert ATTACH_TYPES[found.attach] == attach.value


# -- run configurations against libxdp -----------------------------------------------------------------------


def test_run_configurations_of_an_object(path: Path) -> None:
    found = ObjectFile.open(path)
    for program in found.programs:
        config = program.run_config
        assert said_by_libxdp(path, program.name) == (config.priority, tuple(config.actions)), program.name


# -- references against the kernel ---------------------------------------------------------------------------


@contextlib.contextmanager
def loaded(path: Path, found: ObjectFile) -> Iterator[c.c_void_p]:
    """The object loaded into the kernel."""
    lib = libbpf()
    with opened(path) as made:
        for one in maps_of(made):
            lib.bpf_map__set_pin_path(one, None)  # otherwise libbpf pins them for all to see
        for one in programs_of(made):
            spec = found.program(lib.bpf_program__name(one).decode())
            lib.bpf_program__set_autoload(one, loadable(spec))
            if spec.kind == "":
                lib.bpf_program__set_type(one, XDP)
        assert lib.bpf_object__load(made) == 0, f"{path} does not load"
        yield made


def loadable(spec: ProgramSpec) -> bool:
    """Types that every kernel with XDP loads, and that have nothing to do with tracing."""
    return spec.kind in ("xdp", "tc") or (spec.kind == "" and spec.takes_xdp_md)


def loaded_programs(made: c.c_void_p, found: ObjectFile) -> Iterator[tuple[ProgramSpec, int]]:
    """Those that were loaded, with their descriptors."""
    for one in programs_of(made):
        descriptor = libbpf().bpf_program__fd(one)
        if descriptor >= 0:
            yield found.program(libbpf().bpf_program__name(one).decode()), descriptor


def test_maps_that_a_program_refers_to(path_to_load: Path, root: None) -> None:
    """What the verifier found in the code, after libbpf's linking, matches what the reader found in
    the file.
    """
    path = path_to_load
    found = ObjectFile.open(path)
    with loaded(path, found) as made:
        names = {}
        for spec, one in zip(found.maps, maps_of(made), strict=True):
            raw = info(libbpf().bpf_map__fd(one), 88)
            names[struct.unpack_from("=I", raw, 4)[0]] = spec.name
            kernel_name = raw[24:40].rstrip(b"\0").decode()
            whole = data_map_name(spec.section, found.object_name) if spec.kind == "data" else spec.name
            assert kernel_name == whole[:15]
        for program, descriptor in loaded_programs(made, found):
            ids = (c.c_uint32 * 64)()
            count = struct.unpack_from("=I", info(descriptor, 232, ids), 52)[0]
            used = {names[found_id] for found_id in list(ids)[:count]}
            assert used >= set(program.maps)
            # libbpf binds constants to every program, used or not
            assert all(name.startswith(".rodata") for name in used - set(program.maps))


def test_run_configurations_of_loaded_programs(path_to_load: Path, root: None) -> None:
    """The BTF returned by the kernel says the same as the file, and so do the versions in it."""
    path = path_to_load
    found = ObjectFile.open(path)
    with loaded(path, found) as made:
        for program, descriptor in loaded_programs(made, found):
            btf_id = struct.unpack_from("=I", info(descriptor, 232), 128)[0]
            if not btf_id:
                assert not found.has_btf
                continue
            btf = Btf.parse(kernel_btf(btf_id))
            btf.check()
            assert (program.name in read_run_configs(btf)) == program.has_run_config
            assert read_run_configs(btf).get(program.name, RunConfig()) == program.run_config
            assert found.btf is not None
            for name in ("dispatcher_version", "xsk_prog_version", "some_version"):
                version = read_metadata_version(found.btf, "xdp_metadata", name)
                assert read_metadata_version(btf, "xdp_metadata", name) == version
