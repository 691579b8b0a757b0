# SPDX-License-Identifier: Apache-2.0
"""Adoption: a single program attached by somebody else becomes a chain's first slot, with its maps and their
contents. The figures come from real packets.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kernel.arming import LATER, SOON, eventually, no_guardian_survives, settled_on
from tests.kernel.chains import LINKAGES, look_at
from tests.kernel.command_line import CommandLine
from tests.kernel.loaders import attach_pinned, pinned_program
from tests.kernel.test_doctor_programs import somebody
from tests.objects.compile import compile_text
from xdpchain.change.adoption import adoption_of
from xdpchain.change.confirm.by_hand import confirm
from xdpchain.change.journal.undoing import NothingToUndo, undo_of
from xdpchain.change.plan import Plan, make_plan
from xdpchain.editing import apply
from xdpchain.errors import InvalidInput, NotFound, NotOurs, RaceLost
from xdpchain.model.actions import Action, ActionSet
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.interface import Mode
from xdpchain.model.pending_change import Outcome
from xdpchain.model.running import Owner, Running
from xdpchain.model.slot import Slot
from xdpchain.objects.components import load_component, programs_of
from xdpchain.sys import bpf, bpffs
from xdpchain.sys.libbpf import Object
from xdpchain.sys.netlink import Netlink
from xdpchain.testing.frames import scripted
from xdpchain.testing.playground import Playground
from xdpchain.trial.packets.packet import Packet
from xdpchain.trial.whatif import what_if
from xdptui.words.advice import worded

linkages = pytest.mark.parametrize("linkage", LINKAGES)

COUNTING = """
#define SEC(name) __attribute__((section(name), used))
typedef unsigned long long u64;
struct xdp_md { unsigned int data, data_end; };
static void *(*lookup)(void *, const void *) = (void *)1;
static long (*update)(void *, const void *, const void *, u64) = (void *)2;
struct { int (*type)[1]; int (*max_entries)[16]; unsigned *key; u64 *value; } seen_by_code SEC(".maps");
const volatile u64 step = 1;
const volatile unsigned drops = 256;
u64 packets, last = 7;
SEC("xdp") int other(struct xdp_md *ctx) { return 2; }
SEC("xdp") int count_codes(struct xdp_md *ctx) {
    unsigned char *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    if (data + 15 > end || data[12] != 0x88 || data[13] != 0xb5) return 2;
    unsigned code = data[14];
    u64 *seen = lookup(&seen_by_code, &code), first = step;
    if (seen) *seen += step; else update(&seen_by_code, &code, &first, 0);
    packets += step;
    last = code;
    return code == drops ? 1 : 2;
}
SEC("license") char licence[] = "GPL";
"""


@dataclass
class Foreign:
    """Somebody else's program with its maps by name, and the object file it was loaded from."""

    path: Path
    program: int
    maps: dict[str, int]


@pytest.fixture
def counting(tmp_path: Path) -> Path:
    path = tmp_path / "counting.o"
    path.write_bytes(compile_text(COUNTING))
    return path


@contextlib.contextmanager
def attached(playground: Playground, path: Path, mode: str = "native", **constants: int) -> Iterator[Foreign]:
    """``count_codes`` alone on the interface, loaded as a custom tool would, its constants set."""
    ifindex = playground.links[0].ifindex
    with Object(path.read_bytes(), "counting") as opened:
        for bpf_map in opened.maps():
            if bpf_map.name.endswith(".rodata") and constants:
                bpf_map.set_initial_value(struct.pack("=QI", constants["step"], constants["drops"]))
        opened.load()
        (program,) = (one for one in opened.programs() if one.name == "count_codes")
        maps = {
            bpf_map.name[bpf_map.name.index(".") :] if bpf_map.internal else bpf_map.name: bpf.map_info(
                bpf_map.fd
            ).id
            for bpf_map in opened.maps()
        }
        with Netlink(playground.netns) as netlink:
            netlink.attach_xdp(ifindex, program.fd, mode, None)
        found = Foreign(path, bpf.prog_info(program.fd).id, maps)
    yield found


def plan_of(running: Running, path: Path, linkage: Linkage = Linkage.STATIC) -> Plan:
    adoption = adoption_of(running, programs_of(str(path)))
    assert running.mode is not None
    chain = adoption.candidate(Slot.of(adoption.component), running.mode, linkage)
    return make_plan(running, chain, adopts=adoption.program)


def seen(number: int) -> dict[int, int]:
    with bpf.map_by_id(number) as fd:
        return {
            struct.unpack("=I", key)[0]: struct.unpack("=Q", bpf.map_lookup(fd, key, 8))[0]
            for key in bpf.map_keys(fd, 4)
        }


def packets(number: int) -> tuple[int, ...]:
    with bpf.map_by_id(number) as fd:
        size = bpf.map_info(fd).value_size
        return struct.unpack_from("=Q", bpf.map_lookup(fd, bytes(4), size))


