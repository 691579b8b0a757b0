# SPDX-License-Identifier: Apache-2.0
"""The BPF objects that the package ships: built from bpf/ by `make bpf`."""

from __future__ import annotations

import pkgutil

from xdpchain.errors import InvalidInput

__all__ = ["read"]


def read(name: str) -> bytes:
    """The bytes of ``NAME.o``, also where the package lies in a zip file. Raises InvalidInput where it can't
    be read.
    """
    try:
        found = pkgutil.get_data("xdpchain", f"bpf_objects/{name}.o")
    except OSError as error:
        why = error.strerror or "it is missing from the package"
        raise InvalidInput(f"{name}.o is missing", why, "Build it: make bpf") from None
    assert found is not None  # None is for loaders that can't read at all
    return found
