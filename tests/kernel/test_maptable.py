# SPDX-License-Identifier: Apache-2.0
"""Maps of running components: typed, agreeing with bpftool, and changed one element at a time"""

from __future__ import annotations

import json
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.chains import chain_of, change, run_through
from xdpchain.errors import InvalidInput, NotFound, Unsupported
from xdpchain.maps import MapTable, maps_of, open_map
from xdpchain.maps.values import encode
from xdpchain.model.running import Running
from xdpchain.objects.components import load_component
from xdpchain.sys import bpf
from xdpchain.sys.cpus import possible_cpus
from xdpchain.testing import frames
from xdpchain.testing.playground import Playground
from xdpchain.testing.traffic import mixture

SAMPLES = (
    *("firewall", "ratelimit", "monitor", "counter", "counter_v2", "counter_v3", "globals", "mapinmap"),
    *("tailcalls", "redirect", "two", "scripted", "meta", "subprogs", "globalfn", "loops", "mark", "frags"),
)
"""Everything a chain accepts: some have no maps."""


@contextmanager
def table_of(running: Running, name: str, slot: int = 0) -> Iterator[MapTable]:
    with open_map(running, slot, name) as table:
        yield table


def contents(table: MapTable) -> dict[str, Any]:
    return {entry.label: entry.value for entry in table.entries()}


def bpftool(map_id: int) -> Any:
    command = ["bpftool", "-j", "map", "dump", "id", str(map_id)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


# -- bpftool as the oracle -----------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """A value as bpftool prints it, with addresses and enumerators as numbers."""
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, str) and value.count(".") == 3:
        return struct.unpack("=I", bytes(map(int, value.split("."))))[0]
    return value


def raw_bytes(cells: list[str]) -> bytes:
    return bytes(int(cell, 16) for cell in cells)


@pytest.mark.parametrize("sample", SAMPLES)
def test_agrees_with_bpftool(playground: Playground, samples: Path, sample: str) -> None:
    running = change(playground, chain_of(samples, sample))
    for frame in mixture():
        run_through(running, frame)
    seen = 0
    for summary in maps_of(running, 0):
        shape = summary.shape
        seen += 1
        if shape.closed:
            continue
        with table_of(running, shape.name) as table:
            mine = list(table.entries())
        theirs = bpftool(shape.id)
        if shape.variables:
            expected = {name: value for section in theirs[0]["formatted"]["value"].values() for one in section
                        for name, value in one.items()} if isinstance(
                theirs[0]["formatted"]["value"], dict) else {}  # fmt: skip
            assert {entry.label: plain(entry.value) for entry in mine} == expected
        elif shape.type in ("devmap", "array_of_maps", "hash_of_maps", "prog_array"):
            held = [their for their in theirs if "value" in their and isinstance(their["value"], list)]
            assert [entry.raw_key for entry in mine] == [raw_bytes(one["key"]) for one in held]
        elif shape.per_cpu:
            for entry, one in zip(mine, theirs, strict=True):
                if "formatted" in one:
                    assert plain(entry.key) == one["formatted"]["key"]
                    assert [plain(v) for v in entry.cpus] == [v["value"] for v in one["formatted"]["values"]]
                assert entry.raw_key == raw_bytes(one["key"])
                size = shape.value_size
                assert [encode(entry.layout, v) for v in entry.cpus] == [
                    raw_bytes(v["value"])[:size] for v in one["values"]
                ]
        else:
            for entry, one in zip(mine, theirs, strict=True):
                assert plain(entry.key) == one["formatted"]["key"]
                assert plain(entry.value) == one["formatted"]["value"]
    assert running.chain is not None
    assert seen == len(running.chain.slots[0].component.maps)


# -- what packets leave in the maps --------------------------------------------------------------------------


def test_counts_of_known_packets(playground: Playground, samples: Path) -> None:
    running = change(playground, chain_of(samples, "monitor"))
    udp = frames.udp(frames.PEER, frames.NEAR, 53, payload=bytes(58))  # 100 bytes with all headers
    arp = frames.arp_request(frames.PEER, frames.NEAR)
    playground.send([udp] * 7 + [arp] * 3)
    with table_of(running, "protocols") as table:
        found = contents(table)
        assert found["KIND_UDP"] == {"packets": 7, "bytes": 700}
        assert found["KIND_ARP"] == {"packets": 3, "bytes": 3 * len(arp)}
        assert found["KIND_TCP"] == {"packets": 0, "bytes": 0}
        entry = table.look((table.key_of("KIND_UDP"),))[0]
        assert entry is not None
        assert sum(cpu["packets"] for cpu in entry.cpus) == 7  # type: ignore[index, call-overload]


