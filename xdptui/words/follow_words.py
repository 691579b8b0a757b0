# SPDX-License-Identifier: Apache-2.0
"""What slots did to a followed packet, as text. Pure."""

from __future__ import annotations

from xdpchain.follow.followed import ByteChange, Step

__all__ = ["CHANGED", "change_lines", "change_text", "duration"]

CHANGED = "✂"
MOST_BYTES = 8
"""Bytes of a change shown; JSON and the file have all."""
MOST_CHANGES = 4
"""Changes of one slot shown."""


def duration(ns: int) -> str:
    """``120 ns``, ``3.4 µs``, ``12.0 ms``."""
    if ns < 10_000:
        return f"{ns} ns"
    if ns < 10_000_000:
        return f"{ns / 1e3:.1f} µs"
    return f"{ns / 1e6:.1f} ms"


def change_lines(step: Step) -> list[str]:
    """What a slot changed, one line per change; only the first ones if there are many."""
    lines = [change_text(change) for change in step.changes[:MOST_CHANGES]]
    if len(step.changes) > MOST_CHANGES:
        lines.append(f"and {len(step.changes) - MOST_CHANGES} more places")
    shown = sum(len(change.after) - len(change.before) for change in step.changes)
    if step.resized != shown:  # beyond the bytes captured
        lines.append(f"length {step.view.length - step.resized} B → {step.view.length} B")
    return lines


def change_text(change: ByteChange) -> str:
    """``byte 22: 40 → 3f``, ``4 bytes added at 0: 02 00 00 01``."""
    if not change.before:
        return f"{_bytes(change.after)} added at {change.at_after}: {_hex(change.after)}"
    if not change.after:
        return f"{_bytes(change.before)} removed at {change.at}: {_hex(change.before)}"
    last = change.at_after + len(change.after) - 1
    where = f"byte {last}" if len(change.after) == 1 else f"bytes {change.at_after}-{last}"
    return f"{where}: {_hex(change.before)} → {_hex(change.after)}"


def _bytes(data: bytes) -> str:
    return "1 byte" if len(data) == 1 else f"{len(data)} bytes"


def _hex(data: bytes) -> str:
    return data[:MOST_BYTES].hex(" ") + " …" * (len(data) > MOST_BYTES)
