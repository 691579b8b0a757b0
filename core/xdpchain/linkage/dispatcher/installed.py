# SPDX-License-Identifier: Apache-2.0
"""Which version of the dispatcher protocol this machine's libxdp uses."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from xdpchain.errors import InvalidInput
from xdpchain.objects.btf import Btf
from xdpchain.objects.elf import MAX_FILE, Elf
from xdpchain.objects.runconfig_btf import read_metadata_version

__all__ = ["BINDABLE", "DEFAULT_VERSION", "EMITTED", "emitted_version", "installed_version"]

EMITTED = (2, 3)
DEFAULT_VERSION = 2
"""Used if there is no libxdp to match: newer ones still show and unload version 2, while older ones can't
even unload version 3.
"""

BINDABLE = 3
"""The first dispatcher version whose configuration says whether it is bound to a device."""

OBJECT = "xdp-dispatcher.o"


def emitted_version() -> int:
    """The version for a new chain's dispatcher: the installed libxdp's if we can emit it, otherwise 2."""
    found = installed_version()
    return found if found in EMITTED else DEFAULT_VERSION


@cache
def installed_version() -> int | None:
    """The version that the installed libxdp emits, read from its own dispatcher; None without libxdp.

    libxdp loads that object from LIBXDP_OBJECT_PATH, or from the directory ``bpf`` next to itself.
    """
    for folder in _folders():
        try:
            with (folder / OBJECT).open("rb") as file:
                section = Elf.parse(file.read(MAX_FILE)).section(".BTF")
            if section is not None:
                return read_metadata_version(Btf.parse(section.data), "xdp_metadata", "dispatcher_version")
        except (OSError, InvalidInput):
            continue
    return None


def _folders() -> Iterator[Path]:
    if named := os.environ.get("LIBXDP_OBJECT_PATH"):
        yield Path(named)
    library = _library()
    if library is not None:
        yield library.parent / "bpf"
    yield from (Path("/usr/local/lib/bpf"), Path("/usr/lib64/bpf"), Path("/usr/lib/bpf"))


def _library() -> Path | None:
    """Where the dynamic loader finds libxdp; the only way to tell is to open it."""
    try:
        ctypes.CDLL("libxdp.so.1")
    except OSError:
        return None
    found = re.search(r"(/\S*/libxdp\.so\S*)$", Path("/proc/self/maps").read_text(), re.MULTILINE)
    return Path(found[1]) if found else None
