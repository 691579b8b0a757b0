# SPDX-License-Identifier: Apache-2.0
"""The most common mistakes in XDP programs: the real verifier's verdict, the line, and what to do."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from xdpchain.errors import KernelRefused
from xdpchain.linkage.compile import compile_component
from xdpchain.objects.components import load_component

HEAD = """
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>
struct value { __u64 a; __u32 b; };
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __type(key, struct value);
         __type(value, struct value); } table SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32);
         __type(value, __u64[8]); } numbers SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } ring SEC(".maps");
"""
MORE = """
struct nosuch { int x; } __attribute__((preserve_access_index));
extern int CONFIG_NO_SUCH_THING __kconfig;
extern int bpf_no_such_function(void) __ksym;
static __attribute__((noinline)) int deep(int n)
{
    volatile char bytes[400];
    bytes[n & 255] = 1;
    return bytes[7];
}
"""
BODY = """
SEC("xdp") int wrong(struct xdp_md *ctx)
{{
    unsigned char *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    __u32 zero = 0; (void)zero; (void)data; (void)end;
    {body}
}}
char LICENSE[] SEC("license") = "{licence}";
"""
HEADERS = [f"-I{folder}" for folder in Path("/usr/include").glob("*-linux-gnu")]
CASES = {
    "a packet read without a check": ("return data[12] ? XDP_DROP : XDP_PASS;", "data_end", "data[12]"),
    "a look-up that may fail": (
        "struct value k = {}; struct value *v = bpf_map_lookup_elem(&table, &k); return v->b;",
        "NULL",
        "v->b",
    ),
    "an index without a bound": (
        "if (data + 4 > end) return 2; __u64 *v = bpf_map_lookup_elem(&numbers, &zero);"
        " return v ? v[*(__u32 *)data] : 2;",
        "ound",
        "",
    ),
    "an index that is off by one": (
        "__u64 *v = bpf_map_lookup_elem(&numbers, &zero); return v ? ((volatile __u64 *)v)[8] : 2;",
        "Bound the index",
        "",
    ),
    "a field of the context that can't be written": (
        "*(volatile __u32 *)&ctx->data = 1; return 2;",
        "xdp_md",
        "",
    ),
    "a pointer that was calculated with": (
        "return ((volatile struct xdp_md *)((long)ctx + (data < end ? 8 : 0)))->data_end ? 1 : 2;",
        "by its fields",
        "",
    ),
    "a record that is not submitted": (
        "__u64 *r = bpf_ringbuf_reserve(&ring, 8, 0); if (!r) return 2; *r = 1; return 1;",
        "Release what was acquired",
        "",
    ),
    "a pointer from before the packet moved": (
        "if (data + 14 > end) return 1; bpf_xdp_adjust_head(ctx, -8); return data[3];",
        "read data and data_end again",
        "data[3]",
    ),
    "a loop without an end": (
        "for (volatile int i = 0;; i++) if (i == 7) i = 0; return 2;",
        "Give the loop a constant bound",
        "",
    ),
    "more stack than there is": (
        "volatile char bytes[300]; bytes[ctx->rx_queue_index & 127] = 2; return deep(bytes[3]) + bytes[9];",
        "into a per-CPU map",
        "",
    ),
    "a type that the kernel does not have": (
        "return ((struct nosuch *)(long)ctx->data)->x;",
        "bpf_core_field_exists()",
        "",
    ),
    "a helper that XDP does not have": ("return bpf_get_socket_cookie(ctx) ? 1 : 2;", "helper function", ""),
}


def named_lines(log: str) -> bool:
    """Whether this kernel names the file and line (6.10 on)."""
    return " @ " in log


def refusal(body: str, licence: str, folder: Path) -> KernelRefused:
    path = folder / "wrong.o"
    source = folder / "wrong.bpf.c"
    source.write_text(HEAD + MORE + BODY.format(body=body, licence=licence))
    command = ["clang", "-O2", "-g", "-mcpu=v2", "-target", "bpf", "-Wno-everything", *HEADERS]
    subprocess.run([*command, "-c", str(source), "-o", str(path)], check=True)
    with pytest.raises(KernelRefused) as caught:
        compile_component(load_component(str(path)), path.read_bytes(), {}).close()
    return caught.value


@pytest.mark.parametrize("case", CASES)
def test_the_commonest_mistakes(root: None, tmp_path: Path, case: str) -> None:
    body, advice, line = CASES[case]
    error = refusal(body, "GPL", tmp_path)
    assert error.what.startswith("the verifier rejected wrong of ")
    assert advice in error.todo, (error.why, error.todo)
    assert line in error.why, (error.why, error.detail)
    assert re.search(r"\(at .*wrong\.bpf\.c:\d+: .+\)$", error.why) or not named_lines(error.detail), (
        error.why
    )


def test_a_gpl_helper_without_the_licence(root: None, tmp_path: Path) -> None:
    error = refusal('bpf_printk("%d", 1); return 2;', "Proprietary", tmp_path)
    assert "LICENSE" in error.todo, error.why


@pytest.mark.parametrize(
    ("body", "symbol", "advice"),
    [
        ("return bpf_no_such_function();", "bpf_no_such_function", "load the module that has it"),
        ("return CONFIG_NO_SUCH_THING;", "CONFIG_NO_SUCH_THING", "built without that option"),
    ],
)
def test_what_the_kernel_lacks_is_named(
    root: None, tmp_path: Path, body: str, symbol: str, advice: str
) -> None:
    error = refusal(body, "GPL", tmp_path)
    assert symbol in error.why
    assert advice in error.todo
