# SPDX-License-Identifier: Apache-2.0
"""Counters of verdict sites agree with where each packet's code was decided, one packet at a time; and cost
nothing that codes alone would not.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.chains import chain_of, change, look_at, run_through
from xdpchain.bytecode.sites import VerdictSite
from xdpchain.linkage import counting, static
from xdpchain.linkage.linked import BuiltChain
from xdpchain.model.actions import ActionSet
from xdpchain.model.chain import Chain, Linkage, Slot
from xdpchain.model.counts import Sample
from xdpchain.model.link_layer import ETHERNET
from xdpchain.model.manifest import Author
from xdpchain.model.running import Running
from xdpchain.objects.components import load_component, programs_of
from xdpchain.objects.verdicts import sites_of_linkable
from xdpchain.observe.counters import DispatcherCounters, open_counters
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


@contextlib.contextmanager
def built(chain: Chain, running: Running) -> Iterator[BuiltChain]:
    made = static.StaticLinker().build(chain, running, Author("", 0, "test", 0.0))
    try:
        yield made
    finally:
        made.close()


def counted(made: BuiltChain) -> Sample:
    assert made.counting is not None
    with DispatcherCounters(made.counting, made.chain) as reader:
        return reader.read()


def same(site: VerdictSite) -> tuple[object, ...]:
    return site.code, site.condition, site.returns, site.edges


@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: path.stem)
@pytest.mark.parametrize("first", [False, True], ids=["alone", "before another"])
def test_each_packet_is_counted_where_its_code_was_decided(
    playground: Playground, path: Path, first: bool
) -> None:
    if not path.exists():
        pytest.skip("xdp-tools is not installed")
    component = load_component(str(path), name=programs_of(str(path)).programs[0].name)
    expected: Counter[tuple[int, tuple[object, ...] | None]] = Counter()
    with SiteTrial(component) as trial:
        for packet in PACKETS:
            ran = trial.run(packet)
            expected[min(ran.code, 5), None if ran.site is None else same(trial.sites[ran.site])] += 1
    chain = Chain(linkage=Linkage.STATIC).add(Slot.of(component, 10, PASS_ON))
    if first:
        chain = chain.add(Slot.of(load_component(str(SAMPLES / "pass.o")), 20, PASS_ON))
    with built(chain, look_at(playground)) as made:
        for packet in PACKETS:
            bpf.prog_test_run(made.program, packet)
        sample = counted(made)
        slot = made.chain.slots[0]
        sites = sites_of_linkable(made.parts[0].unit)
        counts = {which: packets for which, (packets, _) in sample.sites.get(slot.key, {}).items()}
        parts = shares(sites, sample.slots[slot.key].packets, counts)
    known = {part: amount for part, amount in parts.items() if len(part.sites) == 1}
    found = Counter({(part.code, same(sites[part.sites[0]])): int(n) for part, n in known.items()})
    together = {part.code for part in parts} - {part.code for part in known}
    if first:  # what goes on to the next slot is known as a sum
        assert together <= {2}
    else:
        assert not together
    assert found == {key: n for key, n in expected.items() if key[0] not in together}


def test_counts_of_sites_go_on_through_edits(playground: Playground, samples: Path) -> None:
    """Through layouts that are made anew, and maps that are added up."""
    running = change(playground, chain_of(samples, "firewall"))
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
        if turn % 2 == 0:  # alone: each site has a counter
            alone = sites
            assert sum(whole) <= (turn + 1) * len(PACKETS)
            assert set(alone) == set(once)
        chain = running.chain
        assert chain is not None
        running = change(playground, chain.add(extra) if len(chain) == 1 else chain.remove([1]))
    assert running.counting is not None
    assert running.counting.sites, "some maps were added up"
    # While it was the first of two, packets that went on were counted by the next slot, as a sum.
    turns = counting.FOLD_AT + 2
    for which, (packets, octets) in once.items():
        assert alone[which] == (packets * turns, octets * turns)
