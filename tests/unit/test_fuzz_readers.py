# SPDX-License-Identifier: Apache-2.0
"""Whatever the bytes, the readers answer in bounded time: with their contents, or one of our errors"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable
from datetime import timedelta

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.objects.compile import EVERYTHING, compile_file, compile_text
from tests.unit.btf_blob import Blob, run_config
from xdpchain.errors import InvalidInput, NotFound
from xdpchain.objects.btf import Btf, BtfError
from xdpchain.objects.btf_types import Kind
from xdpchain.objects.elf import Elf
from xdpchain.objects.objfile import ObjectFile
from xdpchain.objects.runconfig_btf import read_metadata_version, read_run_configs
from xdpchain.objects.section_names import classify

# The deadline is the bounded time: a thousand times what an intact file of this size takes.
fuzz = settings(
    max_examples=300,
    deadline=timedelta(seconds=4),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
WORDS = (0, 1, 2, 7, 8, 0x7F, 0xFF, 0xFFFF, 0x10000, 0xFFFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
LONGS = (*WORDS, 1 << 32, 1 << 48, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)

Change = Callable[[bytearray], None]


def flip(at: int, bit: int) -> Change:
    def change(raw: bytearray) -> None:
        if raw:
            raw[at % len(raw)] ^= 1 << bit

    return change


def overwrite(at: int, patch: bytes) -> Change:
    def change(raw: bytearray) -> None:
        place = at % (len(raw) + 1)
        raw[place : place + len(patch)] = patch

    return change


def insert(at: int, patch: bytes) -> Change:
    def change(raw: bytearray) -> None:
        place = at % (len(raw) + 1)
        raw[place:place] = patch

    return change


def delete(at: int, count: int) -> Change:
    def change(raw: bytearray) -> None:
        place = at % (len(raw) + 1)
        del raw[place : place + count]

    return change


def copy(source: int, target: int, count: int) -> Change:
    def change(raw: bytearray) -> None:
        place, origin = target % (len(raw) + 1), source % (len(raw) + 1)
        raw[place : place + count] = raw[origin : origin + count]

    return change


PLACES = st.integers(0, 1 << 17)
ALIGNED = PLACES.map(lambda at: at & ~3)
CHANGES: st.SearchStrategy[Change] = st.one_of(
    st.builds(flip, PLACES, st.integers(0, 7)),
    st.builds(overwrite, ALIGNED, st.sampled_from(WORDS).map(lambda word: struct.pack("=I", word))),
    st.builds(overwrite, ALIGNED, st.sampled_from(LONGS).map(lambda word: struct.pack("=Q", word))),
    st.builds(overwrite, PLACES, st.binary(max_size=16)),
    st.builds(insert, PLACES, st.binary(max_size=16)),
    st.builds(delete, PLACES, st.integers(1, 64)),
    st.builds(delete, PLACES, st.just(1 << 20)),  # truncate
    st.builds(copy, PLACES, PLACES, st.integers(1, 64)),
)


DESCRIPTIONS = st.tuples(
    st.integers(0, 20), st.integers(0, 5), st.booleans(), st.integers(0, 12), st.binary(max_size=48)
)


def mutated(data: bytes, changes: list[Change]) -> bytes:
    raw = bytearray(data)
    for change in changes:
        change(raw)
    return bytes(raw)


def within(data: bytes, start: int, size: int, changes: list[Change]) -> bytes:
    """Changes to one part only, which keep its size: the rest stays intact, so that the part is reached."""
    part = bytearray(data[start : start + size])
    for change in changes:
        change(part)
    return data[:start] + bytes(part[:size]).ljust(size, b"\0") + data[start + size :]


# -- inputs to mutate ----------------------------------------------------------------------------------------


@functools.cache
def sound_objects() -> tuple[bytes, ...]:
    small = """
        struct xdp_md { int data; };
        __attribute__((section("xdp"))) int pass(struct xdp_md *ctx) { return 2; }
    """
    return compile_file(EVERYTHING), compile_text(small, "-g0")


@functools.cache
def parts(data: bytes) -> tuple[tuple[int, int], ...]:
    """Where the header, the section table, and each relevant section are in an object file."""
    table, count = struct.unpack_from("=Q", data, 40)[0], struct.unpack_from("=H", data, 60)[0]
    found = [(0, 64), (table, 64 * count)]
    wanted = (".BTF", ".symtab", ".maps", ".rel.maps", ".strtab", "xdp", ".relxdp", ".text", ".rel.text")
    for index, section in enumerate(Elf.parse(data).sections):
        if section.name in wanted:
            found.append((struct.unpack_from("=Q", data, table + 64 * index + 24)[0], section.size))
    return tuple(found)


@functools.cache
def sound_btf() -> tuple[bytes, ...]:
    section = Elf.parse(compile_file(EVERYTHING)).section(".BTF")
    assert section is not None
    by_hand = []
    for big in (False, True):
        blob = Blob(big)
        number = blob.integer()
        blob.struct("node", 16, ("next", blob.pointer(number), 0), ("bits", number, 5 << 24 | 64), flag=True)
        blob.add(Kind.ENUM64, "wide", 8, blob.string("ONE"), 1, 0, vlen=1)
        blob.add(Kind.TYPE_TAG, "tag", number)
        blob.add(Kind.DECL_TAG, "tag", number, -1)
        blob.function("f", blob.pointer(0))
        blob.section(".xdp_run_config", run_config(blob, "f", priority=3, XDP_DROP=1))
        blob.section("xdp_metadata", blob.variable("dispatcher_version", blob.number(2)))
        by_hand.append(bytes(blob))
    return bytes(section.data), *by_hand


# -- invariants ----------------------------------------------------------------------------------------------


def use(btf: Btf) -> None:
    """Call everything, on BTF that may be malformed."""
    for type_id in range(btf.type_count):
        for ask in (btf.type, btf.resolve, btf.size_of, btf.declared_number):
            try:
                ask(type_id)
            except BtfError:
                pass
    for kind in Kind:
        try:
            btf.find("node", kind)
        except BtfError:
            pass


def read_btf(raw: bytes, base: Btf | None = None) -> None:
    try:
        btf = Btf.parse(raw, base=base)
    except BtfError:
        return
    use(btf)
    try:
        btf.check()
    except BtfError:
        return
    for btf_type in btf:  # valid by its own account: only what has no size fails
        assert btf.type(btf_type.id) is btf_type
        btf.resolve(btf_type.id)
    btf.functions()
    try:
        read_run_configs(btf)
        read_metadata_version(btf, "xdp_metadata", "dispatcher_version")
    except InvalidInput:
        pass


def read_object(raw: bytes) -> None:
    try:
        found = ObjectFile.parse(raw)
    except InvalidInput as caught:
        error = caught
    else:
        use_object(found)
        return
    assert error.why
    assert str(error).isprintable()


def use_object(found: ObjectFile) -> None:
    names = {program.name for program in found.programs}
    for program in found.programs:
        assert found.program(program.name).insn_count > 0
        assert set(program.callees) <= names
        assert set(program.maps) <= {spec.name for spec in found.maps}
        assert repr(program).isprintable()
    for spec in found.maps:
        assert found.map(spec.name).type_name
        assert 0 <= spec.value_size < 1 << 32
    assert repr(found).isprintable()
    if found.btf is not None:
        use(found.btf)
    try:
        found.program("xdp")
    except (InvalidInput, NotFound):
        pass


# -- BTF -----------------------------------------------------------------------------------------------------


@fuzz
@given(st.binary(max_size=400))
@example(b"")
def test_random_bytes_as_btf(raw: bytes) -> None:
    read_btf(raw)
    read_btf(struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(raw), len(raw), 1) + raw + b"\0")


@fuzz
@given(st.sampled_from(range(3)), st.lists(CHANGES, min_size=1, max_size=8))
def test_mutated_btf(which: int, changes: list[Change]) -> None:
    read_btf(mutated(sound_btf()[which], changes))


@fuzz
@given(st.sampled_from(range(3)), st.lists(CHANGES, min_size=1, max_size=8))
def test_mutated_split_btf(which: int, changes: list[Change]) -> None:
    base = Btf.parse(sound_btf()[1])
    read_btf(mutated(sound_btf()[which], changes), base)


@fuzz
@given(st.lists(DESCRIPTIONS))
def test_random_types(described: list[tuple[int, int, bool, int, bytes]]) -> None:
    """Types of every kind that refer to each other at random: rings, self-references, wrong lengths."""
    blob = Blob()
    blob.string("name")
    for kind, vlen, flag, third, rest in described:
        words = [byte % 16 for byte in rest]
        blob.add(kind, "", third, *words, vlen=vlen, flag=flag)
    read_btf(bytes(blob))


# -- object files --------------------------------------------------------------------------------------------


@fuzz
@given(st.binary(max_size=600))
def test_random_bytes_as_an_object(raw: bytes) -> None:
    read_object(raw)
    read_object(sound_objects()[1][:64] + raw)


@fuzz
@given(st.sampled_from(range(2)), st.lists(CHANGES, min_size=1, max_size=6))
def test_mutated_object(which: int, changes: list[Change]) -> None:
    read_object(mutated(sound_objects()[which], changes))


@fuzz
@given(st.sampled_from(range(2)), st.integers(0, 99), st.lists(CHANGES, min_size=1, max_size=6))
def test_object_with_one_mutated_part(which: int, part: int, changes: list[Change]) -> None:
    data = sound_objects()[which]
    places = parts(data)
    start, size = places[part % len(places)]
    read_object(within(data, start, size, changes))


@fuzz
@given(st.text(max_size=40))
def test_section_names(name: str) -> None:
    assert classify(name).kind in ("", "xdp", "ext") or classify(name).kind.isascii()
