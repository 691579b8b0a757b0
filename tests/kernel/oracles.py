# SPDX-License-Identifier: Apache-2.0
"""What bpftool, libbpf and libxdp see in an object: oracles for our readers.

Their bindings are separate from the engine's, so that both can't be wrong in the same way.
"""

from __future__ import annotations

import contextlib
import ctypes as c
import functools
import json
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xdpchain.model.actions import ALL_ACTIONS
from xdpchain.objects import btf_types as types
from xdpchain.objects.btf_types import BtfType
from xdpchain.sys.libbpf import library

# -- bpftool -------------------------------------------------------------------------------------------------


def as_bpftool(one: BtfType) -> dict[str, Any]:
    """A type in the notation of ``bpftool -j btf dump``."""
    said: dict[str, Any] = {"id": one.id, "kind": one.kind.name, "name": one.name or "(anon)"}
    match one:
        case types.Int():
            encoding = "(none)" if one.encoding is types.IntEncoding.NONE else one.encoding.name
            said |= {"size": one.size, "bits_offset": one.bit_offset, "nr_bits": one.bits}
            said |= {"encoding": encoding}
        case types.Pointer() | types.Alias():
            said |= {"type_id": one.target}
        case types.Array():
            said |= {"type_id": one.element, "index_type_id": one.index, "nr_elems": one.count}
        case types.Composite():
            members: list[dict[str, Any]] = []
            for member in one.members:
                shown = {"name": member.name or "(anon)", "type_id": member.type_id}
                shown |= {"bits_offset": member.bit_offset}
                members.append(shown | ({"bitfield_size": member.bit_size} if member.bit_size else {}))
            said |= {"size": one.size, "vlen": len(members), "members": members}
        case types.Enumeration():
            values = [{"name": value.name or "(anon)", "val": value.value} for value in one.values]
            encoding = "SIGNED" if one.signed else "UNSIGNED"
            said |= {"encoding": encoding, "size": one.size, "vlen": len(values), "values": values}
        case types.Forward():
            said |= {"fwd_kind": "union" if one.union else "struct"}
        case types.Func():
            said |= {"type_id": one.prototype, "linkage": one.linkage.name.lower()}
        case types.FuncProto():
            params = [{"name": p.name or "(anon)", "type_id": p.type_id} for p in one.parameters]
            said |= {"ret_type_id": one.returns, "vlen": len(params), "params": params}
        case types.Variable():
            said |= {"type_id": one.type_id, "linkage": one.linkage.name.lower()}
        case types.DataSection():
            placed = [{"type_id": v.type_id, "offset": v.offset, "size": v.size} for v in one.variables]
            said |= {"size": one.size, "vlen": len(placed), "vars": placed}
        case types.Float():
            said |= {"size": one.size}
        case types.DeclTag():
            said |= {"type_id": one.target, "component_idx": one.component}
        case _:
            raise AssertionError(one)
    return said


