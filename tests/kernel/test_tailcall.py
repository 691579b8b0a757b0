# SPDX-License-Identifier: Apache-2.0
"""What only tailcall linkage does: one update for a change of one action, separate programs, arrays that live
and die with the chain.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.kernel.arming import LATER, arm, eventually
from tests.kernel.chains import chain_of, change, expected, look_at, run_through, scripted_chain
from tests.kernel.test_doctor import libbpf_knows
from tests.objects.compile import compile_text
from tests.stress.holdings import holdings, pin_paths
from xdpchain.change import stale
from xdpchain.change.confirm.by_hand import roll_back
from xdpchain.change.journal.undoing import history
from xdpchain.change.plan import make_plan
from xdpchain.editing import apply, undo
from xdpchain.errors import LinkRefused, RaceLost, Unsupported
from xdpchain.follow import follow
from xdpchain.linkage.prog_array_entries import set_row
from xdpchain.model.actions import Action, ActionSet
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.interface import Mode
from xdpchain.model.running import Running
from xdpchain.model.slot import Slot
from xdpchain.objects.components import load_component
from xdpchain.observe.counters import open_counters
from xdpchain.observe.details import describe
from xdpchain.sys import bpf, bpffs
from xdpchain.testing import frames
from xdpchain.testing.frames import scripted
from xdpchain.testing.playground import Playground

ROOT = Path(__file__).parents[2]
PASS_ON = ActionSet.parse("P")
TAILCALL = Linkage.TAILCALL
INCLUDE = [f"-I{path}" for path in Path("/usr/include").glob("*-linux-gnu")]


def programs_of(running: Running) -> list[int | None]:
    assert running.chain is not None
    return [slot.program for slot in running.chain]


def all_programs(playground: Playground) -> set[int]:
    return holdings(playground, bpffs.find()).programs


def test_toggling_an_action_is_one_update_and_no_new_program(playground: Playground, samples: Path) -> None:
    running = change(playground, scripted_chain(samples, [PASS_ON] * 3, TAILCALL))
    assert running.chain is not None
    before = programs_of(running), all_programs(playground), pin_paths(bpffs.find())
    plan = make_plan(running, running.chain.retune(1, actions=ActionSet.parse("PD")))
    assert len(plan.steps) == 1
    assert "no new program" in plan.steps[0]
    assert run_through(running, scripted(b"\2\1\3")).code == 1
    toggled = apply(plan)
    assert toggled.hook == running.hook
    assert (programs_of(toggled), all_programs(playground), pin_paths(bpffs.find())) == before
    assert toggled.chain is not None
    assert toggled.chain.slots[1].actions == ActionSet.parse("PD")
    assert run_through(toggled, scripted(b"\2\1\3")).code == 3
    # And back; a fresh process sees each, and so does the journal.
    script = (
        "import sys; from xdpchain.observe.discover import look;"
        "print(*[s.actions for s in look(sys.argv[1], sys.argv[2]).chain])"
    )
    command = [sys.executable, "-c", script, playground.ifname, playground.netns]
    seen = subprocess.run(command, cwd=ROOT / "core", capture_output=True, text=True, check=True).stdout
    assert seen.split() == ["XDP_PASS", "XDP_DROP,XDP_PASS", "XDP_PASS"]
    back = change(playground, toggled.chain.retune(1, actions=PASS_ON))
    assert programs_of(back) == before[0]
    assert run_through(back, scripted(b"\2\1\3")).code == 1
    assert [len(entry.changes) for entry in history(back)[-2:]] == [1, 1]


def test_every_single_toggle_of_every_slot(playground: Playground, samples: Path) -> None:
    running = change(playground, scripted_chain(samples, [PASS_ON, ActionSet(), PASS_ON], TAILCALL))
    ids = programs_of(running)
    for index in range(3):
        for action in Action:
            for _ in range(2):
                assert running.chain is not None
                chosen = running.chain.slots[index].actions.toggle(action)
                running = change(playground, running.chain.retune(index, actions=chosen))
                assert running.chain is not None
                actions = [slot.actions for slot in running.chain]
                assert actions[index] == chosen
                for code in (*Action, 5, 31):
                    script = bytes([2] * index + [code] + [2] * (2 - index))
                    want = expected(actions, script)
                    got = run_through(running, scripted(script))
                    assert (got.code, len(got.data) - 60) == (want.verdict, len(want.returned)), script
    assert programs_of(running) == ids


def test_a_route_is_one_update_too(playground: Playground, samples: Path) -> None:
    running = change(playground, scripted_chain(samples, [PASS_ON] * 4, TAILCALL))
    assert running.chain is not None
    ids = programs_of(running)
    chain = running.chain.route(0, Action.DROP, running.chain.slots[3].key)
    running = change(playground, chain)
    assert running.chain == chain
    assert run_through(running, scripted(b"\1\2\2\3")).data[60:] == b"03"
    running = change(playground, chain.route(0, None, chain.slots[2].key).retune(0, actions=PASS_ON))
    assert running.chain is not None
    assert [route.code for route in running.chain.slots[0].routes] == [Action.DROP, None]
    # The wildcard leads four codes elsewhere: too much for one update, so the chain was relinked.
    assert programs_of(running) != ids
    assert run_through(running, scripted(b"\3\2\2\3")).data[60:] == b"023"


def test_more_than_one_update_is_a_swap(playground: Playground, samples: Path) -> None:
    running = change(playground, scripted_chain(samples, [PASS_ON] * 2, TAILCALL))
    assert running.chain is not None
    ids = programs_of(running)
    for edited in (
        running.chain.retune(0, actions=ActionSet.parse("PDT")),
        running.chain.retune(0, priority=3),
        replace(running.chain, counters=False),
    ):
        after = change(playground, edited)
        assert set(programs_of(after)).isdisjoint(ids)
        assert after.chain is not None
        assert after.chain == replace(edited, slots=after.chain.slots)
        ids += programs_of(after)


def test_a_plan_from_before_a_toggle_is_refused(playground: Playground, samples: Path) -> None:
    first = change(playground, scripted_chain(samples, [PASS_ON] * 2, TAILCALL))
    assert first.chain is not None
    plan = make_plan(first, first.chain.move(1, 0))
    toggled = change(playground, first.chain.retune(1, actions=ActionSet.parse("PD")))
    assert toggled.hook == first.hook
    assert toggled.identity != first.identity
    with pytest.raises(RaceLost):
        apply(plan)
    assert look_at(playground).chain == toggled.chain


def test_toggles_are_undone_one_by_one(playground: Playground, samples: Path) -> None:
    states = [change(playground, scripted_chain(samples, [PASS_ON] * 2, TAILCALL))]
    for text in ("PD", "D", "DT"):
        chain = states[-1].chain
        assert chain is not None
        states.append(change(playground, chain.retune(0, actions=ActionSet.parse(text))))
    assert len({state.hook for state in states}) == 1
    for earlier in reversed(states[:-1]):
        now = undo(playground.ifname, playground.netns)
        assert (now.chain, now.hook) == (earlier.chain, earlier.hook)


def test_an_armed_toggle_is_a_swap_and_rolls_back(playground: Playground, samples: Path) -> None:
    old = change(playground, scripted_chain(samples, [PASS_ON] * 2, TAILCALL))
    assert old.chain is not None
    new = arm(playground, old.chain.retune(0, actions=ActionSet.parse("PD")), LATER)
    assert new.hook != old.hook
    assert run_through(new, scripted(b"\1\3")).code == 3
    roll_back(playground.ifname, playground.netns)
    now = look_at(playground)
    assert (now.hook, now.chain) == (old.hook, old.chain)
    # Its arrays were kept, and those of the other are gone.
    assert run_through(now, scripted(b"\2\3")).code == 3
    assert run_through(now, scripted(b"\1\3")).code == 1
    assert old.hook is not None
    assert new.hook is not None
    assert has_pins(old.hook.prog_id)
    assert not has_pins(new.hook.prog_id)


def gone(program: int) -> None:
    eventually(lambda: program not in set(bpf.ids(bpf.Command.PROG_GET_NEXT_ID)), "the program is gone")


def has_pins(program: int) -> bool:
    return (bpffs.find() / "xdptui" / str(program)).exists()


def test_each_slot_is_a_program_with_statistics_of_its_own(playground: Playground, samples: Path) -> None:
    running = change(playground, chain_of(samples, "firewall", "monitor", linkage=TAILCALL))
    assert running.chain is not None
    assert running.hook is not None
    assert running.chain.slots[0].program == running.hook.prog_id
    for slot in running.chain:
        assert slot.program is not None
        with bpf.prog_by_id(slot.program) as program:
            assert bpf.prog_info(program).name == slot.name[:15]
        details = describe(running, slot)
        assert (details.program, details.alone) == (slot.program, True)
        # The last one only passes, which needs no tail call.
        assert ("call bpf_tail_call" in details.translated()) is (slot.name == "xdp_firewall")
    assert has_pins(running.hook.prog_id)
    # One more edit, and nothing of the first is left.
    again = change(playground, running.chain.move(1, 0))
    assert again.hook is not None
    assert has_pins(again.hook.prog_id)
    assert not has_pins(running.hook.prog_id)
    gone(running.hook.prog_id)
    change(playground, Chain())
    assert not has_pins(again.hook.prog_id)


def test_a_components_own_tail_calls_come_back(playground: Playground, samples: Path) -> None:
    # callee_udp returns XDP_PASS, callee_tcp XDP_DROP: the chain continues after what they return.
    chain = chain_of(samples, "tailcalls", "drop", linkage=TAILCALL)
    assert chain.slots[0].name == "xdp_tailcalls"
    running = change(playground, chain.retune(0, actions=PASS_ON))
    udp, tcp = frames.udp(frames.PEER, frames.NEAR, 9), frames.tcp_syn(frames.PEER, frames.NEAR, 9)
    assert running.chain is not None
    with open_counters(running) as reader:  # type: ignore[union-attr]
        assert run_through(running, udp).code == Action.DROP, "the second slot ran"
        assert run_through(running, tcp).code == Action.DROP, "the first slot's own"
        sample = reader.read()
    first, second = (sample.slots[slot.key].packets for slot in running.chain)
    assert first == (0, 1, 1, 0, 0, 0)
    assert second == (0, 1, 0, 0, 0, 0)


def own(body: str, before: str = "") -> bytes:
    source = f"""
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
{before}
SEC("xdp") int under_test(struct xdp_md *ctx) {{ {body} }}
char _license[] SEC("license") = "GPL";
"""
    return compile_text(source, *INCLUDE)


def slot_of(tmp_path: Path, data: bytes, priority: int = 0, name: str | None = None) -> Slot:
    path = tmp_path / f"own{len(os.listdir(tmp_path))}.o"
    path.write_bytes(data)
    return Slot.of(load_component(str(path), name=name), priority, PASS_ON)


def followed_by_drop(playground: Playground, samples: Path, first: Slot) -> Running:
    last = Slot.of(load_component(str(samples / "drop.o")), 50)
    return change(playground, Chain(linkage=TAILCALL).add(first).add(last))


CALLBACKS = """
static long each(unsigned int i, void *seen) { return i < 5 ? 0 : 1; }
static __attribute__((noinline)) int sub(struct xdp_md *ctx)
{ volatile int a = 3; if (ctx->ingress_ifindex == 99999) return a; return 2; }
__attribute__((noinline)) int global_one(struct xdp_md *ctx)
{ volatile int a = 2; bpf_xdp_adjust_tail(ctx, 0); return a; }
"""
OWN_ARRAY = """
struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 1);
         __uint(key_size, 4); __uint(value_size, 4); } empty SEC(".maps");
