# SPDX-License-Identifier: Apache-2.0
"""Make the recording that comes with xdptui (`xdptui replay --demo`), from a playground (needs root).

Ninety seconds of mixed packets through a chain of three samples: a port is blocked, a slot moves, a burst
arrives. Anything that identifies this machine is removed.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from xdpchain.change.plan import make_plan
from xdpchain.editing import apply
from xdpchain.errors import XdpChainError
from xdpchain.maps import open_map
from xdpchain.model.chain import Chain
from xdpchain.model.interface import Interface
from xdpchain.model.running import Running
from xdpchain.model.slot import Slot
from xdpchain.objects.components import load_component
from xdpchain.observe.discover import look
from xdpchain.observe.recording import Counted, Header, RecordedReading, Writer
from xdpchain.observe.running_sites import reasons_of
from xdpchain.testing.playground import Playground
from xdpchain.testing.traffic import mixture
from xdptui.commands.replay import DEMO
from xdptui.workers.meter import Meter, open_missing

SAMPLES = Path(__file__).resolve().parent.parent / "build" / "samples"
CHAIN = ("firewall", "ratelimit", "monitor")
SECONDS = 90
RATE = 300
STARTED = 1767261600.0
"""An arbitrary time: 1 January 2026, 10:00 UTC."""


def change(ground: Playground, edit: Callable[[Chain], Chain]) -> None:
    running = look(ground.ifname, ground.netns)
    apply(make_plan(running, edit(running.chain or Chain())))


def begin(chain: Chain) -> Chain:
    for name in CHAIN:
        chain = chain.add(Slot.of(load_component(str(SAMPLES / f"{name}.o"))))
    return chain


def block(ground: Playground) -> None:
    with open_map(look(ground.ifname, ground.netns), 0, "blocked") as table:
        table.write(table.change(table.key_of("port=53, protocol=17"), "1"))


def send(ground: Playground, stop: threading.Event) -> None:
    """Send until told to stop, two minutes at most; with a burst in the middle."""
    frames = mixture()
    sent = 0
    for tick in range(1200):
        if stop.wait(0.1):
            return
        burst = RATE // 10 * (2 + tick % 7 + (tick // 13) % 5) // 6 * (4 if 500 < tick < 620 else 1)
        ground.send(frames[(sent + i) % len(frames)] for i in range(burst))
        sent += burst


def anonymous(running: Running) -> Running:
    """Without the namespace and the paths of this machine."""
    where = Interface(running.interface.name, running.interface.ifindex, None)
    chain = running.chain
    if chain is not None:
        slots = []
        for slot in chain:
            source = slot.component.object
            if source is not None:
                source = replace(source, path=f"samples/{Path(source.path or '').name}")
            slots.append(replace(slot, component=replace(slot.component, object=source)))
        chain = replace(chain, slots=tuple(slots))
    return replace(running, device=replace(running.device, interface=where), chain=chain)


def record(ground: Playground) -> None:
    events: dict[int, Callable[[], None]] = {
        20: lambda: block(ground),
        35: lambda: change(ground, lambda chain: chain.move(2, 1)),
        75: lambda: change(ground, lambda chain: chain.remove([1])),
    }
    header = Header("demo", 0, STARTED, 1.0, "playground", None, "xdptui")
    last = None
    with Writer(str(DEMO), header, overwrite=True) as writer, closing(Meter()) as meter:
        began = time.monotonic()
        for second in range(SECONDS):
            if second in events:
                events[second]()
            running = look(ground.ifname, ground.netns)
            meter.sync([running], open_missing([running], meter.known))
            elapsed = time.monotonic() - began
            if running.identity != last:
                reasons = {running.interface.ifindex: reasons_of(running)}
                writer.running(STARTED + elapsed, elapsed, [anonymous(running)], reasons)
                last = running.identity
            where = running.interface
            meter.read(where.ifindex)
            counted = Counted(where.name, where.ifindex, meter.sample(where.ifindex))
            writer.reading(
                RecordedReading(round(STARTED + elapsed, 3), round(elapsed, 4), {where.ifindex: counted})
            )
            time.sleep(max(0.0, began + second + 1 - time.monotonic()))


def main() -> int:
    if os.geteuid() != 0:
        print("The recording needs root: it is of a real chain", file=sys.stderr)
        return 3
    stop = threading.Event()
    try:
        with Playground() as ground:
            change(ground, begin)
            sender = threading.Thread(target=send, args=(ground, stop))
            sender.start()
            try:
                record(ground)
            finally:
                stop.set()
                sender.join()
    except XdpChainError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(DEMO, DEMO.stat().st_size, "bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
