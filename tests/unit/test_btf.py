# SPDX-License-Identifier: Apache-2.0
"""Types come out of BTF as they went in, and what is not BTF is recognised by its error"""

from __future__ import annotations

import dataclasses
import pickle
import time

import pytest

from tests.objects.compile import EVERYTHING, compile_file
from tests.unit.btf_blob import Blob
from xdpchain.errors import InvalidInput
from xdpchain.objects import btf_types as types
from xdpchain.objects.btf import MAX_DEPTH, Btf, BtfError
from xdpchain.objects.btf_types import Kind, Linkage
from xdpchain.objects.elf import Elf


@pytest.fixture(params=[False, True], ids=["little", "big"])
def blob(request: pytest.FixtureRequest) -> Blob:
    return Blob(big=request.param)


def parsed(blob: Blob, base: Btf | None = None) -> Btf:
    btf = Btf.parse(bytes(blob), base=base)
    btf.check()
    return btf


# -- kinds ---------------------------------------------------------------------------------------------------


def test_no_types_at_all(blob: Blob) -> None:
    btf = parsed(blob)
    assert list(btf) == []
    assert btf.byteorder == ("big" if blob.big else "little")
    assert btf.type(0) == types.Void(0, "void")


def test_int(blob: Blob) -> None:
    plain = blob.integer("unsigned int", 4, 0)
    old_bitfield = blob.add(Kind.INT, "bits", 4, 1 << 24 | 3 << 16 | 5)
    btf = parsed(blob)
    assert btf.type(plain) == types.Int(1, "unsigned int", 4, 32, 0, types.IntEncoding.NONE)
    assert btf.type(old_bitfield) == types.Int(2, "bits", 4, 5, 3, types.IntEncoding.SIGNED)


@pytest.mark.parametrize("encoding", list(types.IntEncoding))
def test_encodings(blob: Blob, encoding: types.IntEncoding) -> None:
    blob.integer("x", 1, encoding)
    one = parsed(blob).type(1)
    assert isinstance(one, types.Int)
    assert one.encoding is encoding


def test_struct_with_offsets_in_bits(blob: Blob) -> None:
    number = blob.integer()
    made = blob.struct("pair", 8, ("first", number, 0), ("second", number, 32))
    assert parsed(blob).type(made) == types.Struct(
        made, "pair", 8, (types.Member("first", number, 0), types.Member("second", number, 32)), False
    )


def test_struct_with_bitfields(blob: Blob) -> None:
    number = blob.integer()
    made = blob.struct("flags", 4, ("low", number, 3 << 24), ("high", number, 29 << 24 | 3), flag=True)
    one = parsed(blob).type(made)
    assert isinstance(one, types.Struct)
    assert one.bitfields
    assert one.members == (types.Member("low", number, 0, 3), types.Member("high", number, 3, 29))


def test_union(blob: Blob) -> None:
    number = blob.integer()
    made = blob.add(Kind.UNION, "word", 4, blob.string("whole"), number, 0, vlen=1)
    assert parsed(blob).type(made) == types.Union(made, "word", 4, (types.Member("whole", number, 0),), False)


def test_enumerations(blob: Blob) -> None:
    least, most = blob.string("LEAST"), blob.string("MOST")
    unsigned = blob.add(Kind.ENUM, "u", 4, least, 0, most, 0xFFFFFFFF, vlen=2)
    signed = blob.add(Kind.ENUM, "s", 4, least, -5, most, 0x7FFFFFFF, vlen=2, flag=True)
    wide = blob.add(Kind.ENUM64, "w", 8, most, 0xFFFFFFFE, 0xFFFFFFFF, vlen=1)
    signed_wide = blob.add(Kind.ENUM64, "z", 8, least, 0, 0x80000000, vlen=1, flag=True)
    btf = parsed(blob)

    def values(type_id: int) -> list[int]:
        one = btf.type(type_id)
        assert isinstance(one, types.Enumeration)
        return [value.value for value in one.values]

    assert values(unsigned) == [0, 0xFFFFFFFF]
    assert values(signed) == [-5, 0x7FFFFFFF]
    assert values(wide) == [0xFFFFFFFFFFFFFFFE]
    assert values(signed_wide) == [-(1 << 63)]
    assert isinstance(btf.type(wide), types.Enum64)


