# SPDX-License-Identifier: Apache-2.0
"""What a static chain costs per packet compared with its components alone, as ratios in one run.

Nanoseconds are shown, not judged: where a processor guards returns against speculation (retbleed, SRSO), a
call and its return cost five times what they cost elsewhere. For comparison, the same rounds include a
program that does nothing, and one that calls an empty function as often: the least that any chain of calls
can cost on this kernel.
"""

from __future__ import annotations

import contextlib
import struct
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench.rounds import Timing, alternate
from tests.kernel.chains import chain_of
from tests.kernel.test_tailcall import INCLUDE
from tests.objects.compile import compile_text
from xdpchain.bytecode.instructions import LET_PASS, patch_maps
from xdpchain.linkage import members
from xdpchain.linkage.linkable_slots import Part
from xdpchain.linkage.linked import BuiltChain
from xdpchain.linkage.static import StaticLinker
from xdpchain.model.actions import ActionSet
from xdpchain.model.chain import MAX_SLOTS, Chain, Linkage
from xdpchain.model.manifest import Author
from xdpchain.model.slot import Slot
from xdpchain.objects.components import load_component
from xdpchain.sys import bpf
from xdpchain.testing import frames
from xdpchain.trial.run import NOWHERE

pytestmark = pytest.mark.bench

LENGTHS = (1, 2, 5, 10, MAX_SLOTS)
PACKET = frames.tcp_syn(frames.PEER, frames.NEAR, 80).ljust(64, b"\0")
EARLY = frames.icmp_echo(frames.PEER, frames.NEAR).ljust(64, b"\0")
REPEAT = 300_000
ROUNDS = 25

EMPTY_TARGET = 1.5
"""Ten and 32 empty slots with counters, over one of them alone."""

BRANCH_TARGET = 1.75
"""Ten slots of a program with branches on the packet, with counters, over one hand-written program that has
them all, both less an empty program. (That program alone is no yardstick: its branches hide behind the call
to it.)
"""

LINE_TARGET = 1.05
"""Counters by deciding line, over counters by code, for a packet that passes all checks. Shown is also what
the same costs one that each slot passes early: it adds to a counter in each.
"""

REAL_TARGET = 1.1
"""A chain of real programs, over the sum of their costs alone, each less an empty program."""

STEP = """
	asm volatile("%0 = *(u32 *)(%2 + 0); %1 = *(u32 *)(%2 + 4)" : "=&r"(eth), "=&r"(end) : "r"(ctx));
	if ((void *)(eth + 1) > end)
		return XDP_DROP;
	if (eth->h_proto == 0x9999)
		return XDP_TX;
"""
BRANCHES = """
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>
SEC("xdp") int branches(struct xdp_md *ctx)
{
	struct ethhdr *eth;
	void *end;
	%s
	return XDP_PASS;
}
char _license[] SEC("license") = "GPL";
"""


def bare_calls(number: int) -> bytes:
    """A program that calls an empty function ``number`` times and returns the last result."""
    code = struct.pack("=BBhi", 0xBF, 6 | 1 << 4, 0, 0)
    length = 1 + 2 * number + 1
    for i in range(number):
        at = 2 + 2 * i
        code += struct.pack("=BBhi", 0xBF, 1 | 6 << 4, 0, 0)
        code += struct.pack("=BBhi", 0x85, 1 << 4, 0, length - at - 1)
    return code + struct.pack("=BBhi", 0x95, 0, 0, 0) + LET_PASS


def built(chain: Chain, held: contextlib.ExitStack) -> BuiltChain:
    linked = StaticLinker().build(chain, NOWHERE, Author("", 0, "bench", 0.0))
    held.callback(linked.close)
    return linked


def alone(part: Part, held: contextlib.ExitStack) -> bpf.Fd:
    """A component before linking, over the same maps."""
    maps = {name: fd.fileno() for name, fd in part.maps.items()}
    code = patch_maps(part.unit.instructions, part.unit.references, maps)
    return held.enter_context(bpf.prog_load(bpf.ProgType.XDP, code, name="alone"))


def timed(program: bpf.Fd, packet: bytes = PACKET) -> Callable[[], float]:
    """Processor time per packet in ns, including the kernel's test loop, which cancels out in the difference
    to an empty program. The kernel's own figure is in whole nanoseconds, and a branch takes less.
    """

    def measure() -> float:
        start = time.thread_time_ns()
        bpf.prog_test_run(program, packet, REPEAT)
        return (time.thread_time_ns() - start) / REPEAT

    return measure


def told(program: bpf.Fd) -> Callable[[], float]:
    """ns per packet as the kernel reports it: the run alone."""
    return lambda: float(bpf.prog_test_run(program, PACKET, REPEAT).ns)


def branching(path: Path, steps: int) -> Slot:
    """A program that examines the packet ``steps`` times, and passes it."""
    file = path / f"branches_{steps}.o"
    file.write_bytes(compile_text(BRANCHES % (STEP * steps), *INCLUDE))
    return Slot.of(load_component(str(file)), 10)


def show(taken: dict[tuple[str, int], Timing]) -> None:
    print(f"\n{'ns a packet':<28}{'lowest':>8}  middle half")
    for (kind, length), timing in taken.items():
        print(f"{kind:<20}{length or '':>6}  {timing.least:8.1f}  {timing.low:.1f} to {timing.high:.1f}")


