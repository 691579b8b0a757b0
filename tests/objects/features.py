# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E501 (C)
"""One small XDP program for each thing that a component may contain."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

__all__ = ["FEATURES", "Feature", "compiled"]

HEAD = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#define MAP(TYPE, ENTRIES, VALUE, NAME) struct { __uint(type, BPF_MAP_TYPE_##TYPE); \\
    __uint(max_entries, ENTRIES); __type(key, __u32); __type(value, VALUE); } NAME SEC(".maps")
"""
GPL = 'char LICENSE[] SEC("license") = "GPL";'


@dataclass(frozen=True)
class Feature:
    """``body`` is C, whose program is named ``program``; ``what`` describes it for people, and ``why`` why
    some linkage does not accept it. ``bound``: it is loaded for one device.
    """

    what: str
    body: str
    flags: tuple[str, ...] = ()
    licence: str = GPL
    head: str = HEAD
    language: str = "c"
    why: str = ""
    bound: bool = False

    @property
    def key(self) -> str:
        return re.sub(r"\W+", "_", self.what).strip("_")


def _main(body: str, section: str = "xdp") -> str:
    return f'SEC("{section}") int program(struct xdp_md *ctx) {{ {body} }}'


ZERO = "__u32 zero = 0; (void)zero;"
OBJECTS = """
struct bpf_list_node { __u64 __opaque[3]; } __attribute__((aligned(8)));
struct bpf_list_head { __u64 __opaque[2]; } __attribute__((aligned(8)));
extern void *bpf_obj_new_impl(__u64 type_id, void *meta) __ksym;
extern void bpf_obj_drop_impl(void *object, void *meta) __ksym;
extern int bpf_list_push_front_impl(struct bpf_list_head *, struct bpf_list_node *, void *, __u64) __ksym;
struct item { struct bpf_list_node node; __u64 value; };
"""
NEW = "struct item *fresh = bpf_obj_new_impl(bpf_core_type_id_local(struct item), 0); if (!fresh) return 2;"

