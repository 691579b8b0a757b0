# SPDX-License-Identifier: Apache-2.0
"""Random edits while packets flow at full rate: none is lost, and each sees a whole chain.

The first slot counts every packet, and stays first; every other slot appends its digit to the packet. A
packet must carry the digits of one whole chain and, since packets stay in order, of the chain then running or
the next one.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pytest

from tests.kernel.chains import LINKAGES, change
from tests.stress.flood import Arrival, Flood, counted
from tests.stress.holdings import pin_paths
from tests.stress.scale import scaled
from xdpchain.model.actions import Action, ActionSet
from xdpchain.model.chain import MAX_SLOTS, Chain, Linkage
from xdpchain.model.interface import Mode
from xdpchain.model.running import Running
from xdpchain.model.slot import Slot
from xdpchain.objects.components import keep_maps, load_component
from xdpchain.observe.counters import SlotCounts, open_counters
from xdpchain.testing.playground import DeviceCounters, Playground

EDITS = scaled(150, 2000, 40)
FIRST, TAIL_CALLER = "xdp_counter", "xdp_tailcalls"
MOST_WITH_TAIL_CALLS = 10
"""Slots of a tailcall chain with a component that makes tail calls (docs/linkages.md)."""

PASS, DROP = 2, 1
ALL_PASS = bytes([PASS] * 10)
# Programs 1, 4, and 7 drop these. A chain may continue after that.
SOME_DROP = bytes([PASS, DROP, PASS, PASS, DROP, PASS, PASS, DROP, PASS, PASS])


def marker(samples: Path, number: int) -> Slot:
    return Slot.of(load_component(str(samples / "scripted.o"), name=f"scripted_{number}"))


def first_chain(samples: Path, linkage: Linkage, mode: Mode) -> Chain:
    chain = Chain(linkage=linkage, mode=mode)
    chain = chain.add(Slot.of(load_component(str(samples / "counter.o")), 0, ActionSet.parse("ADPTR")))
    for number in (0, 1, 2):
        chain = chain.add(marker(samples, number))
    return chain


def edited(chain: Chain, samples: Path, chance: random.Random, linkages: Sequence[Linkage] = ()) -> Chain:
    """The chain after one random edit. Slot 0 stays in place. ``linkages``: the linkages it may be
    moved to.
    """
    count = len(chain)
    kinds = ["toggle", "replace", "replace first"] + ["relink"] * 3 * (len(linkages) > 1)
    most = MOST_WITH_TAIL_CALLS if any(slot.name == TAIL_CALLER for slot in chain) else MAX_SLOTS
    kinds += ["add"] * 2 * (count < most) + ["remove"] * (count > 2) + ["move"] * 2 * (count > 2)
    kind = chance.choice(kinds)
    index = chance.randrange(1, count)
    if kind == "relink":
        return chain.relink(chance.choice([linkage for linkage in linkages if linkage is not chain.linkage]))
    if kind == "add":
        new = marker(samples, chance.randrange(10))
        # One that leaves no mark, but has pins, and makes tail calls of its own.
        if chance.random() < 0.2 and count < MOST_WITH_TAIL_CALLS:
            new = Slot.of(load_component(str(samples / "tailcalls.o")))
        return chain.add(new, chance.randrange(1, count + 1))
    if kind == "remove":
        return chain.remove([index])
    if kind == "move":
        return chain.move(index, chance.choice([n for n in range(1, count) if n != index]))
    if kind == "toggle":
        which = chance.choice((Action.PASS, Action.DROP, Action.TX))
        ends = [n for n in range(1, count) if Action.PASS not in chain.slots[n].actions]
        if ends and chance.random() < 0.8:  # slots behind it would soon leave no marks
            index, which = ends[0], Action.PASS
        return chain.retune(index, actions=chain.slots[index].actions.toggle(which))
    if kind == "replace":
        return chain.substitute(index, marker(samples, chance.randrange(10)).component)
    version = chance.choice(("counter", "counter_v2"))
    newer = load_component(str(samples / f"{version}.o"))
    chain = chain.substitute(0, keep_maps(newer, chain.slots[0].component))
    assert chain.slots[0].priority == 0
    return chain


def outcome(chain: Chain, script: bytes) -> tuple[str, int]:
    """The digits that a packet carries at the end of this chain, and the verdict: the contract."""
    marks = ""
    for slot in chain.slots:
        code = PASS
        if slot.name.startswith("scripted_"):
            number = int(slot.name.removeprefix("scripted_"))
            marks += str(number)
            code = script[number]
        if code not in slot.actions:
            return marks, code
    return marks, PASS


def follow(arrival: Arrival, chains: Sequence[Chain], scripts: Sequence[bytes]) -> int:
    """Match the packets, in order, with the chains in order; returns how many chains were seen."""
    wanted = [{script: outcome(chain, script) for script in scripts} for chain in chains]
    at = 0
    seen = {0}
    for which, _ in groupby(arrival.order):
        script, marks = arrival.kinds[which]
        while wanted[at][script] != (marks, PASS):
            at += 1
            assert at < len(chains), (
                f"after chain {max(seen)} ({outcome(chains[max(seen)], script)}) came a packet with marks "
                f"{marks!r}, which no later chain leaves"
            )
        seen.add(at)
    return len(seen)


@pytest.mark.parametrize("mode", [Mode.NATIVE, Mode.GENERIC])
@pytest.mark.parametrize("linkage", LINKAGES)
@pytest.mark.timeout(300)
def test_random_edits_at_full_rate(
    playground: Playground, samples: Path, own_bpffs: Path, linkage: Linkage, mode: Mode
) -> None:
    edit_at_full_rate(playground, samples, own_bpffs, mode, (linkage,))


@pytest.mark.parametrize("mode", [Mode.NATIVE, Mode.GENERIC])
@pytest.mark.timeout(300)
def test_random_edits_and_relinks_at_full_rate(
    playground: Playground, samples: Path, own_bpffs: Path, mode: Mode
) -> None:
    """From one linkage to the other without a gap, and counting continues."""
    edit_at_full_rate(playground, samples, own_bpffs, mode, (Linkage.STATIC, Linkage.TAILCALL))


def edit_at_full_rate(
    playground: Playground, samples: Path, own_bpffs: Path, mode: Mode, linkages: Sequence[Linkage]
) -> None:
    linkage = linkages[0]
    chance = random.Random(f"{' '.join(linkages)} {mode}")
    running = change(playground, first_chain(samples, linkage, mode))
    chains = [chain_in(running)]
    counter = next(ref for ref in chains[0].slots[0].component.maps if ref.name == "packets")
    verdicts = verdict_of(running)
    seen_counts = counts_of(running)
    started = seen_counts.get(chains[0].slots[0].key)
    # If verdicts are not counted, all packets must pass: then they are counted on arrival.
    scripts = [ALL_PASS, SOME_DROP] if verdicts is not None else [ALL_PASS]
    device = DeviceCounters(playground.netns)
    peer = DeviceCounters(playground.peer_netns)
    before = device.read(playground.ifname)
    with Flood(playground, scripts, counter) as flood:
        for _ in range(EDITS):
            candidate = edited(chain_in(running), samples, chance, linkages)
            running = change(playground, candidate)
            chains.append(chain_in(running))
            seen_counts = none_fell(seen_counts, counts_of(running))
        sent, arrival = flood.stop()
    assert sent > 20 * EDITS, "packets flowed all the while"
    assert len({slot.key for chain in chains for slot in chain.slots}) > EDITS // 10, "chains did change"
    assert device.read(playground.ifname).packets - before.packets == sent
    assert device.read(playground.ifname).dropped == before.dropped
    assert peer.read(playground.peer_ifname).dropped == 0
    device.close()
    peer.close()
    assert counted(counter) == sent, "the first slot saw every packet once"
    assert arrival.numbers_rise, "no packet came twice, none overtook another"
    arrived = len(arrival.order) + arrival.no_room
    now = verdict_of(running)
    if now is not None and verdicts is not None:
        passed, dropped = (now.packets[code] - verdicts.packets[code] for code in (PASS, DROP))
        assert passed + dropped == now.total_packets - verdicts.total_packets == sent
        last = none_fell(seen_counts, counts_of(running))
        assert started is not None
        assert last[chains[0].slots[0].key].total_packets - started.total_packets == sent
        assert arrived == passed
        assert dropped, "some chains dropped"
    else:
        assert arrived == sent
    seen = follow(arrival, chains, scripts)
    assert seen > EDITS // 4, "packets met the chains between"
    assert {chain.linkage for chain in chains} == set(linkages)
    kinds = ", ".join(linkages)
    print(f"{kinds} {mode}: {EDITS} edits, {sent} packets, {arrival.no_room} unread, {seen} chains seen")
    change(playground, Chain())
    assert pin_paths(own_bpffs) == ()


def chain_in(running: Running) -> Chain:
    assert running.chain is not None
    return running.chain


def verdict_of(running: Running) -> SlotCounts | None:
    if running.counters_map is None:
        return None
    reader = open_counters(running)
    assert reader is not None
    with reader:
        return reader.read().verdict


def counts_of(running: Running) -> dict[str, SlotCounts]:
    """The current counts by slot, with the whole chain's under ""."""
    if running.counters_map is None:
        return {}
    with open_counters(running) as reader:  # type: ignore[union-attr]
        sample = reader.read()
    return {**sample.slots, "": sample.verdict}