static __attribute__((noinline)) int in_a_function(struct xdp_md *ctx)
{ bpf_tail_call(ctx, &empty, 0); return ctx->ingress_ifindex == 77777 ? 1 : 2; }
"""
BODIES: dict[str, tuple[str, str]] = {
    "functions": ("return sub(ctx);", CALLBACKS),
    "a global function": ("return global_one(ctx);", CALLBACKS),
    "a callback": ("int seen = 0; bpf_loop(9, each, &seen, 0); return sub(ctx);", CALLBACKS),
    "a tail call in a function": ("return in_a_function(ctx);", OWN_ARRAY),
    "a tail call that falls through": ("bpf_tail_call(ctx, &empty, 0); return 2;", OWN_ARRAY),
    "both": ("if (in_a_function(ctx) == 1) bpf_tail_call(ctx, &empty, 0); return 2;", OWN_ARRAY),
    "several exits": (
        "unsigned int from = ctx->ingress_ifindex;"
        'asm volatile("r0 = 3; if %0 != 7777 goto on%=; exit; on%=:" :: "r"(from) : "r0");'
        'asm volatile("r0 = 1; if %0 != 7778 goto on%=; exit; on%=:" :: "r"(from) : "r0"); return 2;',
        "",
    ),
    "a loop to the first instruction": (
        'asm volatile("r6 = 0; again%=: r6 += 1; if r6 < 10 goto again%=" ::: "r6"); return 2;',
        "",
    ),
    "a code of 64 bits": (
        'asm volatile("r0 = 0x500000002 ll; if r0 == 0 goto on%=; exit; on%=:" ::: "r0"); return 1;',
        "",
    ),
    "504 bytes of stack": (
        "volatile __u64 w[63]; for (int i = 0; i < 63; i++) w[i] = ctx->data; return w[5] ? 2 : 0;",
        "",
    ),
}


@pytest.mark.parametrize("counters", [True, False])
@pytest.mark.parametrize("shape", BODIES)
def test_components_of_all_shapes(
    playground: Playground, samples: Path, tmp_path: Path, shape: str, counters: bool
) -> None:
    body, before = BODIES[shape]
    if "bpf_loop" in body and not libbpf_knows("helper", 6, 181):
        pytest.skip("this kernel has no helper that calls back (bpf_loop, 5.17 on)")
    first = slot_of(tmp_path, own(body, before=before))
    last = Slot.of(load_component(str(samples / "drop.o")), 50)
    chain = replace(Chain(linkage=TAILCALL).add(first).add(last), counters=counters)
    assert run_through(change(playground, chain), bytes(64)).code == Action.DROP


def test_packets_in_fragments_are_counted_whole(root: None, samples: Path) -> None:
    with Playground(mtu=9000) as playground:
        chain = chain_of(samples, "frags", linkage=TAILCALL)
        again = Slot.of(load_component(str(samples / "frags.o")), 60)
        running = change(playground, chain.add(again))
        assert running.chain is not None
        frame = frames.udp(frames.PEER, frames.NEAR, 9).ljust(8000, b"x")
        with open_counters(running) as reader:  # type: ignore[union-attr]
            code = run_through(running, frame).code
            sample = reader.read()
        for slot in running.chain:
            assert (sample.slots[slot.key].total_packets, sample.slots[slot.key].total_bytes) == (1, 8000)
        assert sample.verdict.of(Action(code)) == (1, 8000)


def test_a_component_that_uses_all_512_bytes_is_refused_with_the_reason(
    playground: Playground, samples: Path, tmp_path: Path
) -> None:
    body = 'asm volatile("*(u64 *)(r10 - 512) = %0" :: "r"(7ll)); return 2;'
    running = change(playground, chain_of(samples, "pass", linkage=TAILCALL))
    assert running.chain is not None
    with pytest.raises(LinkRefused, match="512 bytes of stack") as caught:
        change(playground, running.chain.add(slot_of(tmp_path, own(body))))
    assert "freplace" in str(caught.value.todo)  # suggested if the kernel accepts it
    assert look_at(playground).hook == running.hook


def test_a_chain_that_fits_into_no_one_program_can_not_be_followed(
    playground: Playground, tmp_path: Path
) -> None:
    # Separate programs may have different licences; a single program has one, for all its functions.
    gpl = own("__u64 x = 0; bpf_probe_read_kernel(&x, 8, ctx); return x == 7 ? 1 : 2;")
    other = own("return 2;").replace(b"GPL\0", b"MIT\0")
    chain = Chain(linkage=TAILCALL)
    chain = chain.add(slot_of(tmp_path, gpl, name="under_test")).add(slot_of(tmp_path, other))
    running = change(playground, chain)
    with pytest.raises(Unsupported, match=r"one program while it is followed, and .*licence is 'MIT'"):
        follow(running)
    assert look_at(playground).hook == running.hook


def test_tail_calls_beyond_the_kernels_limit_end_the_chain(
    playground: Playground, samples: Path, tmp_path: Path
) -> None:
    """33 tail calls per packet are the kernel's limit, and a component's own count. A call beyond the limit
    falls through, and the chain ends with the code.
    """
    source = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
int looping(struct xdp_md *ctx);
struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 1); __uint(key_size, 4);
         __array(values, int(void *)); } again SEC(".maps") = { .values = { [0] = (void *)&looping } };
SEC("xdp") int looping(struct xdp_md *ctx) { bpf_tail_call(ctx, &again, 0); return XDP_PASS; }
SEC("xdp") int under_test(struct xdp_md *ctx) { bpf_tail_call(ctx, &again, 0); return XDP_PASS; }
char _license[] SEC("license") = "GPL";
"""
    data = compile_text(source, *INCLUDE)
    running = followed_by_drop(playground, samples, slot_of(tmp_path, data, name="under_test"))
    code = run_through(running, bytes(64)).code
    if code == Action.DROP:
        pytest.skip("this kernel counts the tail calls that functions make apart (before 6.12, 116e04ba1459)")
    assert code == Action.PASS