FEATURES = (
    Feature(
        "static functions",
        "static __noinline int below(struct xdp_md *ctx) { return ctx->rx_queue_index ? 1 : 2; }"
        + _main("return below(ctx);"),
    ),
    Feature(
        "global functions",
        "__noinline int below(struct xdp_md *ctx) { return ctx->rx_queue_index ? 1 : 2; }"
        + _main("return below(ctx);"),
    ),
    Feature(
        "loops with a bound",
        _main("__u32 sum = 0; for (__u32 i = 0; i < 64; i++) sum += bpf_get_prandom_u32(); return sum ? 2 : 1;"),
    ),
    Feature(
        "`bpf_loop()` with a callback",
        "static int turn(__u32 index, __u32 *sum) { *sum += index; return 0; }"
        + _main("__u32 sum = 0; bpf_loop(9, turn, &sum, 0); return sum ? 2 : 1;"),
    ),
    Feature(
        "open-coded iterators (`bpf_for`)",
        """
        struct bpf_iter_num { __u64 __opaque[1]; } __attribute__((aligned(8)));
        extern int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end) __ksym;
        extern int *bpf_iter_num_next(struct bpf_iter_num *it) __ksym;
        extern void bpf_iter_num_destroy(struct bpf_iter_num *it) __ksym;
        """
        + _main(
            "struct bpf_iter_num it; int *n, sum = 0; bpf_iter_num_new(&it, 0, 9);"
            "while ((n = bpf_iter_num_next(&it))) sum += *n; bpf_iter_num_destroy(&it); return sum ? 2 : 1;"
        ),
    ),
    Feature(
        "tail calls to programs of the same object",
        """
        int next(struct xdp_md *ctx);
        struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 1); __type(key, __u32);
                 __array(values, int(void *)); } ways SEC(".maps") = { .values = { [0] = (void *)&next } };
        SEC("xdp") int next(struct xdp_md *ctx) { return 1; }
        """
        + _main("bpf_tail_call(ctx, &ways, 0); return 2;"),
    ),
    Feature(
        "maps of maps",
        """
        struct inner { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32);
                       __type(value, __u64); } first SEC(".maps");
        struct { __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS); __uint(max_entries, 1); __type(key, __u32);
                 __array(values, struct inner); } outer SEC(".maps") = { .values = { &first } };
        """
        + _main(ZERO + "void *in = bpf_map_lookup_elem(&outer, &zero);"
                "return in && bpf_map_lookup_elem(in, &zero) ? 2 : 1;"),
    ),
    Feature(
        "ring buffers",
        "struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } ring SEC(\".maps\");"
        + _main("__u32 word = 1; return bpf_ringbuf_output(&ring, &word, sizeof word, 0) ? 1 : 2;"),
    ),
    Feature(
        "spin locks in maps",
        "struct guarded { struct bpf_spin_lock lock; __u32 value; }; MAP(ARRAY, 1, struct guarded, locked);"
        + _main(ZERO + "struct guarded *v = bpf_map_lookup_elem(&locked, &zero); if (!v) return 1;"
                "bpf_spin_lock(&v->lock); v->value++; bpf_spin_unlock(&v->lock); return 2;"),
    ),
    Feature(
        "timers in maps",
        """
        struct timed { struct bpf_timer timer; }; MAP(ARRAY, 1, struct timed, timers);
        static int rings(void *map, __u32 *key, struct timed *value) { return 0; }
        """
        + _main(ZERO + "struct timed *v = bpf_map_lookup_elem(&timers, &zero); if (!v) return 1;"
                "bpf_timer_init(&v->timer, &timers, 1); bpf_timer_set_callback(&v->timer, rings); return 2;"),
    ),
    Feature(
        "global variables, and constants that are set at the load",
        "__u64 seen; __u32 kept = 7; const volatile __u32 limit = 9;" + _main("seen++; return kept < limit ? 2 : 1;"),
    ),
    Feature(
        "kernel configuration (`__kconfig`)",
        "extern int CONFIG_HZ __kconfig;" + _main("return CONFIG_HZ ? 2 : 1;"),
    ),
    Feature(
        "functions of the kernel (kfuncs), weak ones too",
        """
        extern int bpf_dynptr_from_xdp(struct xdp_md *ctx, __u64 flags, struct bpf_dynptr *dynptr) __ksym;
        extern int xdptui_no_such_function(struct xdp_md *ctx) __ksym __weak;
        """
        + _main("struct bpf_dynptr dynptr; if (xdptui_no_such_function) return xdptui_no_such_function(ctx);"
                "return bpf_dynptr_from_xdp(ctx, 0, &dynptr) ? 1 : 2;"),
    ),
    Feature(
        "ids of its own types (`bpf_core_type_id_local()`)",
        "struct mine { __u64 a; };" + _main("struct mine m = {}; return bpf_core_type_id_local(struct mine) ? 2 + m.a : 1;"),
    ),
    Feature("objects of its own types (`bpf_obj_new()`)", OBJECTS + _main(NEW + "bpf_obj_drop_impl(fresh, 0); return 2;")),
    Feature(
        "objects of its own types that maps keep (lists, trees, kptrs)",
        OBJECTS
        + """
        struct kept { struct bpf_spin_lock lock;
            struct bpf_list_head items __attribute__((btf_decl_tag("contains:item:node"))); };
        MAP(ARRAY, 1, struct kept, keeps);
        """
        + _main(ZERO + NEW + "struct kept *v = bpf_map_lookup_elem(&keeps, &zero);"
                "if (!v) { bpf_obj_drop_impl(fresh, 0); return 1; } bpf_spin_lock(&v->lock);"
                "bpf_list_push_front_impl(&v->items, &fresh->node, 0, 0); bpf_spin_unlock(&v->lock); return 2;"),
        why="the objects must be of the BTF that the maps were made with, and a chain has its own",
    ),
    Feature(
        "exceptions (`bpf_throw()`)",
        "extern void bpf_throw(__u64) __ksym;"
        "static __noinline int checked(struct xdp_md *ctx) { if (ctx->rx_queue_index > 99) bpf_throw(1); return 2; }"
        + _main("return checked(ctx);"),
        why="it would leave the whole chain, uncounted",
    ),
    Feature("moving the packet's ends and metadata", _main("bpf_xdp_adjust_meta(ctx, -8); bpf_xdp_adjust_tail(ctx, 8);"
                                                        "return bpf_xdp_adjust_head(ctx, -8) ? 1 : 2;")),
    Feature(
        "redirects by devmap, cpumap and AF_XDP",
        "MAP(DEVMAP, 4, struct bpf_devmap_val, ports); MAP(CPUMAP, 4, struct bpf_cpumap_val, cpus);"
        "MAP(XSKMAP, 4, __u32, sockets);"
        + _main("switch (ctx->rx_queue_index) { case 1: return bpf_redirect_map(&ports, 1, 2);"
                "case 2: return bpf_redirect_map(&cpus, 1, 2); } return bpf_redirect_map(&sockets, 1, 2);"),
    ),
    Feature("packets in fragments (`xdp.frags`)", _main("return bpf_xdp_get_buff_len(ctx) ? 2 : 1;", "xdp.frags")),
    Feature(
        "512 bytes of stack, all that there are",
        _main("volatile char deep[511]; deep[ctx->rx_queue_index & 255] = 1; return deep[3] ? 2 : 1;"),
        why="the chain needs 16 (static) or up to 32 of them (tailcall)",
    ),
    Feature("no types at all (no `-g`)", _main("return 2;"), flags=("-g0",),
        why="a program that replaces a function needs BTF",
    ),
    Feature("a licence that is not GPL-compatible", _main("return 2;"), licence='char LICENSE[] SEC("license") = "Own";'),
    Feature(
        "C++",
        """
        struct xdp_md { unsigned data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex; };
        template <class T, int N> struct Box { T of[N]; T sum() const { return of[0] + of[1]; } };
        extern "C" { char LICENSE[] __attribute__((section("license"), used)) = "GPL";
        Box<int, 2> box __attribute__((section(".data"))) = {{1, 1}};
        __attribute__((section("xdp"), used)) int program(xdp_md *ctx) { volatile Box<int, 2> *b = &box;
            return b->of[0] + b->of[1]; } }
        """,
        licence="",
        head="",
        language="c++",
        why="a program that replaces a function needs BTF, and the kernel refuses that of C++",
    ),
    Feature(
        "programs of other types in the object",
        'SEC("tc") int other(struct __sk_buff *skb) { return 0; }' + _main("return 2;"),
    ),
    Feature(
        "metadata of the device (`bpf_xdp_metadata_rx_hash()` and its kin)",
        "extern int bpf_xdp_metadata_rx_timestamp(const struct xdp_md *ctx, __u64 *at) __ksym;"
        + _main("__u64 at = 0; return bpf_xdp_metadata_rx_timestamp(ctx, &at) ? 2 : 1;"),
        why="the kernel keeps programs that are bound to a device out of program arrays",
        bound=True,
    ),
)  # fmt: skip


def compiled(feature: Feature, folder: Path) -> Path:
    """The compiled object file."""
    path = folder / f"{feature.key}.o"
    headers = [f"-I{one}" for one in Path("/usr/include").glob("*-linux-gnu")]
    command = [
        "clang",
        "-O2",
        "-g",
        "-mcpu=v3",
        "-target",
        "bpf",
        "-Wno-everything",
        *headers,
        *feature.flags,
    ]
    source = feature.head + feature.body + feature.licence
    subprocess.run(
        [*command, "-x", feature.language, "-c", "-", "-o", str(path)], input=source.encode(), check=True
    )
    return path
