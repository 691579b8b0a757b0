# SPDX-License-Identifier: Apache-2.0
"""Programs whose maps look like ours but are not: one bad row costs one row of one view."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kernel.chains import chain_of, change, look_at
from tests.kernel.command_line import CommandLine
from tests.unit.test_decoding import HOSTILE
from xdpchain.observe.discover import survey
from xdpchain.sys import blobs, bpf
from xdpchain.sys.cpus import possible_cpus
from xdpchain.sys.netlink import Netlink
from xdpchain.testing import frames
from xdpchain.testing.playground import Playground

PASS = struct.pack("<BBhi", 0xB7, 0, 0, 2) + struct.pack("<BBhi", 0x95, 0, 0, 0)
MANIFEST = "xdptui_manifest"


@pytest.fixture
def two(root: None) -> Iterator[Playground]:
    with Playground(links=2) as made:
        yield made


@pytest.fixture
def cli(two: Playground, capsys: pytest.CaptureFixture[str], samples: Path) -> CommandLine:
    return CommandLine(two, capsys, samples)


def attach(playground: Playground, carried: bpf.Fd, name: str = "stranger") -> None:
    """Somebody else's program with that map, on the second interface."""
    with bpf.prog_load(bpf.ProgType.XDP, PASS, name=name) as program, carried:
        bpf.prog_bind_map(program, carried)
        with Netlink(playground.netns) as netlink:
            netlink.attach_xdp(playground.links[1].ifindex, program.fileno(), "native", None)


def per_cpu() -> bpf.Fd:
    """A lookup writes one value per CPU: too much for the buffer of a reader that takes it for an array."""
    return bpf.map_create(bpf.MapType.PERCPU_ARRAY, 4, 8192, 1, name=MANIFEST)


def hashed() -> bpf.Fd:
    return bpf.map_create(bpf.MapType.HASH, 64, 64, 1, name=MANIFEST)


def huge() -> bpf.Fd:
    return bpf.map_create(bpf.MapType.ARRAY, 4, 4 << 20, 1, name=MANIFEST)


MAPS: dict[str, Callable[[], bpf.Fd]] = {
    **{name: (lambda data=data: blobs.make(MANIFEST, data or b"\0")) for name, data in HOSTILE.items()},  # type: ignore[misc]
    "per CPU": per_cpu,
    "a hash": hashed,
    "huge": huge,
}


@pytest.mark.parametrize("name", MAPS)
def test_every_view_goes_on(two: Playground, cli: CommandLine, tmp_path: Path, name: str) -> None:
    cli.load("drop")
    attach(two, MAPS[name]())
    first, second = (found for found in survey(two.netns) if found.hooks)
    assert first.chain is not None
    assert second.chain is None
    status = {entry["name"]: entry for entry in cli.ok("status").json["interfaces"]}
    assert len(status[two.links[0].ifname]["slots"]) == 1
    assert status[two.links[1].ifname]["programs"]
    recording = str(tmp_path / "recording")
    for command in (
        ("status",),
        ("watch", "--count", "1", "--interval", "0.1"),
        ("doctor",),
        ("record", recording, "--duration", "0.5", "--interval", "0.2"),
        ("export", "--once"),
        ("log", two.links[1].ifname),
    ):
        result = cli(*command)
        assert result.code in (0, 1), (command, result.err)
        assert "internal error" not in result.err
        assert "Traceback" not in result.err


def test_a_manifest_that_names_maps_of_others_leads_nowhere(
    two: Playground, samples: Path, cli: CommandLine
) -> None:
    """It is well-formed, and claims somebody else's map as its counters: nothing is written there."""
    running = change(two, chain_of(samples, "pass"))
    assert running.chain is not None
    program = running.hook
    assert program is not None
    with bpf.prog_by_id(program.prog_id) as fd:
        (manifest,) = (
            blobs.read(found)
            for found in map(bpf.map_by_id, bpf.prog_map_ids(fd))
            if bpf.map_info(found).name == MANIFEST
        )
    size = running.counters_map and bpf.map_info(bpf.map_by_id(running.counters_map)).value_size
    assert size
    victim = bpf.map_create(bpf.MapType.ARRAY, 4, size, possible_cpus(), name="victim", flags=1 << 10)
    bpf.map_update(victim, bytes(4), b"\xab" * size)
    document = json.loads(manifest)
    named = document["counters"] = bpf.map_info(victim).id
    attach(two, blobs.make(MANIFEST, json.dumps(document).encode()))
    cli.ok("load", two.links[1].ifname, cli.sample("drop"))  # counts in a separate map
    two.send([frames.udp(frames.PEER, frames.NEAR, 9)] * 3, link=1)
    assert look_at(two, 1).counters_map not in (None, named)
    assert bpf.map_lookup(victim, bytes(4), size) == b"\xab" * size
    victim.close()
    assert look_at(two).chain == running.chain