def bpftool_types(path: Path, *options: str) -> list[dict[str, Any]]:
    command = ["bpftool", *options, "-j", "btf", "dump", "file", str(path)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    found: list[dict[str, Any]] = json.loads(answer.stdout)["types"]
    return found


# -- libbpf --------------------------------------------------------------------------------------------------


class OpenOptions(c.Structure):
    """struct bpf_object_open_opts, up to its kconfig."""

    _fields_ = [
        ("size", c.c_size_t),
        ("object_name", c.c_char_p),
        ("relaxed_maps", c.c_bool),
        ("pin_root_path", c.c_char_p),
        ("unused", c.c_uint32),
        ("kconfig", c.c_char_p),
    ]


PRINTER = c.CFUNCTYPE(c.c_int, c.c_int, c.c_char_p, c.c_void_p)
quiet = PRINTER(lambda level, form, arguments: 0)


@functools.cache
def libbpf() -> c.CDLL:
    library()  # libbpf has one output function per process: let it be the engine's, which is silent
    lib = c.CDLL("libbpf.so.1", use_errno=True)
    handle, text, number = c.c_void_p, c.c_char_p, c.c_uint32
    signatures: dict[str, tuple[Any, ...]] = {
        "bpf_object__open_file": (handle, text, c.c_void_p),
        "bpf_object__load": (c.c_int, handle),
        "bpf_object__close": (None, handle),
        "bpf_object__next_program": (handle, handle, handle),
        "bpf_object__next_map": (handle, handle, handle),
        "bpf_program__name": (text, handle),
        "bpf_program__section_name": (text, handle),
        "bpf_program__type": (c.c_int, handle),
        "bpf_program__expected_attach_type": (c.c_int, handle),
        "bpf_program__set_type": (c.c_int, handle, c.c_int),
        "bpf_program__autoload": (c.c_bool, handle),
        "bpf_program__set_autoload": (c.c_int, handle, c.c_bool),
        "bpf_program__insn_cnt": (c.c_size_t, handle),
        "bpf_program__fd": (c.c_int, handle),
        "bpf_map__name": (text, handle),
        "bpf_map__fd": (c.c_int, handle),
        "bpf_map__type": (c.c_int, handle),
        "bpf_map__key_size": (number, handle),
        "bpf_map__value_size": (number, handle),
        "bpf_map__max_entries": (number, handle),
        "bpf_map__map_flags": (number, handle),
        "bpf_map__is_internal": (c.c_bool, handle),
        "bpf_map__btf_key_type_id": (number, handle),
        "bpf_map__btf_value_type_id": (number, handle),
        "bpf_map__pin_path": (text, handle),
        "bpf_map__set_pin_path": (c.c_int, handle, text),
        "bpf_map__inner_map": (handle, handle),
        "bpf_obj_get_info_by_fd": (c.c_int, c.c_int, c.c_void_p, c.POINTER(c.c_uint32)),
        "libbpf_prog_type_by_name": (c.c_int, text, c.POINTER(c.c_int), c.POINTER(c.c_int)),
    }
    for name, (result, *arguments) in signatures.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


@contextlib.contextmanager
def opened(path: Path) -> Iterator[c.c_void_p]:
    kconfig = b'CONFIG_BPF_SYSCALL=y\nCONFIG_DEFAULT_HOSTNAME="here"\n'
    options = OpenOptions(c.sizeof(OpenOptions), None, False, None, 0, kconfig)
    made = libbpf().bpf_object__open_file(str(path).encode(), c.byref(options))
    assert made, f"libbpf does not open {path}"
    try:
        yield c.c_void_p(made)
    finally:
        libbpf().bpf_object__close(made)


def programs_of(made: c.c_void_p) -> Iterator[c.c_void_p]:
    one = libbpf().bpf_object__next_program(made, None)
    while one:
        yield c.c_void_p(one)
        one = libbpf().bpf_object__next_program(made, one)


def maps_of(made: c.c_void_p) -> Iterator[c.c_void_p]:
    one = libbpf().bpf_object__next_map(made, None)
    while one:
        yield c.c_void_p(one)
        one = libbpf().bpf_object__next_map(made, one)


def described_by_libbpf(one: c.c_void_p) -> dict[str, Any]:
    lib = libbpf()
    inner = lib.bpf_map__inner_map(one)
    return {
        "type": lib.bpf_map__type(one),
        "key_size": lib.bpf_map__key_size(one),
        "value_size": lib.bpf_map__value_size(one),
        "max_entries": lib.bpf_map__max_entries(one),
        "flags": lib.bpf_map__map_flags(one),
        "pinning": bool(lib.bpf_map__pin_path(one)),
        "inner": described_by_libbpf(c.c_void_p(inner)) if inner else None,
    }


def info(descriptor: int, size: int, ids: c.Array[c.c_uint32] | None = None) -> bytes:
    """bpf_prog_info or bpf_map_info. ``ids``: where the kernel puts a program's map ids."""
    buffer = c.create_string_buffer(size)
    if ids is not None:
        struct.pack_into("=IIQ", buffer, 52, len(ids), 0, 0)
        struct.pack_into("=Q", buffer, 56, c.addressof(ids))
    assert libbpf().bpf_obj_get_info_by_fd(descriptor, buffer, c.byref(c.c_uint32(size))) == 0
    return buffer.raw


def kernel_btf(btf_id: int) -> bytes:
    """The raw BTF with that id. Fields of struct bpf_btf_info: address, size."""
    descriptor = libbpf().bpf_btf_get_fd_by_id(btf_id)
    assert descriptor >= 0
    try:
        size = struct.unpack_from("=I", info(descriptor, 16), 8)[0]
        room = c.create_string_buffer(size)
        ask = c.create_string_buffer(struct.pack("=QII", c.addressof(room), size, 0), 16)
        assert libbpf().bpf_obj_get_info_by_fd(descriptor, ask, c.byref(c.c_uint32(16))) == 0
        return room.raw
    finally:
        os.close(descriptor)


def written_by_libbpf(base: Path | None) -> bytes:
    """BTF of every kind, by libbpf's own writer, on top of another BTF."""
    lib = libbpf()
    for name in ("btf__parse", "btf__new_empty", "btf__new_empty_split", "btf__raw_data"):
        getattr(lib, name).restype = c.c_void_p
    under = c.c_void_p(lib.btf__parse(str(base).encode(), None)) if base else None
    new = c.c_void_p(lib.btf__new_empty_split(under) if base else lib.btf__new_empty())
    suffix = b"_split" if base else b""

    def add(what: str, *values: bytes | int | None) -> int:
        wide = [c.c_uint64(value) if isinstance(value, int) else value for value in values]
        made: int = getattr(lib, f"btf__add_{what}")(new, *wide)
        assert made >= 0, (what, made)
        return made

    number = add("int", b"int" + suffix, 4, 1)
    add("int", b"flag", 1, 4)
    add("int", b"letter", 1, 2)
    add("int", b"huge", 16, 0)
    add("float", b"double" + suffix, 8)
    pointer = add("ptr", 0)
    add("array", number, number, 7)
    add("const", add("volatile", add("restrict", pointer)))
    alias = add("typedef", b"alias", number)
    add("type_tag", b"user", pointer)
    struct_id = add("struct", b"node" + suffix, 16)
    add("field", b"low", number, 0, 3)
    add("field", b"high", number, 3, 29)
    add("field", b"next", pointer, 64, 0)
    add("decl_tag", b"member tag", struct_id, 1)
    add("union", b"word", 8)
    add("field", b"whole", pointer, 0, 0)
    add("field", None, number, 0, 0)
    add("enum", b"small", 4)
    add("enum_value", b"MINUS", -5 & (1 << 64) - 1)
    add("enum_value", b"PLUS", 5)
    add("enum", b"positive", 4)
    add("enum_value", b"MOST", 0x7FFFFFFF)
    add("enum64", b"signed", 8, 1)
    add("enum64_value", b"LEAST", 1 << 63)
    add("enum64", b"unsigned", 8, 0)
    add("enum64_value", b"ALL", (1 << 64) - 1)
    add("fwd", b"later", 0)
    add("fwd", b"later_union", 1)
    prototype = add("func_proto", alias)
    add("func_param", b"self", pointer)
    add("func_param", None, 0)
    for linkage in (0, 1, 2):
        function = add("func", b"function%d" % linkage, linkage, prototype)
        variable = add("var", b"variable%d" % linkage, linkage, struct_id)
    add("decl_tag", b"a tag" + suffix, function, -1 & 0xFFFFFFFF)
    add("datasec", b".data", 32)
    add("datasec_var_info", variable, 16, 16)
    size = c.c_uint32()
    raw = lib.btf__raw_data(new, c.byref(size))
    return c.string_at(raw, size.value)


# -- libxdp --------------------------------------------------------------------------------------------------


class ProgramOptions(c.Structure):
    """struct xdp_program_opts."""

    _fields_ = [
        ("size", c.c_size_t),
        ("obj", c.c_void_p),
        ("opts", c.c_void_p),
        ("prog_name", c.c_char_p),
        ("find_filename", c.c_char_p),
        ("open_filename", c.c_char_p),
        ("pin_path", c.c_char_p),
        ("id", c.c_uint32),
        ("fd", c.c_int),
    ]


@functools.cache
def libxdp() -> c.CDLL:
    lib = c.CDLL("libxdp.so.1", use_errno=True)
    lib.libxdp_set_print(quiet)
    lib.xdp_program__create.restype = c.c_void_p
    lib.xdp_program__create.argtypes = [c.POINTER(ProgramOptions)]
    for name, result in (("run_prio", c.c_uint), ("close", None)):
        getattr(lib, f"xdp_program__{name}").restype = result
        getattr(lib, f"xdp_program__{name}").argtypes = [c.c_void_p]
    lib.xdp_program__chain_call_enabled.restype = c.c_bool
    lib.xdp_program__chain_call_enabled.argtypes = [c.c_void_p, c.c_int]
    return lib


def said_by_libxdp(path: Path, program: str) -> tuple[int, tuple[int, ...]]:
    lib = libxdp()
    options = ProgramOptions(size=c.sizeof(ProgramOptions), prog_name=program.encode())
    options.open_filename = str(path).encode()
    made = lib.xdp_program__create(c.byref(options))
    assert 0 < made < (1 << 64) - 4096, f"libxdp does not open {program} of {path}"
    try:
        actions = tuple(a for a in ALL_ACTIONS if lib.xdp_program__chain_call_enabled(made, a))
        return lib.xdp_program__run_prio(made), actions
    finally:
        lib.xdp_program__close(made)