@pytest.mark.parametrize("other", [Linkage.STATIC, pytest.param(Linkage.FREPLACE, marks=pytest.mark.vm)])
def test_relinking_keeps_maps_and_counters(playground: Playground, samples: Path, other: Linkage) -> None:
    first = change(playground, chain_of(samples, "firewall", "tailcalls", "globals", linkage=TAILCALL))
    playground.send([frames.udp(frames.PEER, frames.NEAR, 53)] * 5)
    maps = state(first)
    there = change(playground, first.chain.relink(other))  # type: ignore[union-attr]
    assert there.linkage is other
    assert state(there) == maps
    assert there.chain is not None
    assert programs_of(there) == [None] * 3
    back = change(playground, there.chain.relink(TAILCALL))
    assert back.linkage is TAILCALL
    assert state(back) == maps
    assert None not in programs_of(back)
    if other is Linkage.STATIC:  # the rows move from linkage to linkage
        with open_counters(back) as reader:  # type: ignore[union-attr]
            assert reader.read().verdict.total_packets >= 5


def state(running: Running) -> dict[tuple[str, str], int]:
    assert running.chain is not None
    return {
        (slot.name, ref.name): ref.id
        for slot in running.chain
        for ref in slot.component.maps
        if not ref.name.startswith(".rodata") and ref.name != "callees"
    }


