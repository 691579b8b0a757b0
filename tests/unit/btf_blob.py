# SPDX-License-Identifier: Apache-2.0
"""Hand-written BTF, so that it can be wrong in one place"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from xdpchain.objects.btf_types import Kind

__all__ = ["Blob", "run_config"]


@dataclass
class Blob:
    """Collects types; ``bytes(blob)`` is the BTF. Methods return the new type's id."""

    big: bool = False
    first_id: int = 1
    string_base: int = 0
    types: list[bytes] = field(default_factory=list)
    strings: bytearray = field(default_factory=lambda: bytearray(b"\0"))

    @property
    def mark(self) -> str:
        return ">" if self.big else "<"

    def string(self, text: str | bytes) -> int:
        """The offset of a new string; 0 for the empty one."""
        raw = text.encode() if isinstance(text, str) else text
        if not raw:
            return 0
        self.strings += raw + b"\0"
        return self.string_base + len(self.strings) - len(raw) - 1

    def add(
        self,
        kind: int,
        name: str | bytes = "",
        third: int = 0,
        *rest: int,
        vlen: int = 0,
        flag: bool = False,
    ) -> int:
        """A type: ``third`` is its size or target, ``rest`` are the words that follow."""
        head = (self.string(name), flag << 31 | kind << 24 | vlen, third)
        words = [one & 0xFFFFFFFF for one in (*head, *rest)]
        self.types.append(struct.pack(f"{self.mark}{len(words)}I", *words))
        return self.first_id + len(self.types) - 1

    def integer(self, name: str = "int", size: int = 4, encoding: int = 1) -> int:
        return self.add(Kind.INT, name, size, encoding << 24 | size * 8)

    def pointer(self, target: int) -> int:
        return self.add(Kind.PTR, "", target)

    def array(self, element: int, count: int) -> int:
        return self.add(Kind.ARRAY, "", 0, element, element, count)

    def number(self, value: int) -> int:
        """The type that ``__uint(name, value)`` gives a member."""
        return self.pointer(self.array(self.integer(), value))

    def struct(self, name: str, size: int, *members: tuple[str, int, int], flag: bool = False) -> int:
        words = [word for text, type_id, at in members for word in (self.string(text), type_id, at)]
        return self.add(Kind.STRUCT, name, size, *words, vlen=len(members), flag=flag)

    def variable(self, name: str, type_id: int, linkage: int = 1) -> int:
        return self.add(Kind.VAR, name, type_id, linkage)

    def section(self, name: str, *variables: int) -> int:
        words = [word for one in variables for word in (one, 0, 0)]
        return self.add(Kind.DATASEC, name, 0, *words, vlen=len(variables))

    def function(self, name: str, *parameters: int) -> int:
        words = [word for parameter in parameters for word in (self.string("argument"), parameter)]
        prototype = self.add(Kind.FUNC_PROTO, "", self.integer(), *words, vlen=len(parameters))
        return self.add(Kind.FUNC, name, prototype, vlen=1)

    def __bytes__(self) -> bytes:
        return self.with_header()

    def with_header(
        self,
        wrong: dict[str, int] | None = None,
        *,
        length: int = 24,
        strings: bytes | None = None,
        layout: bytes = b"",
    ) -> bytes:
        """The BTF; ``wrong`` replaces fields of its header: magic, version, flags, type_off, type_len, …"""
        body = b"".join(self.types)
        text = bytes(self.strings) if strings is None else strings
        fields = {"magic": 0xEB9F, "version": 1, "flags": 0, "hdr_len": length}
        fields |= {"type_off": 0, "type_len": len(body), "str_off": len(body), "str_len": len(text)}
        layout_at = {"layout_off": len(body) + len(text), "layout_len": len(layout)} if length >= 32 else {}
        fields |= layout_at | (wrong or {})
        form = f"{self.mark}HBB{len(fields) - 3}I"
        return struct.pack(form, *fields.values()).ljust(length, b"\0") + body + text + layout


def run_config(blob: Blob, function: str, **members: int) -> int:
    """The variable that declares a run configuration."""
    spelled = [(name, blob.number(value), 64 * i) for i, (name, value) in enumerate(members.items())]
    return blob.variable(f"_{function}", blob.struct("", 8 * len(spelled), *spelled))
