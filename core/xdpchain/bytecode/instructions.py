# SPDX-License-Identifier: Apache-2.0
"""BPF instructions as bytes: read them, and splice components behind a dispatcher. Pure.

An instruction has 8 bytes: opcode, registers (source in the high half on little-endian machines), offset,
immediate. Subprogram calls and function addresses are relative to the instruction, so a component can be
appended unchanged; only the dispatcher's calls are redirected.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple, SupportsIndex, TypeVar

from xdpchain.errors import InvalidInput
from xdpchain.frozen import frozen

from . import opcodes as op

Name = TypeVar("Name")

__all__ = [
    "LET_PASS",
    "Instruction",
    "Linked",
    "add_to_immediates",
    "base_register",
    "decode",
    "encode",
    "function_starts",
    "instructions",
    "jump_target",
    "map_references",
    "module_calls",
    "names_function",
    "patch_maps",
    "put_at",
    "splice",
    "successors",
    "whole",
]

SIZE = 8
_LINE = struct.Struct("=BBhi")


_TARGET, _SOURCE = (0, 4) if sys.byteorder == "little" else (4, 0)
"""Which half of the second byte is which register."""


class Instruction(NamedTuple):
    """One decoded instruction."""

    code: int
    target: int
    source: int
    offset: int
    immediate: int

    @classmethod
    def decode(cls, image: bytes, index: int) -> Instruction:
        """The instruction at an index of an image."""
        code, registers, offset, immediate = _LINE.unpack_from(image, index * SIZE)
        return cls(code, registers >> _TARGET & 15, registers >> _SOURCE & 15, offset, immediate)

    def encode(self) -> bytes:
        return encode((self,))


@lru_cache(maxsize=32)
def decode(image: bytes) -> tuple[Instruction, ...]:
    """All instructions of an image by index, decoded once for all readers; the second half of a 64-bit load
    is an instruction of its own. Raises InvalidInput.
    """
    if len(image) % SIZE:
        raise InvalidInput(f"{len(image)} bytes are not BPF instructions")
    return tuple(
        Instruction(code, registers >> _TARGET & 15, registers >> _SOURCE & 15, offset, immediate)
        for code, registers, offset, immediate in _LINE.iter_unpack(image)
    )


def encode(lines: Iterable[Instruction]) -> bytes:
    """These instructions as an image."""
    pack = _LINE.pack
    return b"".join(
        [
            pack(code, target << _TARGET | source << _SOURCE, offset, immediate)
            for code, target, source, offset, immediate in lines
        ]
    )


LET_PASS = encode((Instruction(op.MOV64_IMM, 0, 0, 0, 2), Instruction(op.EXIT, 0, 0, 0, 0)))
"""The smallest XDP program: it returns XDP_PASS."""


def whole(lines: Sequence[Instruction]) -> Iterator[tuple[int, Instruction]]:
    """(index, instruction), skipping the second half of 64-bit loads."""
    index, count = 0, len(lines)
    while index < count:
        line = lines[index]
        yield index, line
        index += 2 if line.code == op.LD_IMM64 else 1


def instructions(image: bytes) -> Iterator[tuple[int, Instruction]]:
    """(index, instruction) of an image, skipping the second half of 64-bit loads. Raises InvalidInput."""
    return whole(decode(image))


def map_references(image: bytes) -> tuple[tuple[int, int], ...]:
    """(instruction index, descriptor) of every map that the code names."""
    return tuple(
        (index, instruction.immediate)
        for index, instruction in instructions(image)
        if instruction.code == op.LD_IMM64 and instruction.source in (op.IMM_MAP, op.IMM_MAP_VALUE)
    )


@lru_cache(maxsize=64)
def function_starts(image: bytes) -> tuple[int, ...]:
    """Where functions begin: at 0, and at the target of every call or function address."""
    starts = {0}
    for index, instruction in instructions(image):
        if names_function(instruction):
            starts.add(index + instruction.immediate + 1)
    return tuple(sorted(starts))


def names_function(instruction: Instruction) -> bool:
    """Whether an instruction calls a function of the same program, or takes its address."""
    return (instruction.code, instruction.source) in (
        (op.CALL, op.CALL_FUNCTION),
        (op.LD_IMM64, op.IMM_FUNCTION),
    )


def jump_target(index: int, line: Instruction) -> int:
    """Where the jump at this index leads when taken."""
    return index + 1 + (line.immediate if line.code == op.GOTOL else line.offset)


def successors(index: int, line: Instruction) -> tuple[int, ...]:
    """The instructions of the same function that may come next; the one directly after a jump first."""
    if line.code == op.EXIT:
        return ()
    if not op.is_jump(line.code):
        return (index + (2 if line.code == op.LD_IMM64 else 1),)
    target = jump_target(index, line)
    return (target,) if op.is_goto(line.code) else (index + 1, target)


def base_register(instruction: Instruction) -> int | None:
    """The register that an instruction's address is relative to."""
    if instruction.code & op.CLASS == op.LDX:
        return instruction.source
    return instruction.target if op.is_store(instruction.code) else None


