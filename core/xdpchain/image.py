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

from .errors import InvalidInput

__all__ = [
    "Instruction",
    "Linked",
    "function_starts",
    "instructions",
    "map_references",
    "module_calls",
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


class Instruction(NamedTuple):
    """One decoded instruction."""

    code: int
    target: int
    source: int
    offset: int
    immediate: int

    def encode(self) -> bytes:
        return struct.pack("=BBhi", self.code, self.target | self.source << 4, self.offset, self.immediate)


def instructions(image: bytes) -> Iterator[tuple[int, Instruction]]:
    """(index, instruction); the second half of a 64-bit load is passed over. Raises InvalidInput."""
    if len(image) % SIZE:
        raise InvalidInput(f"{len(image)} bytes are no BPF instructions")
    index, count = 0, len(image) // SIZE
    while index < count:
        code, registers, offset, immediate = struct.unpack_from("=BBhi", image, index * SIZE)
        yield index, Instruction(code, registers & 15, registers >> 4, offset, immediate)
        index += 2 if code == LOAD_64 else 1


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
    """A spliced image, and the index at which each component begins."""

    image: bytes
    starts: tuple[int, ...]


def splice(main: bytes, stubs: Sequence[int], components: Sequence[bytes]) -> Linked:
    """Append ``components`` to the dispatcher's main function and point its calls at them.

    ``main`` is the whole dispatcher, whose stub for slot *i* begins at ``stubs[i]``; the function ends at
    the first of them. The stubs are cut off: the verifier refuses unreachable functions. The calls of slots
    that no component fills are dead (the configuration is constant, and says so) and become a plain ``r0 =
    0``.
    """
    end = min(stubs)
    slot_of = {start: slot for slot, start in enumerate(stubs)}
    starts: list[int] = []
    at = end
    for component in components:
        starts.append(at)
        at += len(component) // SIZE
    body = bytearray(main[: end * SIZE])
    for index, one in instructions(bytes(body)):
        if one.code != CALL or one.source != PSEUDO_CALL:
            continue
        slot = slot_of.get(index + one.immediate + 1)
        if slot is not None and slot < len(starts):
            new = one._replace(immediate=starts[slot] - index - 1)
        else:
            new = Instruction(MOVE, 0, 0, 0, 0)
        body[index * SIZE : (index + 1) * SIZE] = new.encode()
    return Linked(bytes(body) + b"".join(components), tuple(starts))
