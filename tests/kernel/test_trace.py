# SPDX-License-Identifier: Apache-2.0
"""Counting from outside: every packet at every slot, in xdp-loader's chains, ours, and single programs."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.chains import chain_of, change, look_at, scripted_chain
from tests.kernel.loaders import attach_pinned, inside, pinned_program
from tests.kernel.tracing import (
    DROP,
    EVERY_CASE,
    INCLUDE,
    ON_PASS,
    PASS,
    alive,
    by_name,
    child,
    counts,
    frame,
    load,
    model,
    nothing_left,
    settled,
    unload,
    unloading,
)
from tests.objects.compile import compile_text
from xdpchain.errors import Unsupported
from xdpchain.linkage.dispatcher.emit import takes_frags
from xdpchain.model.chain import Linkage
from xdpchain.observe.counters import FOREIGN, CounterReader, Sample, open_counters
from xdpchain.observe.discover import look
from xdpchain.observe.trace import VERDICT, targets, trace
from xdpchain.observe.trace.cost import measure_counting
from xdpchain.sys import bpf
from xdpchain.testing.playground import Playground

pytestmark = pytest.mark.vm


@pytest.fixture(autouse=True)
def _nothing_left(root: None) -> Iterator[None]:
    with nothing_left():
        yield


@pytest.fixture
def net(playground: Playground) -> Iterator[Playground]:
    with unloading(playground):
        yield playground


def send_all(net: Playground, reader: CounterReader) -> Sample:
    """Send every case, and read once all are counted: a generic program runs shortly after the arrival."""
    net.send(EVERY_CASE)
    assert settled(lambda: reader.read().verdict.total_packets >= len(EVERY_CASE))
    return reader.read()


@pytest.mark.parametrize("mode", ["native", "skb"])
@pytest.mark.parametrize("slots", [(0,), (0, 1), (0, 1, 2)])
def test_every_packet_of_a_chain_of_libxdp_counts_where_it_went(
    net: Playground, slots: tuple[int, ...], mode: str
) -> None:
    load(net, *slots, mode=mode)
    with open_counters(look_at(net)) or pytest.fail("nothing counts") as reader:
        sample = send_all(net, reader)
    expected_slots, verdict = model(slots, EVERY_CASE)
    assert list(by_name(net, sample).values()) == expected_slots
    assert sample.verdict == verdict


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_every_packet_of_a_chain_of_ours_counts_with_its_length_at_each_slot(
    net: Playground, samples: Path, slots: int
) -> None:
    running = change(net, scripted_chain(samples, [ON_PASS] * slots, Linkage.FREPLACE))
    with open_counters(running) or pytest.fail("nothing counts") as reader:
        net.send(EVERY_CASE)
        sample = reader.read()
    expected_slots, verdict = model(range(slots), EVERY_CASE, appending=True)
    assert list(by_name(net, sample).values()) == expected_slots
    assert sample.verdict == verdict


def test_counts_go_on_through_rebuilds_by_libxdp(net: Playground) -> None:
    first, second, third = frame(100, 2, 2, 2), frame(200, 2, 1, 2), frame(300, 2, 2, 1)
    load(net, 0)
    with trace(look_at(net)) as tracer:
        net.send([first] * 3)
        load(net, 2)
        tracer.follow(look_at(net))
        net.send([first] * 5 + [third] * 2)
        assert by_name(net, tracer.read()) == {
            "coded_0": counts(*[(PASS, 100)] * 8, *[(PASS, 300)] * 2),
            "coded_2": counts(*[(PASS, 100)] * 5, *[(DROP, 300)] * 2),
        }
        verdicts = [*[(PASS, 100)] * 8, *[(DROP, 300)] * 2]
        assert tracer.read().verdict == counts(*verdicts)

        before = tracer.read()
        load(net, 1)
        net.send([first] * 4)  # the tracer has not been told yet: what it knows keeps counting
        stayed = [tracer.read().slots[key].since(before.slots[key]) for key in before.slots]
        assert stayed == [counts(*[(PASS, 100)] * 4)] * 2

        tracer.follow(look_at(net))
        net.send([second] * 6)
        now = by_name(net, tracer.read())
        assert now["coded_1"] == counts(*[(DROP, 200)] * 6)
        assert now["coded_0"].total_packets == 10 + 4 + 6
        assert tracer.read().verdict == counts(*verdicts, *[(DROP, 200)] * 6)

        # Back to one: its component replaces the main function again, and its codes are the verdict.
        chain = look_at(net).chain
        assert chain is not None
        for slot in chain.slots[:2]:
            unload(net, "--id", str(slot.id))
        tracer.follow(look_at(net))
        net.send([third])
        assert tracer.read().verdict == counts(*verdicts, *[(DROP, 200)] * 6, (DROP, 300))
        assert list(by_name(net, tracer.read())) == ["coded_2"]

        unload(net, "--all")
        tracer.follow(look_at(net))
        assert not tracer.read().slots


def test_a_component_that_left_is_let_go_by_follow(net: Playground) -> None:
    load(net, 0, 1)
    running = look_at(net)
    assert running.chain is not None
    gone = running.chain.slots[0].id
    with trace(running) as tracer:
        unload(net, "--id", str(gone))
        tracer.follow(look_at(net))
        assert settled(lambda: gone not in alive()[0])


def test_a_new_reader_goes_on_where_the_one_before_it_is(net: Playground) -> None:
    load(net, 0, 1)
    reader = open_counters(look_at(net))
    assert reader is not None
    net.send([frame(60, 2, 2)] * 3)
    programs = alive()[0]
    successor = open_counters(look_at(net))
    assert successor is not None
    assert alive()[0] <= programs, "the second reader attached programs of its own"
    reader.close()
    net.send([frame(60, 2, 2)] * 4)
    assert successor.read().verdict.total_packets == 7
    successor.close()
    with trace(look_at(net)) as fresh:
        assert fresh.read().verdict.total_packets == 0


def test_kill_9_leaves_nothing(net: Playground) -> None:
    load(net, 0, 1, 2)
    before = alive()
    maps = set(bpf.ids(bpf.Command.MAP_GET_NEXT_ID))
    process = child(net, "t = trace(running)\nprint('counting', flush=True)\ntime.sleep(600)")
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "counting\n"
        assert alive().since(before) == [4, 4]
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert settled(lambda: alive() <= before)
        assert settled(lambda: set(bpf.ids(bpf.Command.MAP_GET_NEXT_ID)) <= maps)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert net.send([frame(60, 2, 2, 2)]) == 1


@pytest.mark.parametrize("mode", ["xdpdrv", "xdpgeneric"])
def test_a_single_foreign_program_is_counted(net: Playground, samples: Path, mode: str) -> None:
    with pinned_program(samples / "scripted.o") as pin:
        attach_pinned(net, pin, mode=mode)
        with open_counters(look_at(net)) or pytest.fail("nothing counts") as reader:
            sample = send_all(net, reader)
    assert sample.slots == {FOREIGN: counts(*((one[14], len(one) + 1) for one in EVERY_CASE))}
    assert sample.verdict == sample.slots[FOREIGN]


def test_one_program_on_several_interfaces_is_counted_for_each(root: None, samples: Path) -> None:
    with (
        Playground(links=2) as playground,
        Playground() as other,
        pinned_program(samples / "scripted.o") as pin,
    ):
        attach_pinned(playground, pin)
        attach_pinned(playground, pin, link=1)
        attach_pinned(other, pin)
        assert other.ifindex in {link.ifindex for link in playground.links}, (
            "the namespaces are to share an ifindex"
        )
        with (
            trace(look_at(playground)) as first,
            trace(look_at(playground, 1)) as second,
            trace(look_at(other)) as third,
        ):
            playground.send([frame(60, 2)] * 3)
            playground.send([frame(60, 2)] * 5, link=1)
            other.send([frame(60, 2)] * 7)
            assert [t.read().verdict.total_packets for t in (first, second, third)] == [3, 5, 7]


def test_packets_that_a_bond_gets_from_below_are_counted(net: Playground, samples: Path) -> None:
    for words in (
        "add bond7 type bond mode active-backup",
        f"set {net.ifname} down",
        f"set {net.ifname} master bond7",
        "set bond7 up",
    ):
        inside(net, "ip", "link", *words.split())
    with pinned_program(samples / "pass.o") as pin:
        inside(net, "ip", "link", "set", "bond7", "xdpdrv", "pinned", pin)
        try:
            with trace(look("bond7", net.netns)) as tracer:
                net.send([frame(60)] * 3)
                assert tracer.read().verdict == counts(*[(PASS, 60)] * 3)
        finally:
            inside(net, "ip", "link", "del", "bond7")


LENGTHS = (60, 4000, 8000, 9014)


def test_bytes_in_fragments_count(root: None, samples: Path) -> None:
    if not takes_frags():
        pytest.skip("this kernel has no XDP with fragments")
    with Playground(mtu=9000) as net, pinned_program(samples / "frags.o") as pin:
        attach_pinned(net, pin)
        with trace(look_at(net)) as tracer:
            net.send([frame(length) for length in LENGTHS])
            assert tracer.read().verdict == counts(*((PASS, length) for length in LENGTHS))


def test_bytes_in_fragments_count_in_a_chain(root: None, samples: Path) -> None:
    if not takes_frags():
        pytest.skip("this kernel has no XDP with fragments")
    with Playground(mtu=9000) as net, unloading(net):
        running = change(net, chain_of(samples, "frags", "frags", linkage=Linkage.FREPLACE))
        with open_counters(running) or pytest.fail("nothing counts") as reader:
            net.send([frame(length) for length in LENGTHS])
            sample = reader.read()
    assert sample.verdict == counts(*((PASS, length) for length in LENGTHS))
    assert list(sample.slots.values()) == [sample.verdict] * 2


UNTYPED = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("xdp") int takes_anything(void *ctx) { return XDP_PASS; }
char _license[] SEC("license") = "GPL";
"""


