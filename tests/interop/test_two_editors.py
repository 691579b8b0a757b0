# SPDX-License-Identifier: Apache-2.0
"""xdptui and xdp-loader at once on one interface, and a thousand edits of both: a whole chain at any time,
nothing left behind.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.interop.editors import Ours, Program, Theirs
from tests.interop.libxdp import Loader, Refused, agreed, nothing_left, pinned
from tests.stress.scale import scaled
from xdpchain import stale
from xdpchain.chain import Chain
from xdpchain.discover import look
from xdpchain.errors import Busy, RaceLost
from xdpchain.stale import clean
from xdpchain.sys import bpf
from xdptui.demo import frames
from xdptui.demo.playground import Playground

pytestmark = pytest.mark.vm

ROUNDS = scaled(40, 400, 12)
EDITS = scaled(1000, 10_000, 100)
"""1,000 with XDPTUI_SOAK=1 in the lab, too."""


@pytest.fixture
def ours(playground: Playground, samples: Path) -> Ours:
    return Ours(playground, samples)


@pytest.fixture
def theirs(loader: Loader, samples: Path) -> Theirs:
    return Theirs(loader, samples)


def test_both_at_once(
    playground: Playground, ours: Ours, theirs: Theirs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two components stay throughout: ours moves its own about, theirs loads and unloads another, and every
    packet meets the two that stay.
    """
    monkeypatch.setattr(stale, "GRACE", 3600.0)  # nothing of theirs is swept while they are at it
    ours.load(Program("mark", "mark_a", priority=10), Program("mark", "mark_b", priority=20))
    done = threading.Event()
    failures: list[str] = []
    loaded = 0

    def load_and_unload() -> None:
        nonlocal loaded
        for _ in range(ROUNDS):
            with contextlib.suppress(Refused):  # ten races lost: it gives up, and changes nothing
                theirs.load(Program("mark", "mark_c", priority=30))
                loaded += 1
            for slot in look(playground.ifname, playground.netns).chain or ():
                if slot.name == "mark_c":
                    with contextlib.suppress(Refused):
                        theirs.remove(slot.id or 0)
        done.set()

    def send() -> None:
        listener = playground.listen()
        frame = frames.udp(frames.PEER, frames.NEAR, 53)
        while not done.is_set():
            playground.send([frame])
            for got in listener.receive(1):
                # More than one C: theirs lost ten races for removing it, and loaded another.
                if not re.fullmatch("(AB|BA)C*", marks := got[len(frame) :].decode()):
                    failures.append(marks)
        listener.close()

    threads = [threading.Thread(target=load_and_unload), threading.Thread(target=send)]
    for thread in threads:
        thread.start()
    made = 0
    while not done.is_set():
        with contextlib.suppress(RaceLost, Busy):  # after ten tries
            ours.edit(swap_a_and_b)
            made += 1
    for thread in threads:
        thread.join()
    assert failures == []
    assert made > 0
    assert loaded > 0
    monkeypatch.setattr(stale, "GRACE", 0.0)
    clean()
    chain = agreed(playground).chain
    assert chain is not None
    assert {slot.name for slot in chain} - {"mark_c"} == {"mark_a", "mark_b"}
    theirs.remove_all()
    nothing_left(playground)


def swap_a_and_b(chain: Chain) -> Chain:
    here = [i for i, slot in enumerate(chain) if slot.name in ("mark_a", "mark_b")]
    return chain.move(here[1], here[0])


def test_nothing_grows(playground: Playground, ours: Ours, theirs: Theirs) -> None:
    """Edits of every kind, every twentieth by xdp-loader; then all is as it was before."""
    ours.load(Program("firewall"), Program("monitor"))
    for step in kinds(ours):  # once, so that all that is made once is there
        step()
    assert [slot.name for slot in agreed(playground).chain or ()] == ["xdp_firewall", "xdp_monitor"]
    before = at_rest()
    begun = time.monotonic()
    made = 0
    while made < EDITS:
        for step in kinds(ours):
            step()
            made += 1
        if made % 20 == 0:
            theirs.load(Program("pass"))
            theirs.remove(next(s.id for s in agreed(playground).chain or () if s.name == "xdp_pass") or 0)
            made += 2
    per_edit = (time.monotonic() - begun) / made
    print(f"{made} edits, {per_edit * 1000:.0f} ms each")
    agreed(playground, ["xdp_firewall", "xdp_monitor"])
    assert settled(before) == before
    ours.remove_all()
    nothing_left(playground)


def kinds(ours: Ours) -> tuple[Callable[[], object], ...]:
    """Edits of a chain of two (firewall, monitor), after which it is as it was."""

    def change(edit: Callable[[Chain], Chain]) -> Callable[[], object]:
        return lambda: ours.edit(edit)

    return (
        change(lambda chain: chain.add(ours.slot(Program("ratelimit")), at=1)),
        change(lambda chain: chain.move(1, 0)),
        change(lambda chain: chain.move(2, 1)),
        change(lambda chain: chain.remove([0])),
        change(lambda chain: chain.move(1, 0)),
    )


def counts() -> dict[str, int]:
    """Of the whole machine, which is a guest and ours; descriptors of this process."""
    return {
        "programs": len(list(bpf.ids(bpf.Command.PROG_GET_NEXT_ID))),
        "maps": len(list(bpf.ids(bpf.Command.MAP_GET_NEXT_ID))),
        "links": len(list(bpf.ids(bpf.Command.LINK_GET_NEXT_ID))),
        "pins": sum(map(len, pinned().values())) + len(pinned()),
        "descriptors": len(os.listdir("/proc/self/fd")),
    }


def at_rest() -> dict[str, int]:
    """The counts when they have not changed for a second."""
    now, since = counts(), time.monotonic()
    while time.monotonic() < since + 1:
        if (later := counts()) != now:
            now, since = later, time.monotonic()
        time.sleep(0.1)
    return now


def settled(wanted: dict[str, int]) -> dict[str, int]:
    """The counts once the kernel has let go of what nobody holds: within seconds."""
    for _ in range(100):
        if (now := counts()) == wanted:
            break
        time.sleep(0.1)
    return now
