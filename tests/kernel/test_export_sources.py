# SPDX-License-Identifier: Apache-2.0
"""`xdptui export`: what alerts query, memory, run times, losses by reason, and numbers from maps"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.kernel.arming import arm, eventually, settled_on
from tests.kernel.chains import chain_of, change, scripted_chain
from tests.kernel.command_line import CommandLine
from tests.kernel.loaders import attach_pinned, pinned_program
from tests.kernel.tracing import ON_PASS
from xdpchain.errors import Unsupported
from xdpchain.maps import open_map
from xdpchain.model.actions import Action
from xdpchain.model.chain import Linkage
from xdpchain.sys import bpffs
from xdpchain.testing import frames
from xdpchain.testing.playground import Playground
from xdptui.export.collector import ChainCollector, MetricSource
from xdptui.export.lost_packets import LostPackets
from xdptui.export.map_values import MOST_NUMBERS, ChosenMap, MapValues
from xdptui.export.run_times import ChainTimes

UDP = frames.udp(frames.PEER, frames.NEAR, 53, payload=bytes(58))
Scrape = Callable[..., dict[tuple[str, ...], float]]


@pytest.fixture
def scraping(playground: Playground) -> Iterator[Callable[[Sequence[MetricSource]], Scrape]]:
    """Scrapes the playground's interface: values of one metric, by the given labels."""
    with ExitStack() as held:

        def collecting(sources: Sequence[MetricSource] = ()) -> Scrape:
            collector = ChainCollector(playground.netns, [playground.ifname], sources=sources)
            held.callback(collector.close)

            def scrape(metric: str, *labels: str) -> dict[tuple[str, ...], float]:
                families = list(collector.collect())
                assert collector.trouble == ""
                return {
                    tuple(
                        dict(zip(family.metric.labels, values, strict=True))[label] for label in labels
                    ): number
                    for family in families
                    for values, number in family.samples.items()
                    if family.metric.exported == metric
                }

            return scrape

        yield collecting


def test_a_change_that_waits_and_how_it_ended(
    playground: Playground, samples: Path, scraping: Callable[..., Scrape]
) -> None:
    scrape = scraping()
    change(playground, chain_of(samples, "pass"))
    assert scrape("xdp_change_pending_seconds") == scrape("xdp_change_settled_timestamp_seconds") == {}
    arm(playground, chain_of(samples, "drop"))
    [(state, left)] = scrape("xdp_change_pending_seconds", "state").items()
    assert state == ("armed",)
    assert 0 <= left <= 15
    ended = settled_on(playground)
    assert scrape("xdp_change_settled_timestamp_seconds", "outcome") == {("rolled-back",): ended.at}
    assert scrape("xdp_change_pending_seconds") == {}


def test_a_chain_that_was_emptied_and_a_foreign_program(
    playground: Playground, samples: Path, scraping: Callable[..., Scrape]
) -> None:
    scrape = scraping()
    running = change(playground, chain_of(samples, "pass", "drop", linkage=Linkage.TAILCALL))
    assert scrape("xdp_chain_emptied") == {(): 0}
    assert running.hook is not None
    assert running.chain is not None
    shutil.rmtree(bpffs.find() / "xdptui" / str(running.hook.prog_id))
    eventually(lambda: scrape("xdp_chain_emptied") == {(): 1}, "it is exported that the arrays are empty")
    change(playground, running.chain.remove([0, 1]))
    with pinned_program(samples / "drop.o") as pin:
        attach_pinned(playground, pin)
    assert scrape("xdp_chain_info", "owner") == {("foreign",): 1}


@pytest.mark.parametrize("linkage", [Linkage.STATIC, Linkage.TAILCALL])
def test_memory_is_what_bpftool_says(
    playground: Playground, samples: Path, scraping: Callable[..., Scrape], linkage: Linkage
) -> None:
    running = change(playground, chain_of(samples, "firewall", linkage=linkage))
    assert running.hook is not None
    assert running.chain is not None
    [slot] = running.chain.slots

    def told(kind: str, number: int) -> int:
        answer = subprocess.run(
            ["bpftool", "-j", kind, "show", "id", str(number)], capture_output=True, check=True
        )
        return int(json.loads(answer.stdout)["bytes_memlock"])

    scrape = scraping()
    maps = sum(told("map", ref.id) for ref in slot.component.maps)
    assert maps > 0
    slots = {("maps",): maps}
    if linkage is Linkage.TAILCALL:
        assert slot.program is not None
        slots["program",] = told("prog", slot.program)
    assert scrape("xdp_slot_memory_bytes", "part") == slots
    assert scrape("xdp_chain_memory_bytes") == {(): told("prog", running.hook.prog_id)}


