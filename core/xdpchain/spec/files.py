# SPDX-License-Identifier: Apache-2.0
"""Read specs, and write files atomically."""

from __future__ import annotations

import sys

from xdpchain.errors import InvalidInput, NotFound, PermissionDenied
from xdpchain.files import replace

from .bounds import MOST_BYTES

__all__ = ["STDIN", "read_text", "write_file"]

STDIN = "-"


def read_text(path: str) -> str:
    """The text of a spec. Raises NotFound, PermissionDenied, InvalidInput."""
    try:
        if path == STDIN:
            data = sys.stdin.buffer.read(MOST_BYTES + 1)
        else:
            with open(path, "rb") as file:
                data = file.read(MOST_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise NotFound(f"the spec {path} can't be read", error.strerror or "") from None
    except PermissionError as error:
        raise PermissionDenied(f"the spec {path} can't be read", error.strerror or "") from None
    except (OSError, ValueError, AttributeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise InvalidInput(f"the spec {path} can't be read", why) from None
    if len(data) > MOST_BYTES:
        raise InvalidInput(f"{path} is too large for a spec", f"it has more than {MOST_BYTES} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidInput(f"{path}, line {line}: this is not TOML", "it is not UTF-8") from None


def write_file(path: str, data: bytes) -> None:
    """Write a file whole or not at all, creating its directory; an existing file is replaced and keeps its
    mode.

    Raises InvalidInput, and PermissionDenied if another user's link is in the way.
    """
    try:
        replace(path, data)
    except PermissionError as error:
        what = f"{path} can't be written"
        raise PermissionDenied(what, error.strerror or "", "Choose another path") from error
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise InvalidInput(f"{path} can't be written", why, "Choose another path") from error
