# SPDX-License-Identifier: Apache-2.0
"""An object file is read as it is; what can't be used is refused with an explanation"""

from __future__ import annotations

import errno
import hashlib
import os
import struct
import sys
from pathlib import Path

import pytest

from tests.objects.compile import EVERYTHING, compile_file, compile_text
from xdpchain.errors import InvalidInput, NotFound, PermissionDenied, XdpChainError
from xdpchain.model.actions import Action, ActionSet
from xdpchain.model.runconfig import RunConfig
from xdpchain.objects import elf
from xdpchain.objects.objfile import MapSpec, ObjectFile, ProgramSpec

PRELUDE = """
    #define SEC(name) __attribute__((section(name), used))
    #define __uint(name, value) int (*name)[value]
    #define __type(name, value) typeof(value) *name
    #define __array(name, value) typeof(value) *name[]
    struct xdp_md { int data; };
    static void *(*look_up)(void *map, const void *key) = (void *)1;
    static long (*tail_call)(void *ctx, void *map, int index) = (void *)12;
"""
PASS = 'SEC("xdp") int pass(struct xdp_md *ctx) { return 2; }'


@pytest.fixture(scope="module")
def everything() -> ObjectFile:
    return ObjectFile.parse(compile_file(EVERYTHING), "/somewhere/every.thing.o")


def compiled(source: str, *flags: str) -> ObjectFile:
    return ObjectFile.parse(compile_text(PRELUDE + source, *flags))


def refused(data: bytes, match: str) -> InvalidInput:
    with pytest.raises(InvalidInput, match=match) as caught:
        ObjectFile.parse(data)
    assert caught.value.todo
    return caught.value


# -- programs ------------------------------------------------------------------------------------------------


def by_section(found: ObjectFile) -> dict[str, ProgramSpec]:
    return {program.section: program for program in found.programs}


def test_sections_say_what_programs_are(everything: ObjectFile) -> None:
    said = {
        section: (program_spec.kind, program_spec.attach, program_spec.frags)
        for section, program_spec in by_section(everything).items()
    }
    assert said == {
        "xdp": ("xdp", "xdp", False),
        "xdp.frags": ("xdp", "xdp", True),
        "xdp/devmap": ("xdp", "devmap", False),
        "xdp.frags/devmap": ("xdp", "devmap", True),
        "xdp/cpumap": ("xdp", "cpumap", False),
        "freplace/some_function": ("ext", "", False),
        "tc": ("tc", "", False),
        "kprobe/some_function": ("kprobe", "", False),
        "my_own_filters": ("", "", False),
        "my_own_others": ("", "", False),
    }


def test_a_question_mark_means_not_loaded_unless_asked_for(everything: ObjectFile) -> None:
    assert [program.name for program in everything.programs if not program.autoload] == ["spare"]
    assert everything.program("spare").section == "xdp"


def test_programs_for_an_interface(everything: ObjectFile) -> None:
    """Those in a section without meaning count if their argument is an XDP context."""
    names = {program.name for program in everything.xdp_programs()}
    assert names == {
        "callee_a", "callee_b", "plain", "by_functions", "jumper", "by_callback", "spare", "custom"
    }  # fmt: skip
    assert not everything.program("stranger").takes_xdp_md


def test_run_configurations(everything: ObjectFile) -> None:
    configs = {program.name: program.run_config for program in everything.programs if program.has_run_config}
    assert configs == {
        "plain": RunConfig(7, ActionSet.of(Action.PASS, Action.DROP)),
        "by_functions": RunConfig(50, ActionSet.of(Action.PASS, Action.TX)),
        "by_callback": RunConfig(0, ActionSet()),
        "custom": RunConfig(2_000_000, ActionSet.of(Action.PASS, Action.REDIRECT, Action.ABORTED)),
    }
    assert everything.program("jumper").run_config == RunConfig()


def test_maps_by_program(everything: ObjectFile) -> None:
    assert {program.name: set(program.maps) for program in everything.programs if program.maps} == {
        "plain": {"table", ".rodata"},
        "by_functions": {"first", "second", ".data"},  # through static and global functions
        "by_callback": {".bss", ".bss.aside", ".data.aside", ".kconfig", ".rodata.str1.1"},
        "jumper": {"jumps"},
        "callee_a": {"jumps_on"},
        "callee_b": {"outer"},
    }


def test_callees(everything: ObjectFile) -> None:
    assert {program.name: program.callees for program in everything.programs if program.callees} == {
        "jumper": ("callee_a", "callee_b"),
        "callee_a": ("callee_b",),
    }


