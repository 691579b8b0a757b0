# SPDX-License-Identifier: Apache-2.0
"""A unit: a component in linkable form, as libbpf handed it to the kernel. Pure.

CO-RE, maps and subprograms are settled in it; only map descriptors are not, for they belong to a process. A
static or tail-call chain carries the unit of each of its components, so that an edit is a matter of
splicing: no object file is opened, no component verified by itself, once it runs.

Encoded: a header of magic, version and four lengths (little endian u32), then the JSON head, instructions,
func_info records (8 bytes each) and BTF; behind these, as many bytes of line_info records (16 each) as the
head says. Releases that knew no line_info wrote none, and ignore what stands there.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass

from xdpchain.errors import InvalidInput

from .weaving import LineRecord

__all__ = ["LinkableProgram"]

MAGIC = b"XDPU"
VERSION = 1
_HEADER = struct.Struct("<4sIIIII")


@dataclass(frozen=True, slots=True)
class LinkableProgram:
    """Instructions of one component, its functions as (instruction index, BTF type id), its BTF, its map
    references.

    ``functions`` is empty for an object without BTF; ``lines`` are its source lines, with strings of its
    BTF. ``stack`` is the verifier's account of the stack in bytes a frame, ``verified`` the number of
    instructions it walked, ``jited`` the size of the machine code, when it was loaded alone.
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
            head = json.loads(parts[0])
            length = int(head.get("line_info", 0))
            if length < 0 or at + length > len(data):
                raise InvalidInput("a component's linkable form is cut short")
            return cls(
                instructions=parts[1],
                functions=tuple(struct.iter_unpack("<II", parts[2])),
                btf=parts[3],
                references=tuple((int(index), str(name)) for index, name in head["references"]),
                frags=bool(head["frags"]),
                stack=tuple(int(depth) for depth in head["stack"]),
                verified=int(head["verified"]),
                jited=int(head["jited"]),
                lines=tuple(map(LineRecord._make, struct.iter_unpack("<IIII", data[at : at + length]))),
            )
        except (struct.error, ValueError, KeyError, TypeError) as error:
            raise InvalidInput("a component's linkable form can't be read", str(error)) from None