def test_a_program_that_declares_no_packet_is_counted(net: Playground, tmp_path: Path) -> None:
    object_file = tmp_path / "untyped.o"
    object_file.write_bytes(compile_text(UNTYPED, INCLUDE))
    with pinned_program(object_file) as pin:
        attach_pinned(net, pin)
        try:
            tracer = trace(look_at(net))
        except Unsupported as error:  # the helpers it needs came with kernel 5.17 (f92c1e183604)
            pytest.skip(str(error))
        with tracer:
            net.send([frame(60)] * 2 + [frame(1000)])
            assert tracer.read().verdict == counts((PASS, 60), (PASS, 60), (PASS, 1000))


def test_a_program_without_types_says_why_not(net: Playground, samples: Path) -> None:
    with pinned_program(samples / "nobtf.o") as pin:
        attach_pinned(net, pin)
        with pytest.raises(Unsupported, match="without BTF"):
            open_counters(look_at(net))


def test_where_nothing_runs_nothing_is_traced(net: Playground) -> None:
    running = look_at(net)
    assert open_counters(running) is None
    assert targets(running) == ()


def test_the_dispatcher_comes_last_and_has_no_slot(net: Playground) -> None:
    load(net, 0, 1)
    keys = [target.key for target in targets(look_at(net))]
    assert keys[-1] == VERDICT
    assert VERDICT not in keys[:-1]


def test_the_cost_is_measured() -> None:
    one, ten = measure_counting(1), measure_counting(10)
    for cost in (one, ten):
        print(f"\n{cost.slots} slots: {cost.plain_ns} ns a packet, counted {cost.counted_ns} ns", end="")
    assert 0 < one.extra_ns < ten.extra_ns