def test_callees_in_a_ring_and_in_arrays_within_maps() -> None:
    found = compiled("""
        int first(struct xdp_md *ctx);
        int second(struct xdp_md *ctx);
        int third(struct xdp_md *ctx);
        struct jumps {
            __uint(type, 3); __uint(max_entries, 2); __uint(key_size, 4); __array(values, int (void *));
        };
        struct jumps ring SEC(".maps") = { .values = { (void *)&first, (void *)&second } };
        struct jumps far SEC(".maps") = { .values = { (void *)&third } };
        struct {
            __uint(type, 12); __uint(max_entries, 1); __uint(key_size, 4);
            __array(values, struct { __uint(type, 3); __uint(max_entries, 2); __uint(key_size, 4);
                                     __uint(value_size, 4); });
        } outer SEC(".maps") = { .values = { (void *)&far } };
        SEC("xdp") int first(struct xdp_md *ctx) { tail_call(ctx, &ring, 1); return 2; }
        SEC("xdp") int second(struct xdp_md *ctx) {
            int key = 0;
            void *inner = look_up(&outer, &key);
            if (inner) tail_call(ctx, inner, 0);
            tail_call(ctx, &ring, 0);
            return 2;
        }
        SEC("xdp") int third(struct xdp_md *ctx) { return 2; }
    """)
    assert {program.name: set(program.callees) for program in found.programs} == {
        "first": {"second", "third"},
        "second": {"first", "third"},
        "third": set(),
    }


def test_several_programs_in_a_section_keep_apart(everything: ObjectFile) -> None:
    """Each has its own instructions, from its symbol's place and size."""
    inside = [program for program in everything.programs if program.section == "xdp" and program.autoload]
    assert len(inside) == 5
    assert everything.program("jumper").insn_count == 6  # 2 for the map's address, index, call, return


def test_functions_in_text_are_no_programs(everything: ObjectFile) -> None:
    assert not {"count_static", "count_global", "look_up", "step"} & {
        program.name for program in everything.programs
    }


def test_the_only_function_in_text_is_a_program() -> None:
    """As in libbpf, which once accepted objects without sections."""
    (only,) = compiled("int lonely(struct xdp_md *ctx) { return 2; }").programs
    assert (only.name, only.section, only.kind, only.takes_xdp_md) == ("lonely", ".text", "", True)


def test_program_by_name_and_by_section(everything: ObjectFile) -> None:
    assert everything.program("plain").name == "plain"
    assert everything.program("xdp.frags").name == "by_callback"
    with pytest.raises(InvalidInput, match="6 programs in section 'xdp'") as several:
        everything.program("xdp")
    assert "jumper" in several.value.todo
    with pytest.raises(NotFound, match=r"/somewhere/every\.thing\.o has no program") as missing:
        everything.program("no_such")
    assert "plain (section xdp)" in missing.value.todo


def test_an_object_without_programs() -> None:
    found = compiled('int number SEC(".data") = 1;')
    assert found.programs == found.xdp_programs() == ()
    with pytest.raises(NotFound, match="no programs at all"):
        found.program("any")


# -- maps and variables --------------------------------------------------------------------------------------


def test_maps(everything: ObjectFile) -> None:
    defined = [bpf_map for bpf_map in everything.maps if bpf_map.kind == "btf"]
    assert [(map_spec.name, map_spec.type_name) for map_spec in defined] == [
        ("first", "array"),
        ("second", "array"),
        ("outer", "array_of_maps"),
        ("jumps", "prog_array"),
        ("jumps_on", "prog_array"),
        ("table", "hash"),
        ("unused", "array"),
        ("events", "ringbuf"),
        ("recent", "lru_hash"),
    ]
    assert all(bpf_map.name == bpf_map.section for bpf_map in everything.maps if bpf_map.kind == "data")
    assert everything.maps[-1].name == ".kconfig"


def test_a_map_with_typed_keys_and_values(everything: ObjectFile) -> None:
    table = everything.map("table")
    assert (table.key_size, table.value_size, table.max_entries, table.flags) == (8, 72, 100, 1)
    assert table.pinning
    assert everything.btf
    assert table.key_type is not None
    assert table.value_type is not None
    assert everything.btf.type(table.key_type).name == "word"
    assert everything.btf.type(table.value_type).name == "value_t"


def test_a_map_with_sizes_alone(everything: ObjectFile) -> None:
    recent = everything.map("recent")
    assert (recent.key_size, recent.value_size, recent.flags) == (8, 16, 4)
    assert (recent.key_type, recent.value_type, recent.pinning) == (None, None, False)


