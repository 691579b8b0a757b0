# SPDX-License-Identifier: Apache-2.0
"""A unit: a component in linkable form, as libbpf passed it to the kernel. Pure.

CO-RE relocations, maps and subprograms are resolved; only map descriptors are not, since they belong to a
process. A static or tailcall chain carries the unit of each component, so that an edit only splices: once a
component runs, no object file is opened and it is not verified on its own again.

Encoding: a header of magic, version and four lengths (little-endian u32), then the JSON head, instructions,
func_info records (8 bytes each) and BTF, then as many bytes of line_info records (16 each) as the head says.
Older releases without line_info write none, and ignore what follows.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import replace
from errno import EOPNOTSUPP
from typing import Any, SupportsIndex

from xdpchain.decoding import ID, Fields, fields
from xdpchain.errors import InvalidInput
from xdpchain.frozen import frozen

from . import opcodes as op
from .instructions import SIZE, Instruction, add_to_immediates, patch_maps, put_at
from .weaving import LineRecord

__all__ = ["LinkableProgram"]

MAGIC = b"XDPU"
VERSION = 1
MOST_HEAD, MOST_REFERENCES = 16 << 20, 1 << 20
"""Most bytes of the head, and most references to maps: a program has at most a million instructions."""
_HEADER = struct.Struct("<4sIIIII")


@frozen
class LinkableProgram:
    """A component's instructions, its functions as (instruction index, BTF type ID), its BTF, its map
    references.

    ``functions`` is empty for an object without BTF; ``lines`` are its source lines, with strings in its BTF;
    ``type_ids`` are the instructions that hold the ID of a type in its BTF, ``device_calls`` those that read
    RX metadata, for which the program must be bound to a device. As of when it was loaded alone, ``stack`` is
    the verifier's stack depth per frame in bytes, ``verified`` the number of instructions it walked, and
    ``jited`` the size of the machine code.
    """

    instructions: bytes
    functions: tuple[tuple[int, int], ...]
    btf: bytes
    references: tuple[tuple[int, str], ...]
    frags: bool = False
    stack: tuple[int, ...] = ()
    verified: int = 0
    jited: int = 0
    lines: tuple[LineRecord, ...] = ()
    type_ids: tuple[int, ...] = ()
    device_calls: tuple[int, ...] = ()

    def image(self, maps: Mapping[str, SupportsIndex], shift: int = 0) -> bytes:
        """Its instructions with these maps (descriptors of this process) and ``shift`` added to its
        type IDs.
        """
        code = patch_maps(self.instructions, self.references, maps)
        return add_to_immediates(code, self.type_ids, shift) if shift else code

    def unbound(self) -> LinkableProgram:
        """The same unit for a program that is not bound to a device: reading RX metadata fails (-EOPNOTSUPP),
        as with a driver that provides none.
        """
        none = Instruction(op.MOV64_IMM, 0, 0, 0, -EOPNOTSUPP)
        return replace(self, instructions=put_at(self.instructions, self.device_calls, none))

    def __hash__(self) -> int:
        """The hash of the instructions: units are cache keys."""
        return hash(self.instructions)

    def encode(self) -> bytes:
        lines = b"".join(struct.pack("<IIII", *record) for record in self.lines)
        head = json.dumps(
            {
                "references": self.references,
                "frags": self.frags,
                "stack": self.stack,
                "verified": self.verified,
                "jited": self.jited,
                "line_info": len(lines),
                "type_ids": self.type_ids,
                **({"device_calls": self.device_calls} if self.device_calls else {}),
            },
            separators=(",", ":"),
        ).encode()
        records = b"".join(struct.pack("<II", *record) for record in self.functions)
        parts = (head, self.instructions, records, self.btf)
        return _HEADER.pack(MAGIC, VERSION, *map(len, parts)) + b"".join((*parts, lines))

    @classmethod
    def decode(cls, data: bytes) -> LinkableProgram:
        """Read what `encode` wrote; trailing bytes are ignored. Raises InvalidInput."""
        try:
            magic, version, *lengths = _HEADER.unpack_from(data)
            if magic != MAGIC or version != VERSION:
                raise InvalidInput(
                    "a component's linkable form can't be read", f"version {version} of {magic!r}"
                )
            parts, at = [], _HEADER.size
            for length in lengths:
                parts.append(data[at : at + length])
                at += length
            if at > len(data):
                raise InvalidInput("a component's linkable form is cut short")
            head = fields(parts[0], "a component's linkable form", most=MOST_HEAD)
            length = head.integer("line_info", most=len(data)) if "line_info" in head else 0
            if at + length > len(data):
                raise InvalidInput("a component's linkable form is cut short")
            return cls(
                instructions=parts[1],
                functions=tuple(struct.iter_unpack("<II", parts[2])),
                btf=parts[3],
                references=tuple(map(_reference, head.list("references", most=MOST_REFERENCES))),
                frags=head.flag("frags"),
                stack=head.integers("stack", most=256),
                verified=head.integer("verified"),
                jited=head.integer("jited"),
                lines=tuple(map(LineRecord._make, struct.iter_unpack("<IIII", data[at : at + length]))),
                type_ids=_within(parts[1], head, "type_ids"),
                device_calls=_within(parts[1], head, "device_calls"),
            )
        except struct.error as error:
            raise InvalidInput("a component's linkable form can't be read", str(error)) from None


def _within(image: bytes, head: Fields, name: str) -> tuple[int, ...]:
    """Units of earlier releases have none."""
    places = head.integers(name, most=MOST_REFERENCES) if name in head else ()
    if any(place >= len(image) // SIZE for place in places):
        raise InvalidInput(
            "a component's linkable form can't be read", f"one of its {name} is beyond its end"
        )
    return places


def _reference(value: Any) -> tuple[int, str]:
    match value:
        case [int(index), str(name)] if 0 <= index <= ID:
            return index, name
    raise InvalidInput("a component's linkable form can't be read", "a map reference is invalid")
