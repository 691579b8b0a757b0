# SPDX-License-Identifier: Apache-2.0
"""BPF instructions as bytes: reading them, and splicing components behind a dispatcher. Pure.

An instruction has 8 bytes: opcode, registers (source in the high half), offset, immediate. Calls of
subprograms and addresses of functions are relative to the instruction, so a component can be appended as it
is; only the dispatcher's calls are pointed anew.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from xdpchain.errors import InvalidInput

__all__ = [
    "Instruction",
    "Linked",
    "base_register",
    "function_starts",
    "instructions",
    "map_references",
    "module_calls",
    "names_function",
    "patch_maps",
    "splice",
]

SIZE = 8
CALL = 0x85
LOAD_64 = 0x18  # the one instruction of two parts
MOVE = 0xB7
PSEUDO_CALL = 1
PSEUDO_KFUNC = 2
PSEUDO_MAP_FD = 1
PSEUDO_MAP_VALUE = 2
PSEUDO_FUNC = 4

LOAD_FROM, STORE_TO = 1, (2, 3)  # classes of instructions


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
        code, registers, offset, immediate = struct.unpack_from("=BBhi", image, index * SIZE)
        return cls(code, registers & 15, registers >> 4, offset, immediate)

    def encode(self) -> bytes:
        return struct.pack("=BBhi", self.code, self.target | self.source << 4, self.offset, self.immediate)


def instructions(image: bytes) -> Iterator[tuple[int, Instruction]]:
    """(index, instruction); the second half of a 64-bit load is passed over. Raises InvalidInput."""
    if len(image) % SIZE:
        raise InvalidInput(f"{len(image)} bytes are no BPF instructions")
    index, count = 0, len(image) // SIZE
    while index < count:
        one = Instruction.decode(image, index)
        yield index, one
        index += 2 if one.code == LOAD_64 else 1


def map_references(image: bytes) -> tuple[tuple[int, int], ...]:
    """(instruction index, descriptor) of every map that the code names."""
    return tuple(
        (index, one.immediate)
        for index, one in instructions(image)
        if one.code == LOAD_64 and one.source in (PSEUDO_MAP_FD, PSEUDO_MAP_VALUE)
    )


def function_starts(image: bytes) -> tuple[int, ...]:
    """Where functions begin: at 0, and wherever a call or a function's address points."""
    starts = {0}
    for index, one in instructions(image):
        if (one.code, one.source) in ((CALL, PSEUDO_CALL), (LOAD_64, PSEUDO_FUNC)):
            starts.add(index + one.immediate + 1)
    return tuple(sorted(starts))


def names_function(one: Instruction) -> bool:
    """Whether an instruction calls a function of the same program, or takes its address."""
    return (one.code, one.source) in ((CALL, PSEUDO_CALL), (LOAD_64, PSEUDO_FUNC))


def base_register(one: Instruction) -> int | None:
    """The register that an instruction's address is relative to."""
    kind = one.code & 7
    return one.source if kind == LOAD_FROM else one.target if kind in STORE_TO else None


def module_calls(image: bytes) -> bool:
    """Whether the code calls functions of a kernel module, which an image can't carry along."""
    return any(
        one.code == CALL and one.source == PSEUDO_KFUNC and one.offset for _, one in instructions(image)
    )


def patch_maps(image: bytes, references: Sequence[tuple[int, str]], descriptors: Mapping[str, int]) -> bytes:
    """The image with the descriptors of this process in place of those of the one that loaded the
    component.
    """
    patched = bytearray(image)
    for index, name in references:
        struct.pack_into("=i", patched, index * SIZE + 4, descriptors[name])
    return bytes(patched)


@dataclass(frozen=True, slots=True)
class Linked:
    """A spliced image, the index at which each component begins (None: there is none), and by their old
    index where the dispatcher's own functions do.
    """

    image: bytes
    starts: tuple[int | None, ...]
    kept: Mapping[int, int]


def splice(
    main: bytes, stubs: Sequence[int], components: Sequence[bytes | None], helpers: Sequence[int] = ()
) -> Linked:
    """Append ``components`` to the dispatcher's own functions and point its calls at them.

    ``main`` is the whole dispatcher, whose stub for slot *i* begins at ``stubs[i]``. Its main function stays,
    and the functions that begin at ``helpers``; all others, the stubs above all, are cut out: the verifier
    refuses unreachable functions. The calls of slots that no component fills are dead (the configuration is
    constant, and says so) and become a plain ``r0 = 0``.
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
        for index, one in instructions(bytes(body[moved * SIZE : end * SIZE])):
            if one.code != CALL or one.source != PSEUDO_CALL:
                continue
            target = targets.get(start + index + one.immediate + 1)
            if target is not None:
                new = one._replace(immediate=target - (moved + index) - 1)
            else:
                new = Instruction(MOVE, 0, 0, 0, 0)
            body[(moved + index) * SIZE : (moved + index + 1) * SIZE] = new.encode()
    return Linked(bytes(body) + b"".join(filter(None, components)), tuple(places), kept)