@linkages
@pytest.mark.parametrize("mode", ["native", "generic"])
def test_its_maps_and_what_is_in_them_go_on(
    playground: Playground, counting: Path, linkage: Linkage, mode: str
) -> None:
    """Maps, global variables, and constants set by its loader: 5 per packet, and code 9 is dropped."""
    with attached(playground, counting, mode, step=5, drops=9) as foreign:
        playground.send([scripted(b"\x02")] * 4 + [scripted(b"\x09")] * 3)
        before = look_at(playground)
        assert before.owner is Owner.FOREIGN
        assert seen(foreign.maps["seen_by_code"]) == {2: 20, 9: 15}
        after = apply(plan_of(before, counting, linkage))
    assert (after.owner, after.linkage, after.mode) == (Owner.XDPTUI, linkage, Mode(mode))
    (slot,) = after.chain or Chain()
    assert slot.name == "count_codes"
    assert {ref.name: ref.id for ref in slot.component.maps} == foreign.maps
    with pytest.raises(bpf.BpfError):  # nothing holds it any more
        bpf.prog_by_id(foreign.program).close()
    playground.send([scripted(b"\x02")] * 2 + [scripted(b"\x09")] * 1)
    assert seen(foreign.maps["seen_by_code"]) == {2: 30, 9: 20}
    bss = foreign.maps[".bss"]
    assert packets(bss) == (50,)
    # Also through further edits: another slot, and the other order.
    chain = after.chain or Chain()
    more = apply(make_plan(after, chain.add(Slot.of(load_component(str(counting), name="other"), 3))))
    assert {ref.name: ref.id for ref in (more.chain or Chain()).slots[1].component.maps} == foreign.maps
    playground.send([scripted(b"\x09")] * 1)
    assert seen(foreign.maps["seen_by_code"]) == {2: 30, 9: 25}


@pytest.mark.vm
def test_constants_go_along_to_another_linkage(playground: Playground, counting: Path) -> None:
    with attached(playground, counting, step=5, drops=9) as foreign:
        after = apply(plan_of(look_at(playground), counting))
    for linkage in (Linkage.FREPLACE, Linkage.STATIC):
        after = apply(make_plan(after, (after.chain or Chain()).relink(linkage)), confirm=LATER)
        confirm(playground.ifname, playground.netns)
        after = look_at(playground)
        assert after.linkage is linkage
        playground.send([scripted(b"\x09")] * 2)
    assert seen(foreign.maps["seen_by_code"]) == {9: 20}


def test_a_pinned_map_stays_the_pinned_map(playground: Playground, counting: Path) -> None:
    pin = bpffs.find() / f"xdptui-test-{os.getpid()}-{secrets.token_hex(4)}"
    with attached(playground, counting) as foreign:
        with bpf.map_by_id(foreign.maps["seen_by_code"]) as fd:
            bpf.obj_pin(fd, str(pin))
        try:
            apply(plan_of(look_at(playground), counting))
            playground.send([scripted(b"\x03")] * 6)
            with bpf.obj_get(str(pin)) as fd:
                assert bpf.map_info(fd).id == foreign.maps["seen_by_code"]
                assert bpf.map_lookup(fd, struct.pack("=I", 3), 8) == struct.pack("=Q", 6)
        finally:
            pin.unlink()


@linkages
def test_not_confirmed_it_goes_back_to_the_very_program(
    playground: Playground, counting: Path, linkage: Linkage
) -> None:
    with attached(playground, counting) as foreign, no_guardian_survives(playground):
        playground.send([scripted(b"\x02")] * 3)
        after = apply(plan_of(look_at(playground), counting, linkage), confirm=SOON)
        assert after.pending is not None
        playground.send([scripted(b"\x02")] * 2)
        assert settled_on(playground).outcome is Outcome.ROLLED_BACK
        back = look_at(playground)
        assert back.hook is not None
        assert (back.hook.prog_id, back.owner) == (foreign.program, Owner.FOREIGN)
        playground.send([scripted(b"\x02")] * 1)
        assert seen(foreign.maps["seen_by_code"]) == {2: 6}


def test_confirmed_it_stays_and_undo_knows_its_limit(playground: Playground, counting: Path) -> None:
    with attached(playground, counting), no_guardian_survives(playground):
        apply(plan_of(look_at(playground), counting), confirm=LATER)
        with pytest.raises(NothingToUndo) as waiting:
            undo_of(look_at(playground))
        assert "xdptui rollback" in worded(waiting.value.todo)
        after = confirm(playground.ifname, playground.netns)
        assert after.chain is not None
        with pytest.raises(NothingToUndo, match="only its id is known"):
            undo_of(after)


# What is refused


