# SPDX-License-Identifier: Apache-2.0
"""xdptui and xdp-loader at once on one interface, and a thousand edits by both: always a whole chain, nothing
left behind.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
import time
from collections.abc import Callable

import pytest

from tests.interop.editors import Ours, Program, Theirs
from tests.interop.libxdp import Refused, agreed, nothing_left, pinned
from tests.stress.scale import scaled
from xdpchain.change import stale
from xdpchain.change.stale import clean
from xdpchain.errors import Busy, RaceLost
from xdpchain.model.chain import Chain
from xdpchain.observe.discover import look
from xdpchain.sys import bpf
from xdpchain.sys.cpus import possible_cpus
from xdpchain.testing import frames
from xdpchain.testing.playground import Playground

pytestmark = pytest.mark.vm

ROUNDS = scaled(40, 400, 12)
EDITS = scaled(1000, 10_000, 100)
"""1,000 with XDPTUI_SOAK=1 in the lab, too."""


def test_both_at_once(
    playground: Playground, ours: Ours, theirs: Theirs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two counters stay throughout: we move them about, xdp-loader loads and unloads another program, and no
    packet misses either. (No markers: libxdp 1.3 can't attach programs that move packet pointers on kernel
    6.12.)
    """
    monkeypatch.setattr(stale, "GRACE", 3600.0)  # keep theirs from being swept meanwhile
    ours.load(Program("counter", priority=10), Program("counter", priority=20))
    counters = [slot.component.maps[0] for slot in agreed(playground).chain or ()]
    done = threading.Event()
    loaded = sent = made = 0

    def load_and_unload() -> None:
        nonlocal loaded
        for _ in range(ROUNDS):
            with contextlib.suppress(Refused):  # after losing ten races it gives up, and changes nothing
                theirs.load(Program("pass", priority=30))
                loaded += 1
            for slot in look(playground.ifname, playground.netns).chain or ():
                if slot.name == "xdp_pass":
                    with contextlib.suppress(Refused):
                        theirs.remove(slot.id or 0)
        done.set()

    def send() -> None:
        nonlocal sent
        while not done.is_set():
            sent += playground.send([frames.udp(frames.PEER, frames.NEAR, 53)] * 8)

    threads = [threading.Thread(target=load_and_unload), threading.Thread(target=send)]
    for thread in threads:
        thread.start()
    while not done.is_set():
        with contextlib.suppress(RaceLost, Busy):  # after ten tries
            ours.edit(swap_counters)
            made += 1
        done.wait(made % 4 * 0.3)  # so that now and then they get in between two edits, however slow they are
    for thread in threads:
        thread.join()
    print(f"{made} edits of ours, {loaded} of theirs, {sent} packets")
    assert min(made, loaded, sent) > 0
    monkeypatch.setattr(stale, "GRACE", 0.0)
    clean()
    chain = agreed(playground).chain
    assert chain is not None
    assert {slot.name for slot in chain} - {"xdp_pass"} == {"xdp_counter"}
    assert [counted(ref.id) for ref in counters] == [sent, sent]
    theirs.remove_all()
    nothing_left(playground)


def swap_counters(chain: Chain) -> Chain:
    here = [i for i, slot in enumerate(chain) if slot.name == "xdp_counter"]
    return chain.move(here[1], here[0])


def counted(number: int) -> int:
    cpus = possible_cpus()
    with bpf.map_by_id(number) as fd:
        return sum(struct.unpack(f"={cpus}Q", bpf.map_lookup(fd, bytes(4), 8 * cpus)))


def test_nothing_grows(playground: Playground, ours: Ours, theirs: Theirs) -> None:
    """Edits of every kind, every twentieth by xdp-loader; afterwards all is as before."""
    ours.load(Program("firewall"), Program("monitor"))
    for step in kinds(ours):  # once, so that everything made only once exists
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
    """Edits of a chain of two (firewall, monitor) that leave it as it was."""

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
    """For the whole machine, a guest that is ours alone; descriptors of this process."""
    return {
        "programs": len(list(bpf.ids(bpf.Command.PROG_GET_NEXT_ID))),
        "maps": len(list(bpf.ids(bpf.Command.MAP_GET_NEXT_ID))),
        "links": len(list(bpf.ids(bpf.Command.LINK_GET_NEXT_ID))),
        "pins": sum(map(len, pinned().values())) + len(pinned()),
        "descriptors": len(os.listdir("/proc/self/fd")),
    }


def at_rest() -> dict[str, int]:
    """The counts, once they have been stable for a second."""
    now, since = counts(), time.monotonic()
    while time.monotonic() < since + 1:
        if (later := counts()) != now:
            now, since = later, time.monotonic()
        time.sleep(0.1)
    return now


def settled(wanted: dict[str, int]) -> dict[str, int]:
    """The counts once the kernel has freed what is no longer held: within seconds."""
    for _ in range(100):
        if (now := counts()) == wanted:
            break
        time.sleep(0.1)
    return now