def none_fell(before: dict[str, SlotCounts], now: dict[str, SlotCounts]) -> dict[str, SlotCounts]:
    """The later counts; none that continues has decreased, through edits either."""
    for key in before.keys() & now.keys():
        assert min((*now[key].since(before[key]).packets, *now[key].since(before[key]).bytes)) >= 0
    return now


def test_a_mixed_chain_would_be_noticed(samples: Path) -> None:
    """The check itself: packets of two chains at once, or in the wrong order, fail it."""
    chains = [first_chain(samples, Linkage.STATIC, Mode.NATIVE)]
    chains.append(chains[0].move(3, 1))
    chains.append(chains[1].remove([2]))
    marks = [outcome(chain, ALL_PASS)[0] for chain in chains]
    assert marks == ["012", "201", "21"]

    def arrived(*ends: str) -> Arrival:
        kinds = list(dict.fromkeys((ALL_PASS, end) for end in ends))
        return Arrival(kinds, array("H", [kinds.index((ALL_PASS, end)) for end in ends]), True, 0)

    assert follow(arrived("012", "201", "201", "21"), chains, [ALL_PASS]) == 3
    for wrong in (("012", "212"), ("201", "012"), ("02",), ("",)):
        with pytest.raises(AssertionError):
            follow(arrived(*wrong), chains, [ALL_PASS])
    dropped = replace(chains[0], slots=(marker(samples, 1), marker(samples, 2)))
    assert outcome(dropped, SOME_DROP) == ("1", DROP)