def test_a_value_that_is_set_is_what_the_program_obeys(playground: Playground, samples: Path) -> None:
    running = change(playground, chain_of(samples, "firewall"))
    udp = frames.udp(frames.PEER, frames.NEAR, 53)
    assert run_through(running, udp).code == 2
    with table_of(running, "blocked") as table:
        made = table.change(table.key_of("port=53, protocol=17"), "1")
        assert (made.label, made.old, made.new) == ("{port=53, protocol=17, unused=0}", None, "1")
        assert contents(table) == {}, "a change that is not written changes nothing"
        table.write(made)
        assert contents(table) == {"{port=53, protocol=17, unused=0}": 1}
        assert table.change(made.raw_key, "2").old == "1"
    assert run_through(running, udp).code == 1
    with table_of(running, "drops") as table:
        assert contents(table) == {"0": 0, "1": 1}


def test_members_that_were_not_edited_keep_what_they_became(
    root: None, samples: Path, playground: Playground
) -> None:
    """The program continues to count between the look and the write."""
    running = change(playground, chain_of(samples, "ratelimit"))
    udp = frames.udp(frames.PEER, frames.NEAR, 53)
    run_through(running, udp)
    with table_of(running, "buckets") as table:
        (entry,) = table.entries()
        shown = entry.text()
        assert "passed=1" in shown
        run_through(running, udp)
        table.write(table.change(entry.raw_key, shown.replace("dropped=0", "dropped=7"), shown=shown))
        (after,) = table.entries()
        assert isinstance(after.value, dict)
        assert (after.value["passed"], after.value["dropped"]) == (2, 7)


def test_variables(playground: Playground, samples: Path) -> None:
    running = change(playground, chain_of(samples, "globals"))
    for _ in range(5):
        run_through(running, frames.udp(frames.PEER, frames.NEAR, 2))
    with table_of(running, ".data") as data, table_of(running, ".bss") as bss:
        assert contents(data) == {"total": 1015}
        assert contents(bss) == {"seen": 5}
        made = data.change(data.key_of("total"), "7")
        assert (made.old, made.new) == ("1015", "7")
        data.write(made)
        run_through(running, frames.udp(frames.PEER, frames.NEAR, 2))
        assert contents(data) == {"total": 10}
    with table_of(running, ".rodata") as constants:
        assert contents(constants) == {"step": 3}
        assert constants.shape.frozen
        with pytest.raises(Unsupported, match="frozen"):
            constants.change(constants.key_of("step"), "4")
        with pytest.raises(NotFound, match="step"):
            constants.key_of("stop")


def test_a_device_map_by_interface_name(playground: Playground, samples: Path) -> None:
    chain = chain_of(samples, "redirect")
    running = change(playground, chain)
    running = change(
        playground, chain.substitute(0, load_component(str(samples / "redirect.o"), name="redirect_out"))
    )
    with table_of(running, "out") as table:
        assert contents(table) == {}
        table.write(table.change(table.key_of("0"), playground.ifname))
        (entry,) = table.entries()
        assert entry.note == f"{playground.ifname} (ifindex {playground.ifindex})"
        with pytest.raises(NotFound, match="no interface"):
            table.change(table.key_of("0"), "nowhere")
    assert run_through(running, frames.udp(frames.PEER, frames.NEAR, 2)).code == 4


def test_per_cpu_values_are_set_on_each_cpu_or_on_one(playground: Playground, samples: Path) -> None:
    running = change(playground, chain_of(samples, "monitor"))
    with table_of(running, "protocols") as table:
        key = table.key_of("KIND_TCP")
        table.write(table.change(key, "packets=3"))
        (entry,) = table.look((key,))
        assert entry is not None
        assert entry.value == {"packets": 3 * possible_cpus(), "bytes": 0}
        table.write(table.change(key, "bytes=9", cpu=0))
        (entry,) = table.look((key,))
        assert entry is not None
        assert entry.cpus[0] == {"packets": 3, "bytes": 9}
        assert entry.value == {"packets": 3 * possible_cpus(), "bytes": 9}
        with pytest.raises(InvalidInput, match="CPUs 0 to"):
            table.change(key, "bytes=9", cpu=possible_cpus())


# -- any map of the kernel -----------------------------------------------------------------------------------


@contextmanager
def a_map(
    kind: bpf.MapType, key: int, value: int, entries: int, flags: int = 0
) -> Iterator[tuple[bpf.Fd, MapTable]]:
    made = bpf.map_create(kind, key, value, entries, name="xdptui_test", flags=flags)
    with made as fd, MapTable(bpf.map_info(fd).id) as table:
        yield fd, table


def test_a_large_map_page_by_page(root: None) -> None:
    with a_map(bpf.MapType.HASH, 4, 8, 20_000) as (fd, table):
        for i in range(5000):
            bpf.map_update(fd, struct.pack("=I", i), struct.pack("=Q", i))
        page = table.page(limit=100)
        assert 100 <= len(page.entries) < 5000 or page.next
        assert len({entry.raw_key for entry in table.entries()}) == 5000
        assert table.count(10_000) == (5000, True)
        assert table.count(300) == (300, False)
        assert len(list(table.entries(most=17))) == 17


