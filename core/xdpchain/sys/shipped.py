# SPDX-License-Identifier: Apache-2.0
"""The BPF objects that the package ships: built from bpf/ by `make bpf`."""

from __future__ import annotations

from pathlib import Path

from xdpchain.errors import InvalidInput

__all__ = ["path", "read"]

_FOLDER = Path(__file__).resolve().parents[1] / "bpf_objects"


def path(name: str) -> Path:
    """Where ``NAME.o`` lies, whether or not it was built."""
    return _FOLDER / f"{name}.o"


def read(name: str) -> bytes:
    """The bytes of ``NAME.o``. Raises InvalidInput where it can't be read."""
    try:
        return path(name).read_bytes()
    except OSError as error:
        raise InvalidInput(f"{name}.o is missing", str(error.strerror), "Build it: make bpf") from None
