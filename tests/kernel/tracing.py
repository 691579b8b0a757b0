# SPDX-License-Identifier: Apache-2.0
"""Shared by tests of tracing: chains whose counts are known in advance, and what the kernel holds."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.kernel.chains import expected, look_at
from tests.kernel.loaders import xdp_loader
from tests.objects.compile import object_file
from xdpchain.model.actions import Action, ActionSet
from xdpchain.model.running import Owner
from xdpchain.observe.counters import Sample, SlotCounts
from xdpchain.observe.trace import sweep_traces
from xdpchain.sys import bpf, bpffs
from xdpchain.testing.frames import scripted
from xdpchain.testing.playground import Playground

__all__ = [
    "DROP",
    "EVERY_CASE",
    "INCLUDE",
    "ON_PASS",
    "PASS",
    "Ids",
    "alive",
    "by_name",
    "child",
    "coded_object",
    "counts",
    "frame",
    "load",
    "model",
    "nothing_left",
    "settled",
    "unload",
    "unloading",
]

ROOT = Path(__file__).parents[2]
INCLUDE = f"-I/usr/include/{os.uname().machine}-linux-gnu"
PASS, DROP = Action.PASS, Action.DROP
ON_PASS = ActionSet(1 << PASS)


class Ids(tuple[frozenset[int], frozenset[int]]):
    """Ids of programs and of links; ``<=``: nothing new."""

    def __le__(self, other: tuple[frozenset[int], frozenset[int]]) -> bool:  # type: ignore[override]
        return all(mine <= theirs for mine, theirs in zip(self, other, strict=True))

    def since(self, earlier: Ids) -> list[int]:
        """How many programs, and how many links, are new."""
        return [len(now - then) for now, then in zip(self, earlier, strict=True)]


def alive() -> Ids:
    """What the kernel holds now, everybody's."""
    programs, links = bpf.Command.PROG_GET_NEXT_ID, bpf.Command.LINK_GET_NEXT_ID
    return Ids((frozenset(bpf.ids(programs)), frozenset(bpf.ids(links))))


def settled(condition: Callable[[], bool], seconds: float = 15.0) -> bool:
    """Whether it becomes true in time: the kernel frees programs a grace period after their last use."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@contextlib.contextmanager
def nothing_left() -> Iterator[None]:
    """Fails if anything is left, in the kernel or among our pins."""
    before = alive()
    yield
    sweep_traces()
    assert settled(lambda: alive() <= before), f"new programs and links: {alive().since(before)}"
    assert not (bpffs.find() / "xdptui-trace").exists()


@contextlib.contextmanager
def unloading(playground: Playground) -> Iterator[Playground]:
    """Chains are unloaded at the end: their pins would outlive their interfaces."""
    try:
        yield playground
    finally:
        for index in range(len(playground.links)):
            if look_at(playground, index).owner in (Owner.LIBXDP, Owner.XDPTUI):
                unload(playground, "--all", link=index)


def coded_object() -> Path:
    """The object file with coded_0 to coded_2."""
    return object_file("coded", INCLUDE)


def load(playground: Playground, *numbers: int, link: int = 0, mode: str = "native") -> None:
    """Make xdp-loader add coded_N in slot N, one load per program."""
    for number in numbers:
        chosen = ("-n", f"coded_{number}", "-P", str(10 + number))
        xdp_loader(playground, "load", "-m", mode, *chosen, coded_object(), link=link)


def unload(playground: Playground, *arguments: str, link: int = 0) -> None:
    """`xdp-loader unload`."""
    xdp_loader(playground, "unload", *arguments, link=link)


def by_name(playground: Playground, sample: Sample, link: int = 0) -> dict[str, SlotCounts]:
    """A sample by the components' names instead of keys."""
    chain = look_at(playground, link).chain
    assert chain is not None
    return {slot.name: sample.slots[slot.key] for slot in chain}


def counts(*returned: tuple[int, int]) -> SlotCounts:
    """Counts of (return code, length) pairs."""
    packets, octets = [0] * 6, [0] * 6
    for code, length in returned:
        packets[min(code, 5)] += 1
        octets[min(code, 5)] += length
    return SlotCounts(tuple(packets), tuple(octets))


def frame(length: int, *script: int) -> bytes:
    """A frame that makes program N of its chain return ``script[N]``."""
    return scripted(bytes(script), length=length)


# Lengths with room at the end, where scripted_N appends: veth's buffers end at multiples of 64 bytes.
EVERY_CASE = [
    frame(70 + number, *script)
    for number, script in enumerate(itertools.product((0, 1, 2, 3, 4, 5, 200), (1, 2, 255), (2, 4)))
]


def model(
    slots: Sequence[int], frames: Sequence[bytes], *, appending: bool = False
) -> tuple[list[SlotCounts], SlotCounts]:
    """The expected counts of a chain of these programs: slot by slot, and the verdicts. ``appending``: each
    makes the packet one byte longer.
    """
    passed: list[list[tuple[int, int]]] = [[] for _ in slots]
    verdicts = []
    for one in frames:
        outcome = expected([ON_PASS] * len(slots), [one[14 + number] for number in slots])
        for place, code in enumerate(outcome.returned):
            passed[place].append((code, len(one) + (place + 1) * appending))
        verdicts.append((outcome.verdict, len(one) + len(outcome.returned) * appending))
    return [counts(*found) for found in passed], counts(*verdicts)


def child(playground: Playground, code: str, link: int = 0) -> subprocess.Popen[str]:
    """A separate process that starts with ``running`` and all names of xdpchain.observe.trace."""
    head = "from xdpchain.observe.discover import look\nfrom xdpchain.observe.trace import *\nimport time\n"
    head += f"running = look({playground.links[link].ifname!r}, {playground.netns!r})\n"
    paths = os.pathsep.join((str(ROOT / "core"), str(ROOT)))
    return subprocess.Popen(
        [sys.executable, "-c", head + code],
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        text=True,
    )
