# SPDX-License-Identifier: Apache-2.0
"""A change happens whole or not at all, and never to somebody else's program."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from tests.kernel.chains import chain_of, change, look_at, run_through
from tests.stress.holdings import holdings
from xdpchain.change.plan import make_plan
from xdpchain.editing import apply, edit
from xdpchain.errors import (
    Busy,
    Cancelled,
    InvalidInput,
    KernelRefused,
    LinkRefused,
    NotOurs,
    RaceLost,
    Unsupported,
    XdpChainError,
)
from xdpchain.linkage import static
from xdpchain.linkage.choice import chain_of as running_chain
from xdpchain.linkage.linked import BuiltChain
from xdpchain.linkage.static import StaticLinker
from xdpchain.linkage.threaded import thread
from xdpchain.model.actions import ActionSet
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.interface import Mode
from xdpchain.model.running import Owner
from xdpchain.model.slot import Slot
from xdpchain.objects.components import load_component
from xdpchain.observe.counters import open_counters
from xdpchain.observe.discover import look
from xdpchain.sys import bpf, bpffs, netns
from xdpchain.sys.netlink import Netlink
from xdpchain.testing import frames
from xdpchain.testing.playground import Playground

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
HOLD_THE_LOCK = """
import sys
from xdpchain.sys import bpffs
with bpffs.lock():
    print(flush=True)
    sys.stdin.read()
