# SPDX-License-Identifier: Apache-2.0
"""The kernel is the database: a fresh process finds the whole chain and edits it; no map loses a bit."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernel.chains import chain_of, change, look_at
from xdpchain.linkage.linkable_slots import object_bytes
from xdpchain.model.chain import Linkage
from xdpchain.model.component import MapRef
from xdpchain.model.running import Running
from xdpchain.sys import bpf
from xdpchain.testing import frames
from xdpchain.testing.playground import Playground

ROOT = Path(__file__).parents[2]
BOTH = pytest.mark.parametrize("linkage", [Linkage.STATIC, Linkage.TAILCALL])

FRESH_PROCESS = """
import json, sys
from xdpchain.observe.discover import look
from xdpchain.change.plan import make_plan
from xdpchain.editing import apply
running = look(sys.argv[1], sys.argv[2])
found = [[s.name, s.priority, s.actions.names(), s.id, s.key] for s in running.chain.slots]
chain = running.chain.move(2, 0)
apply(make_plan(running, chain.retune(1, actions=chain.slots[0].actions.toggle(1))))
print(json.dumps(found))
"""


def contents(ref: MapRef) -> dict[bytes, bytes]:
    with bpf.map_by_id(ref.id) as fd:
        info = bpf.map_info(fd)
        size = info.value_size * 16 if "percpu" in bpf.map_type_name(info.type) else info.value_size
        found = {}
        for key in bpf.map_keys(fd, info.key_size):
            try:
                found[key] = bpf.map_lookup(fd, key, size)
            except bpf.BpfError:  # an empty row of a map of maps
                continue
        return found


def all_contents(running: Running) -> dict[tuple[str, str], dict[bytes, bytes]]:
    assert running.chain is not None
    return {
        (slot.name, ref.name): contents(ref)
        for slot in running.chain.slots
        for ref in slot.component.maps
        if not ref.name.startswith(".rodata")
    }


@BOTH
def test_a_second_process_rebuilds_and_edits_the_chain(
    playground: Playground, samples: Path, linkage: Linkage
) -> None:
    # Hash, LRU hash, per-CPU arrays, global data.
    first = change(
        playground, chain_of(samples, "firewall", "ratelimit", "monitor", "globals", "two", linkage=linkage)
    )
    playground.send([frames.udp(frames.PEER, frames.NEAR, 53, source_port=1000 + i) for i in range(20)])
    before = all_contents(first)
    assert any(value.strip(b"\0") for values in before.values() for value in values.values()), (
        "the packets left traces"
    )
    done = subprocess.run(
        [sys.executable, "-c", FRESH_PROCESS, playground.ifname, playground.netns],
        cwd=ROOT / "core", capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert first.chain is not None
    seen = [[s.name, s.priority, list(s.actions.names()), s.id, s.key] for s in first.chain.slots]
    assert json.loads(done.stdout) == seen
    second = look_at(playground)
    assert second.chain is not None
    assert second.hook != first.hook
    assert [s.name for s in second.chain.slots] != [s.name for s in first.chain.slots]
    assert all_contents(second) == before
    ids = {s.name: s.component.maps for s in first.chain.slots}
    assert {s.name: s.component.maps for s in second.chain.slots} == ids


@BOTH
def test_the_chain_carries_its_object_files(playground: Playground, samples: Path, linkage: Linkage) -> None:
    change(playground, chain_of(samples, "firewall", "monitor", linkage=linkage))
    running = look_at(playground)
    assert running.chain is not None
    for slot in running.chain.slots:
        source = slot.component.object
        assert source is not None
        assert source.path is not None
        data = object_bytes(source)
        assert data == Path(source.path).read_bytes()
        assert hashlib.sha256(data).hexdigest() == source.sha256


@BOTH
def test_everything_vanishes_with_the_chain(playground: Playground, samples: Path, linkage: Linkage) -> None:
    running = change(playground, chain_of(samples, "firewall", "tailcalls", "mapinmap", linkage=linkage))
    assert running.chain is not None
    maps = {ref.id for slot in running.chain.slots for ref in slot.component.maps}
    maps |= {slot.component.unit_map for slot in running.chain.slots if slot.component.unit_map}
    maps |= set(running.arrays)
    assert running.hook is not None
    change(playground, running.chain.remove(range(3)))
    eventually_gone(maps)
    with pytest.raises(bpf.BpfError):
        bpf.prog_by_id(running.hook.prog_id)


def eventually_gone(maps: set[int]) -> None:
    """The kernel frees maps after a grace period."""
    import time

    deadline = time.monotonic() + 30
    # Look it up in the list: opening and closing a program array that nothing holds makes the kernel empty it
    # once more, and each of these while that is pending keeps the map for good.
    while alive := maps & set(bpf.ids(bpf.Command.MAP_GET_NEXT_ID)):
        assert time.monotonic() < deadline, f"maps {alive} are still there"
        time.sleep(0.02)


@BOTH
def test_tail_calls_work_on_after_the_process_that_built_the_chain_is_gone(
    playground: Playground, samples: Path, linkage: Linkage
) -> None:
    script = (
        "import sys\n"
        "from xdpchain.model.chain import Chain, Linkage, Slot\n"
        "from xdpchain.objects.components import load_component\n"
        "from xdpchain.observe.discover import look\n"
        "from xdpchain.change.plan import make_plan\n"
        "from xdpchain.editing import apply\n"
        "running = look(sys.argv[1], sys.argv[2])\n"
        "chain = Chain(linkage=Linkage(sys.argv[4]))\n"
        "apply(make_plan(running, chain.add(Slot.of(load_component(sys.argv[3])))))\n"
    )
    path = str(samples / "tailcalls.o")
    subprocess.run(
        [sys.executable, "-c", script, playground.ifname, playground.netns, path, linkage],
        cwd=ROOT / "core", timeout=30, check=True,
    )  # fmt: skip
    playground.send([frames.udp(frames.PEER, frames.NEAR, 2)] * 3)
    running = look_at(playground)
    assert running.chain is not None
    calls = next(ref for ref in running.chain.slots[0].component.maps if ref.name == "calls")
    counted = [int.from_bytes(value, "little") for value in contents(calls).values()]
    assert counted == [3, 0, 0], "three calls of callee_udp, none of the others"
    change(playground, running.chain.remove([0]))


@BOTH
def test_a_new_version_keeps_the_maps_or_is_refused(
    playground: Playground, samples: Path, linkage: Linkage
) -> None:
    from dataclasses import replace

    from xdpchain.errors import LinkRefused
    from xdpchain.objects.components import keep_maps, load_component

    running = change(playground, chain_of(samples, "counter", "monitor", linkage=linkage))
    playground.send([frames.udp(frames.PEER, frames.NEAR, 2)] * 5)
    assert running.chain is not None
    old = running.chain.slots[0]
    packets = next(ref for ref in old.component.maps if ref.name == "packets")
    before = contents(packets)
    newer = load_component(str(samples / "counter_v2.o"))
    running = change(playground, running.chain.substitute(0, keep_maps(newer, old.component)))
    assert running.chain is not None
    new = running.chain.slots[0]
    assert (new.key, new.row) == (old.key, old.row)
    assert new.id != old.id
    assert packets in new.component.maps
    assert contents(packets) == before
    # Version 3 has a larger value: the map's contents would be lost, which must not happen silently.
    newest = load_component(str(samples / "counter_v3.o"))
    hook = running.hook
    with pytest.raises(LinkRefused, match="value size 8 → 16"):
        change(playground, running.chain.substitute(0, keep_maps(newest, new.component)))
    assert look_at(playground).hook == hook
    running = change(playground, running.chain.substitute(0, replace(newest, maps=())))
    assert running.chain is not None
    assert packets not in running.chain.slots[0].component.maps
