# SPDX-License-Identifier: Apache-2.0
"""Typed keys and values: bytes to values to text, and back"""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.btf_blob import Blob
from xdpchain.errors import InvalidInput
from xdpchain.maps.layout import (
    Field,
    Form,
    Layout,
    Number,
    Opaque,
    Prefix,
    Record,
    Sequence,
    Text,
    layout_of,
)
from xdpchain.maps.text import assignment, parse, render
from xdpchain.maps.values import decode, encode, total
from xdpchain.objects.btf import Btf
from xdpchain.objects.btf_types import Kind

U8, U16, U32, U64 = (Number(size, 8 * size) for size in (1, 2, 4, 8))
NETWORK = Number(2, 16, Form.NETWORK)
IPV4 = Number(4, 32, Form.IPV4)


# -- every layout, any bytes ---------------------------------------------------------------------------------


def numbers() -> st.SearchStrategy[Layout]:
    forms = st.sampled_from((Form.UNSIGNED, Form.SIGNED, Form.BOOL, Form.NETWORK))
    plain = st.builds(lambda size, form: Number(size, 8 * size, form), st.sampled_from((1, 2, 4, 8)), forms)
    enums = st.builds(
        lambda values: Number(4, 32, names=tuple((f"NAME_{v}", v) for v in values)),
        st.lists(st.integers(0, 8), unique=True, min_size=1),
    )
    floats = st.sampled_from((Number(4, 32, Form.FLOAT), Number(8, 64, Form.FLOAT)))
    others = st.sampled_from(
        (
            IPV4, Number(16, 128, Form.IPV6), Number(8, 64, Form.POINTER), Number(4, 5, shift=3),
            Prefix(32), Prefix(128),
        )
    )  # fmt: skip
    return st.one_of(
        plain, enums, floats, others, st.builds(Text, st.integers(0, 9)), st.builds(Opaque, st.integers(1, 5))
    )


def sequences(inner: st.SearchStrategy[Layout]) -> st.SearchStrategy[Layout]:
    return st.builds(lambda one, count: Sequence(one, count, one.size * count), inner, st.integers(0, 4))