def test_initial_values(everything: ObjectFile) -> None:
    assert everything.map("jumps").values == ((1, "callee_a"),)
    assert everything.map("jumps_on").values == ((3, "callee_b"),)
    outer = everything.map("outer")
    assert outer.values == ((0, "first"), (2, "second"))
    assert outer.inner is not None
    assert (outer.inner.type_name, outer.inner.value_size, outer.inner.max_entries) == ("array", 8, 1)


def test_maps_of_variables(everything: ObjectFile) -> None:
    flags = {bpf_map.name: bpf_map.flags for bpf_map in everything.maps if bpf_map.kind == "data"}
    read_only, shared = 1 << 7, 1 << 10
    assert flags == {
        ".data": shared,
        ".rodata": read_only | shared,
        ".data.aside": shared,
        ".bss.aside": 0,  # static variables alone
        ".rodata.str1.1": read_only,
        ".bss": shared,
        ".kconfig": read_only | shared,
    }
    assert everything.map(".kconfig").value_size == 17  # an int, 12 characters and a bool


def test_variables(everything: ObjectFile) -> None:
    assert [
        (variable.section, variable.name, variable.offset, variable.size) for variable in everything.variables
    ] == [
        (".bss", "hidden_zero", 0, 4),
        (".bss", "zero", 8, 8),
        (".bss.aside", "aside_zero", 0, 4),
        (".data", "set", 0, 4),
        (".data.aside", "aside", 0, 8),
        (".rodata", "limits", 0, 12),
        (".rodata", "hidden_limit", 12, 1),
    ]
    assert everything.btf
    limits = next(variable for variable in everything.variables if variable.name == "limits")
    assert everything.btf.size_of(limits.type_id) == 12


def test_no_such_map(everything: ObjectFile) -> None:
    with pytest.raises(NotFound, match=r"'tabel'.*table"):
        everything.map("tabel")


def test_a_map_type_newer_than_our_table() -> None:
    assert MapSpec("m", "btf", ".maps", 99, 4, 4, 1).type_name == "type 99"


# -- the file ------------------------------------------------------------------------------------------------


def test_the_file(everything: ObjectFile) -> None:
    assert everything.licence == "Dual BSD/GPL"
    assert everything.sha256 == hashlib.sha256(everything.data).hexdigest()
    assert everything.object_name == "every"
    assert everything.has_btf


def test_equal_by_what_they_hold(everything: ObjectFile) -> None:
    assert everything == ObjectFile.parse(everything.data, everything.path)
    assert len({everything, ObjectFile.parse(everything.data, everything.path)}) == 1


def test_without_btf() -> None:
    found = compiled(PASS, "-g0")
    assert not found.has_btf
    (only,) = found.programs
    assert (only.name, only.kind, only.run_config) == ("pass", "xdp", RunConfig())
    assert not only.takes_xdp_md
    assert found.licence == ""


def test_open(tmp_path: Path) -> None:
    path = tmp_path / "pass.o"
    path.write_bytes(compile_text(PRELUDE + PASS))
    found = ObjectFile.open(path)
    assert found.path == str(path)
    assert found.object_name == "pass"
    assert found == ObjectFile.open(str(path))


def test_open_what_is_no_object_file(tmp_path: Path) -> None:
    def message(path: str | Path, kind: type[XdpChainError]) -> str:
        with pytest.raises(kind) as caught:
            ObjectFile.open(path)
        assert type(caught.value) is kind
        assert caught.value.todo
        return str(caught.value)

    text = tmp_path / "text.c"
    text.write_text('#include "xdp.h"\n')
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert "No such file" in message(tmp_path / "missing", NotFound)
    assert "Not a directory" in message(text / "below", NotFound)
    assert "a directory" in message(tmp_path, InvalidInput)
    assert "not a regular file" in message(fifo, InvalidInput)  # and does not wait for a writer
    assert "not a regular file" in message("/dev/zero", InvalidInput)
    assert f"{text} can't be used: it is C source, not an object file" in message(text, InvalidInput)
    assert "zero" in message("/dev/zero", InvalidInput)
    assert "is not a path" in message("with\0zero", InvalidInput)
    assert "can't be read" in message("x" * 5000, InvalidInput)
    escape = tmp_path / "\x1b[31m"
    assert "\x1b" not in message(escape, NotFound)


def test_open_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, flags: int) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)  # root may read everything
    with pytest.raises(PermissionDenied, match="Permission denied"):
        ObjectFile.open(tmp_path / "any")


