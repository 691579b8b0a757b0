# SPDX-License-Identifier: Apache-2.0
"""Objects as others write them: what libbpf loads, a chain accepts, or refuses with a reason."""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.command_line import CommandLine
from tests.objects.compile import asking_object
from xdpchain.linkage import choice
from xdpchain.model.chain import Linkage
from xdpchain.objects.btf import Btf
from xdpchain.objects.objfile import ObjectFile
from xdpchain.observe.discover import look
from xdpchain.sys import bpf, rehearsal
from xdpchain.sys.libbpf import Object
from xdpchain.testing import frames
from xdpchain.testing.playground import Playground

VMLINUX = Path("/sys/kernel/btf/vmlinux")
LINKAGES = ("static", "tailcall")
EVERY_LINKAGE = (*LINKAGES, pytest.param("freplace", marks=pytest.mark.vm))

STRUCT_OPS = """
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
char LICENSE[] SEC("license") = "GPL";
SEC("struct_ops/half") __u32 half(struct sock *sk) { return 2; }
SEC("struct_ops/again") __u32 again(struct sock *sk) { return 4; }
SEC("struct_ops/grow") void grow(struct sock *sk, __u32 ack, __u32 acked) {}
SEC(".struct_ops") struct tcp_congestion_ops slow = {
    .ssthresh = (void *)half, .undo_cwnd = (void *)again, .cong_avoid = (void *)grow, .name = "xdptui_slow",
};
SEC("xdp") int beside(struct xdp_md *ctx) { return XDP_DROP; }
"""

TC_BESIDE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("tc") int egress(struct __sk_buff *skb) { return 0; }
SEC("xdp") int ingress(struct xdp_md *ctx) { return XDP_PASS; }
char LICENSE[] SEC("license") = "GPL";
"""

OWN_TYPES = """
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
struct mine { __u64 a; __u32 b; };
struct other { __u32 c[9]; };
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 2); __type(key, __u32); __type(value, __u32); }
    ids SEC(".maps");
static __noinline __u32 from_below(void) { return bpf_core_type_id_local(struct other); }
SEC("xdp") int names_types(struct xdp_md *ctx)
{
    struct mine kept = {};
    struct other unused = {};
    __u32 key = 0, id = bpf_core_type_id_local(struct mine);
    bpf_map_update_elem(&ids, &key, &id, 0);
    key = 1, id = from_below();
    bpf_map_update_elem(&ids, &key, &id, 0);
    return kept.a || unused.c[1] ? XDP_DROP : XDP_PASS;
}
char LICENSE[] SEC("license") = "GPL";
"""

LISTED = """
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#define containing(TYPE, MEMBER) __attribute__((btf_decl_tag("contains:" #TYPE ":" #MEMBER)))
extern void *bpf_obj_new_impl(__u64 type_id, void *meta) __ksym;
extern void bpf_obj_drop_impl(void *object, void *meta) __ksym;
extern int bpf_list_push_front_impl(struct bpf_list_head *, struct bpf_list_node *, void *, __u64) __ksym;
struct item { struct bpf_list_node node; __u64 value; };
#ifdef IN_MAP
struct kept { struct bpf_spin_lock lock; struct bpf_list_head items containing(item, node); };
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32);
         __type(value, struct kept); } keeps SEC(".maps");
#endif
SEC("xdp") int lists(struct xdp_md *ctx)
{
    struct item *fresh = bpf_obj_new_impl(bpf_core_type_id_local(struct item), 0);
    if (!fresh)
        return XDP_DROP;
#ifdef IN_MAP
    __u32 key = 0;
    struct kept *list = bpf_map_lookup_elem(&keeps, &key);
    if (list) {
        bpf_spin_lock(&list->lock);
        bpf_list_push_front_impl(&list->items, &fresh->node, 0, 0);
        bpf_spin_unlock(&list->lock);
        return XDP_PASS;
    }
#endif
    bpf_obj_drop_impl(fresh, 0);
    return XDP_PASS;
}
char LICENSE[] SEC("license") = "GPL";
"""

UNSIZED = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct { __uint(type, BPF_MAP_TYPE_HASH); __type(key, __u32); __type(value, __u64); } senders SEC(".maps");
SEC("xdp") int counts(struct xdp_md *ctx)
{
    __u32 key = 1;
    return bpf_map_lookup_elem(&senders, &key) ? XDP_DROP : XDP_PASS;
}
char LICENSE[] SEC("license") = "GPL";
"""

COUNTS = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, %(entries)s); __type(key, __u32);
         __type(value, %(value)s); } %(map)s SEC(".maps");