@pytest.mark.parametrize("batches", [True, False])
def test_reading_ends_while_the_map_changes(root: None, batches: bool) -> None:
    with a_map(bpf.MapType.HASH, 4, 8, 2000) as (fd, table):
        table._batches = batches
        stop = threading.Event()

        def churn() -> None:
            number = 0
            while not stop.is_set():
                bpf.map_update(fd, struct.pack("=I", number % 100_000), bytes(8))
                if number >= 1000:
                    bpf.map_delete(fd, struct.pack("=I", (number - 1000) % 100_000))
                number += 1

        thread = threading.Thread(target=churn)
        thread.start()
        try:
            for _ in range(5):
                keys = [entry.raw_key for entry in table.entries()]
                assert len(keys) == len(set(keys))
        finally:
            stop.set()
            thread.join()


def test_both_ways_of_reading_find_the_same(root: None) -> None:
    kinds = [
        *((bpf.MapType[name], 0) for name in ("HASH", "ARRAY", "LRU_HASH", "PERCPU_HASH", "PERCPU_ARRAY")),
        (bpf.MapType.LRU_PERCPU_HASH, 0),
        (bpf.MapType.LPM_TRIE, 1),
    ]
    for kind, flags in kinds:
        with a_map(kind, 8 if kind is bpf.MapType.LPM_TRIE else 4, 8, 700, flags) as (fd, table):
            for i in range(600):
                key = struct.pack("=I", i)
                if kind is bpf.MapType.LPM_TRIE:
                    key = struct.pack("=I", 32) + struct.pack(">I", i)
                bpf.map_update(
                    fd, key, struct.pack("=Q", i) * (possible_cpus() if table.shape.per_cpu else 1)
                )
            quick = {entry.raw_key: entry.value for entry in table.entries()}
            table._batches = False
            slow = {entry.raw_key: entry.value for entry in table.entries()}
            assert quick == slow
            assert len(quick) == (700 if "array" in table.shape.type else 600)


@pytest.mark.parametrize("kind", [bpf.MapType.CPUMAP, bpf.MapType.DEVMAP_HASH])
def test_references_are_set_by_name(root: None, kind: bpf.MapType) -> None:
    with a_map(kind, 4, 4, 2) as (_, table):
        if kind is bpf.MapType.CPUMAP:
            key, text, note = table.key_of("0"), "64", "a queue of 64 packets"
            with pytest.raises(InvalidInput, match="number of packets"):
                table.change(key, "many")
        else:
            key, text, note = struct.pack("=I", 7), "lo", "lo (ifindex 1)"
        made = table.change(key, text)
        assert (made.old, made.new) == (None, note)
        table.write(made)
        (entry,) = table.entries()
        assert entry.note == note
        if kind is not bpf.MapType.CPUMAP:  # an array: its entries always exist
            table.write(table.removal(key))
            assert contents(table) == {}


def test_what_has_no_elements_says_so(root: None) -> None:
    with a_map(bpf.MapType.RINGBUF, 0, 0, 4096) as (_, table):
        assert "stream" in table.shape.closed
        with pytest.raises(Unsupported, match="stream"):
            table.page()


def test_without_types_bytes_are_shown_and_set(root: None) -> None:
    with a_map(bpf.MapType.HASH, 4, 2, 4) as (_, table):
        table.write(table.change(table.key_of("01 02 03 04"), "0a0b"))
        assert contents(table) == {"01 02 03 04": "0a0b"}


def test_a_full_map_says_so(root: None) -> None:
    with a_map(bpf.MapType.HASH, 4, 2, 1) as (_, table):
        table.write(table.change(table.key_of("01020304"), "0a0b"))
        with pytest.raises(Exception, match="max_entries 1"):
            table.write(table.change(table.key_of("05060708"), "0a0b"))


# -- the list ------------------------------------------------------------------------------------------------


def test_the_list_says_who_else_uses_a_map(playground: Playground, samples: Path) -> None:
    running = change(playground, chain_of(samples, "two"))
    names = {summary.shape.name for summary in maps_of(running, 0)}
    assert names
    with pytest.raises(NotFound, match="no slot 7"):
        maps_of(running, 7)
    with pytest.raises(NotFound, match="the maps are"):
        open_map(running, 0, "nowhere")


def test_programs_of_an_array_by_name(playground: Playground, samples: Path) -> None:
    running = change(playground, chain_of(samples, "tailcalls"))
    listed = {summary.shape.name: summary for summary in maps_of(running, 0)}
    assert any("callee_udp" in user for user in listed["calls"].users)
    with table_of(running, "callees") as table:
        assert ["callee_udp" in entry.note for entry in table.entries()] == [True, False]
        with pytest.raises(Unsupported, match="programs"):
            table.change(table.key_of("0"), "1")