def test_empty_slots_and_slots_with_branches(root: None, samples: Path, tmp_path: Path) -> None:
    branch, by_hand = branching(tmp_path, 1), branching(tmp_path, 10)
    with contextlib.ExitStack() as held:
        empty = held.enter_context(bpf.prog_load(bpf.ProgType.XDP, LET_PASS, name="empty"))
        programs = {("empty", 0): empty}
        for length in LENGTHS:
            bare = bpf.prog_load(bpf.ProgType.XDP, bare_calls(length), name="bare_calls")
            programs["calls", length] = held.enter_context(bare)
            for kind, counters in (("plain", False), ("counting", True)):
                chain = replace(chain_of(samples, *["pass"] * length), counters=counters)
                programs[kind, length] = built(chain, held).program
                chain = Chain(linkage=Linkage.STATIC, counters=counters)
                for place in range(length):
                    chain = chain.add(replace(branch, key=f"branch {place}"))
                programs[f"branches, {kind}", length] = built(chain, held).program
        hand = built(Chain(linkage=Linkage.STATIC, counters=False).add(by_hand), held)
        programs["branches, by hand", 10] = alone(hand.parts[0], held)
        taken = alternate({name: timed(program) for name, program in programs.items()}, ROUNDS)
        whole = alternate(
            {length: told(programs["counting", length]) for length in (10, MAX_SLOTS)} | {0: told(empty)},
            ROUNDS,
        )
    show(taken)
    ratios = {length: timing.least / whole[0].least for length, timing in whole.items() if length}
    above = {name: timing.least - taken["empty", 0].least for name, timing in taken.items()}
    branch_ratio = above["branches, counting", 10] / above["branches, by hand", 10]
    for length, ratio in ratios.items():
        print(f"{length} empty slots with counters over one alone: {ratio:.2f} (target {EMPTY_TARGET})")
    print(
        f"ten slots with branches and counters over one by hand: {branch_ratio:.2f} (target {BRANCH_TARGET})"
    )
    assert max(ratios.values()) <= EMPTY_TARGET
    assert branch_ratio <= BRANCH_TARGET


def filled(linked: BuiltChain) -> None:
    """Fill the tables of a firewall and a filter to capacity, except with the packet's own keys."""
    for part in linked.parts:
        for fd in part.maps.values():
            info = bpf.map_info(fd)
            if info.type in (bpf.MapType.HASH, bpf.MapType.PERCPU_HASH):
                values = bytes(info.value_size * (1 if info.type == bpf.MapType.HASH else 8 * 64))
                for index in range(info.max_entries):
                    key = struct.pack("<Q", index + 4_000_000_000).rjust(info.key_size, b"\xfe")
                    with contextlib.suppress(bpf.BpfError):
                        bpf.map_update(fd, key[: info.key_size], values)


def test_real_programs_in_threes(root: None, samples: Path) -> None:
    found = sorted(Path("/usr/lib").glob("**/bpf/xdpfilt_dny_all.o"))
    names = ("firewall", "monitor") if found else ("firewall", "ratelimit", "monitor")
    chain = chain_of(samples, *names, linkage=Linkage.STATIC)
    if found:
        chain = chain.add(Slot.of(load_component(str(found[0]))))
    with contextlib.ExitStack() as held:
        linked = built(chain, held)
        filled(linked)
        programs = {("empty", 0): held.enter_context(bpf.prog_load(6, LET_PASS, name="empty"))}
        for part in linked.parts:
            programs[part.slot.name, 0] = alone(part, held)
        programs["chain", 3] = linked.program
        taken = alternate({name: timed(program) for name, program in programs.items()}, ROUNDS)
    show(taken)
    least = taken["empty", 0].least
    parts = sum(taken[part.slot.name, 0].least - least for part in linked.parts)
    ratio = (taken["chain", 3].least - least) / parts
    print(f"the chain over the sum of its programs: {ratio:.2f} (target {REAL_TARGET})")
    assert ratio <= REAL_TARGET


@pytest.mark.parametrize("names", [("firewall",), ("firewall",) * 5, ("xdpfilt_dny_all", "firewall")])
def test_counting_by_line_costs_what_counting_by_code_does(
    root: None, samples: Path, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = Chain(linkage=Linkage.STATIC)
    for number, name in enumerate(names):
        path = next((p for p in Path("/usr/lib").glob(f"**/bpf/{name}.o")), samples / f"{name}.o")
        if not path.exists():
            pytest.skip("xdp-tools is not installed")
        chain = chain.add(Slot.of(load_component(str(path)), 10 * number, ActionSet.parse("P")))
    with contextlib.ExitStack() as held:
        programs = {("by line", len(names)): built(chain, held).program}
        monkeypatch.setattr(members, "exit_sites", lambda sites: ())
        members.exits_of.cache_clear()
        held.callback(members.exits_of.cache_clear)
        programs["by code", len(names)] = built(chain, held).program
        early = {(f"{name}, early", n): timed(program, EARLY) for (name, n), program in programs.items()}
        sizes = {name: bpf.prog_info(program).jited_len for (name, _), program in programs.items()}
        taken = alternate({name: timed(program) for name, program in programs.items()} | early, ROUNDS)
    show(taken)
    early_ratio = taken["by line, early", len(names)].least / taken["by code, early", len(names)].least
    print(f"by line over by code, decided early: {early_ratio:.2f}")
    ratio = taken["by line", len(names)].least / taken["by code", len(names)].least
    print(f"by line over by code: {ratio:.2f} (target {LINE_TARGET}); bytes of machine code: {sizes}")
    assert ratio <= LINE_TARGET