def test_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elf, "MAX_FILE", 1000)
    refused(compile_text(PRELUDE + PASS) + b"\0", "at most 1000")  # a file not read before


# -- not a BPF object ----------------------------------------------------------------------------------------


def patched(data: bytes, at: int, form: str, value: int) -> bytes:
    raw = bytearray(data)
    struct.pack_into("=" + form, raw, at, value)
    return bytes(raw)


def test_not_elf() -> None:
    refused(b"", "empty")
    refused(b"\x7fEL", "not an ELF file")
    refused(b"\x7fELF", "cut off within its header")
    refused(b"// nothing but a comment", "C source")
    refused(os.urandom(100).replace(b"\x7f", b""), "not an ELF file")


def test_elf_for_another_machine() -> None:
    refused(Path(sys.executable).resolve().read_bytes()[: 1 << 16], "another machine")


@pytest.mark.parametrize(
    ("at", "form", "value", "match"),
    [
        (4, "B", 1, "not a 64-bit"),
        (5, "B", 7, "unknown-endian"),
        (16, "H", 2, "not a relocatable"),
        (18, "H", 62, "another machine"),
        (40, "Q", 0, "no sections"),
        (40, "Q", 1 << 62, "section table"),
        (58, "H", 32, "section table"),
        (60, "H", 0xFFFF, "section table"),
        (60, "H", 0, "no sections"),
        (62, "H", 0xFFF0, "damaged"),
    ],
)
def test_wrong_elf_header(at: int, form: str, value: int, match: str) -> None:
    refused(patched(compile_text(PRELUDE + PASS), at, form, value), match)


def test_the_other_byte_order() -> None:
    other = {"little": "bpfeb", "big": "bpfel"}[sys.byteorder]
    error = refused(compile_text(PRELUDE + PASS, target=other), "endian")
    assert f"-target bpf{other[3:].translate(str.maketrans('lb', 'bl'))}" in error.todo


def section_headers(data: bytes) -> int:
    return int(struct.unpack_from("=Q", data, 40)[0])


def find_section(data: bytes, name: str) -> int:
    """The offset of the section's header."""
    section = elf.Elf.parse(data).section(name)
    assert section is not None
    return section_headers(data) + 64 * section.index


def test_sections_that_lie_outside() -> None:
    data = compile_text(PRELUDE + PASS)
    at = find_section(data, "xdp")
    refused(patched(data, at + 24, "Q", len(data)), "section 'xdp' lies outside")
    refused(patched(data, at + 32, "Q", 1 << 63), "section 'xdp' lies outside")


def test_cut_off_anywhere() -> None:
    data = compile_text(PRELUDE + PASS)
    for length in range(0, len(data), 7):
        refused(data[:length], "cut off|empty|not an ELF file")


def test_symbols_without_end() -> None:
    """A table that claims more than there is stops the reader early."""
    data = compile_text(PRELUDE + PASS)
    at = find_section(data, ".symtab")
    endless = patched(patched(data, at + 24, "Q", 0), at + 32, "Q", 24 * (1 << 58))
    refused(endless, "lies outside")
    refused(patched(data, at + 56, "Q", 0), "damaged")


def test_more_symbols_than_an_object_can_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real table of many entries stops the reader as well."""
    monkeypatch.setattr(elf, "READS", 10_000)
    data = compile_text(PRELUDE + PASS)
    at = find_section(data, ".symtab")
    many = patched(patched(data, at + 24, "Q", len(data)), at + 32, "Q", 24 * 2000) + bytes(24 * 2000)
    refused(many, "more entries")


def test_a_map_that_is_not_there() -> None:
    """The code's relocation names a symbol in .maps that the type information lacks."""
    data = compile_text(
        PRELUDE
        + 'struct { __uint(type, 1); __type(key, int); __uint(max_entries, 1); } table SEC(".maps");'
        + 'SEC("xdp") int f(struct xdp_md *ctx) { int key = 0; return !look_up(&table, &key); }'
    )
    number = next(i for i, symbol in enumerate(elf.Elf.parse(data).symbols) if symbol.name == "table")
    table = struct.unpack_from("=Q", data, find_section(data, ".symtab") + 24)[0]
    no_object = patched(data, table + 24 * number + 4, "B", 0x10)
    refused(no_object, "'f' refers to a map that it does not have")


