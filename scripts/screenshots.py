# SPDX-License-Identifier: Apache-2.0
"""Pictures of the running program, for the README: the real engine on a playground with traffic (needs root).

Everything is made here and removed on exit: two namespaces, a chain of three sample programs, a bounded
stream of mixed packets. The pictures go to screenshots/ as SVG; ``--only NAME`` makes one of them. Those of
freplace chains are left out where the kernel refuses EXT programs; the lab makes them (tests/vm/README.md):

    tests/vm/boot --out screenshots 6.1 .venv/bin/python scripts/screenshots.py --only freplace-main
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import struct
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

from textual.pilot import Pilot

from xdpchain.change.plan import make_plan
from xdpchain.editing import apply
from xdpchain.errors import XdpChainError
from xdpchain.linkage.probe import default_linkage
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.slot import Slot
from xdpchain.objects.components import load_component
from xdpchain.observe.discover import look
from xdpchain.observe.recording import Recording
from xdpchain.sys import bpf, netns
from xdpchain.testing.playground import Playground
from xdpchain.testing.traffic import mixture
from xdptui.app import XdpTui
from xdptui.commands.replay import DEMO
from xdptui.main.kernel_news import KernelNews
from xdptui.workers.feed import Unconfirmable
from xdptui.workers.replay import Replay

HERE = Path(__file__).resolve().parent.parent
ELSEWHERE = Path("/mnt")  # how this directory appears in the pictures, in a private mount namespace
SAMPLES = ELSEWHERE / "build" / "samples"
CHAIN = ("firewall", "ratelimit", "monitor")
PACKETS_A_SECOND = 600
MOST_SECONDS = 300

HOLD = threading.Event()
"""While it is set, nothing is sent."""
STAGE: list[Playground] = []
"""The playground in the pictures, while there is one."""

Scene = Callable[[Pilot[None]], Awaitable[None]]


def build_chain(ground: Playground) -> None:
    """Load the three samples."""
    chain = Chain()
    for name in CHAIN:
        chain = chain.add(Slot.of(load_component(str(SAMPLES / f"{name}.o"))))
    apply(make_plan(look(ground.ifname, ground.netns), chain))


def send_mixture(ground: Playground, stop: threading.Event) -> None:
    """Send until told to stop, five minutes at most, in uneven bursts so that the trends show something."""
    frames = mixture()
    sent = 0
    for tick in range(MOST_SECONDS * 10):
        if stop.wait(0.1):
            return
        if HOLD.is_set():
            continue
        burst = PACKETS_A_SECOND // 10 * (2 + tick % 7 + (tick // 13) % 5) // 6
        ground.send(frames[(sent + i) % len(frames)] for i in range(burst))
        sent += burst


def relink(ground: Playground, linkage: Linkage) -> None:
    """Change the chain to that linkage."""
    running = look(ground.ifname, ground.netns)
    assert running.chain is not None
    if running.linkage is not linkage:
        apply(make_plan(running, running.chain.relink(linkage)))


async def count(pilot: Pilot[None], seconds: float) -> None:
    """Give the counters time to count."""
    await pilot.pause(seconds)


async def main_scene(pilot: Pilot[None]) -> None:
    await count(pilot, 20)


async def candidate_scene(pilot: Pilot[None]) -> None:
    await count(pilot, 3)
    await pilot.press("J", "D", "down", "T", "up")
    await count(pilot, 2)


async def plan_scene(pilot: Pilot[None]) -> None:
    await candidate_scene(pilot)
    await pilot.press("p")
    await count(pilot, 0.5)


async def sample_scene(pilot: Pilot[None]) -> None:
    """What the plan says about current packets: on a freplace chain it samples them by itself."""
    await candidate_scene(pilot)
    await pilot.press("p")
    await count(pilot, 0.5)
    await pilot.press("s")
    await count(pilot, 4)


async def what_if_scene(pilot: Pilot[None]) -> None:
    await load_scene(pilot, "tailcalls")
    await pilot.press("down", "down")  # its third program
    await pilot.press("ctrl+s")
    await count(pilot, 1)
    await pilot.press("y")
    await count(pilot, 1)


async def load_scene(pilot: Pilot[None], name: str = "counter") -> None:
    await count(pilot, 3)
    await pilot.press("l")
    await pilot.pause()
    field = pilot.app.screen.query_one("#path")
    field.value = str(SAMPLES / f"{name}.o")  # type: ignore[attr-defined]
    await count(pilot, 1)


async def details_scene(pilot: Pilot[None]) -> None:
    await count(pilot, 3)
    await pilot.press("enter")
    await count(pilot, 1.5)


async def help_scene(pilot: Pilot[None]) -> None:
    await count(pilot, 3)
    await pilot.press("question_mark")
    await count(pilot, 0.5)


async def linkage_scene(pilot: Pilot[None]) -> None:
    await count(pilot, 3)
    await pilot.press("L")
    await count(pilot, 1)


async def save_scene(pilot: Pilot[None]) -> None:
    await count(pilot, 3)
    await pilot.press("ctrl+s")
    await count(pilot, 1)


async def history_scene(pilot: Pilot[None]) -> None:
    await count(pilot, 2)
    await pilot.press("h")
    await count(pilot, 1)


async def events_scene(pilot: Pilot[None]) -> None:
    """On the second interface, which redirects packets to the third."""
    ground = STAGE[0]
    component = load_component(str(SAMPLES / "redirect.o"), name="redirect_out")
    running = apply(make_plan(look("xdp1", ground.netns), Chain().add(Slot.of(component))))
    assert running.chain is not None
    out = next(ref.id for ref in running.chain.slots[0].component.maps if ref.name == "out")
    with bpf.map_by_id(out) as fd:
        target = ground.links[2].ifindex.to_bytes(4, sys.byteorder)
        netns.run(ground.netns, lambda: bpf.map_update(fd, bytes(4), target))
    await count(pilot, 1)
    await pilot.press("x")
    await count(pilot, 1)
    packets = mixture()
    for setting, rounds in (("up", 9), ("mtu 600", 4), ("mtu 1500 down", 1)):
        command = ["ip", "-n", ground.netns, "link", "set", "xdp2", *setting.split()]
        subprocess.run(command, check=True)
        for _ in range(rounds):
            ground.send(packets[:60], link=1)
            await count(pilot, 0.3)
    await count(pilot, 1.2)


async def account_scene(pilot: Pilot[None]) -> None:
    await count(pilot, 2)
    await pilot.press("x", "n")
    await count(pilot, 5)
    HOLD.set()
    await count(pilot, 2)
    HOLD.clear()


async def follow_scene(pilot: Pilot[None]) -> None:
    """On the second interface, with a program that changes packets, and one port blocked."""
    ground = STAGE[0]
    chain = Chain()
    for name, program in (("firewall", None), ("meta", "meta_head"), ("monitor", None)):
        chain = chain.add(Slot.of(load_component(str(SAMPLES / f"{name}.o"), name=program)))
    running = apply(make_plan(look("xdp1", ground.netns), chain))
    assert running.chain is not None
    blocked = next(ref.id for ref in running.chain.slots[0].component.maps if ref.name == "blocked")
    with bpf.map_by_id(blocked) as fd:
        bpf.map_update(fd, struct.pack("=HBx", 22, 6), b"\1")
    await count(pilot, 1)
    await pilot.press("F")
    await count(pilot, 0.5)
    for character in "icmp or udp port 53 or tcp port 22":
        await pilot.press("space" if character == " " else character)
    await pilot.press("enter")
    await count(pilot, 1)
    for packet in mixture()[:60]:
        ground.send([packet], link=1)
    await count(pilot, 1)
    await pilot.press("home", "down", "down")
    await count(pilot, 1)


async def follow_path_scene(pilot: Pilot[None]) -> None:
    """The same, with the lines that ran."""
    await follow_scene(pilot)
    await pilot.press("p")
    await count(pilot, 3)


async def why_scene(pilot: Pilot[None]) -> None:
    """On the second interface: a firewall that blocks a port, and a rate limit."""
    ground = STAGE[0]
    chain = Chain()
    for name in ("ratelimit", "firewall"):
        chain = chain.add(Slot.of(load_component(str(SAMPLES / f"{name}.o"))))
    running = apply(make_plan(look("xdp1", ground.netns), chain))
    assert running.chain is not None
    firewall = next(slot for slot in running.chain if slot.name == "xdp_firewall")
    blocked = next(ref.id for ref in firewall.component.maps if ref.name == "blocked")
    with bpf.map_by_id(blocked) as fd:
        bpf.map_update(fd, struct.pack("=HBx", 22, 6), b"\1")
    await count(pilot, 1)
    await pilot.press("b")
    packets = mixture()
    for turn in range(24):
        ground.send(packets[: 20 + 9 * (turn % 7)], link=1)
        await count(pilot, 0.5)


async def cpus_scene(pilot: Pilot[None]) -> None:
    await count(pilot, 2)
    await pilot.press("n")
    await count(pilot, 4)


async def maps_scene(pilot: Pilot[None]) -> None:
    await count(pilot, 3)
    await pilot.press("down", "m")
    await count(pilot, 1.5)
    await pilot.press("tab", "down", "down")
    await count(pilot, 2)


async def globals_scene(pilot: Pilot[None]) -> None:
    await load_scene(pilot, "ratelimit")
    await pilot.press("ctrl+g")
    await count(pilot, 0.5)


async def replay_scene(pilot: Pilot[None]) -> None:
    await pilot.press("right_curly_bracket", "space")
    await count(pilot, 0.5)


async def time_scene(pilot: Pilot[None]) -> None:
    await count(pilot, 2)
    await pilot.press("x", "n", "n")
    await count(pilot, 12)


async def logs_scene(pilot: Pilot[None]) -> None:
    """On the second interface: two programs, of which one prints."""
    ground = STAGE[0]
    chain = Chain()
    for name in ("printer", "monitor"):
        chain = chain.add(Slot.of(load_component(str(SAMPLES / f"{name}.o"))))
    apply(make_plan(look("xdp1", ground.netns), chain))
    await count(pilot, 1)
    await pilot.press("x", "n", "n", "n")
    await count(pilot, 2)
    packets = mixture()
    for turn in range(8):
        ground.send(packets[3 * turn : 3 * turn + 12], link=1)
        await count(pilot, 0.4)
    await count(pilot, 1.5)


SCENES: dict[str, tuple[tuple[int, int], Scene]] = {
    "main-120x40": ((120, 40), main_scene),
    "main-80x24": ((80, 24), main_scene),
    "candidate-80x24": ((80, 24), candidate_scene),
    "main-200x50": ((200, 50), main_scene),
    "freplace-main": ((120, 40), main_scene),
    "freplace-plan": ((100, 34), sample_scene),
    "plan": ((100, 34), sample_scene),
    "plan-80x24": ((80, 24), plan_scene),
    "what-if": ((100, 30), what_if_scene),
    "load": ((100, 30), load_scene),
    "details": ((100, 34), details_scene),
    "help": ((140, 48), help_scene),
    "linkage": ((100, 24), linkage_scene),
    "save": ((100, 24), save_scene),
    "history": ((100, 24), history_scene),
    "maps": ((100, 24), maps_scene),
    "globals": ((100, 20), globals_scene),
    "replay": ((100, 30), replay_scene),
    "follow": ((100, 36), follow_scene),
    "follow-path": ((100, 40), follow_path_scene),
    "why": ((120, 30), why_scene),
    "cpus": ((100, 16), cpus_scene),
    "events": ((100, 30), events_scene),
    "account": ((100, 24), account_scene),
    "time": ((100, 26), time_scene),
    "logs": ((100, 24), logs_scene),
}
FOCUS = {"events": 1, "follow": 1, "follow-path": 1, "why": 1, "logs": 1}
"""The selected link, if not the first."""


async def take(ground: Playground, name: str, directory: Path) -> None:
    """One picture."""
    size, scene = SCENES[name]
    relink(ground, Linkage.FREPLACE if name.startswith("freplace") else Linkage.STATIC)
    replay = Replay(Recording(str(DEMO))) if name == "replay" else None
    app = XdpTui(ground.netns, ground.links[FOCUS.get(name, 0)].ifname, replay)
    async with app.run_test(size=size) as pilot:
        await scene(pilot)
        (directory / f"{name}.svg").write_text(self_contained(app.export_screenshot()))
    print(directory / f"{name}.svg")


def self_contained(svg: str) -> str:
    """Without external fonts, and with spaces that every renderer keeps."""
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    svg = svg.replace(
        "font-family: Fira Code, monospace", "font-family: 'DejaVu Sans Mono', Menlo, monospace"
    )
    return svg.replace("<text ", '<text xml:space="preserve" ')


def _unsaid(news: KernelNews, event: Unconfirmable) -> None:
    pass


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=sorted(SCENES), action="append", help="make this one only")
    parser.add_argument("--into", type=Path, default=HERE / "screenshots", help="where they go")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("The pictures need root: they are of a real chain. Run sudo make screenshots", file=sys.stderr)
        return 3
    if not options.inside:
        arguments = ["unshare", "--mount", sys.executable, __file__, "--inside", *sys.argv[1:]]
        return subprocess.run(arguments, check=False).returncode
    subprocess.run(["mount", "--bind", str(HERE), str(ELSEWHERE)], check=True)
    # This mount namespace ends with us, so no pin would last: the program says so, but not in a picture.
    KernelNews.unconfirmable = _unsaid  # type: ignore[method-assign, assignment]
    os.environ.pop("NO_COLOR", None)
    os.environ.update(COLORTERM="truecolor", TERM="xterm-256color")
    options.into = options.into.absolute()
    options.into.mkdir(exist_ok=True)
    os.chdir(ELSEWHERE)
    stop = threading.Event()
    default, why = default_linkage()
    freplace = default is Linkage.FREPLACE
    try:
        with Playground(links=3, peer_takes_xdp=True) as ground:
            STAGE.append(ground)
            build_chain(ground)
            sender = threading.Thread(target=send_mixture, args=(ground, stop))
            sender.start()
            try:
                for name in options.only or SCENES:
                    if name.startswith("freplace") and not freplace:
                        print(f"{name} is left out: {why}")
                        continue
                    asyncio.run(take(ground, name, options.into))
            finally:
                stop.set()
                sender.join()
    except XdpChainError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