@pytest.mark.parametrize("mode", [Mode.NATIVE, Mode.GENERIC])
def test_without_pins_the_kernel_empties_the_arrays_which_is_said_and_mended(
    playground: Playground, samples: Path, mode: Mode
) -> None:
    running = change(playground, scripted_chain(samples, [PASS_ON] * 3, TAILCALL, mode))
    assert running.chain is not None
    assert running.hook is not None
    maps = state(running)
    shutil.rmtree(bpffs.find() / "xdptui" / str(running.hook.prog_id))
    eventually(lambda: look_at(playground).emptied, "the arrays are empty")
    found = look_at(playground)
    assert "emptied" in found.note
    assert found.chain == running.chain, "what was meant is still known"
    assert run_through(found, scripted(b"\2\3\2")).data[60:] == b"0"
    # Applying the same chain again is a change: it repairs it. The components' maps were held all the time.
    plan = make_plan(found, found.chain)
    assert [change.text for change in plan.changes] == ["emptied program arrays are rebuilt"]
    mended = apply(plan)
    assert not mended.emptied
    assert mended.chain is not None
    assert state(mended) == maps
    assert run_through(mended, scripted(b"\2\2\3")).code == 3


def test_what_another_program_put_into_a_row_is_not_taken_for_ours(
    playground: Playground, samples: Path
) -> None:
    running = change(playground, scripted_chain(samples, [PASS_ON] * 2, TAILCALL))
    code = struct.pack("=BBhiBBhi", 0xB7, 0, 0, 1, 0x95, 0, 0, 0)
    with (
        bpf.prog_load(bpf.ProgType.XDP, code, name="intruder", attach_type=37) as intruder,
        bpf.map_by_id(running.arrays[0]) as array,
    ):
        set_row(array, 2, intruder)
        found = look_at(playground)
        assert found.chain is None
        assert "not one of its slots" in found.note
        assert found.shown is not None


