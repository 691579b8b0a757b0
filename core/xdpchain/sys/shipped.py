# SPDX-License-Identifier: Apache-2.0
"""The BPF objects that the package ships: built from bpf/ by `make bpf`."""

from __future__ import annotations

import pkgutil

from xdpchain.errors import InvalidInput

__all__ = ["read"]


def read(name: str) -> bytes:
    """The bytes of ``NAME.o``, also from a package in a zip file. Raises InvalidInput if it can't be read."""
    try:
        data = pkgutil.get_data("xdpchain", f"bpf_objects/{name}.o")
    except OSError as error:
        why = error.strerror or "it is missing from the package"
        raise InvalidInput(f"{name}.o is missing", why, "Build it: make bpf") from None
    assert data is not None  # None only for loaders without get_data
    return data
