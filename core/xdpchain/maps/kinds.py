# SPDX-License-Identifier: Apache-2.0
"""What each map type supports, by the kernel's names in ``enum bpf_map_type``. Pure."""

from __future__ import annotations

from typing import Final

from .layout import Field, Layout, Number, Record

__all__ = [
    "INDEXED",
    "NOT_BROWSABLE",
    "NOT_WRITABLE",
    "PER_CPU",
    "REFERENCES",
    "reference_layout",
    "type_name",
]

PER_CPU: Final = frozenset(("percpu_hash", "percpu_array", "lru_percpu_hash", "percpu_cgroup_storage"))

INDEXED: Final = frozenset(
    ("array", "percpu_array", "prog_array", "array_of_maps", "devmap", "cpumap", "xskmap", "cgroup_array")
)
"""Map types whose keys are indexes from 0, whether BTF says so or not."""

REFERENCES: Final = frozenset(
    ("prog_array", "array_of_maps", "hash_of_maps", "devmap", "devmap_hash", "cpumap")
)
"""Map types that refer to other objects: programs, maps, interfaces, CPUs."""

NOT_BROWSABLE: Final = {
    "ringbuf": "a ring buffer is a stream: reading it takes records away from their reader",
    "user_ringbuf": "it is a stream into the kernel",
    "perf_event_array": "it holds perf buffers: streams that belong to the process that opened them",
    "xskmap": "the kernel does not show the AF_XDP sockets in it",
    "sockmap": "the kernel does not show the sockets in it",
    "sockhash": "the kernel does not show the sockets in it",
    "reuseport_sockarray": "the kernel does not show the sockets in it",
    "cgroup_array": "the kernel does not show the cgroups in it",
    "queue": "reading a queue removes its elements",
    "stack": "reading a stack removes its elements",
    "bloom_filter": "a bloom filter can only be asked for one value",
    "stack_trace": "it holds stack traces, under ids that only its programs know",
    "struct_ops": "it holds a kernel interface, not data",
    "arena": "it is memory whose layout only its programs know",
    "cgroup_storage": "its values belong to cgroups",
    "percpu_cgroup_storage": "its values belong to cgroups",
    "cgrp_storage": "its values belong to cgroups",
    "sk_storage": "its values belong to sockets",
    "inode_storage": "its values belong to files",
    "task_storage": "its values belong to processes",
    "insn_array": "it holds program addresses, not data",
}
"""Map types that can't be listed, and why."""

NOT_WRITABLE: Final = {
    "prog_array": "its elements are programs, set by the tool that loads them",
    "array_of_maps": "its elements are maps, set by the tool that creates them",
    "hash_of_maps": "its elements are maps, set by the tool that creates them",
}

_U32: Final = Number(4, 32)


def reference_layout(kind: str, size: int) -> Layout | None:
    """The value layout of reference maps (uapi: struct bpf_devmap_val, struct bpf_cpumap_val)."""
    first = {"devmap": "ifindex", "devmap_hash": "ifindex", "cpumap": "queue"}.get(kind)
    if first is None:
        return _U32 if kind in REFERENCES else None
    fields = (Field(first, 0, _U32), Field("program", 32, _U32))
    return Record(fields, 8) if size >= 8 else Record(fields[:1], 4)


def type_name(kind: str, size: int) -> str:
    """The type for display, with the value size for per-CPU maps."""
    return f"{kind}, {size} B per CPU" if kind in PER_CPU else kind
