# SPDX-License-Identifier: Apache-2.0
"""What long-running viewers keep about an interface goes when it does: ifindexes are not used again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.kernel.chains import chain_of, change
from xdpchain.model.running import Running
from xdpchain.observe.recording import Header, Writer
from xdpchain.testing.playground import Playground
from xdptui.export.collector import ChainCollector
from xdptui.workers.behind_meter import BehindMeter
from xdptui.workers.meter import Meter, open_missing
from xdptui.workers.queue_meter import QueueMeter

Look = Callable[[tuple[Running, ...]], object]


def kept(viewer: object) -> dict[str, int]:
    """How many entries each of its tables has."""
    return {name: len(table) for name, table in vars(viewer).items() if isinstance(table, dict)}


def meter(held: ExitStack, _: Playground, __: Path) -> tuple[object, Look]:
    meter = Meter()
    held.callback(meter.close)

    def look(runnings: tuple[Running, ...]) -> None:
        meter.sync(runnings, open_missing(runnings, meter.known))
        for running in runnings:
            meter.read(running.interface.ifindex)
            meter.cpus(running.interface.ifindex)

    return meter, look


def behind(held: ExitStack, _: Playground, __: Path) -> tuple[object, Look]:
    return left(held.enter_context(BehindMeter()))


def queues(_: ExitStack, __: Playground, ___: Path) -> tuple[object, Look]:
    return left(QueueMeter())


def left(meter: BehindMeter | QueueMeter) -> tuple[object, Look]:
    def look(runnings: tuple[Running, ...]) -> None:
        meter.leave_all_but(runnings)
        for running in runnings:
            meter.read(running)

    return meter, look


def recording(held: ExitStack, _: Playground, directory: Path) -> tuple[object, Look]:
    writer = held.enter_context(Writer(str(directory / "recording"), Header("", 0, 0.0, 1.0)))
    return writer, lambda runnings: writer.running(0.0, 0.0, runnings)


def collector(held: ExitStack, playground: Playground, _: Path) -> tuple[object, Look]:
    """It looks by itself: what is shown is the chains of the playground."""
    collector = ChainCollector(playground.netns, [playground.ifname, "none"], sites=True)
    held.callback(collector.close)

    def look(runnings: tuple[Running, ...]) -> None:
        collector._interfaces = frozenset(running.interface.name for running in runnings) or frozenset(
            {"none"}
        )
        collector.collect()

    return collector, look


@pytest.mark.parametrize("make", [meter, behind, queues, recording, collector])
def test_nothing_is_kept_of_an_interface_that_is_gone(
    playground: Playground,
    samples: Path,
    tmp_path: Path,
    make: Callable[[ExitStack, Playground, Path], tuple[object, Look]],
) -> None:
    running = change(playground, chain_of(samples, "redirect"))
    with ExitStack() as held:
        viewer, look = make(held, playground, tmp_path)
        before = kept(viewer)
        look((running,))
        look((running,))
        assert any(kept(viewer).values()), "something is kept between looks"
        look(())
        assert kept(viewer) == {**before, **dict.fromkeys(before, 0)}
