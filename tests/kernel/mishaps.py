# SPDX-License-Identifier: Apache-2.0
"""Shared by tests of lost packets: chains that misdirect packets, and the kernel's reports on them."""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.kernel.chains import change
from tests.kernel.tracing import INCLUDE
from tests.objects.compile import object_file
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.interface import Mode
from xdpchain.model.running import Running
from xdpchain.model.slot import Slot
from xdpchain.objects.components import load_component
from xdpchain.observe.tracepoints import Sample, Tracepoint, TracepointTally
from xdpchain.sys import bpf, netns
from xdpchain.sys.bpf.call import Memory, bpf_call
from xdpchain.testing.frames import scripted
from xdpchain.testing.playground import Playground

__all__ = ["fill", "ip", "listeners", "live", "map_of", "redirecting", "tallies", "to_ifindex"]

LIVE_FRAMES = 2  # BPF_F_TEST_XDP_LIVE_FRAMES


def redirecting(net: Playground, program: str, mode: Mode = Mode.NATIVE) -> Running:
    """Run one of the programs of redirecting.bpf.c on the first interface."""
    component = load_component(str(object_file("redirecting", INCLUDE)), name=program)
    return change(net, Chain(linkage=Linkage.STATIC, mode=mode).add(Slot.of(component)))


def map_of(running: Running, name: str) -> int:
    """The id of a map of its component."""
    assert running.chain is not None
    return next(ref.id for slot in running.chain for ref in slot.component.maps if ref.name == name)


def fill(net: Playground, running: Running, name: str, entry: int, *words: int) -> None:
    """Set an entry of a map, in the namespace of the interface under test, where the ifindexes are valid."""
    value = struct.pack(f"={len(words)}I", *words)
    with bpf.map_by_id(map_of(running, name)) as fd:
        netns.run(net.netns, lambda: bpf.map_update(fd, struct.pack("=I", entry), value))


def to_ifindex(ifindex: int, length: int = 60) -> bytes:
    """A packet for by_ifindex."""
    return scripted(struct.pack("<I", ifindex), length=length)


def ip(namespace: str, *words: str) -> None:
    subprocess.run(["ip", "-n", namespace, *words], check=True)


def listeners() -> frozenset[int]:
    """The programs with which this process and its children listen to tracepoints now."""
    found = set()
    for pid in _with_children(os.getpid()):
        for entry in Path(f"/proc/{pid}/fdinfo").iterdir():
            with contextlib.suppress(OSError):  # closed meanwhile
                fields = dict(
                    line.split(":\t", 1) for line in entry.read_text().splitlines() if ":\t" in line
                )
                if fields.get("link_type") == "raw_tracepoint":
                    found.add(int(fields["prog_id"]))
    return frozenset(found)


def _with_children(pid: int) -> Iterator[int]:
    yield pid
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in path.read_text().split():
            yield from _with_children(int(child))


def live(net: Playground, running: Running, frame: bytes, times: int, batch: int) -> None:
    """Make a packet arrive ``times`` times, in batches during which nothing else runs on this CPU, and really
    go where it is sent (kernel 5.18, commit b530e9e1063e).
    """
    assert running.hook is not None
    memory = Memory()
    ingress = running.interface.ifindex
    context = struct.pack("<6I", 0, len(frame), 0, ingress, 0, 0)
    with bpf.prog_by_id(running.hook.prog_id) as program:
        attr = struct.pack(
            "<IIIIQQIIIIQQIII4x",
            program, 0, len(frame), 0, memory.at(frame), 0, times, 0, len(context), 0, memory.at(context), 0,
            LIVE_FRAMES, 0, batch,
        )  # fmt: skip
        netns.run(net.netns, lambda: bpf_call(bpf.Command.PROG_TEST_RUN, attr))


def tallies(sample: Sample, kind: Tracepoint) -> dict[tuple[str, str, int], TracepointTally]:
    """The counts by interface, target and code."""
    return {(row.device, row.target, row.place.code): row.tally for row in sample.of(kind)}
