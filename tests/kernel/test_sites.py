# SPDX-License-Identifier: Apache-2.0
"""Counters of verdict sites agree with where each packet's code was decided, one packet at a time."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.kernel.chains import LINKAGES, chain_of, change, run_through
from tests.unit.test_inlined import compiled
from xdpchain.bytecode.sites import VerdictSite
from xdpchain.linkage import counting
from xdpchain.model.actions import ActionSet
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.component import Component
from xdpchain.model.counts import SiteCounts
from xdpchain.model.link_layer import ETHERNET
from xdpchain.model.slot import Slot
from xdpchain.objects.components import keep_maps, load_component, programs_of
from xdpchain.objects.verdicts import verdicts_of
from xdpchain.observe.counters import open_counters
from xdpchain.observe.running_sites import reasons_of
from xdpchain.observe.site_shares import shares
from xdpchain.sys import bpf
from xdpchain.testing.playground import Playground
from xdpchain.trial.packets.builtin import builtin
from xdpchain.trial.packets.frames import Host
from xdpchain.trial.reached import SiteTrial

SAMPLES = Path(__file__).parents[2] / "build/samples"
FILTERS = Path("/usr/lib/x86_64-linux-gnu/bpf")
PACKETS = [packet.data for packet in builtin(Host.number(1), Host.number(2), ETHERNET)]
OBJECTS = [SAMPLES / f"{name}.o" for name in ("firewall", "mark", "meta", "nobtf", "redirect", "scripted")]
OBJECTS += [FILTERS / f"xdpfilt_{name}.o" for name in ("alw_all", "dny_all", "alw_eth", "dny_tcp")]
PASS_ON = ActionSet.parse("P")
BURST = 30_000
relinked = pytest.mark.parametrize("linkage", [Linkage.STATIC, Linkage.TAILCALL])
"""Linkages whose counters are laid out anew with the chain."""


def same(site: VerdictSite) -> tuple[object, ...]:
    return site.code, site.condition, site.returns, site.edges


@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: path.stem)
@pytest.mark.parametrize("first", [False, True], ids=["alone", "before another"])
@pytest.mark.parametrize("linkage", LINKAGES)
@pytest.mark.usefixtures("own_bpffs")
def test_each_packet_is_counted_where_its_code_was_decided(
    playground: Playground, path: Path, first: bool, linkage: Linkage
) -> None:
    if not path.exists():
        pytest.skip("xdp-tools is not installed")
    if linkage is Linkage.FREPLACE and path.stem == "nobtf":
        pytest.skip("what replaces a function needs BTF")
    component = load_component(str(path), name=programs_of(str(path)).programs[0].name)
    expected: Counter[tuple[int, tuple[object, ...] | None]] = Counter()
    with SiteTrial(component) as trial:
        for packet in PACKETS:
            ran = trial.run(packet)
            expected[min(ran.code, 5), None if ran.site is None else same(trial.sites[ran.site])] += 1
    chain = Chain(linkage=linkage).add(Slot.of(component, 10, PASS_ON))
    if first:
        chain = chain.add(Slot.of(load_component(str(SAMPLES / "pass.o")), 20, PASS_ON))
    running = change(playground, chain)
    for packet in PACKETS:
        run_through(running, packet)
    with open_counters(running, attach=False) as reader:  # type: ignore[union-attr]
        sample = reader.read()
    slot, reasons = running.chain.slots[0], reasons_of(running)[0]  # type: ignore[union-attr]
    sites = reasons.sites
    counts = {which: packets for which, (packets, _) in sample.sites.get(slot.key, {}).items()}
    parts = shares(sites, sample.slots[slot.key].packets, counts)
    known = {part: amount for part, amount in parts.items() if len(part.sites) == 1}
    found = Counter({(part.code, same(sites[part.sites[0]])): int(n) for part, n in known.items()})
    together = {part.code for part in parts} - {part.code for part in known}
    assert not together
    assert found == expected


@pytest.mark.parametrize("linkage", LINKAGES)
@pytest.mark.usefixtures("own_bpffs")
def test_a_running_slot_knows_where_inlined_functions_are_called(
    playground: Playground, tmp_path: Path, linkage: Linkage
) -> None:
    path = tmp_path / "calls.o"
    path.write_bytes(compiled("-g"))
    expected = [site.called_from for site in verdicts_of(path.read_bytes(), "calls").sites]
    slot = Slot.of(load_component(str(path), name="calls"), 10, PASS_ON)
    running = change(playground, Chain(linkage=linkage).add(slot))
    (reasons,) = reasons_of(running)
    assert [site.called_from for site in reasons.sites] == expected
    assert any(len(calls) == 2 for calls in expected), "one is inlined twice"


@relinked
def test_counts_of_sites_go_on_through_edits(playground: Playground, samples: Path, linkage: Linkage) -> None:
    """Through changed layouts, and maps that are added up."""
    running = change(playground, chain_of(samples, "firewall", linkage=linkage))
    assert running.chain is not None
    key = running.chain.slots[0].key
    extra = chain_of(samples, "pass").slots[0]
    for turn in range(2 * counting.FOLD_AT + 3):
        for packet in PACKETS:
            run_through(running, packet)
        with open_counters(running) as reader:  # type: ignore[union-attr]
            sites = reader.read().sites[key]
        whole = [packets for packets, _ in sites.values()]
        if turn == 0:
            once = sites
        # Alone, each site has a counter; as the first of two, one has the rest of what the next slot counts.
        assert sum(whole) == (turn + 1) * len(PACKETS)
        assert set(sites) == set(once)
        chain = running.chain
        assert chain is not None
        running = change(playground, chain.add(extra) if len(chain) == 1 else chain.remove([1]))
    assert running.counting is not None
    assert running.counting.sites, "some maps were added up"
    turns = 2 * counting.FOLD_AT + 3
    for which, (packets, octets) in once.items():
        assert sites[which] == (packets * turns, octets * turns)


@relinked
def test_no_count_of_a_site_decreases_while_packets_flow(
    playground: Playground, samples: Path, linkage: Linkage
) -> None:
    """A packet that has passed a counted site is missing from the rest until a later counter has it. Readers
    come and go, and agree.
    """
    running = change(playground, chain_of(samples, "firewall", "monitor", "pass", linkage=linkage))
    assert running.chain is not None
    key, ended = running.chain.slots[0].key, threading.Event()
    sent = [0] * len(PACKETS)

    def flood() -> None:
        with bpf.prog_by_id(running.hook.prog_id) as program:  # type: ignore[union-attr]
            while not ended.is_set():
                for number, packet in enumerate(PACKETS):
                    bpf.prog_test_run(program, packet, BURST)
                    sent[number] += BURST

    before: SiteCounts = {}
    with contextlib.ExitStack() as held:
        flooding = threading.Thread(target=flood)
        flooding.start()
        held.callback(flooding.join)
        held.callback(ended.set)
        until = time.monotonic() + 1
        while time.monotonic() < until:
            # The new one is open before the old one is closed, as after an edit.
            reader = held.enter_context(open_counters(running))  # type: ignore[type-var]
            for _ in range(20):
                sites = reader.read().sites[key]
                for which, counts in before.items():
                    assert all(now >= then for now, then in zip(sites[which], counts, strict=True)), which
                assert not before or sites.keys() == before.keys()
                before = sites
    with open_counters(running) as reader:  # type: ignore[union-attr]
        sample = reader.read()
    assert sum(packets for packets, _ in sample.sites[key].values()) == sum(sent)
    lengths = sum(n * len(packet) for n, packet in zip(sent, PACKETS, strict=True))
    assert sum(octets for _, octets in sample.sites[key].values()) == lengths
    assert sample.slots[key].total_packets == sum(sent)


@pytest.mark.vm
@pytest.mark.usefixtures("own_bpffs")
def test_components_count_sites_on_through_edits_of_every_kind(playground: Playground, samples: Path) -> None:
    """Moves keep the running components; relinking, or reloading the same program, adds up by site; with
    another program in the slot, site counts restart and code counts continue.
    """
    running = change(playground, chain_of(samples, "firewall", linkage=Linkage.FREPLACE))
    key = running.chain.slots[0].key  # type: ignore[union-attr]
    once: SiteCounts = {}
    turns = 0

    def after_packets() -> SiteCounts:
        nonlocal turns
        for packet in PACKETS:
            run_through(running, packet)
        turns += 1
        with open_counters(running, attach=False) as reader:  # type: ignore[union-attr]
            sample = reader.read()
        assert sample.slots[key].total_packets == turns * len(PACKETS)
        return sample.sites[key]

    once = after_packets()
    assert len(once) > 3
    assert sum(packets for packets, _ in once.values()) == len(PACKETS)
    extra = chain_of(samples, "pass").slots[0]
    for edit in (
        lambda chain: chain.add(replace(extra, config=replace(extra.config, priority=90))),
        lambda chain: chain.move(0, 1).move(0, 1),
        lambda chain: replace(chain, slots=chain.slots[:1]),
        lambda chain: chain.substitute(0, again(samples, "firewall", chain)),
        lambda chain: chain.relink(Linkage.STATIC),
        lambda chain: chain.relink(Linkage.FREPLACE),
        lambda chain: chain.relink(Linkage.TAILCALL),
        lambda chain: chain.relink(Linkage.FREPLACE),
    ):
        assert running.chain is not None
        running = change(playground, edit(running.chain))
        sites = after_packets()
        assert sites == {which: (n * turns, size * turns) for which, (n, size) in once.items()}
    assert running.chain is not None
    running = change(playground, running.chain.substitute(0, again(samples, "mark", running.chain)))
    others = after_packets()
    assert sum(packets for packets, _ in others.values()) == len(PACKETS)


def again(samples: Path, name: str, chain: Chain) -> Component:
    """A program to replace the first slot's, sharing the maps that both have."""
    return keep_maps(load_component(str(samples / f"{name}.o")), chain.slots[0].component)