def test_numbers_of_maps_by_entry_through_an_edit(
    playground: Playground, samples: Path, scraping: Callable[..., Scrape]
) -> None:
    running = change(playground, chain_of(samples, "firewall", "monitor"))
    with open_map(running, 0, "blocked") as blocked:
        blocked.write(blocked.change(blocked.key_of("{port=53, protocol=17, unused=0}"), "1"))
    playground.send([UDP] * 3)
    maps = MapValues([ChosenMap.parse("xdp_firewall:drops"), ChosenMap.parse("0:blocked")])
    scrape = scraping([maps])
    asked = ("xdp_map_value", "map", "entry", "member")
    blocked_entry = ("blocked", "{port=53, protocol=17, unused=0}", "")
    assert scrape(*asked) == {("drops", "0", ""): 0, ("drops", "1", ""): 3, blocked_entry: 1}
    assert running.chain is not None
    change(playground, running.chain.move(1, 0))
    playground.send([UDP] * 2)
    assert scrape(*asked) == {("drops", "0", ""): 0, ("drops", "1", ""): 5}, "number 0 is another slot now"
    change(playground, chain_of(samples, "pass"))
    assert scrape(*asked) == {}
    maps.close()


def test_a_large_map_is_cut(playground: Playground, samples: Path, scraping: Callable[..., Scrape]) -> None:
    running = change(playground, chain_of(samples, "firewall"))
    with open_map(running, 0, "blocked") as blocked:
        for port in range(MOST_NUMBERS + 20):
            key = blocked.key_of(f"{{port={port + 1}, protocol=6, unused=0}}")
            blocked.write(blocked.change(key, "1"))
    with MapValues([ChosenMap.parse("0:blocked"), ChosenMap.parse("0:drops")]) as maps:
        scrape = scraping([maps])
        assert len(scrape("xdp_map_value", "map", "entry")) == MOST_NUMBERS + 2
        assert scrape("xdp_map_complete", "map") == {("blocked",): 0, ("drops",): 1}


def test_packets_lost_by_reason(
    playground: Playground, samples: Path, scraping: Callable[..., Scrape]
) -> None:
    change(playground, scripted_chain(samples, [ON_PASS], Linkage.STATIC))
    try:
        lost = LostPackets(playground.netns)
    except Unsupported as error:
        pytest.skip(str(error))
    with lost:
        scrape = scraping([lost])
        asked = ("xdp_lost_packets_total", "tracepoint", "reason")
        assert scrape(*asked) == {}
        playground.send(
            [frames.scripted(bytes([Action.ABORTED]))] * 4 + [frames.scripted(bytes([Action.DROP]))] * 2
        )
        told = {("xdp_exception", "XDP_ABORTED"): 4.0}
        eventually(
            lambda: scrape(*asked) == told, "four aborted packets; those that were dropped are not lost"
        )


def test_run_times_of_chain_and_slots(
    playground: Playground, samples: Path, scraping: Callable[..., Scrape]
) -> None:
    with ChainTimes() as times:
        scrape = scraping([times])
        change(playground, chain_of(samples, "firewall", "monitor"))
        assert scrape("xdp_chain_runs_total") == {(): 0}
        playground.send([UDP] * 20)
        assert scrape("xdp_chain_runs_total") == {(): 20}
        assert 0 < scrape("xdp_chain_run_seconds_total")[()] < 1
        slots = eventually(
            lambda: scrape("xdp_slot_run_seconds", "component"),
            "slots' times come, without a scrape that waits",
        )
        assert {name for (name,) in slots} == {"xdp_firewall", "xdp_monitor"}
        # A difference of two runs, which noise can make as large as what a slot takes.
        assert all(0 <= seconds < 0.001 for seconds in slots.values())
        assert any(slots.values())


def test_the_command_takes_them_all(cli: CommandLine) -> None:
    cli.load("firewall")
    made = cli("export", "--once", "--time", "--map", "xdp_firewall:drops", "--map", "0:drosp")
    assert made.code == 0
    assert 'map="drops"' in made.out
    assert "xdp_chain_runs_total{" in made.out
    assert "no slot has a map 0:drosp" in made.err
    for wrong in ("drops", ":drops", "0:"):
        refused = cli("export", "--once", "--map", wrong)
        assert refused.code == 7
        assert "SLOT:NAME" in refused.err
