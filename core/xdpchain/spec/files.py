# SPDX-License-Identifier: Apache-2.0
"""Reading specs, and writing files whole."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path

from xdpchain.errors import InvalidInput, NotFound, PermissionDenied

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
        raise InvalidInput(f"{path}, line {line}: this is no TOML", "it is not UTF-8") from None


def write_file(path: str, data: bytes) -> None:
    """Make a file whole or not at all, its folder as well; one that is there is replaced, and keeps its mode.

    Raises InvalidInput.
    """
    target = Path(os.path.realpath(path))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and not target.is_file():
            target.write_bytes(data)  # a terminal, a pipe
            return
        mode = target.stat().st_mode & 0o7777 if target.exists() else 0o666 & ~_umask()
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                os.fchmod(file.fileno(), mode)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise InvalidInput(f"{path} can't be written", why, "Choose another path") from error


def _umask() -> int:
    before = os.umask(0o077)
    os.umask(before)
    return before
