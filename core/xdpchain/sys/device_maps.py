# SPDX-License-Identifier: Apache-2.0
"""The contents of a device map (devmap, devmap_hash): interfaces that packets are redirected to."""

from __future__ import annotations

import struct

from . import bpf

__all__ = ["LIMIT", "device_targets"]

LIMIT = 10_000
"""Most elements that are read."""


def device_targets(fd: bpf.Fd, info: bpf.MapInfo) -> tuple[int, ...]:
    """The ifindexes in a device map, sorted; each value starts with one (struct bpf_devmap_val).

    Raises BpfError.
    """
    ifindexes = []
    for count, key in enumerate(bpf.map_keys(fd, info.key_size)):
        if count == LIMIT:
            break
        try:
            ifindexes.append(struct.unpack_from("=I", bpf.map_lookup(fd, key, info.value_size))[0])
        except bpf.BpfError:  # an empty entry
            continue
    return tuple(sorted(set(ifindexes) - {0}))