def module_calls(image: bytes) -> bool:
    """Whether the code calls functions of a kernel module, which an image can't carry."""
    return any(
        instruction.code == op.CALL and instruction.source == op.CALL_KFUNC and instruction.offset
        for _, instruction in instructions(image)
    )


def patch_maps(
    image: bytes, references: Sequence[tuple[int, Name]], maps: Mapping[Name, SupportsIndex]
) -> bytes:
    """The image with the descriptors of ``maps`` in place of those of the process that loaded the
    component.
    """
    patched = bytearray(image)
    for index, name in references:
        struct.pack_into("=i", patched, index * SIZE + 4, maps[name])
    return bytes(patched)


def add_to_immediates(image: bytes, places: Iterable[int], amount: int) -> bytes:
    """The image with ``amount`` added to the constants of the instructions at ``places``."""
    patched = bytearray(image)
    for index in places:
        (value,) = struct.unpack_from("=I", patched, index * SIZE + 4)
        struct.pack_into("=I", patched, index * SIZE + 4, (value + amount) & 0xFFFFFFFF)
    return bytes(patched)


def put_at(image: bytes, places: Iterable[int], instruction: Instruction) -> bytes:
    """The image with ``instruction`` in place of those at ``places``, none of which is a 64-bit load."""
    patched = bytearray(image)
    for index in places:
        patched[index * SIZE : (index + 1) * SIZE] = instruction.encode()
    return bytes(patched)


@frozen
class Linked:
    """A spliced image, the index at which each component begins (None: there is none), and where the
    dispatcher's own functions begin, by old index.
    """

    image: bytes
    starts: tuple[int | None, ...]
    kept: Mapping[int, int]


def splice(
    main: bytes, stubs: Sequence[int], components: Sequence[bytes | None], helpers: Sequence[int] = ()
) -> Linked:
    """Append ``components`` to the dispatcher's own functions and redirect its calls to them.

    ``main`` is the whole dispatcher, whose stub for slot *i* begins at ``stubs[i]``. Its main function stays,
    and so do the functions that begin at ``helpers``. All others, mainly the stubs, are removed, because the
    verifier refuses unreachable functions. Calls for slots without a component are dead (the constant
    configuration says so) and become a plain ``r0 = 0``.
    """
    starts = function_starts(main)
    ends = dict(zip(starts, (*starts[1:], len(main) // SIZE), strict=True))
    kept: dict[int, int] = {}
    body = bytearray()
    for start in (0, *sorted(helpers)):
        kept[start] = len(body) // SIZE
        body += main[start * SIZE : ends[start] * SIZE]
    places: list[int | None] = []
    at = len(body) // SIZE
    for component in components:
        places.append(at if component is not None else None)
        at += len(component or b"") // SIZE
    targets = {stub: place for stub, place in zip(stubs, places, strict=False) if place is not None} | kept
    for start, moved in kept.items():
        end = moved + ends[start] - start
        for index, instruction in instructions(bytes(body[moved * SIZE : end * SIZE])):
            if instruction.code != op.CALL or instruction.source != op.CALL_FUNCTION:
                continue
            target = targets.get(start + index + instruction.immediate + 1)
            if target is not None:
                new = instruction._replace(immediate=target - (moved + index) - 1)
            else:
                new = Instruction(op.MOV64_IMM, 0, 0, 0, 0)
            body[(moved + index) * SIZE : (moved + index + 1) * SIZE] = new.encode()
    return Linked(bytes(body) + b"".join(filter(None, components)), tuple(places), kept)