def test_functions(blob: Blob) -> None:
    number = blob.integer()
    blob.function("run", blob.pointer(number))
    variadic = blob.add(Kind.FUNC_PROTO, "", number, blob.string("format"), number, 0, 0, vlen=2)
    btf = parsed(blob)
    (run,) = btf.functions()
    assert (run.name, run.linkage) == ("run", Linkage.GLOBAL)
    prototype = btf.type(run.prototype)
    assert isinstance(prototype, types.FuncProto)
    assert [parameter.name for parameter in prototype.parameters] == ["argument"]
    last = btf.type(variadic)
    assert isinstance(last, types.FuncProto)
    assert last.parameters[-1] == types.Parameter("", 0)


def test_tags_and_the_rest(blob: Blob) -> None:
    number = blob.integer()
    float_id = blob.add(Kind.FLOAT, "double", 8)
    forward = blob.add(Kind.FWD, "later", flag=True)
    type_tag = blob.add(Kind.TYPE_TAG, "user", number)
    attribute = blob.add(Kind.TYPE_TAG, "address_space(1)", number, flag=True)
    decl_tag = blob.add(Kind.DECL_TAG, "what it is for", number, -1)
    btf = parsed(blob)
    assert btf.type(float_id) == types.Float(float_id, "double", 8)
    assert btf.type(forward) == types.Forward(forward, "later", True)
    assert btf.type(type_tag) == types.TypeTag(type_tag, "user", number, False)
    assert btf.type(attribute) == types.TypeTag(attribute, "address_space(1)", number, True)
    assert btf.type(decl_tag) == types.DeclTag(decl_tag, "what it is for", number, -1, False)


def test_sections_and_variables(blob: Blob) -> None:
    number = blob.integer()
    first, second = blob.variable("first", number), blob.variable("second", number, Linkage.STATIC)
    external = blob.function("kernel_function")
    blob.section(".data", first, second, external)
    blob.section(".data", second)
    btf = parsed(blob)
    section = btf.datasec(".data")
    assert section is not None
    assert [variable.name for variable, _ in btf.variables(section)] == ["first", "second"]
    assert len(btf.datasecs(".data")) == 2
    assert btf.datasec(".bss") is None
    assert btf.datasecs(".bss") == ()


def test_types_are_frozen(blob: Blob) -> None:
    blob.integer()
    with pytest.raises(dataclasses.FrozenInstanceError):
        parsed(blob).type(1).name = "other"  # type: ignore[misc]


# -- finding and following -----------------------------------------------------------------------------------


def test_find_goes_by_name_and_kind(blob: Blob) -> None:
    number = blob.integer("x")
    made = blob.struct("x", 0)
    blob.struct("x", 0)
    btf = parsed(blob)
    assert btf.find("x", Kind.INT) == btf.type(number)
    assert btf.find("x", Kind.STRUCT) == btf.type(made)
    assert btf.find("x", Kind.UNION) is None
    assert btf.find("y", Kind.STRUCT) is None


def test_resolve_and_sizes(blob: Blob) -> None:
    number = blob.integer()
    alias = blob.add(Kind.TYPEDEF, "number_t", number)
    const = blob.add(Kind.CONST, "", blob.add(Kind.VOLATILE, "", blob.add(Kind.RESTRICT, "", alias)))
    tagged = blob.add(Kind.TYPE_TAG, "tag", const)
    matrix = blob.array(blob.array(tagged, 3), 5)
    pointer = blob.pointer(matrix)
    variable = blob.variable("v", matrix)
    empty = blob.array(number, 0)
    btf = parsed(blob)
    assert btf.resolve(tagged) == btf.type(number)
    assert btf.size_of(tagged) == 4
    assert btf.size_of(matrix) == 60
    assert btf.size_of(pointer) == 8
    assert btf.size_of(variable) == 60
    assert btf.size_of(empty) == 0
    with pytest.raises(BtfError, match="no size"):
        btf.size_of(0)


