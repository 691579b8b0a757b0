# SPDX-License-Identifier: Apache-2.0
"""xdp-filter and xdpdump on a chain built by xdptui: they work, and keep working after it is reordered."""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.interop.editors import Ours, Program
from tests.interop.libxdp import agreed, in_netns
from xdpchain.model.actions import Action
from xdpchain.model.chain import Linkage
from xdpchain.testing import frames
from xdpchain.testing.playground import Playground

pytestmark = pytest.mark.vm

DNS, WEB = 53, 80


class Filter:
    """xdp-filter, which keeps its pins in /sys/fs/bpf whatever LIBXDP_BPFFS says: it runs in a separate mount
    namespace with our BPF filesystem there.
    """

    def __init__(self, playground: Playground, bpffs: Path) -> None:
        self._playground, self._bpffs = playground, bpffs

    def __call__(self, *arguments: str) -> str:
        script = 'mount --bind "$0" /sys/fs/bpf && exec "$@"'
        command = in_netns(self._playground, "xdp-filter", *arguments)
        private = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, str(self._bpffs)]
        done = subprocess.run([*private, *command], capture_output=True, text=True, timeout=120)
        # Its status exits with 254 here, although the output is complete.
        assert done.returncode == 0 or arguments == ("status",), done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def xdp_filter(playground: Playground, own_bpffs: Path) -> Filter:
    if shutil.which("xdp-filter") is None:
        pytest.skip("xdp-filter is not installed (Debian: xdp-tools)")
    return Filter(playground, own_bpffs)


def packets(port: int, number: int) -> list[bytes]:
    return [frames.udp(frames.PEER, frames.NEAR, port)] * number


def passed(playground: Playground, *bursts: tuple[int, int]) -> list[int]:
    """How many of each burst (port, number) got through the interface's chain."""
    listener = playground.listen()
    found = []
    for port, number in bursts:
        playground.send(packets(port, number))
        found.append(len(listener.receive(number, timeout=0.3)))
    listener.close()
    return found


def test_xdp_filter_joins_works_and_leaves(playground: Playground, ours: Ours, xdp_filter: Filter) -> None:
    ours.load(Program("monitor", priority=90), Program("pass", priority=5))
    xdp_filter("load", playground.ifname, "--policy", "allow", "--features", "udp")
    xdp_filter("port", str(DNS), "--proto", "udp", "--mode", "dst")
    name = next(s.name for s in agreed(playground).chain or () if s.name.startswith("xdpfilt"))
    assert passed(playground, (DNS, 3), (WEB, 4)) == [0, 4]
    before = agreed(playground)
    assert before.chain is not None
    place = [slot.name for slot in before.chain].index(name)
    ours.edit(lambda chain: chain.move(place, (place + 1) % 3))
    after = agreed(playground)
    assert after.chain is not None
    moved = after.chain.slots[[slot.name for slot in after.chain].index(name)]
    assert moved.component == before.chain.slots[place].component  # the same program, with the same maps
    # Rules, old and new, still apply, and its own commands find it.
    assert passed(playground, (DNS, 3), (WEB, 4)) == [0, 4]
    xdp_filter("port", str(DNS), "--proto", "udp", "--mode", "dst", "--remove")
    xdp_filter("port", str(WEB), "--proto", "udp", "--mode", "dst")
    assert passed(playground, (DNS, 3), (WEB, 4)) == [3, 0]
    assert name in xdp_filter("status")
    xdp_filter("unload", playground.ifname)
    agreed(playground, ["xdp_pass", "xdp_monitor"])
    assert passed(playground, (DNS, 3), (WEB, 4)) == [3, 4]


def test_xdp_filter_first_then_we_join(playground: Playground, ours: Ours, xdp_filter: Filter) -> None:
    xdp_filter("load", playground.ifname, "--features", "udp")
    xdp_filter("port", str(DNS), "--proto", "udp", "--mode", "dst")
    ours.load(Program("monitor"))
    ours.edit(lambda chain: chain.move(1, 0))
    ours.edit(lambda chain: chain.retune(1, actions=chain.slots[1].actions.toggle(Action.DROP)))
    agreed(playground)
    assert passed(playground, (DNS, 3)) == [3]  # continues after its DROP: XDP_PASS ends the chain
    ours.edit(lambda chain: chain.retune(1, actions=chain.slots[1].actions.toggle(Action.DROP)))
    assert passed(playground, (DNS, 3)) == [0]
    xdp_filter("unload", playground.ifname)
    agreed(playground, ["xdp_monitor"])


@contextlib.contextmanager
def dumping(playground: Playground, program: str, *options: str) -> Iterator[Path]:
    """xdpdump on one component; yields the file with its output."""
    file = Path("/dev/shm") / f"xdptui-{playground.netns}.dump"
    command = in_netns(
        playground, "stdbuf", "-oL", "xdpdump", "-i", playground.ifname, "-p", program, *options
    )
    with (
        file.open("w") as output,
        subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as running,
    ):
        try:
            wait_for(lambda: "listening on" in file.read_text(), file)
            # It says so a moment before it is ready.
            wait_for(lambda: bool(playground.send(packets(WEB, 1))) and all(seen(file)), file)
            time.sleep(0.5)
            yield file
        finally:
            running.send_signal(signal.SIGINT)
            running.wait(20)
            file.unlink()


def captures(playground: Playground, file: Path, number: int) -> None:
    """It sees each of ``number`` packets, on entry and on exit."""
    before = seen(file)
    playground.send(packets(WEB, number))
    wait_for(lambda: seen(file) == [one + number for one in before], file)


def wait_for(condition: Callable[[], bool], file: Path) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, file.read_text()
        time.sleep(0.05)


def seen(file: Path) -> list[int]:
    """Packets seen on entry to and on exit from the component."""
    text = file.read_text()
    return [len(re.findall(f"@{point}", text)) for point in ("entry", "exit")]


def test_xdpdump_goes_on_through_edits(playground: Playground, ours: Ours) -> None:
    if shutil.which("xdpdump") is None:
        pytest.skip("xdpdump is not installed (Debian: xdp-tools)")
    ours.load(Program("firewall"), Program("monitor"), Program("pass"))
    with dumping(playground, "xdp_monitor", "--rx-capture", "entry,exit") as file:
        captures(playground, file, 3)
        ours.edit(lambda chain: chain.move(2, 0))
        agreed(playground, ["xdp_monitor", "xdp_firewall", "xdp_pass"])
        captures(playground, file, 4)
        ours.edit(lambda chain: chain.remove([1, 2]))  # alone, it replaces main
        agreed(playground, ["xdp_monitor"])
        captures(playground, file, 2)
    assert agreed(playground).linkage is Linkage.FREPLACE
