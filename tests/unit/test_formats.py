# SPDX-License-Identifier: Apache-2.0
"""Bytes <-> values: configuration blocks, units, manifests, images. What was written is read, and nothing
else."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdpchain.bytecode import instructions
from xdpchain.bytecode.linkable_program import LinkableProgram
from xdpchain.errors import InvalidInput
from xdpchain.linkage.dispatcher.config import MAGIC, SIZES, USED, DispatcherConfig, SlotConfig
from xdpchain.linkage.threaded import Form
from xdpchain.model.actions import Action, ActionSet
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.component import Component, MapRef, ObjectRef
from xdpchain.model.interface import Mode
from xdpchain.model.manifest import Author, Manifest
from xdpchain.model.map_entries import MapEntry
from xdpchain.model.runconfig import RunConfig
from xdpchain.model.slot import Slot

U32 = st.integers(0, 2**32 - 1)
SLOTS = st.lists(st.builds(SlotConfig, st.integers(0, 2**31 - 1), U32, U32), max_size=10).map(tuple)


@given(st.sampled_from([2, 3]), SLOTS, st.booleans(), st.booleans())
def test_configuration_blocks_survive(
    version: int, slots: tuple[SlotConfig, ...], frags: bool, devbound: bool
) -> None:
    config = DispatcherConfig(version, slots, frags, devbound and version == 3)
    block = config.encode()
    assert len(block) == SIZES[version]
    assert DispatcherConfig.decode(block) == config


def test_the_layout_is_the_protocols() -> None:
    slots = (SlotConfig(0b100, 20, 32), SlotConfig(0b110, 30, 0))
    block = DispatcherConfig(2, slots, frags=True).encode()
    assert block[:4] == bytes([MAGIC, 2, 2, 1])
    assert struct.unpack_from("=3I", block, 4) == (0b100 | USED, 0b110 | USED, 0)
    assert struct.unpack_from("=3I", block, 44) == (20, 30, 0)
    assert struct.unpack_from("=3I", block, 84) == (32, 0, 0)
    assert DispatcherConfig(3, slots, devbound=True).encode()[124:] == b"\1\0\0\0"


def test_version_1_is_read_and_not_written() -> None:
    block = bytearray(84)
    block[0] = 1
    struct.pack_into("=I", block, 4, 0b100 | USED)
    struct.pack_into("=I", block, 44, 7)
    assert DispatcherConfig.decode(bytes(block)) == DispatcherConfig(1, (SlotConfig(0b100, 7),))
    with pytest.raises(InvalidInput):
        DispatcherConfig(1, ()).encode()


BLOCKS = st.sampled_from(list(SIZES.values())).flatmap(lambda n: st.binary(min_size=n, max_size=n))


@given(st.binary(max_size=200) | BLOCKS)
def test_any_bytes_are_a_block_or_refused(data: bytes) -> None:
    try:
        config = DispatcherConfig.decode(data)
    except InvalidInput:
        return
    assert len(config.slots) <= 10


UNITS = st.builds(
    LinkableProgram,
    instructions=st.binary(max_size=64),
    functions=st.lists(st.tuples(U32, U32), max_size=4).map(tuple),
    btf=st.binary(max_size=64),
    references=st.lists(st.tuples(st.integers(0, 99), st.text(max_size=8)), max_size=4).map(tuple),
    frags=st.booleans(),
    stack=st.lists(st.integers(0, 512), max_size=3).map(tuple),
    verified=U32,
    jited=U32,
)


@given(UNITS, st.binary(max_size=8))
def test_units_survive(unit: LinkableProgram, padding: bytes) -> None:
    assert LinkableProgram.decode(unit.encode() + padding) == unit


@given(UNITS, st.data())
def test_damaged_units_are_refused(unit: LinkableProgram, data: st.DataObject) -> None:
    whole = unit.encode()
    with pytest.raises(InvalidInput):
        LinkableProgram.decode(whole[: data.draw(st.integers(0, len(whole) - 1))])


CHAIN = Chain(
    (
        Slot(
            Component(
                "filter", ObjectRef("ab" * 32, 1234, "/a/filter.o", 77), "xdp", RunConfig(10), True, "GPL",
                ("callee",), ("rules", ".bss"), "/sys/fs/bpf/x", "1f", 42, "00ff", 99, 12,
                (MapRef("rules", 5), MapRef(".bss", 6)), 78, map_entries=(("rules", 9),),
            ),
            RunConfig(20, ActionSet.parse("PD")),
            "new:1",
            3,
        ),
        Slot(Component("other"), RunConfig(), "id:4"),
    ),
    Linkage.STATIC,
    Mode.GENERIC,
)  # fmt: skip
AUTHOR = Author("root", 7, "xdptui load x", 1.5)


def test_manifests_survive() -> None:
    manifest = Manifest(CHAIN, AUTHOR, 9)
    assert Manifest.decode(manifest.encode() + bytes(5)) == manifest
    uncounted = Manifest(replace(CHAIN, counters=False), AUTHOR)
    assert Manifest.decode(uncounted.encode()) == uncounted


def test_manifests_of_chains_with_routes_survive_and_have_a_format_of_their_own() -> None:
    target = CHAIN.slots[1].key
    routed = CHAIN.route(0, Action.DROP, target).route(0, None, target)
    manifest = Manifest(routed, AUTHOR, 9)
    assert Manifest.decode(manifest.encode()) == manifest
    assert b'"format":2' in manifest.encode()


def test_what_is_kept_of_a_manifest_is_what_is_read() -> None:
    filled = replace(CHAIN.slots[0], entries=(MapEntry("rules", "1", "2"),), program=5, labels=(("a", "b"),))
    chain = Chain((filled, *CHAIN.slots[1:]), Linkage.STATIC, Mode.GENERIC, True, 2, True)
    for manifest in (
        Manifest(chain, AUTHOR, 9, 4, (1, 2), 8, Form.THREADED, "long " * 1000),
        Manifest(chain, AUTHOR, form_reason="lost"),
    ):
        assert repr(Manifest.decode(manifest.encode())) == repr(manifest.stored)


@given(st.data())
def test_damaged_manifests_are_refused(data: st.DataObject) -> None:
    whole = bytearray(Manifest(CHAIN, AUTHOR).encode())
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at : at + data.draw(st.integers(1, 9))] = data.draw(st.binary(max_size=4))
    try:
        Manifest.decode(bytes(whole))
    except InvalidInput:
        return


def test_a_newer_manifest_says_so() -> None:
    newer = Manifest(CHAIN, AUTHOR).encode().replace(b'"format":1', b'"format":6')
    with pytest.raises(InvalidInput, match="format 6"):
        Manifest.decode(newer)


@pytest.mark.parametrize(("slots", "row", "form"), [(10, 20, 1), (11, 20, 5), (32, 64, 5), (2, 21, 5)])
def test_manifests_of_long_chains_have_a_format_of_their_own(slots: int, row: int, form: int) -> None:
    """Earlier versions had ten slots and 20 rows; they may read what means the same to them."""
    chain = Chain(tuple(Slot(Component(f"s{i}"), RunConfig(i), f"id:{i}", row) for i in range(slots)))
    encoded = Manifest(chain, AUTHOR, 9).encode()
    assert f'"format":{form}'.encode() in encoded
    assert Manifest.decode(encoded).chain == chain


def op(code: int, target: int = 0, source: int = 0, offset: int = 0, immediate: int = 0) -> bytes:
    return instructions.Instruction(code, target, source, offset, immediate).encode()


EXIT = op(0x95)
# main: call stub 0; call stub 1; call stub 2; exit; then three stubs of two instructions.
MAIN = b"".join(op(0x85, source=1, immediate=4 + 2 * i - i - 1) for i in range(3)) + EXIT
DISPATCHER = MAIN + (op(0xB7, immediate=31) + EXIT) * 3


def test_calls_are_pointed_at_the_components_and_dead_ones_vanish() -> None:
    first, second = op(0xB7, immediate=2) + EXIT, op(0xB7, immediate=1) * 3 + EXIT
    linked = instructions.splice(DISPATCHER, (4, 6, 8), (first, second))
    assert linked.starts == (4, 6)
    decoded = dict(instructions.instructions(linked.image))
    assert decoded[0].immediate == 4 - 1
    assert decoded[1].immediate == 6 - 2
    assert decoded[2] == instructions.Instruction(0xB7, 0, 0, 0, 0)
    assert linked.image[4 * 8 :] == first + second
    assert instructions.function_starts(linked.image) == (0, 4, 6)


def test_map_descriptors_are_found_and_replaced() -> None:
    load = op(0x18, 1, 1, immediate=7) + op(0)
    value = op(0x18, 2, 2, immediate=9) + op(0, immediate=16)
    code = op(0xB7) + load + value + op(0x18, 3, 4, immediate=1) + op(0) + EXIT
    assert instructions.map_references(code) == ((1, 7), (3, 9))
    patched = instructions.patch_maps(code, ((1, "a"), (3, "b")), {"a": 70, "b": 90})
    assert instructions.map_references(patched) == ((1, 70), (3, 90))
    assert patched[4 * 8 + 4 : 5 * 8] == struct.pack("=i", 16), "the offset into the value stays"


def test_module_calls_are_noticed() -> None:
    assert not instructions.module_calls(op(0x85, source=2, immediate=1234))
    assert instructions.module_calls(op(0x85, source=2, offset=1, immediate=1234))
    with pytest.raises(InvalidInput):
        list(instructions.instructions(b"123"))