SEC("xdp") int %(name)s(struct xdp_md *ctx)
{
    __u32 key = 0;
    %(value)s *count = bpf_map_lookup_elem(&%(map)s, &key);
    if (count)
        *count += %(step)s;
    return XDP_PASS;
}
char LICENSE[] SEC("license") = "GPL";
"""

CPP = """
struct xdp_md { unsigned data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex; };
template <class T, int N> struct Counts {
    T of[N];
    T sum() const { T all = 0; for (int i = 0; i < N; i++) all += of[i]; return all; }
};
namespace verdicts { enum class Code : int { Drop = 1, Pass = 2 }; struct Both { Counts<int, 3> counts; }; }
extern "C" {
char LICENSE[] __attribute__((section("license"), used)) = "GPL";
verdicts::Both both __attribute__((section(".data"))) = {{{1, 2, 3}}};
__attribute__((section("xdp"), used)) int in_cpp(xdp_md *ctx)
{
    volatile verdicts::Both *now = &both;
    return now->counts.of[0] + now->counts.of[1] == 3 ? (int)verdicts::Code::Drop : 2;
}
}
"""


@pytest.fixture(scope="session")
def vmlinux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the running kernel's vmlinux.h."""
    bpftool = shutil.which("bpftool", path="/usr/sbin:/usr/bin:/sbin:/bin")
    assert bpftool is not None
    folder = tmp_path_factory.mktemp("vmlinux")
    command = [bpftool, "btf", "dump", "file", str(VMLINUX), "format", "c"]
    with (folder / "vmlinux.h").open("w") as file:
        subprocess.run(command, stdout=file, check=True)
    return folder


def built(folder: Path, source: str, name: str, *flags: str, language: str = "c") -> str:
    path = folder / f"{name}.{language}"
    path.write_text(source)
    headers = [f"-I{one}" for one in Path("/usr/include").glob("*-linux-gnu")]
    command = [
        "clang",
        "-O2",
        "-g",
        "-target",
        "bpf",
        "-x",
        {"c": "c", "cc": "c++"}[language],
        *flags,
        *headers,
    ]
    subprocess.run([*command, "-c", str(path), "-o", str(path.with_suffix(".o"))], check=True)
    return str(path.with_suffix(".o"))


@pytest.mark.parametrize("linkage", LINKAGES)
def test_an_xdp_program_beside_struct_ops(
    cli: CommandLine, tmp_path: Path, vmlinux: Path, linkage: str
) -> None:
    """libbpf 1.1 crashes on such an object, because the programs named by its map are not loaded."""
    path = built(tmp_path, STRUCT_OPS, "beside", f"-I{vmlinux}", "-D__TARGET_ARCH_x86")
    cli.ok("load", cli.interface, path, "--linkage", linkage)
    cli.playground.send([frames.udp(frames.PEER, frames.NEAR, 9)] * 3)
    slot = cli.ok("status", cli.interface).json["interfaces"][0]["slots"][0]
    assert slot["counters"]["XDP_DROP"]["packets"] == 3
    assert slot["maps"] == []


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), "it crashed (SIGSEGV)"),
        (signal.pause, "it did not finish"),
    ],
)
def test_a_crash_of_libbpf_is_a_refusal(
    cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Callable[[], None], words: str
) -> None:
    """Anything but plain XDP is first loaded in a separate process; the fault is injected into its load."""
    path, here, load = built(tmp_path, TC_BESIDE, "beside_tc"), os.getpid(), Object.load

    def faulty(self: Object, **options: bool) -> None:
        if os.getpid() == here:
            load(self, **options)
        elif any(program.section == "tc" for program in self.programs()):
            fault()

    cli.load("pass")
    monkeypatch.setattr(Object, "load", faulty)
    monkeypatch.setattr(rehearsal, "SECONDS", 0.3 if fault is signal.pause else 30.0)
    refused = cli("load", cli.interface, path)
    assert (refused.code, words in refused.err) == (6, True), refused.err
    assert len(cli.status()["slots"]) == 1
    monkeypatch.undo()
    cli.ok("load", cli.interface, path)


@pytest.mark.parametrize("linkage", LINKAGES)
def test_cpp_whose_types_the_kernel_refuses(cli: CommandLine, tmp_path: Path, linkage: str) -> None:
    """Members like functions lie outside their struct: libbpf warns, and continues without types."""
    path = built(tmp_path, CPP, "in_cpp", language="cc")
    read = ObjectFile.open(path)
    assert "lies outside" in read.btf_flaw
    assert not read.has_btf
    cli.ok("load", cli.interface, path, "--linkage", linkage)
    cli.playground.send([frames.udp(frames.PEER, frames.NEAR, 9)] * 3)
    slot = cli.ok("status", cli.interface).json["interfaces"][0]["slots"][0]
    assert slot["counters"]["XDP_DROP"]["packets"] == 3


