# SPDX-License-Identifier: Apache-2.0
"""What packets pay while somebody follows: those that don't match, those that do, and all of them while the
rate limit is exhausted or the follower is gone; and nothing once it is over.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest

from tests.bench.live import Generator
from tests.bench.rounds import alternate, summary
from tests.kernel.chains import chain_of, change, look_at
from xdpchain.follow import MOST_RATE, compile_filter, follow
from xdpchain.follow.tapping import Tapping
from xdpchain.linkage.static import StaticLinker
from xdpchain.linkage.tap import Tap, make_maps
from xdpchain.model.link_layer import ETHERNET
from xdpchain.model.manifest import Author
from xdpchain.sys import bpf
from xdpchain.testing.playground import Playground
from xdpchain.trial.run import NOWHERE
from xdptui.workers.trial_frames import NAMED_FRAMES

pytestmark = pytest.mark.bench

SLOTS = 3
PACKET = next(frame for name, frame in NAMED_FRAMES if "UDP" in name)
ROUNDS, REPEAT = 15, 200_000
MATCHES = 300
"""Packets followed per round: as many as fit in the ring buffer without a reader."""
EVERYTHING = 1 << 60
LIVE = 20_000
"""Packets of a round that are really sent."""
OTHERS = {
    "others' packets, `icmp`": "icmp",
    "others' packets, `tcp port 80 and host 192.0.2.9`": "tcp port 80 and host 192.0.2.9",
    "others' packets, `ether[255] = 1`": "ether[255] = 1",
}
TARGET_RATIO = 2.0
"""Limit for a packet that doesn't match `icmp`, relative to its cost without following."""


class _Unattached(Tapping):
    def why_not(self) -> str:
        return ""


def recording(
    samples: Path, expression: str, held: contextlib.ExitStack, granted: int, *, fates: bool = False
) -> tuple[bpf.Fd, _Unattached]:
    """A recording chain, not attached."""
    filter = compile_filter(expression, ETHERNET)
    maps = make_maps()
    for fd in maps.values():
        held.callback(fd.close)
    tapping = _Unattached(maps)
    held.callback(tapping.close)
    tap = Tap(filter.instructions, filter.needs, maps, b"mark", fates=fates)
    author = Author("", 0, "bench", 0.0)
    built = StaticLinker(tap=tap).build(chain_of(samples, *["pass"] * SLOTS), NOWHERE, author)
    held.callback(built.close)
    tapping.grant(granted)
    return built.program, tapping


def test_what_a_packet_pays_while_somebody_follows(root: None, samples: Path) -> None:
    with contextlib.ExitStack() as held:
        plain = StaticLinker().build(
            chain_of(samples, *["pass"] * SLOTS), NOWHERE, Author("", 0, "bench", 0.0)
        )
        held.callback(plain.close)
        silent, _ = recording(samples, "", held, 0)
        bpf.prog_test_run(silent, PACKET)  # it sees the sign of life now
        started = time.monotonic()
        programs = {"plain": plain.program}
        tappings = []
        for name, expression in OTHERS.items():
            programs[name], tapping = recording(samples, expression, held, EVERYTHING)
            tappings.append(tapping)
        programs["others' packets, `icmp`, with --after"], tapping = recording(
            samples, "icmp", held, EVERYTHING, fates=True
        )
        tappings.append(tapping)
        programs["rate used up"], used_up = recording(samples, "", held, 0)
        tappings.append(used_up)
        matching, taking = recording(samples, "udp", held, EVERYTHING)
        matching_after, taking_after = recording(samples, "udp", held, EVERYTHING, fates=True)
        time.sleep(max(0.0, 11 - (time.monotonic() - started)))  # 1000 jiffies, however long they are
        programs["nobody there any more"] = silent

        def measure(program: bpf.Fd) -> float:
            for tapping in tappings:
                tapping.grant(0 if tapping is used_up else EVERYTHING)
            return float(bpf.prog_test_run(program, PACKET, REPEAT).ns)

        def followed(program: bpf.Fd, taking: Tapping) -> float:
            taking.grant(EVERYTHING)
            taking.read()
            return float(bpf.prog_test_run(program, PACKET, MATCHES).ns)

        subjects = {name: lambda program=program: measure(program) for name, program in programs.items()}
        subjects["followed"] = lambda: followed(matching, taking)
        subjects["followed, with --after"] = lambda: followed(matching_after, taking_after)
        taken = alternate(subjects, ROUNDS)
        assert taking.tally().lost_records == taking_after.tally().lost_records == 0
    base = taken["plain"].median
    print(f"\n{SLOTS} slots with counters, ns per packet")
    for name, timing in taken.items():
        print(f"{name:<52}{timing.median:7.0f}  {timing.low:.0f} to {timing.high:.0f}"
              f"  {timing.median / base:5.2f} times")  # fmt: skip
    assert taken["others' packets, `icmp`"].median <= TARGET_RATIO * base
    assert taken["rate used up"].median <= taken["others' packets, `icmp`"].median