"""
RETURN_DROP = bytes.fromhex("b7000000010000009500000000000000")


def programs(playground: Playground) -> set[int]:
    """What exists because of us; others are at work on the machine as a whole."""
    return holdings(playground, bpffs.find()).programs


def slot(samples: Path, name: str) -> Slot:
    return Slot.of(load_component(str(samples / f"{name}.o")))


def test_a_plan_from_an_older_chain_is_refused_and_says_who_changed_it(
    playground: Playground, samples: Path
) -> None:
    first = change(playground, chain_of(samples, "firewall", "monitor"))
    assert first.chain is not None
    plan = make_plan(first, first.chain.move(1, 0))
    second = change(playground, first.chain.remove([0]))
    with pytest.raises(RaceLost) as caught:
        apply(plan)
    assert "pid" in caught.value.why
    assert look_at(playground).hook == second.hook


REFUSALS = [
    ("refused", KernelRefused, "invalid access to packet"),
    ("hugestack", LinkRefused, "512 bytes"),
]


@pytest.mark.parametrize(("name", "error", "why"), REFUSALS)
def test_a_component_that_is_refused_changes_nothing(
    playground: Playground, samples: Path, name: str, error: type[XdpChainError], why: str
) -> None:
    running = change(playground, chain_of(samples, "firewall", "monitor"))
    assert running.chain is not None
    before = programs(playground)
    with pytest.raises(error, match=why) as caught:
        apply(make_plan(running, running.chain.add(slot(samples, name))))
    assert caught.value.detail
    assert look_at(playground) == replace(running, device=look_at(playground).device)
    assert programs(playground) <= before


def refuse(*_: object, **__: object) -> None:
    raise KernelRefused("injected")


FAULTS: dict[str, tuple[object, str]] = {
    "pinning": (BuiltChain, "pin"),
    "binding": (bpf, "prog_bind_map"),
    "freezing": (bpf, "map_freeze"),
    "loading": (bpf, "prog_load"),
    "the swap": (Netlink, "attach_xdp"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("interrupt", [False, True], ids=["error", "ctrl-c"])
@pytest.mark.parametrize("linkage", [Linkage.STATIC, Linkage.TAILCALL])
def test_a_failure_at_any_step_leaves_the_old_chain(
    playground: Playground,
    samples: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    interrupt: bool,
    linkage: Linkage,
) -> None:
    running = change(playground, chain_of(samples, "firewall", "tailcalls", linkage=linkage))
    assert running.chain is not None
    plan = make_plan(running, running.chain.add(slot(samples, "monitor")).move(0, 1))
    before, pins = programs(playground), sorted(pinned())

    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt if interrupt else KernelRefused("injected")

    owner, name = FAULTS[fault]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fail)
        with pytest.raises((KernelRefused, KeyboardInterrupt)):
            apply(plan)
    now = look_at(playground)
    assert now.hook == running.hook
    assert now.chain == running.chain
    assert sorted(pinned()) == pins
    assert programs(playground) <= before
    apply(plan)  # afterwards the same change succeeds
    assert len(look_at(playground).chain or ()) == 3
    change(playground, Chain())


def pinned() -> list[str]:
    root = bpffs.find() / "xdptui"
    return [str(path) for path in root.rglob("*")] if root.exists() else []


def test_cancelling_before_the_swap_changes_nothing(playground: Playground, samples: Path) -> None:
    running = change(playground, chain_of(samples, "firewall"))
    assert running.chain is not None
    steps: list[str] = []
    plan = make_plan(running, running.chain.add(slot(samples, "monitor")))
    with pytest.raises(Cancelled):
        apply(plan, progress=steps.append, cancelled=lambda: True)
    assert steps
    assert look_at(playground).hook == running.hook


def test_another_editor_is_waited_for_then_named(playground: Playground, samples: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_THE_LOCK],
        cwd=ROOT / "core", stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        plan = make_plan(look_at(playground), chain_of(samples, "pass"))
        with pytest.raises(Busy, match=str(holder.pid)):
            apply(plan, lock_timeout=0.1)
    finally:
        holder.communicate()
    assert look_at(playground).hooks == ()
    apply(plan)


@contextmanager
def attached_by_netlink(playground: Playground) -> Iterator[int]:
    with (
        bpf.prog_load(bpf.ProgType.XDP, RETURN_DROP, name="somebody") as program,
        Netlink(playground.netns) as netlink,
    ):
        netlink.attach_xdp(playground.ifindex, program.fileno(), "native", None)
        yield bpf.prog_info(program).id


@contextmanager
def attached_by_link(playground: Playground) -> Iterator[int]:
    with contextlib.ExitStack() as held:
        program = held.enter_context(
            bpf.prog_load(bpf.ProgType.XDP, RETURN_DROP, name="somebody", attach_type=37)
        )
        link = netns.run(playground.netns, lambda: bpf.link_create(program, playground.ifindex, 37))
        held.enter_context(link)
        yield bpf.prog_info(program).id


@pytest.mark.parametrize("attached", [attached_by_netlink, attached_by_link])
def test_somebody_elses_program_is_shown_and_never_touched(
    playground: Playground,
    samples: Path,
    attached: Callable[[Playground], contextmanager[int]],  # type: ignore[valid-type]
) -> None:
    free = look_at(playground)
    with attached(playground) as number:  # type: ignore[attr-defined]
        running = look_at(playground)
        assert running.owner is Owner.FOREIGN
        assert running.hook is not None
        assert (running.hook.prog_id, running.hook.name) == (number, "somebody")
        assert (running.hook.link_id is not None) == (attached is attached_by_link)
        with pytest.raises(NotOurs, match="somebody"):
            make_plan(running, chain_of(samples, "pass"))
        # A plan from before the other one came: the race is lost, the other program stays.
        with pytest.raises(RaceLost):
            apply(make_plan(free, chain_of(samples, "pass")))
        assert look_at(playground).hook == running.hook


def test_a_program_that_comes_between_look_and_swap_stays(
    playground: Playground, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = StaticLinker.build
    plan = make_plan(look_at(playground), chain_of(samples, "pass"))
    with bpf.prog_load(bpf.ProgType.XDP, RETURN_DROP, name="intruder") as intruder:

        def intrude(*arguments: object, **named: object) -> object:
            built = build(*arguments, **named)  # type: ignore[arg-type]
            with Netlink(playground.netns) as netlink:
                netlink.attach_xdp(playground.ifindex, intruder.fileno(), "native", None)
            return built

        monkeypatch.setattr(StaticLinker, "build", intrude)
        with pytest.raises((Busy, RaceLost)):
            apply(plan)
        assert look_at(playground).hooks[0].name == "intruder"


def test_no_silent_fallback_to_generic_mode(playground: Playground, samples: Path) -> None:
    lo = look("lo", playground.netns)
    with pytest.raises(Unsupported, match="native"):
        apply(make_plan(lo, chain_of(samples, "pass")))
    assert look("lo", playground.netns).hooks == ()
    running = apply(make_plan(lo, chain_of(samples, "pass", mode=Mode.GENERIC)))
    assert running.mode is Mode.GENERIC
    assert running.chain is not None
    with pytest.raises(InvalidInput, match="generic"):
        make_plan(running, replace(running.chain, mode=Mode.NATIVE))


def test_a_large_mtu_without_fragments_is_refused(root: None, samples: Path) -> None:
    with Playground(mtu=9000) as playground:
        with pytest.raises(Unsupported, match="MTU"):
            change(playground, chain_of(samples, "pass"))
        assert look_at(playground).hooks == ()
        assert change(playground, chain_of(samples, "frags")).mode is Mode.NATIVE


def test_two_interfaces_keep_to_themselves(root: None, samples: Path) -> None:
    with Playground(links=2) as playground:
        first = change(playground, chain_of(samples, "drop"), link=0)
        second = change(playground, chain_of(samples, "firewall", "monitor"), link=1)
        frame = frames.udp(frames.PEER, frames.NEAR, 9)
        assert [run_through(running, frame).code for running in (first, second)] == [1, 2]
        change(playground, Chain(), link=0)
        assert look_at(playground, 0).hooks == ()
        assert look_at(playground, 1).hook == second.hook


def test_equal_chains_are_linked_once_each_with_its_own_maps(
    root: None, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: Counter[str] = Counter()
    monkeypatch.setattr(static, "thread", counting(asked, "thread", thread))
    static._link_known.cache_clear()
    maps = []
    with Playground(links=2) as playground:
        for link in (0, 1):
            running = change(playground, chain_of(samples, "firewall", "monitor"), link)
            assert running.hook is not None
            with bpf.prog_by_id(running.hook.prog_id) as program:
                maps.append(set(bpf.prog_map_ids(program)))
            used = {ref.id for slot in running.chain or () for ref in slot.component.maps}
            assert used
            assert used <= maps[-1]
        assert asked == {"thread": 1}
        # Alike, and nobody can change them.
        assert sorted(map_name(map_id) for map_id in maps[0] & maps[1]) == [
            "xdptui_object", "xdptui_object", "xdptui_unit", "xdptui_unit",
        ]  # fmt: skip
        for _ in range(3):
            run_through(running, frames.udp(frames.PEER, frames.NEAR, 9))
        counted = []
        for link in (0, 1):
            with open_counters(look_at(playground, link)) or pytest.fail("nothing counts") as reader:
                verdict = reader.read().verdict
                counted.append(sum(verdict.packets) if verdict is not None else None)
        assert counted == [0, 3]


def test_an_edit_asks_for_little_more_than_once(
    playground: Playground, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(playground, chain_of(samples, "firewall", "monitor"))
    asked: Counter[str] = Counter()
    for name in ("driver", "xdp_features"):
        monkeypatch.setattr(Netlink, name, counting(asked, name, getattr(Netlink, name)))
    monkeypatch.setattr(netns, "run", counting(asked, "run", netns.run))
    edit(playground.ifname, lambda running: running_chain(running).move(1, 0), netns=playground.netns)
    assert asked == {"driver": 1, "xdp_features": 1, "run": 1}


def counting(asked: Counter[str], name: str, call: Callable[..., T]) -> Callable[..., T]:
    def counted(*args: object, **options: object) -> T:
        asked[name] += 1
        return call(*args, **options)

    return counted


def test_without_counters_no_code_of_theirs_remains(playground: Playground, samples: Path) -> None:
    sizes = {}
    for counters in (True, False):
        for length in (1, 2, 3):
            chain = replace(chain_of(samples, *["pass"] * length), counters=counters)
            running = change(playground, chain)
            assert running.hook is not None
            with bpf.prog_by_id(running.hook.prog_id) as program:
                sizes[counters, length] = bpf.prog_info(program).xlated_len // 8
                names = {map_name(map_id) for map_id in bpf.prog_map_ids(program)}
            assert ("xdptui_counters" in names) is counters
            assert (running.counters_map is not None) is counters
            change(playground, Chain())
    alone = 2  # r0 = XDP_PASS; exit
    # Without counters: a call, a test of the code and a jump per slot, and nothing that a packet's length or
    # a CPU would need.
    per_slot = sizes[False, 3] - sizes[False, 2]
    assert per_slot == sizes[False, 2] - sizes[False, 1]
    assert per_slot - alone <= 18
    assert sizes[False, 1] - alone <= 24
    assert sizes[True, 1] - sizes[False, 1] >= 15


def map_name(map_id: int) -> str:
    with bpf.map_by_id(map_id) as fd:
        return bpf.map_info(fd).name


def test_the_actions_in_force_are_those_of_the_chain_not_of_the_object(
    playground: Playground, samples: Path
) -> None:
    component = load_component(str(samples / "drop.o"))
    chain = Chain(linkage=Linkage.STATIC).add(Slot.of(component, 7, ActionSet.parse("DP")))
    running = change(playground, chain.add(slot(samples, "pass")))
    assert running.chain is not None
    assert (running.chain.slots[0].priority, running.chain.slots[0].actions) == (7, ActionSet.parse("DP"))
    assert running.chain.slots[0].component.declared == component.declared
    assert run_through(running, bytes(60)).code == 2
