# SPDX-License-Identifier: Apache-2.0
"""Read frames from hexadecimal text. Pure.

A line that starts with an offset (``xxd``, ``hexdump -C``, ``tcpdump -XX``, copied from Wireshark) continues
the line before, and offset 0 starts a packet. Any other line is a whole packet: pairs of digits, optionally
separated by blanks, colons or hyphens. Text after ``#`` and empty lines are ignored.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

from xdpchain.errors import InvalidInput

__all__ = ["read_hex"]

OFFSET = re.compile(r"\s*(?:0x)?([0-9A-Fa-f]{4,8})(:\s|:$|\s{2,}|$)")
SEPARATORS = re.compile(r"[\s:\-]+")
DIGITS = re.compile(r"[0-9A-Fa-f]*")
SHOWN = 24
LONGEST = 1 << 20
"""Longest line in characters; a packet has at most 65,535 bytes."""


def read_hex(text: str, name: str) -> Iterator[bytes]:
    """The packets in a text. Raises InvalidInput with the number of the bad line."""
    packet = bytearray()
    for line_number, line in enumerate(io.StringIO(text, newline=None), 1):
        if len(line) > LONGEST:
            raise InvalidInput(
                f"line {line_number} of {name} can't be read",
                f"it has {len(line)} characters; the limit is {LONGEST}",
            )
        line = line.partition("#")[0].rstrip()
        if not line:
            continue
        where = f"line {line_number} of {name}"
        offset_match = OFFSET.match(line)
        offset = int(offset_match[1], 16) if offset_match else -1
        if offset_match and offset in (0, len(packet)):
            if offset == 0 and packet:
                yield bytes(packet)
                packet.clear()
            packet += _digits(_dumped(line[offset_match.end() :], offset_match[2]), where)
        elif offset_match and offset_match[2].startswith(":"):
            raise InvalidInput(
                f"{where} can't be read", f"its offset is {offset:#x}, expected {len(packet):#x}",
                "The dump must include every line (hexdump: -v)",
            )  # fmt: skip
        elif line.strip() == "*":
            raise InvalidInput(
                f"{where} can't be read", "repeated lines were left out of the dump", "Dump with hexdump -v"
            )
        else:
            if packet:
                yield bytes(packet)
                packet.clear()
            yield _digits(line, where)
    if packet:
        yield bytes(packet)


def _dumped(rest: str, after: str) -> str:
    """The digits of a dump's line, without its text column."""
    if "  |" in rest:  # hexdump -C, which has a gap in the middle
        return rest.partition("  |")[0]
    if after.startswith(":"):
        return rest.strip().partition("  ")[0]
    return re.split(r"\s{3,}", rest.strip())[0]


def _digits(text: str, where: str) -> bytes:
    pairs = SEPARATORS.sub("", text.strip()).removeprefix("0x")
    if not DIGITS.fullmatch(pairs):
        odd = next(c for c in pairs if not DIGITS.fullmatch(c))
        raise InvalidInput(
            f"{where} can't be read", f"{odd!r} is not a hexadecimal digit: {text.strip()[:SHOWN]!r}",
            "Give a capture file (pcap, pcapng), or one packet per line in hex",
        )  # fmt: skip
    if len(pairs) % 2:
        raise InvalidInput(f"{where} can't be read", f"it has an odd number of digits ({len(pairs)})")
    return bytes.fromhex(pairs)