def test_declared_number(blob: Blob) -> None:
    made, nothing, plain = blob.number(7), blob.number(0), blob.integer()
    btf = parsed(blob)
    assert btf.declared_number(made) == 7
    assert btf.declared_number(nothing) == 0
    with pytest.raises(BtfError, match="not a number"):
        btf.declared_number(plain)


def test_a_size_beyond_4_gigabytes_is_refused(blob: Blob) -> None:
    huge = blob.array(blob.array(blob.integer(), 1 << 20), 1 << 20)
    with pytest.raises(BtfError, match="4 GB"):
        parsed(blob).size_of(huge)


def test_split_btf_extends_its_base(blob: Blob) -> None:
    number = blob.integer("base_int")
    base = parsed(blob)
    upper = Blob(blob.big, base.type_count, len(blob.strings))
    pointer = upper.pointer(number)
    upper.struct("upper", 8, ("to_base", pointer, 0))
    btf = parsed(upper, base)
    assert [btf_type.id for btf_type in btf] == list(range(1, btf.type_count))
    assert btf.type(number).name == "base_int"
    assert btf.find("base_int", Kind.INT) == base.type(number)
    found = btf.find("upper", Kind.STRUCT)
    assert isinstance(found, types.Struct)
    assert found.members == (types.Member("to_base", pointer, 0),)
    with pytest.raises(BtfError):
        base.type(pointer)
    with pytest.raises(BtfError):
        parsed(upper)  # alone, its references lead nowhere


def test_compiled_types() -> None:
    """What clang makes of a visible source."""
    section = Elf.parse(compile_file(EVERYTHING)).section(".BTF")
    assert section is not None
    btf = Btf.parse(section.data)
    btf.check()
    value = btf.find("value_t", Kind.TYPEDEF)
    assert value is not None
    struct = btf.resolve(value.id)
    assert isinstance(struct, types.Struct)
    assert struct.size == 72
    assert [(m.name, m.bit_offset, m.bit_size) for m in struct.members] == [
        ("low", 0, 3),
        ("high", 3, 29),
        ("word", 64, 0),
        ("colour", 128, 0),
        ("node", 192, 0),
        ("unfinished", 384, 0),
        ("flag", 448, 0),
        ("ratio", 512, 0),
        ("tail", 576, 0),
    ]
    colour = btf.find("colour", Kind.ENUM)
    assert isinstance(colour, types.Enum)
    assert [(enumerator.name, enumerator.value) for enumerator in colour.values] == [
        ("RED", 0),
        ("GREEN", 7),
        ("BLUE", 0x7FFFFFFF),
    ]
    flag, ratio = (btf.resolve(struct.members[i].type_id) for i in (6, 7))
    assert isinstance(flag, types.Int)
    assert flag.encoding is types.IntEncoding.BOOL
    assert isinstance(ratio, types.Float)


# -- newer than this decoder ---------------------------------------------------------------------------------


def test_an_unknown_kind_is_skipped_where_the_layout_says_how_long_it_is(blob: Blob) -> None:
    blob.integer()
    unknown = blob.add(21, "newer", 1, 11, 12, 13, 14, 15, vlen=2)
    after = blob.integer("after")
    layout = bytes(4 * 21) + bytes([4, 8, 0, 0])  # 4 bytes of its own, 8 per element
    btf = Btf.parse(blob.with_header(length=32, layout=layout))
    btf.check()
    assert btf.type(unknown) == types.Opaque(unknown, "newer", 21)
    assert btf.type(after).name == "after"
    with pytest.raises(BtfError, match="unknown kind 21"):
        Btf.parse(bytes(blob))


def test_more_than_65535_elements(blob: Blob) -> None:
    """Kernel 7.x: vlen has 24 bits."""
    count = 70_000
    made = blob.add(Kind.ENUM, "many", 4, *[0, 1] * count, vlen=count)
    one = parsed(blob).type(made)
    assert isinstance(one, types.Enum)
    assert len(one.values) == count


