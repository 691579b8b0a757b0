# SPDX-License-Identifier: Apache-2.0
"""Limits on specs, because the TOML readers take quadratic time for some input. Pure."""

from __future__ import annotations

import re
from typing import Final

from xdpchain.errors import InvalidInput

__all__ = ["MOST_BYTES", "check_bounds"]

MOST_BYTES: Final = 256 << 10
"""Most bytes of a spec: some 250 interfaces with ten slots each. tomlkit takes 4 s for it."""

MOST_PARTS: Final = 32
"""Most parts of a dotted key; a spec needs two."""

_DOTTED = re.compile(r"""[\w"'-]+(?:[ \t]*\.[ \t]*[\w"'-]+)*""")


def check_bounds(text: str, source: str) -> None:
    """Raises InvalidInput, which names ``source``."""
    size = len(text.encode(errors="replace"))
    if size > MOST_BYTES:
        raise InvalidInput(
            f"{source} is too large for a spec", f"it has {size} bytes; {MOST_BYTES} can be read"
        )
    for key in _DOTTED.finditer(text):
        parts = key[0].count(".") + 1
        if parts > MOST_PARTS:
            line = text.count("\n", 0, key.start()) + 1
            why = f"it has {parts} parts; {MOST_PARTS} can be read"
            raise InvalidInput(f"{source}, line {line}: the dotted key can't be read", why)
