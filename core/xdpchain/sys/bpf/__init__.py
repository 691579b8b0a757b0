# SPDX-License-Identifier: Apache-2.0
"""The bpf(2) system call: programs, maps, links and BTF by descriptor and ID.

One thin function per command, without policy. If the kernel refuses a command, BpfError is raised, an OSError
with the command's name and the verifier's log; higher layers turn it into the engine's errors with `refusal`.
Layouts are those of ``union bpf_attr`` and the ``bpf_*_info`` structs in the kernel's uapi/linux/bpf.h, which
only grow at the end.
"""

from __future__ import annotations

from .attachments import Attachment, AttachType, prog_query
from .call import BpfError, Command, Fd, memory_of
from .links import (
    LINK_TRACING,
    LINK_XDP,
    LinkInfo,
    each_link,
    ids,
    link_by_id,
    link_create,
    link_detach,
    link_info,
    obj_get,
    obj_pin,
    trace_attach,
)
from .maps import (
    MapInfo,
    MapType,
    cpus_in_a_value,
    map_by_id,
    map_copy_batch,
    map_create,
    map_delete,
    map_freeze,
    map_frozen,
    map_info,
    map_keys,
    map_lookup,
    map_lookup_batch,
    map_next_key,
    map_poke,
    map_type_name,
    map_update,
)
from .programs import (
    ProgInfo,
    ProgType,
    TestRun,
    enable_statistics,
    prog_bind_map,
    prog_by_id,
    prog_func_info,
    prog_info,
    prog_instructions,
    prog_jited,
    prog_line_info,
    prog_lives,
    prog_load,
    prog_map_ids,
    prog_test_run,
)
from .refusals import refusal
from .types import btf_by_id, btf_load, btf_raw

__all__ = [
    "LINK_TRACING",
    "LINK_XDP",
    "AttachType",
    "Attachment",
    "BpfError",
    "Command",
    "Fd",
    "LinkInfo",
    "MapInfo",
    "MapType",
    "ProgInfo",
    "ProgType",
    "TestRun",
    "btf_by_id",
    "btf_load",
    "btf_raw",
    "cpus_in_a_value",
    "each_link",
    "enable_statistics",
    "ids",
    "link_by_id",
    "link_create",
    "link_detach",
    "link_info",
    "map_by_id",
    "map_copy_batch",
    "map_create",
    "map_delete",
    "map_freeze",
    "map_frozen",
    "map_info",
    "map_keys",
    "map_lookup",
    "map_lookup_batch",
    "map_next_key",
    "map_poke",
    "map_type_name",
    "map_update",
    "memory_of",
    "obj_get",
    "obj_pin",
    "prog_bind_map",
    "prog_by_id",
    "prog_func_info",
    "prog_info",
    "prog_instructions",
    "prog_jited",
    "prog_line_info",
    "prog_lives",
    "prog_load",
    "prog_map_ids",
    "prog_query",
    "prog_test_run",
    "refusal",
    "trace_attach",
]