def test_another_object_is_refused(playground: Playground, counting: Path, samples: Path) -> None:
    with attached(playground, counting) as foreign:
        before = look_at(playground)
        assert before.hook is not None
        with pytest.raises(InvalidInput, match=f"has tag {before.hook.tag}; xdp_firewall has tag") as refused:
            adoption_of(before, programs_of(str(samples / "firewall.o")))
        assert "not the program that runs" in refused.value.what
        with pytest.raises(InvalidInput, match="other has tag"):
            adoption_of(before, programs_of(str(counting)), name="other")
        assert look_at(playground).identity == before.identity
        assert foreign.program == before.hook.prog_id


def test_the_same_code_with_maps_of_another_shape_is_refused(
    playground: Playground, counting: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.o"
    other.write_bytes(compile_text(COUNTING.replace("max_entries)[16]", "max_entries)[32]")))
    named = tmp_path / "named.o"
    named.write_bytes(compile_text(COUNTING.replace("seen_by_code", "seen_by_kind")))
    with attached(playground, counting):
        before = look_at(playground)
        with pytest.raises(InvalidInput, match="entries 16 → 32") as refused:
            adoption_of(before, programs_of(str(other)))
        assert "is the running program, but its maps can't be kept" in refused.value.what
        with pytest.raises(InvalidInput, match="maps not found: seen_by_kind; the running program has"):
            adoption_of(before, programs_of(str(named)))


def test_what_a_link_holds_is_refused_and_its_holder_named(playground: Playground, samples: Path) -> None:
    with somebody(playground, "link") as child:
        with pytest.raises(NotOurs, match=rf"bpf_link \d+ holds the hook.*\(pid {child.pid}\)"):
            adoption_of(look_at(playground), programs_of(str(samples / "pass.o")))
        assert look_at(playground).owner is Owner.FOREIGN


def test_an_empty_hook_and_a_chain_are_refused(playground: Playground, samples: Path) -> None:
    source = programs_of(str(samples / "pass.o"))
    with pytest.raises(NotFound, match="no XDP program runs"):
        adoption_of(look_at(playground), source)
    chain = Chain().add(Slot.of(load_component(str(samples / "pass.o"))))
    running = apply(make_plan(look_at(playground), chain))
    with pytest.raises(InvalidInput, match="already runs a chain"):
        adoption_of(running, source)


def test_a_program_that_came_meanwhile_is_not_replaced(
    playground: Playground, counting: Path, samples: Path
) -> None:
    with attached(playground, counting):
        plan = plan_of(look_at(playground), counting)
        with bpf.prog_load(6, bytes.fromhex("b7000000020000009500000000000000"), name="new") as other:
            with bpf.prog_by_id(plan.adopts or 0) as old, Netlink(playground.netns) as netlink:
                netlink.attach_xdp(playground.links[0].ifindex, other, "native", old)
            with pytest.raises(RaceLost):
                apply(plan)
            hook = look_at(playground).hook
            assert hook is not None
            assert hook.name == "new"


def test_nothing_else_may_be_replaced_by_saying_adopt(playground: Playground, counting: Path) -> None:
    with attached(playground, counting):
        running = look_at(playground)
        chain = Chain().add(Slot.of(load_component(str(counting), name="other")))
        with pytest.raises(NotOurs, match="which will not be replaced"):
            make_plan(running, chain, adopts=12345678)
        with pytest.raises(NotOurs) as refused:
            make_plan(running, chain)
        assert f"xdptui adopt {playground.ifname} OBJ" in worded(refused.value.todo)


TAIL = """
#define SEC(name) __attribute__((section(name), used))
typedef unsigned long long u64;
struct xdp_md { unsigned int data, data_end; };
static void *(*lookup)(void *, const void *) = (void *)1;
static long (*tail_call)(void *, void *, unsigned) = (void *)12;
int called(struct xdp_md *);
struct { int (*type)[2]; int (*max_entries)[1]; unsigned *key; u64 *value; } in_the_callee SEC(".maps");
struct { int (*type)[3]; int (*max_entries)[1]; int (*key_size)[4]; int (*values[])(void *); } jumps
    SEC(".maps") = { .values = { [0] = (void *)&called } };
SEC("xdp") int called(struct xdp_md *ctx) {
    unsigned key = 0; u64 *at = lookup(&in_the_callee, &key); if (at) *at += 1; return 2; }
SEC("xdp") int calling(struct xdp_md *ctx) { tail_call(ctx, &jumps, 0); return 1; }
SEC("license") char licence[] = "GPL";
"""


def test_maps_of_what_it_tail_calls_go_on(playground: Playground, tmp_path: Path) -> None:
    path = tmp_path / "tail.o"
    path.write_bytes(compile_text(TAIL))
    with Object(path.read_bytes(), "tail") as opened:
        opened.load()
        (main,) = (program for program in opened.programs() if program.name == "calling")
        (jumps,) = (bpf_map for bpf_map in opened.maps() if bpf_map.name == "jumps")
        (counts,) = (bpf_map for bpf_map in opened.maps() if bpf_map.name == "in_the_callee")
        number = bpf.map_info(counts.fd).id
        keep = bpf.map_by_id(bpf.map_info(jumps.fd).id)  # otherwise the kernel would empty it
        with Netlink(playground.netns) as netlink:
            netlink.attach_xdp(playground.links[0].ifindex, main.fd, "native", None)
    with keep:
        playground.send([scripted(b"\2")] * 3)
        assert packets(number) == (3,)
        after = apply(plan_of(look_at(playground), path))
        assert {ref.name for ref in (after.chain or Chain()).slots[0].component.maps} >= {"jumps"}
        playground.send([scripted(b"\2")] * 2)
        assert packets(number) == (5,)


# The command line


def test_a_program_that_is_adopted_runs_over_copies_of_its_maps(
    playground: Playground, counting: Path, samples: Path
) -> None:
    """Its object file proves what it is, so both sides are known; its constants are those its loader set."""
    with attached(playground, counting, step=5, drops=9) as foreign:
        playground.send([scripted(b"\x09")] * 2)
        running = look_at(playground)
        plan = plan_of(running, counting)
        candidate = plan.candidate.add(Slot.of(load_component(str(samples / "drop.o")), 99))
        asked = [Packet("nine", scripted(b"\x09")), Packet("two", scripted(b"\x02"))]
        tried = what_if(running, candidate, asked, adopts=plan.adopts)
        assert tried.old.slots == ("count_codes",)
        verdicts = [(crossing.old.verdict, crossing.new.verdict) for crossing in tried.crossings]
        assert verdicts == [(Action.DROP, Action.DROP), (Action.PASS, Action.DROP)]
        assert what_if(running, candidate, asked).crossings[0].old.verdict is None
        assert seen(foreign.maps["seen_by_code"]) == {9: 10}


def test_by_command_waits_to_be_confirmed(cli: CommandLine, playground: Playground) -> None:
    """A program loaded by bpftool and attached by ip."""
    path = Path(cli.sample("counter"))
    with pinned_program(path) as pin, no_guardian_survives(playground):
        attach_pinned(playground, pin)
        hook = look_at(playground).hook
        assert hook is not None
        given = (cli.interface, str(path), "--linkage", "static")
        planned = cli("plan", "adopt", *given)
        assert planned.code == 2, planned.err
        assert f"« xdp_counter  program {hook.prog_id} (tag {hook.tag}) → slot 0" in planned.out
        assert cli("adopt", *given, "--dry-run").code == 0
        assert look_at(playground).owner is Owner.FOREIGN
        done = cli.ok("adopt", *given, "-P", "7", "-A", "PD").json
        pending = done["running"]["armed"]
        assert (pending["seconds"], pending["rolls_back_to"]) == (60, hook.prog_id)
        (slot,) = done["running"]["slots"]
        assert (slot["name"], slot["priority"], slot["actions"]) == (
            "xdp_counter", 7, ["XDP_DROP", "XDP_PASS"]
        )  # fmt: skip
        assert any(hook.tag in note for note in done["plan"]["notes"])
        assert cli("confirm", cli.interface).code == 0
        assert look_at(playground).pending is None
        log = cli.ok("log", cli.interface).json["entries"]
        assert any("adopt" in entry["command"] or entry["confirm_seconds"] == 60 for entry in log)


def test_by_command_at_once_and_refused(cli: CommandLine, playground: Playground) -> None:
    with pinned_program(Path(cli.sample("firewall"))) as pin:
        attach_pinned(playground, pin, mode="xdpgeneric")
        wrong = cli("adopt", cli.interface, cli.sample("monitor"))
        assert (wrong.code, "is not the program that runs on" in wrong.err) == (7, True)
        done = cli.ok("adopt", cli.interface, cli.sample("firewall"), "--linkage", "static", "--no-confirm")
        assert done.json["running"]["armed"] is None
        assert done.json["running"]["mode"] == "generic"
        again = cli("adopt", cli.interface, cli.sample("firewall"))
        assert (again.code, "already runs a chain" in again.err) == (7, True)


def test_actions_that_are_declared_hold(cli: CommandLine, playground: Playground) -> None:
    with pinned_program(Path(cli.sample("firewall"))) as pin:
        attach_pinned(playground, pin)
        done = cli.ok("adopt", cli.interface, cli.sample("firewall"), "--linkage", "static", "--no-confirm")
    (slot,) = done.json["running"]["slots"]
    assert (slot["priority"], ActionSet.parse(",".join(slot["actions"]))) == (10, ActionSet.parse("P"))
    eventually(lambda: look_at(playground).chain, "it runs on")