@pytest.fixture
def hashed(tmp_path: Path) -> str:
    """A program that requests the packet's hash from the device, keeps the answer, and drops if there is
    none."""
    path = asking_object(tmp_path)
    if path is None:
        pytest.skip("devices are asked from kernel 6.3 on")
    return str(path)


def answers(cli: CommandLine, slot: int = 0) -> list[int]:
    """The device's answer for the last packet: 0, or -61 (no hash); -95 if it does not support hashes."""
    entries = cli.ok("map", cli.interface, str(slot), "answer").json["entries"]
    return [entry["value"] for entry in entries]


@pytest.mark.parametrize("linkage", ["static", pytest.param("freplace", marks=pytest.mark.vm)])
def test_a_program_that_asks_its_device(cli: CommandLine, hashed: str, linkage: str) -> None:
    """Alone and among others, through edits: the chain stays bound while one of its slots reads metadata."""
    how = ("--linkage", linkage, *(("--dispatcher-version", "3") if linkage == "freplace" else ()))
    loaded = cli.ok("load", cli.interface, hashed, *how).json
    assert any(step.startswith(f"bind it to {cli.interface}") for step in loaded["plan"]["steps"])
    udp = [frames.udp(frames.PEER, frames.NEAR, 9)]
    cli.playground.send(udp)
    assert answers(cli) in ([0], [-61])
    assert "bound to this interface" in cli("status", cli.interface).out
    cli.ok("load", cli.interface, cli.sample("firewall"), "-P", "1")
    cli.ok("set", cli.interface, "1", "-P", "0")  # to the front, using what is kept in the kernel
    cli.ok("load", cli.interface, cli.sample("tailcalls"))
    slots = cli.status()["slots"]
    assert (slots[0]["name"], slots[0]["counters"]["XDP_PASS"]["packets"]) == ("hashed", 1)
    cli.playground.send(udp)
    assert answers(cli) in ([0], [-61])
    assert cli.status()["slots"][0]["counters"]["XDP_PASS"]["packets"] == 2
    cli.ok("set", cli.interface, "0", "--off")
    cli.ok("set", cli.interface, "0", "--on")
    cli.playground.send(udp)
    assert cli.status()["slots"][0]["counters"]["XDP_PASS"]["packets"] == 3
    assert cli.status()["dispatcher"]["bound"]
    cli.ok("unload", cli.interface, "0")
    cli.ok("unload", cli.interface, "--all")


def test_where_a_program_can_not_ask_its_device(cli: CommandLine, hashed: str) -> None:
    """Refused with a reason, and what runs stays; a trial says that no device answers there."""
    cli.ok("load", cli.interface, hashed, "--linkage", "static")
    before = cli.status()
    for words, code, why in (
        (("set", cli.interface, "--mode", "generic"), 7, "which only the driver has, in native mode"),
        (("relink", cli.interface, "--linkage", "tailcall"), 6, "out of program arrays"),
    ):
        refused = cli(*words)
        assert (refused.code, why in refused.err) == (code, True), refused.err
    assert cli.status() == before
    deaf = cli("load", "lo", hashed, "--linkage", "static")
    assert (deaf.code, "this device's driver does not provide" in deaf.err) == (6, True), deaf.err
    tried = cli.ok("set", cli.interface, "0", "-P", "9", "--what-if", "builtin", "--dry-run").json["what_if"]
    assert any("a trial has none" in text for text in tried["not_known"])
    assert {packet["new"]["verdict"] for packet in tried["packets"]} == {"XDP_DROP"}  # as without an answer
    assert cli("test", hashed).code == 0


