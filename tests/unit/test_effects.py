# SPDX-License-Identifier: Apache-2.0
"""What programs do besides their verdict: found in their code, reported in plans that put them in shadow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.objects.compile import compile_text
from xdpchain.change.lint import Surroundings, lint
from xdpchain.model.chain import Chain
from xdpchain.model.component import Component, MapRef
from xdpchain.model.slot import Slot
from xdpchain.objects.components import component_of, load_component
from xdpchain.objects.effects import Effects, effects_of
from xdpchain.objects.objfile import ObjectFile

HEAD = """
#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
typedef unsigned long u64;
struct xdp_md { unsigned int data, data_end, data_meta; };
static long (*bpf_loop)(unsigned, void *, void *, u64) = (void *)181;
static long (*bpf_ktime_get_ns)(void) = (void *)5;
extern int bpf_xdp_something(struct xdp_md *) SEC(".ksyms");
SEC("license") char licence[] = "GPL";
#define PACKET(ctx) ((char *)(long)(ctx)->data)
#define END(ctx) ((char *)(long)(ctx)->data_end)
"""

WRITERS = {
    "directly": "char *p = PACKET(ctx); if (p + 1 > END(ctx)) return 1; p[0] = 7; return 2;",
    "at a variable offset": """
        char *p = PACKET(ctx) + (bpf_ktime_get_ns() & 63);
        if (p + 1 > END(ctx)) return 1; *p = 7; return 2;""",
    "by way of the stack": """
        char *volatile kept = PACKET(ctx); char *p = kept;
        if (p + 1 > END(ctx)) return 1; *p = 7; return 2;""",
    "on one of two ways": """
        char *p = PACKET(ctx); char own[8] = {}; if (p + 8 > END(ctx)) return 1;
        char *to = bpf_ktime_get_ns() & 1 ? p : own; *(volatile char *)to = 7; return own[0];""",
    "in a function": "char *p = PACKET(ctx); if (p + 1 > END(ctx)) return 1; put(p); return 2;",
    "in a function that takes a struct": """
        struct cursor at = {PACKET(ctx), END(ctx)}; return put_at(&at);""",
    "in a function that finds the place": """
        char *p = find(ctx); if (!p || p + 1 > END(ctx)) return 1; *p = 7; return 2;""",
    "in a callback": """
        struct cursor at = {PACKET(ctx), END(ctx)}; bpf_loop(3, put_often, &at, 0); return 2;""",
    "to its metadata": """
        char *p = (char *)(long)ctx->data_meta; if (p + 1 > PACKET(ctx)) return 1; *p = 7; return 2;""",
}
READERS = {
    "nothing at all": "return 2;",
    "the packet": "char *p = PACKET(ctx); if (p + 1 > END(ctx)) return 1; return p[0];",
    "its length": "u64 n = END(ctx) - PACKET(ctx); volatile u64 own[2]; own[n & 1] = n; return own[0];",
    "the packet, and writes to its stack": """
        char *p = PACKET(ctx); if (p + 8 > END(ctx)) return 1;
        volatile char own[8]; for (int i = 0; i < 8; i++) own[i] = p[i]; return own[3];""",
    "in a function that takes a struct": """
        struct cursor at = {PACKET(ctx), END(ctx)}; return get_at(&at);""",
    "by way of the stack": """
        char *volatile kept = PACKET(ctx); char *p = kept;
        if (p + 1 > END(ctx)) return 1; return *p;""",
}
FUNCTIONS = """
#define APART static __attribute__((noinline))
struct cursor { char *at, *end; };
APART int put(char *p) { *p = 7; return 0; }
APART int put_at(struct cursor *c) { if (c->at + 1 > c->end) return 1; *c->at = 7; return 2; }
APART int get_at(struct cursor *c) { if (c->at + 1 > c->end) return 1; return *c->at; }
APART char *find(struct xdp_md *ctx) { return PACKET(ctx) + 12; }
APART long put_often(unsigned i, void *c) { return put_at(c); }
"""


def effects(body: str) -> Effects:
    text = f'{HEAD}{FUNCTIONS}SEC("xdp") int tried(struct xdp_md *ctx) {{ {body} }}'
    found = effects_of(compile_text(text), "tried")
    assert found is not None
    return found


@pytest.mark.parametrize("how", WRITERS)
def test_a_store_into_the_packet_is_found(how: str) -> None:
    assert effects(WRITERS[how]).writes == ("stores",)


@pytest.mark.parametrize("how", READERS)
def test_what_only_reads_is_told_apart(how: str) -> None:
    assert effects(READERS[how]) == Effects()


def test_functions_of_the_kernel_are_named() -> None:
    assert effects("return bpf_xdp_something(ctx);").kernel == ("bpf_xdp_something",)


def test_what_is_no_object_is_not_known() -> None:
    assert effects_of(b"no object", "x") is None


@pytest.mark.parametrize(
    ("sample", "program", "wanted"),
    [
        ("firewall", "xdp_firewall", Effects()),
        ("drop", "xdp_drop", Effects()),
        ("mark", "mark_a", Effects(writes=("stores", "bpf_xdp_adjust_tail"))),
        ("meta", "meta_tail", Effects(writes=("bpf_xdp_adjust_tail",))),
        ("redirect", "redirect_out", Effects(redirects=("bpf_redirect_map",))),
        ("redirect", "redirect_back", Effects(writes=("stores",))),
        ("tailcalls", "xdp_tailcalls", Effects()),
    ],
)
def test_samples(samples: Path, sample: str, program: str, wanted: Effects) -> None:
    assert effects_of((samples / f"{sample}.o").read_bytes(), program) == wanted


# In plans


def warned(chain: Chain, around: Surroundings | None = None) -> list[str]:
    return [
        warning.text
        for warning in lint(chain, around=around or Surroundings())
        if "in shadow" in warning.text
    ]


def shadow_of(path: Path, name: str | None = None) -> Slot:
    return Slot.of(load_component(str(path), name=name), 10, shadow=True)


def test_a_harmless_one_is_not_warned_of(samples: Path) -> None:
    assert warned(Chain().add(shadow_of(samples / "firewall.o"))) == []


def test_one_that_changes_packets_is(samples: Path) -> None:
    (text,) = warned(Chain().add(shadow_of(samples / "mark.o", "mark_a")))
    assert "still changes packets (direct stores, bpf_xdp_adjust_tail)" in text
    assert warned(Chain().add(replace(shadow_of(samples / "mark.o", "mark_a"), shadow=False))) == []


def test_one_that_redirects_before_another_one_that_does(samples: Path) -> None:
    chain = Chain().add(shadow_of(samples / "redirect.o", "redirect_out"))
    (text,) = warned(chain)
    assert "nothing is sent there" in text
    assert "its target" not in text
    other = Slot.of(load_component(str(samples / "redirect.o"), name="redirect_out"), 20)
    (text,) = warned(chain.add(other))
    assert "would use this one's" in text


def test_shared_maps_are_named(samples: Path) -> None:
    source = ObjectFile.open(str(samples / "two.o"))
    learn, enforce = (component_of(source, name=n, instance="one") for n in ("two_learn", "two_enforce"))
    shared = set(learn.uses) & set(enforce.uses)
    assert shared, "the sample shares a map"
    chain = Chain().add(Slot.of(learn, 10, shadow=True)).add(Slot.of(enforce, 20))
    (text,) = warned(chain)
    assert f"shares {', '.join(sorted(shared))} with two_enforce" in text
    assert warned(chain.retune(1, shadow=True)) == []
    # Running ones share what has the same id, whatever its name; constants don't count.
    a = Component("a", id=1, maps=(MapRef("seen", 7), MapRef(".rodata", 8)))
    b = Component("b", id=2, maps=(MapRef("table", 7), MapRef(".rodata", 8)))
    chain = Chain().add(Slot.of(a, 10, shadow=True)).add(Slot.of(b, 20))
    (text,) = warned(chain)
    assert "a is in shadow, but shares seen with b" in text


def test_a_component_of_others_can_not_be_looked_into() -> None:
    slot = Slot.of(Component("theirs", id=5), 10, shadow=True)
    (text,) = warned(Chain().add(slot), Surroundings(effects={slot.key: None}))
    assert "is not known" in text
    assert warned(Chain().add(slot)) == []  # nobody has looked


def test_a_pinned_map_is_shared_with_whoever_wants() -> None:
    text = (
        HEAD
        + """
    struct { int (*type)[2]; int (*max_entries)[1]; unsigned *key; u64 *value; int (*pinning)[1]; } table
        SEC(".maps");
    static void *(*lookup)(void *, const void *) = (void *)1;
    SEC("xdp") int tried(struct xdp_md *ctx) {
        unsigned key = 0; u64 *at = lookup(&table, &key); if (at) *at += 1; return 2; }
    """
    )
    assert effects_of(compile_text(text), "tried") == Effects(pinned=("table",))
