# SPDX-License-Identifier: Apache-2.0
"""What is in a device map (devmap, devmap_hash): the interfaces that packets are redirected to."""

from __future__ import annotations

import struct

from . import bpf

__all__ = ["LIMIT", "device_targets"]

LIMIT = 10_000
"""Elements that are looked at."""


def device_targets(fd: bpf.Fd, info: bpf.MapInfo) -> tuple[int, ...]:
    """The ifindexes in a device map, sorted; a value begins with one (struct bpf_devmap_val). Raises
    BpfError.
    """
    found = []
    for count, key in enumerate(bpf.map_keys(fd, info.key_size)):
        if count == LIMIT:
            break
        try:
            found.append(struct.unpack_from("=I", bpf.map_lookup(fd, key, info.value_size))[0])
        except bpf.BpfError:  # an empty row
            continue
    return tuple(sorted(set(found) - {0}))