def test_a_program_that_leaves_its_section() -> None:
    data = compile_text(PRELUDE + PASS)
    symtab = elf.Elf.parse(data).section(".symtab")
    assert symtab is not None
    symbols = elf.Elf.parse(data).symbols
    number = next(i for i, symbol in enumerate(symbols) if symbol.name == "pass")
    offset = struct.unpack_from("=Q", data, section_headers(data) + 64 * symtab.index + 24)[0] + 24 * number
    refused(patched(data, offset + 16, "Q", 24), "does not fit")
    refused(patched(data, offset + 16, "Q", 0), "not a whole number of instructions")
    refused(patched(data, offset + 16, "Q", 12), "not a whole number of instructions")
    refused(patched(data, offset + 8, "Q", 4), "not a whole number of instructions")
    refused(patched(data, offset + 8, "Q", 1 << 62), "does not fit")


# -- objects that libbpf rejects -----------------------------------------------------------------------------


def refused_source(source: str, match: str, *flags: str) -> None:
    refused(compile_text(PRELUDE + source, *flags), match)


def test_static_programs() -> None:
    refused_source(
        'SEC("xdp") static int hidden(struct xdp_md *ctx) { return 2; }' + PASS, "'hidden' is static"
    )


def test_legacy_maps() -> None:
    old = 'struct { int type, key, value, max; } old SEC("maps") = {1, 4, 4, 1};'
    refused_source(PASS + old, "libbpf 1.0")


def test_maps_without_btf() -> None:
    refused_source(PASS + 'struct { __uint(type, 1); } table SEC(".maps");', "no type information", "-g0")


@pytest.mark.parametrize(
    ("definition", "match"),
    [
        ("struct { __uint(max_entries, 1); }", "has no type"),
        ("struct { int type; }", "number"),
        ("struct { __uint(type, 1); int key; }", "not a pointer"),
        ("struct { __uint(type, 1); __uint(key_size, 8); __type(key, int); }", "both 8 and 4"),
        ("struct { __uint(type, 1); __uint(pinning, 2); }", "pinning mode"),
        ("struct { __uint(type, 1); __array(values, int (void *)); }", "neither"),
        ("struct { __uint(type, 12); int *values; }", "not an array of pointers"),
        ("struct { __uint(type, 1); __type(key, struct unknown); }", "no size"),
        ("int", "not defined by a struct"),
    ],
)
def test_wrong_map_definitions(definition: str, match: str) -> None:
    if "unknown" in definition:  # __type() needs to know it
        definition = "struct { __uint(type, 1); struct unknown *key; }"
    refused_source(f'{PASS} {definition} wrong SEC(".maps");', match)


def test_attributes_of_a_newer_libbpf_are_left_to_it() -> None:
    found = compiled(PASS + 'struct { __uint(type, 1); __uint(brand_new, 7); } table SEC(".maps");')
    assert found.map("table").type_name == "hash"


def test_a_static_map() -> None:
    refused_source(
        'static struct { __uint(type, 1); } hidden SEC(".maps");'
        'SEC("xdp") int f(struct xdp_md *ctx) { int key = 0; return !look_up(&hidden, &key); }',
        "'hidden' is static",
    )


def test_a_wrong_run_configuration() -> None:
    error = refused(
        compile_text(PRELUDE + PASS + 'struct { __uint(prio, 1); } _pass SEC(".xdp_run_config");'), "'prio'"
    )
    assert "priority" in error.todo


def test_a_licence_that_is_no_text() -> None:
    refused_source(PASS + 'char licence[] SEC("license") = "GPL\\x1b[31m";', "licence")


def with_broken_btf(data: bytes) -> bytes:
    section = elf.Elf.parse(data).section(".BTF")
    assert section is not None
    return patched(data, data.index(bytes(section.data)) + 2, "B", 9)


def test_broken_btf_where_maps_need_it() -> None:
    error = refused(with_broken_btf(compile_file(EVERYTHING)), "version 9")
    assert "BTF" in str(error)


def test_broken_btf_that_nothing_needs() -> None:
    """libbpf warns, and loads it without types."""
    found = ObjectFile.parse(with_broken_btf(compile_text(PRELUDE + PASS)))
    assert "version 9" in found.btf_flaw
    assert not found.has_btf
    assert [program.name for program in found.xdp_programs()] == [
        program.name for program in ObjectFile.parse(compile_text(PRELUDE + PASS)).xdp_programs()
    ]


def test_errors_say_which_file(tmp_path: Path) -> None:
    path = tmp_path / "broken.o"
    path.write_bytes(compile_text(PRELUDE + PASS)[:300])
    with pytest.raises(InvalidInput) as caught:
        ObjectFile.open(path)
    assert str(caught.value).startswith(f"{path} can't be used: it is cut off")