def test_the_linkage_that_can_have_metadata_is_chosen(
    cli: CommandLine, hashed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the installed libxdp does not support bound dispatchers: static linkage, unless a version is
    requested."""
    monkeypatch.setattr(choice, "default_linkage", lambda: (Linkage.FREPLACE, "works here"))
    monkeypatch.setattr(choice, "emitted_version", lambda: 2)
    loaded = cli("load", cli.interface, hashed)
    assert "static linkage: RX metadata needs dispatcher version 3" in loaded.out + loaded.err
    assert cli.status()["linkage"] == "static"
    monkeypatch.setattr(choice, "emitted_version", lambda: 3)
    running = look(cli.interface, cli.playground.netns)
    assert choice.choose("auto", running, anew=True, bound=True)[0] is Linkage.FREPLACE


def test_one_program_that_asks_two_devices(
    hashed: str, capsys: pytest.CaptureFixture[str], samples: Path
) -> None:
    """Each chain is bound to its own interface, though they share their maps."""
    with Playground(links=2) as both:
        cli = CommandLine(both, capsys, samples)
        names = [link.ifname for link in both.links]

        def slots(name: str) -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = cli.ok("status", name).json["interfaces"][0]["slots"]
            return found

        cli.ok("load", ",".join(names), hashed, "--linkage", "static", "--share-maps")
        ids = [{ref["id"] for ref in slot["maps"]} for name in names for slot in slots(name)]
        assert ids[0] == ids[1]
        for link, name in enumerate(names):
            cli.ok("load", name, cli.sample("firewall"))
            both.send([frames.udp(frames.PEER, frames.NEAR, 9)], link=link)
            assert slots(name)[1]["counters"]["XDP_PASS"]["packets"] == 1


@pytest.mark.parametrize("linkage", LINKAGES)
def test_ids_of_its_own_types_name_them_in_the_chain(
    cli: CommandLine, tmp_path: Path, vmlinux: Path, linkage: str
) -> None:
    """`bpf_core_type_id_local()`: in merged BTF the types have other ids, which the code must contain."""
    path = built(tmp_path, OWN_TYPES, "names_types", f"-I{vmlinux}", "-D__TARGET_ARCH_x86")
    cli.ok("load", cli.interface, cli.sample("firewall"), path, path, "--linkage", linkage)
    cli.ok("set", cli.interface, "2", "-P", "99")  # links the stored forms again
    cli.playground.send([frames.udp(frames.PEER, frames.NEAR, 9)])
    running = look(cli.interface, cli.playground.netns)
    assert running.chain is not None
    assert running.hook is not None
    for slot in running.chain.slots[1:]:
        with bpf.prog_by_id(slot.program or running.hook.prog_id) as program:
            types = Btf.parse(bpf.btf_raw(bpf.prog_info(program).btf_id))
        with bpf.map_by_id(slot.component.maps[0].id) as ids:
            found = [struct.unpack("=I", bpf.map_lookup(ids, struct.pack("=I", key), 4))[0] for key in (0, 1)]
        assert [types.type(type_id).name for type_id in found] == ["mine", "other"]


@pytest.mark.parametrize("linkage", LINKAGES)
def test_objects_of_its_own_types(cli: CommandLine, tmp_path: Path, vmlinux: Path, linkage: str) -> None:
    """Those that stay within the program work; those kept in maps have the maps' own types."""
    flags = (f"-I{vmlinux}", "-D__TARGET_ARCH_x86")
    path = built(tmp_path, LISTED, "lists", *flags)
    cli.ok("load", cli.interface, cli.sample("firewall"), path, "--linkage", linkage)
    cli.ok("unload", cli.interface, "--all")
    path = built(tmp_path, LISTED, "lists", *flags, "-DIN_MAP")
    refused = cli("load", cli.interface, cli.sample("firewall"), path, "--linkage", linkage)
    assert refused.code == 6
    assert "objects of its own types that lists makes" in refused.err, refused.err


@pytest.mark.parametrize("linkage", LINKAGES)
def test_a_map_gets_its_size_at_the_load(cli: CommandLine, tmp_path: Path, linkage: str) -> None:
    path = built(tmp_path, UNSIZED, "counts")
    refused = cli("load", cli.interface, path, "--linkage", linkage)
    assert "--map-entries senders=N" in refused.err
    sized = ("--map-entries", "senders=4096")
    cli.ok("load", cli.interface, path, *sized, "--linkage", linkage)

    def entries() -> int:
        slot = cli.ok("status", cli.interface).json["interfaces"][0]["slots"][0]
        assert slot["map_entries"] == {"senders": 4096}
        with bpf.map_by_id(slot["maps"][0]["id"]) as fd:
            return bpf.map_info(fd).max_entries

    assert entries() == 4096
    cli.ok("set", cli.interface, "0", "-P", "7")
    assert entries() == 4096
    again = cli("replace", cli.interface, "0", path, *sized)
    assert again.code == 0
    saved = cli.ok("save", cli.interface).json["spec"]
    assert "senders = 4096" in saved
    cli.ok("unload", cli.interface, "--all")
    spec = tmp_path / "spec.toml"
    spec.write_text(saved)
    cli.ok("apply", str(spec))
    assert entries() == 4096


@pytest.fixture
def counting(tmp_path: Path) -> tuple[str, str]:
    """Two objects that each count in a map of their own: one by 1, the other by 1000."""
    owner = {"entries": 4, "value": "__u64", "map": "seen", "name": "owner", "step": 1}
    taker = {"entries": 1, "value": "__u64", "map": "noted", "name": "taker", "step": 1000}
    return built(tmp_path, COUNTS % owner, "owner"), built(tmp_path, COUNTS % taker, "taker")


@pytest.mark.parametrize("linkage", EVERY_LINKAGE)
def test_a_slot_uses_another_ones_map(
    cli: CommandLine, tmp_path: Path, counting: tuple[str, str], linkage: str
) -> None:
    owner, taker = counting

    def seen() -> int:
        slots = cli.status()["slots"]
        (shared,) = {bpf_map["id"] for slot in slots for bpf_map in slot["maps"]}
        places = {slot["name"]: slot["slot"] for slot in slots}
        taken = next(slot["shared_maps"] for slot in slots if slot["name"] == "taker")
        assert taken == {"noted": {"slot": places["owner"], "map": "seen"}}
        with bpf.map_by_id(shared) as fd:
            return int.from_bytes(bpf.map_lookup(fd, bytes(4), 8), "little")

    use = ("--use-map", "owner:seen=noted")
    cli.ok("load", cli.interface, owner, "--linkage", linkage)
    planned = cli.ok("load", cli.interface, taker, *use, "--dry-run").out
    assert "its map noted is owner's seen" in planned
    cli.ok("load", cli.interface, taker, *use)
    cli.playground.send([frames.udp(frames.PEER, frames.NEAR, 9)])
    assert seen() == 1001
    cli.ok("set", cli.interface, "taker", "-P", "7")
    cli.ok("replace", cli.interface, "taker", taker, "--use-map", "owner:seen=noted")
    cli.playground.send([frames.udp(frames.PEER, frames.NEAR, 9)])
    assert seen() == 2002
    again = cli.ok("replace", cli.interface, "owner", owner, "--fresh-maps")
    assert [change["name"] for change in again.json["plan"]["changes"]] == ["taker", "owner"]
    cli.playground.send([frames.udp(frames.PEER, frames.NEAR, 9)])
    assert seen() == 1001
    saved = cli.ok("save", cli.interface).json["spec"]
    assert 'use_maps = {noted = "owner:seen"}' in saved
    assert "instance" not in saved
    spec = tmp_path / "spec.toml"
    spec.write_text(saved)
    assert "nothing to change" in cli("apply", str(spec)).out
    cli.ok("unload", cli.interface, "--all")
    cli.ok("apply", str(spec))  # the taker comes first, and is loaded after the owner
    cli.playground.send([frames.udp(frames.PEER, frames.NEAR, 9)])
    assert seen() == 1001


def test_maps_that_can_not_be_shared(cli: CommandLine, tmp_path: Path, counting: tuple[str, str]) -> None:
    owner, taker = counting
    cli.ok("load", cli.interface, owner, "--linkage", "static")
    for given, code, words in (
        ("owner:seen", 7, "SLOT:NAME=NAME"),
        ("owner:other=noted", 5, "owner has no map 'other': it uses seen"),
        ("owner:seen=other", 5, "taker has no map 'other': it uses noted"),
        ("nobody:seen=noted", 5, "nobody"),
    ):
        refused = cli("load", cli.interface, taker, "--use-map", given)
        assert (refused.code, words in refused.err) == (code, True), refused.err
    narrow = {"entries": 1, "value": "__u32", "map": "noted", "name": "narrow", "step": 1}
    path = built(tmp_path, COUNTS % narrow, "narrow")
    refused = cli("load", cli.interface, path, "--use-map", "owner:seen=noted")
    assert "can't be another slot's map seen: that map has a different shape: value size 8 → 4" in refused.err
    assert len(cli.status()["slots"]) == 1


def test_map_entries_that_can_not_be(cli: CommandLine, tmp_path: Path) -> None:
    path = built(tmp_path, UNSIZED, "counts")
    for given, code, words in (
        ("senders", 7, "NAME=N"),
        ("senders=0", 7, "at least 1"),
        ("senders=5000000000", 7, "4294967295"),
        ("others=5", 5, "senders"),
    ):
        refused = cli("load", cli.interface, path, "--map-entries", given)
        assert refused.code == code, refused.err
        assert words in refused.err, refused.err
