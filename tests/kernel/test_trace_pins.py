# SPDX-License-Identifier: Apache-2.0
"""Persistent counters: pinned on request, read by whoever comes later, removed, swept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.chains import look_at
from tests.kernel.loaders import attach_pinned, pinned_program
from tests.kernel.tracing import (
    DROP,
    EVERY_CASE,
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
from xdpchain.errors import Unsupported
from xdpchain.observe.counters import FOREIGN
from xdpchain.observe.trace import (
    VERDICT,
    is_traced,
    retrace,
    sweep_traces,
    targets,
    trace,
    trace_off,
    trace_on,
)
from xdpchain.sys import bpffs
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


def packets(net: Playground) -> dict[str, int]:
    """Packets counted by each component, read again."""
    with trace(look_at(net)) as tracer:
        return {name: one.total_packets for name, one in by_name(net, tracer.read()).items()}


def test_pinned_counters_outlive_who_pinned_them(net: Playground) -> None:
    load(net, 0, 1)
    assert not is_traced(look_at(net))
    before = alive()
    with child(net, "trace_on(running)") as process:
        assert process.wait(120) == 0
    assert is_traced(look_at(net))
    net.send(EVERY_CASE)
    programs = alive()[0]
    with trace(look_at(net)) as tracer:
        assert alive()[0] <= programs, "what is pinned is counted twice"
        sample = tracer.read()
        expected_slots, verdict = model((0, 1), EVERY_CASE)
        assert list(by_name(net, sample).values()) == expected_slots
        assert sample.verdict == verdict
        # A reader's counters continue even if the pins are removed meanwhile.
        assert trace_off(look_at(net))
        net.send([frame(60, 1)])
        assert tracer.read().verdict.since(sample.verdict) == counts((DROP, 60))
    assert settled(lambda: alive() <= before)
    assert not is_traced(look_at(net))
    assert not trace_off(look_at(net))


def test_pinned_counters_survive_a_rebuild_and_take_in_the_newcomer(net: Playground) -> None:
    load(net, 0, 1)
    trace_on(look_at(net))
    net.send([frame(60, 2, 2, 2)] * 5)
    load(net, 2)
    net.send([frame(60, 2, 2, 2)] * 5)
    with trace(look_at(net)) as tracer:  # attaches what the pins lack
        net.send([frame(60, 2, 2, 2)] * 5)
        found = {name: one.total_packets for name, one in by_name(net, tracer.read()).items()}
        assert found == {"coded_0": 15, "coded_1": 15, "coded_2": 5}
        # The five verdicts of the time in between were not counted.
        assert tracer.read().verdict.total_packets == 10
    running = look_at(net)
    traced = trace_on(running)
    assert set(traced) == {target.prog_id for target in targets(running)}
    assert trace_on(running) == traced
    net.send([frame(60, 2, 2, 2)] * 5)
    assert packets(net) == {"coded_0": 20, "coded_1": 20, "coded_2": 5}
    trace_off(running)


def test_after_a_change_the_pins_are_those_of_the_new_chain(net: Playground) -> None:
    load(net, 0, 1)
    assert retrace(look_at(net)) == (), "nobody asked for it"
    gone, stays = (target.prog_id for target in targets(look_at(net)) if target.key != VERDICT)
    trace_on(look_at(net))
    load(net, 2)
    unload(net, "--id", str(gone))
    with bpffs.lock():
        traced = retrace(look_at(net))
    assert set(traced) == {target.prog_id for target in targets(look_at(net))}
    assert stays in traced
    assert settled(lambda: gone not in alive()[0]), "a pin keeps what left the chain"
    unload(net, "--all")
    with bpffs.lock():
        assert retrace(look_at(net)) == ()


def test_a_single_component_is_pinned_without_a_verdict_of_its_own(net: Playground) -> None:
    load(net, 0)
    running = look_at(net)
    (component, _dispatcher) = targets(running)
    assert trace_on(running) == (component.prog_id,)
    net.send(EVERY_CASE)
    with trace(running) as tracer:
        assert tracer.read().verdict == model((0,), EVERY_CASE)[1]
    trace_off(running)


def test_a_foreign_program_is_pinned_too(net: Playground, samples: Path) -> None:
    with pinned_program(samples / "pass.o") as pin:
        attach_pinned(net, pin)
        trace_on(look_at(net))
        net.send([frame(60)] * 3)
        with trace(look_at(net)) as tracer:
            assert tracer.read().slots[FOREIGN] == counts((2, 60), (2, 60), (2, 60))
        trace_off(look_at(net))


def test_chains_on_two_interfaces_are_pinned_apart(root: None) -> None:
    with Playground(links=2) as net, unloading(net):
        for link in (0, 1):
            load(net, 0, 1, link=link)
        trace_on(look_at(net, 1))
        assert not is_traced(look_at(net, 0))
        with trace(look_at(net)) as tracer, trace(look_at(net, 1)) as pinned:
            net.send([frame(60, 2, 2)] * 3)
            net.send([frame(60, 2, 2)] * 5, link=1)
            assert tracer.read().verdict.total_packets == 3
            assert pinned.read().verdict.total_packets == 5
        trace_off(look_at(net, 1))


def test_pins_of_a_chain_that_is_gone_are_swept(net: Playground) -> None:
    load(net, 0, 1)
    running = look_at(net)
    trace_on(running)
    assert sweep_traces() == ()
    assert is_traced(running), "what runs was swept"
    unload(net, "--all")
    listed = sweep_traces(dry_run=True)
    assert len(listed) == 3
    assert all(Path(path).exists() for path in listed)
    assert sweep_traces() == listed
    assert not any(Path(path).exists() for path in listed)


def test_half_of_the_pins_is_completed(net: Playground) -> None:
    load(net, 0, 1)
    running = look_at(net)
    trace_on(running)
    (directory,) = (bpffs.find() / "xdptui-trace").iterdir()
    for path in sorted(directory.glob("row*"))[1:]:  # as if killed before these
        path.unlink()
    assert len(trace_on(running)) == 3
    (directory / "counters").unlink()  # by hand: the rest counts where nobody can read it
    assert not is_traced(running)
    assert len(trace_on(running)) == 3
    net.send([frame(60, 2, 2)])
    assert packets(net) == {"coded_0": 1, "coded_1": 1}
    trace_off(running)


def test_where_nothing_runs_nothing_is_pinned(net: Playground) -> None:
    with pytest.raises(Unsupported, match="no XDP program runs there"):
        trace_on(look_at(net))
