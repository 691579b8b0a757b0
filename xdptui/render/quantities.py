# SPDX-License-Identifier: Apache-2.0
"""Amounts as text. Pure."""

from __future__ import annotations

__all__ = ["octets"]


def octets(size: int) -> str:
    """``999 B``, ``1.2 kB``, ``34.5 GB``: powers of 1000."""
    if size < 1000:
        return f"{size} B"
    value = size / 1000
    for unit in ("kB", "MB", "GB", "TB"):
        if value < 999.95:
            return f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} PB"