def test_nothing_is_paid_afterwards(playground: Playground, samples: Path) -> None:
    running = change(playground, chain_of(samples, *["pass"] * SLOTS))

    def rounds() -> list[float]:
        hook = look_at(playground).hook
        assert hook is not None
        with bpf.prog_by_id(hook.prog_id) as program:
            return [float(bpf.prog_test_run(program, PACKET, REPEAT).ns) for _ in range(ROUNDS)]

    rounds()  # to warm up
    before = summary(rounds())
    with follow(running, "icmp", count=None) as follower:
        follower.poll()
        meanwhile = summary(rounds())
    assert look_at(playground).hook == running.hook, "the very program that ran before"
    after = summary(rounds())
    print(f"\n{SLOTS} slots: before {before} ns, while somebody follows {meanwhile} ns, after {after} ns")
    assert after.median < (before.median + meanwhile.median) / 2


def test_what_after_costs_packets_on_their_way_through_the_stack(
    playground: Playground, samples: Path
) -> None:
    """Packets that pass and are freed by the stack, made and sent by the kernel: the whole way of each."""
    running = change(playground, chain_of(samples, *["pass"] * SLOTS))
    with contextlib.closing(Generator(playground, PACKET)) as generator:

        def followed(expression: str, fates: bool) -> float:
            with follow(running, expression, count=None, rate=MOST_RATE, fates=fates) as follower:
                took = generator.send(LIVE)
                follower.poll(last=True)
                assert follower.tally().looked_at or expression == "udp"
            return took

        def freed() -> float:
            """ns that one freed buffer takes in the listener, the kernel's reading of the clock included."""
            before = set(bpf.ids(bpf.Command.PROG_GET_NEXT_ID))
            with follow(running, "icmp", count=None, fates=True), bpf.enable_statistics():
                generator.send(LIVE)
                runs = [run for prog_id in set(bpf.ids(bpf.Command.PROG_GET_NEXT_ID)) - before
                        if (run := _statistics(prog_id)) is not None]  # fmt: skip
            ns, count = (sum(column) for column in zip(*runs, strict=True))
            assert count >= LIVE
            return ns / count

        taken = alternate(
            {
                "nobody follows": lambda: generator.send(LIVE),
                "`icmp` is followed": lambda: followed("icmp", False),
                "`icmp` is followed, with --after": lambda: followed("icmp", True),
                "they are followed": lambda: followed("udp", False),
                "they are followed, with --after": lambda: followed("udp", True),
                "nobody any more": lambda: generator.send(LIVE),
            },
            ROUNDS,
        )
        listener = summary([freed() for _ in range(ROUNDS)])
    base = taken["nobody follows"].median
    print(f"\nsent, received, passed, freed: ns a packet ({LIVE} at once, at most {MOST_RATE} followed)")
    for name, timing in taken.items():
        print(f"{name:<52}{timing.median:7.0f}  {timing.low:.0f} to {timing.high:.0f}"
              f"  {timing.median / base:5.2f} times")  # fmt: skip
    print(
        f"the listener, for each buffer freed on the machine: {listener} ns, readings of the clock included"
    )
    after = taken["nobody any more"].median
    assert after < (base + taken["`icmp` is followed, with --after"].high) / 2


def _statistics(prog_id: int) -> tuple[int, int] | None:
    """ns and runs of a program of the listener (bpf/fates.bpf.c)."""
    try:
        with bpf.prog_by_id(prog_id) as program:
            info = bpf.prog_info(program)
    except bpf.BpfError:
        return None
    return (info.run_time_ns, info.run_count) if info.name in ("xdptui_dropped", "xdptui_freed") else None
