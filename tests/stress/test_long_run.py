# SPDX-License-Identifier: Apache-2.0
"""What looks for long, beside each other, while interfaces come and go and chains are edited: the terminal
program, watch, record, export and apply --follow. Nothing grows: memory, descriptors, and the programs,
maps, links and pins that they, the pins and the interfaces hold.

20 s in every run, two hours with XDPTUI_SOAK=1; XDPTUI_LONG_RUN_S says how many seconds instead, and
XDPTUI_LONG_RUN_STEP_S how often an interface comes and a chain is edited.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import cycle
from pathlib import Path

import pytest

from tests.kernel.arming import eventually
from tests.kernel.chains import chain_of, change, look_at
from tests.stress.holdings import holdings
from tests.stress.scale import scaled
from tests.tui.terminal import Tmux
from xdpchain.model.actions import ActionSet
from xdpchain.observe.discover import look
from xdpchain.testing import frames
from xdpchain.testing.playground import Playground

ROOT = Path(__file__).parents[2]
SECONDS = float(os.environ.get("XDPTUI_LONG_RUN_S") or scaled(20, 7200, 20))
STEP_S = float(os.environ.get("XDPTUI_LONG_RUN_STEP_S") or 2)
LINKS, SCRAPE_S, SAMPLE_S = 4, 5.0, min(60.0, SECONDS / 5)
ADDRESS = "127.0.0.1:9474"
MEMORY_MIB = 2.0
"""By how much a process may grow after the first third of a run that is long enough to tell."""
DESCRIPTORS = 2
"""More or fewer at any moment: somebody is just looking at something."""


@contextmanager
def started(netns: str, *words: str) -> Iterator[int]:
    environ = {**os.environ, "PYTHONPATH": f"{ROOT / 'core'}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "xdptui", *words, "--netns", netns]
    with subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL) as process:
        try:
            yield process.pid
            assert process.poll() is None, f"{words[0]} ended with {process.returncode}"
        finally:
            process.send_signal(signal.SIGTERM)


def measured(pid: int) -> tuple[float, int]:
    """MiB of physical memory, and the descriptors that stay open between looks at something."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    counts = []
    for _ in range(5):
        counts.append(len(os.listdir(f"/proc/{pid}/fd")))
        time.sleep(0.02)
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20), min(counts)


def listens(address: str) -> bool:
    host, port = address.split(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port))):
        return True
    return False


def disturb(playground: Playground, name: str) -> bool:
    """A veth pair comes and goes; whether it had a chain, from the service, within half a step."""
    ip = ["ip", "-n", playground.netns]
    subprocess.run([*ip, "link", "add", name, "type", "veth", "peer", "name", f"{name}p"], check=True)
    subprocess.run([*ip, "link", "set", name, "up"], check=True)
    playground.send([frames.udp(frames.PEER, frames.NEAR, 53)] * 32)
    time.sleep(STEP_S / 2)
    served = look(name, playground.netns).chain is not None
    subprocess.run([*ip, "link", "del", name], check=True)
    return served


@pytest.mark.timeout(SECONDS + 300)
def test_nothing_grows(samples: Path, tmp_path: Path, own_bpffs: Path) -> None:
    spec = tmp_path / "spec.toml"
    spec.write_text(f'[[interface]]\nname = "c[0-9]*"\n[[interface.slot]]\nobject = "{samples / "pass.o"}"\n')
    found: dict[str, list[tuple[float, int]]] = {}
    with ExitStack() as stack:
        playground = stack.enter_context(Playground(links=LINKS))
        for link in range(LINKS):
            change(playground, chain_of(samples, "firewall", "monitor"), link)
        pids = {
            name: stack.enter_context(started(playground.netns, *words))
            for name, words in {
                "watch": ("watch", "--jsonl"),
                "record": ("record", str(tmp_path / "recording"), "--max-size", "1M"),
                "export": ("export", "--listen", ADDRESS),
                "service": ("apply", "--follow", str(spec)),
            }.items()
        }
        screen = stack.enter_context(Tmux(playground.netns, playground.ifname, size=(120, 40)))
        screen.until(lambda lines: any("firewall" in line for line in lines))
        pids["screen"] = screen.pid
        eventually(lambda: listens(ADDRESS), "the exporter listens")

        def kernel_objects() -> dict[str, int]:
            """The least of several moments: in each, somebody may just be looking at something."""
            moments = []
            for _ in range(5):
                moments.append(holdings(playground, own_bpffs, pids.values()).counts)
                time.sleep(0.05)
            return {name: min(one[name] for one in moments) for name in ("programs", "maps", "links", "pins")}

        held = []
        began = time.monotonic()
        scraped = sampled = began
        served = 0
        for step, actions in enumerate(cycle(("P", "PD", "PT"))):
            now = time.monotonic()
            if now >= began + SECONDS:
                break
            served += disturb(playground, f"c{step}")
            running = look_at(playground, step % LINKS)
            assert running.chain is not None
            change(playground, running.chain.retune(1, actions=ActionSet.parse(actions)), step % LINKS)
            if now >= scraped:
                with urllib.request.urlopen(f"http://{ADDRESS}/metrics", timeout=30) as answer:
                    assert b"xdptui_up 1.0" in answer.read()
                scraped += SCRAPE_S
            if now >= sampled + SAMPLE_S:
                sampled += SAMPLE_S
                for name, pid in pids.items():
                    found.setdefault(name, []).append(measured(pid))
                print(f"\n{now - began:6.0f} s, {step} steps, {served} served:", end="")
                each = (f" {name} {of[-1][0]:.1f} MiB {of[-1][1]} fds," for name, of in found.items())
                held.append(kernel_objects())
                print(*each, held[-1])
            time.sleep(max(0.0, now + STEP_S - time.monotonic()))
        assert any("firewall" in line for line in screen.screen())
        assert served > 0
        settled_held = held[len(held) // 3]  # before, not all have attached what listens
        eventually(lambda: kernel_objects() == settled_held, f"held as before: {held}")
    for name, series in found.items():
        settled = series[len(series) // 3 :]
        counts = [count for _, count in settled]
        assert max(counts) - min(counts) <= DESCRIPTORS, (name, counts)
        if SECONDS >= 600:  # else the caches are not full yet
            half = len(settled) // 2
            grown = max(mib for mib, _ in settled[half:]) - max(mib for mib, _ in settled[:half])
            assert grown <= MEMORY_MIB, (name, settled)