@st.composite
def records(draw: st.DrawFn, inner: st.SearchStrategy[Layout]) -> Layout:
    """Structs with padding and bitfields, and unions."""
    at, fields = 0, []
    union = draw(st.booleans())
    size = 0
    for i in range(draw(st.integers(0, 4))):
        if draw(st.booleans()):
            width = draw(st.integers(1, 32))
            form = draw(st.sampled_from((Form.UNSIGNED, Form.SIGNED)))
            fields.append(Field(f"m{i}", at, Number(4, 32, form), width))
            end = at + width
        else:
            at = -(-at // 8) * 8
            one = draw(inner)
            fields.append(Field(f"m{i}", at, one))
            end = at + 8 * one.size
        size = max(size, end)
        at = 0 if union else end + draw(st.sampled_from((0, 0, 3, 16)))
    return Record(tuple(fields), -(-max(size, at) // 8) + draw(st.integers(0, 3)))


LAYOUTS = st.recursive(numbers(), lambda inner: sequences(inner) | records(inner), max_leaves=8)


@settings(max_examples=300, deadline=None)
@given(st.data(), LAYOUTS)
def test_what_was_decoded_encodes_to_the_same_bytes(data: st.DataObject, layout: Layout) -> None:
    raw = data.draw(st.binary(min_size=layout.size, max_size=layout.size))
    value = decode(layout, raw)
    assert encode(layout, value, raw) == raw


@settings(max_examples=300, deadline=None)
@given(st.data(), LAYOUTS)
def test_text_reads_back(data: st.DataObject, layout: Layout) -> None:
    raw = data.draw(st.binary(min_size=layout.size, max_size=layout.size))
    value = decode(layout, raw)
    text = render(layout, value, 1 << 20)
    again = parse(layout, text) if text else value
    assert encode(layout, again, raw) == raw


@given(LAYOUTS, st.text(max_size=40))
def test_any_text_is_read_or_refused_in_words(layout: Layout, text: str) -> None:
    try:
        raw = encode(layout, parse(layout, text))
    except InvalidInput:
        return
    assert len(raw) == layout.size


@given(LAYOUTS, st.integers(1, 30))
def test_rendering_keeps_its_limit(layout: Layout, limit: int) -> None:
    assert len(render(layout, decode(layout, bytes(layout.size)), limit)) <= limit


# -- what a person sees and writes ---------------------------------------------------------------------------


PORT = Record((Field("port", 0, U16), Field("protocol", 16, U8), Field("unused", 24, U8)), 4)


def test_a_struct() -> None:
    raw = struct.pack("=HBB", 53, 17, 0)
    assert decode(PORT, raw) == {"port": 53, "protocol": 17, "unused": 0}
    assert render(PORT, decode(PORT, raw)) == "{port=53, protocol=17, unused=0}"
    assert encode(PORT, parse(PORT, "port=53, protocol=0x11")) == raw
    assert encode(PORT, parse(PORT, "{protocol=6}"), raw) == struct.pack("=HBB", 53, 6, 0)


def test_addresses_and_network_order() -> None:
    layout = Record((Field("source", 0, IPV4), Field("port", 32, NETWORK)), 6)
    raw = bytes((10, 0, 0, 1, 0, 53))
    assert decode(layout, raw) == {"source": "10.0.0.1", "port": 53}
    assert encode(layout, parse(layout, "source=10.0.0.1, port=53")) == raw


def test_a_prefix() -> None:
    assert decode(Prefix(32), struct.pack("=I", 8) + bytes((10, 0, 0, 0))) == "10.0.0.0/8"
    assert encode(Prefix(32), parse(Prefix(32), "10.1.2.3")) == struct.pack("=I", 32) + bytes((10, 1, 2, 3))


def test_text_and_bytes() -> None:
    assert decode(Text(8), b"eth0\0\0\0\0") == "eth0"
    assert decode(Text(8), b"eth0\0x\0\0") == list(b"eth0\0x\0\0")
    assert encode(Text(8), parse(Text(8), "eth0")) == b"eth0\0\0\0\0"
    mac = Sequence(U8, 6, 6)
    assert encode(mac, parse(mac, "02:00:00:00:00:01")) == bytes((2, 0, 0, 0, 0, 1))


def test_one_member_of_a_union_is_set() -> None:
    union = Record((Field("whole", 0, U32), Field("low", 0, U8)), 4)
    assert encode(union, parse(union, "low=7"), bytes(4)) == b"\7\0\0\0"
    with pytest.raises(InvalidInput, match="share bytes"):
        encode(union, parse(union, "low=7, whole=9"))


@pytest.mark.parametrize(
    ("layout", "text", "says"),
    [
        (U8, "256", "0 to 255"),
        (U8, "-1", "0 to 255"),
        (U8, "many", "whole number"),
        (U8, "1 2", "extra text"),
        (U8, "", "missing"),
        (PORT, "prot=6", "no member 'prot'"),
        (PORT, "{port=1", "missing"),
        (IPV4, "10.0.0", "IPv4 address"),
        (Text(2), "eth0", "room for 2 bytes"),
        (Opaque(2), "0a", "2 bytes in hexadecimal"),
        (Sequence(U16, 2, 4), "[1]", "2 elements, not 1"),
        (Number(4, 32, names=(("TCP", 6),)), "UDP", "one of TCP"),
    ],
)
def test_what_does_not_fit_is_refused(layout: Layout, text: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        encode(layout, parse(layout, text))


def test_assignments() -> None:
    assert assignment("{port=53, protocol=17}=1") == ("{port=53, protocol=17}", "1")
    assert assignment('"a=b"={c=1}') == ('"a=b"', "{c=1}")
    assert assignment("step=5") == ("step", "5")
    with pytest.raises(InvalidInput):
        assignment("{port=53}")


def test_sums() -> None:
    assert total([{"a": 1, "b": [2]}, {"a": 3, "b": [4]}]) == {"a": 4, "b": [6]}
    assert total([1, 2, 3]) == 6
    assert total(["KIND", "KIND"]) is None
    assert total([True, False]) is None


# -- out of BTF ----------------------------------------------------------------------------------------------


def compiled(blob: Blob, type_id: int, size: int, *, lpm: bool = False) -> Layout:
    return layout_of(Btf.parse(bytes(blob)), type_id, size, lpm=lpm)


def test_structs_out_of_btf() -> None:
    blob = Blob()
    u32 = blob.integer("unsigned int", 4, 0)
    char = blob.integer("char", 1, 1)
    be32 = blob.add(Kind.TYPEDEF, "__be32", u32)
    inner = blob.struct("", 8, ("a", u32, 0), ("b", u32, 32))
    outer = blob.struct(
        "outer",
        24,
        ("name", blob.array(char, 8), 0),
        ("address", be32, 64),
        ("", inner, 96),
        ("last", u32, 160),
    )
    made = compiled(blob, outer, 24)
    raw = b"eth0\0\0\0\0" + bytes((10, 0, 0, 1)) + struct.pack("=III", 1, 2, 3)
    expected = {"name": "eth0", "address": "10.0.0.1", "a": 1, "b": 2, "last": 3}
    assert decode(made, raw) == expected
    assert isinstance(compiled(blob, outer, 23), Opaque), "a type that does not fit the map"


def test_a_bitfield_out_of_btf() -> None:
    blob = Blob()
    u32 = blob.integer("unsigned int", 4, 0)
    flags = blob.struct("flags", 4, ("low", u32, 3 << 24), ("high", u32, 29 << 24 | 3), flag=True)
    made = compiled(blob, flags, 4)
    assert decode(made, struct.pack("=I", 0b1010_101)) == {"low": 5, "high": 10}
    assert encode(made, {"high": 1}, struct.pack("=I", 5)) == struct.pack("=I", 0b1101)


def test_the_key_of_an_lpm_trie() -> None:
    blob = Blob()
    u32 = blob.integer("unsigned int", 4, 0)
    be32 = blob.add(Kind.TYPEDEF, "__be32", u32)
    key = blob.struct("key", 8, ("prefixlen", u32, 0), ("address", be32, 32))
    assert compiled(blob, key, 8, lpm=True) == Prefix(32)
    assert isinstance(compiled(blob, key, 8), Record)


def test_a_type_that_nests_without_bound_is_bytes() -> None:
    blob = Blob()
    empty = blob.struct("empty", 0)
    for i in range(40):
        empty = blob.struct(f"s{i}", 0, ("a", empty, 0), ("b", empty, 0))
    outer = blob.struct("outer", 4, ("deep", empty, 0), ("number", blob.integer(), 0))
    made = compiled(blob, outer, 4)
    assert decode(made, b"\1\0\0\0") == {"deep": "", "number": 1}
    assert encode(made, parse(made, "{deep=, number=1}")) == b"\1\0\0\0"


def test_without_btf_bytes_are_hexadecimal() -> None:
    made = layout_of(None, 0, 3)
    assert render(made, decode(made, b"\x01\x02\xff")) == "01 02 ff"
    assert encode(made, parse(made, "01 02 ff")) == b"\x01\x02\xff"