# -- malformed -----------------------------------------------------------------------------------------------


def refused(raw: bytes, match: str) -> None:
    with pytest.raises(BtfError, match=match) as caught:
        Btf.parse(raw).check()
    assert isinstance(caught.value, InvalidInput)
    assert caught.value.why
    assert caught.value.todo


@pytest.mark.parametrize(
    ("raw", "match"),
    [
        (b"", "0 bytes"),
        (b"\x9f\xeb", "2 bytes"),
        (b"\x7fELF" + bytes(40), "magic"),
        (bytes(24), "magic"),
    ],
)
def test_no_btf(raw: bytes, match: str) -> None:
    refused(raw, match)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"version": 2}, "version 2"),
        ({"hdr_len": 8}, "header claims"),
        ({"hdr_len": 1 << 31}, "header claims"),
        ({"type_off": 2}, "outside"),
        ({"type_len": 1 << 31}, "outside"),
        ({"type_off": 0xFFFFFFFC}, "outside"),
        ({"str_len": 1 << 31}, "outside"),
        ({"str_off": 0}, "overlap"),
        ({"str_len": 0}, "zero byte"),
        ({"str_len": 2}, "zero byte"),
        ({"type_len": 4}, "cut off"),
        ({"type_len": 12}, "cut off"),
    ],
)
def test_wrong_header(blob: Blob, wrong: dict[str, int], match: str) -> None:
    blob.integer()
    refused(blob.with_header(wrong), match)


def test_strings_that_do_not_end(blob: Blob) -> None:
    refused(blob.with_header(strings=b"\0abc"), "zero byte")
    refused(blob.with_header(strings=b"abc\0"), "zero byte")


def test_wrong_layout_section(blob: Blob) -> None:
    refused(blob.with_header({"layout_len": 1 << 30}, length=32, layout=bytes(8)), "layout")
    refused(blob.with_header({"layout_len": 6}, length=32, layout=bytes(8)), "layout")


@pytest.mark.parametrize(
    ("kind", "third", "rest", "vlen", "match"),
    [
        (0, 0, (), 0, "unknown kind 0"),
        (20, 0, (), 0, "unknown kind 20"),
        (127, 0, (), 0, "unknown kind 127"),
        (Kind.PTR, 99, (), 0, "no type 99"),
        (Kind.ARRAY, 0, (99, 1, 1), 0, "no type 99"),
        (Kind.ARRAY, 0, (1, 99, 1), 0, "no type 99"),
        (Kind.ARRAY, 0, (1, 1), 0, "cut off"),
        (Kind.STRUCT, 4, (0, 99, 0), 1, "no type 99"),
        (Kind.STRUCT, 4, (0, 1, 33), 1, "outside its 4 bytes"),
        (Kind.STRUCT, 4, (0, 1), 1, "cut off"),
        (Kind.STRUCT, 4, (1 << 20, 1, 0), 1, "no name"),
        (Kind.STRUCT, 4, (), 0xFFFFFF, "cut off"),
        (Kind.ENUM, 3, (), 0, "3 bytes"),
        (Kind.ENUM, 4, (1 << 20, 0), 1, "no name"),
        (Kind.ENUM64, 8, (0, 0), 1, "cut off"),
        (Kind.INT, 4, (3 << 24 | 32,), 0, "encoding 3"),
        (Kind.INT, 4, (33,), 0, "33 bits"),
        (Kind.INT, 4, (0,), 0, "0 bits"),
        (Kind.INT, 32, (128,), 0, "in 32 bytes"),
        (Kind.FLOAT, 3, (), 0, "3 bytes"),
        (Kind.VAR, 1, (7,), 0, "linkage 7"),
        (Kind.VAR, 99, (0,), 0, "no type 99"),
        (Kind.FUNC, 99, (), 0, "no type 99"),
        (Kind.FUNC, 1, (), 9, "linkage 9"),
        (Kind.FUNC_PROTO, 99, (), 0, "no type 99"),
        (Kind.FUNC_PROTO, 1, (0, 99), 1, "no type 99"),
        (Kind.DATASEC, 0, (99, 0, 0), 1, "no type 99"),
        (Kind.DECL_TAG, 99, (0,), 0, "no type 99"),
        (Kind.TYPEDEF, 2, (), 0, "contains itself"),
        (Kind.ARRAY, 0, (2, 1, 1), 0, "contains itself"),
        (Kind.STRUCT, 4, (0, 2, 0), 1, "contains itself"),
    ],
)
def test_malformed_types(
    blob: Blob, kind: int, third: int, rest: tuple[int, ...], vlen: int, match: str
) -> None:
    blob.integer()
    blob.add(kind, "", third, *rest, vlen=vlen)
    refused(bytes(blob), match)