def test_a_chain_whose_interface_went_leaves_pins_that_are_cleaned(samples: Path, root: None) -> None:
    with Playground() as playground:
        running = change(playground, chain_of(samples, "firewall", "monitor", linkage=TAILCALL))
        assert running.hook is not None
        number = running.hook.prog_id
    gone(number)
    assert has_pins(number)
    found = [pins for pins in stale.clean() if pins.program == number]
    assert [pins.removed for pins in found] == [True]
    assert not has_pins(number)
    for slot in running.chain or ():
        assert slot.program is not None
        gone(slot.program)


def test_the_command_line_knows_it(playground: Playground, samples: Path) -> None:
    def xdptui(*words: str) -> dict[str, object]:
        command = [sys.executable, "-m", "xdptui", *words, "--netns", playground.netns, "--json"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    name = playground.ifname
    xdptui("load", name, str(samples / "firewall.o"), str(samples / "monitor.o"), "--linkage", "tailcall")
    before = look_at(playground)
    assert before.linkage is TAILCALL
    xdptui("set", name, "0", "-A", "PASS,DROP")
    after = look_at(playground)
    assert after.hook == before.hook
    assert after.chain is not None
    assert after.chain.slots[0].actions == ActionSet.parse("PD")
    dry = xdptui("set", name, "0", "-A", "PASS", "--dry-run")
    assert "tried: the kernel accepts" in json.dumps(dry)
    assert look_at(playground).chain == after.chain
    xdptui("relink", name, "--linkage", "static")
    assert look_at(playground).linkage is Linkage.STATIC
    xdptui("relink", name, "--linkage", "tailcall")
    assert look_at(playground).linkage is TAILCALL