def test_names_must_be_whole_strings_of_printable_text(blob: Blob) -> None:
    """A name never moves the terminal's cursor, and never costs more than its bytes."""
    blob.struct("name", 0)
    raw = bytes(blob)
    refused(raw.replace(b"name", b"na\x1b["), "unprintable")
    refused(raw.replace(b"name", b"na\nm"), "unprintable")
    refused(raw.replace(b"name", b"\xff\xfe\xfd\xfc"), "UTF-8")
    raw = bytes(blob)
    offset_at = 24  # in the first type's name
    three = (3).to_bytes(4, "big" if blob.big else "little")
    refused(raw[:offset_at] + three + raw[offset_at + 4 :], "no name at offset 3")


def test_rings_of_types_end(blob: Blob) -> None:
    first = blob.add(Kind.TYPEDEF, "a", 2)
    blob.add(Kind.TYPEDEF, "b", 1)
    ring = blob.add(Kind.ARRAY, "", 0, 3, 3, 2)
    btf = Btf.parse(bytes(blob))
    with pytest.raises(BtfError, match="endless chain"):
        btf.resolve(first)
    with pytest.raises(BtfError, match=r"nests deeper|4 GB"):
        btf.size_of(ring)
    with pytest.raises(BtfError, match="contains itself"):
        btf.check()


def test_a_ring_through_a_pointer_is_a_list(blob: Blob) -> None:
    blob.struct("node", 8, ("next", 2, 0))
    blob.pointer(1)
    parsed(blob)


@pytest.mark.parametrize("extra", [0, 1])
def test_depth(blob: Blob, extra: int) -> None:
    inner = blob.integer()
    for _ in range(MAX_DEPTH - 1 + extra):
        inner = blob.array(inner, 1)
    if extra:
        refused(bytes(blob), "deeper")
    else:
        assert parsed(blob).size_of(inner) == 4


def test_a_hundred_thousand_types_in_each_other_do_not_exhaust_the_stack(blob: Blob) -> None:
    inner = blob.integer()
    for _ in range(100_000):
        inner = blob.pointer(inner)
    parsed(blob)
    for _ in range(100_000):
        inner = blob.add(Kind.CONST, "", inner)
    refused(bytes(blob), "deeper")


def test_many_members_of_many_structs_take_linear_time(blob: Blob) -> None:
    """Each level contains the one below a thousand times: naively 1000 ** 60 visits."""
    inner = blob.integer()
    for _ in range(MAX_DEPTH - 1):
        inner = blob.struct("", 4, *[("", inner, 0)] * 1000)
    started = time.monotonic()
    parsed(blob)
    assert time.monotonic() - started < 5


def test_errors_survive_pickling() -> None:
    error = pickle.loads(pickle.dumps(BtfError("why", detail="detail")))
    assert (error.why, error.detail) == ("why", "detail")


def test_there_is_no_type_of_an_unknown_or_negative_id(blob: Blob) -> None:
    blob.integer()
    btf = parsed(blob)
    for type_id in (-1, 2, 1 << 40):
        with pytest.raises(BtfError, match="no type"):
            btf.type(type_id)
