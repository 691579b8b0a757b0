# SPDX-License-Identifier: Apache-2.0
"""`xdptui maps` and `xdptui map`, as called by scripts"""

from __future__ import annotations

from pathlib import Path

from tests.kernel.command_line import CommandLine
from tests.kernel.loaders import attach_pinned, pinned_program
from xdpchain.testing import frames
from xdpchain.testing.playground import Playground


def test_the_list(cli: CommandLine) -> None:
    cli.load("firewall", "monitor")
    slots = cli.ok("maps", cli.interface).json["slots"]
    assert [slot["name"] for slot in slots] == ["xdp_firewall", "xdp_monitor"]
    blocked = next(bpf_map for bpf_map in slots[0]["maps"] if bpf_map["name"] == "blocked")
    assert (blocked["type"], blocked["entries"], blocked["max_entries"]) == ("hash", 0, 1024)
    assert blocked["read_only"] is None
    shown = cli("maps", cli.interface, "xdp_firewall").out
    assert "0 of 1024" in shown
    assert "protocols" not in shown


def test_a_map_is_shown_filtered_written_and_emptied(cli: CommandLine, playground: Playground) -> None:
    cli.load("firewall")
    where = (cli.interface, "xdp_firewall", "blocked")
    assert cli("map", *where).out == "blocked is empty\n"
    refused = cli("map", *where, "--set", "{port=53, protocol=17}=1")
    assert refused.code == 64
    assert "(nothing) → 1" in refused.err
    assert "--yes" in refused.err
    written = cli("map", *where, "--set", "{port=53, protocol=17}=1", "--yes")
    assert written.out == "blocked: {port=53, protocol=17, unused=0}: (nothing) → 1\n"
    cli.ok("map", *where, "--set", "{port=80, protocol=6}=1", "--yes")
    udp = frames.udp(frames.PEER, frames.NEAR, 53)
    playground.send([udp] * 4)
    drops = cli.ok("map", cli.interface, "0", "drops").json["entries"]
    assert [drop["value"] for drop in drops] == [0, 4]
    found = cli.ok("map", *where, "--filter", "port=80").json
    assert [entry["key"]["port"] for entry in found["entries"]] == [80]
    assert found["complete"]
    assert not cli.ok("map", *where, "--most", "1").json["complete"]
    assert "nothing in blocked matches" in cli("map", *where, "--filter", "tcp").out
    assert cli("map", *where, "--delete", "port=53, protocol=17", "--yes").code == 0
    assert cli("map", *where, "--delete", "port=53, protocol=17", "--yes").code == 5
    playground.send([udp] * 4)
    assert [entry["value"] for entry in cli.ok("map", cli.interface, "0", "drops").json["entries"]] == [0, 4]


def test_what_can_not_be_written(cli: CommandLine) -> None:
    cli.load("globals", "firewall")
    frozen = cli("map", cli.interface, "xdp_globals", ".rodata", "--set", "step=4", "--yes")
    assert frozen.code == 6
    assert "frozen" in frozen.err
    assert cli("map", cli.interface, "xdp_globals", ".data", "--set", "total=x", "--yes").code == 7
    assert cli("map", cli.interface, "xdp_globals", ".data", "--set", "totals=1", "--yes").code == 5
    assert cli("map", cli.interface, "xdp_globals", "data").code == 5
    assert (
        cli("map", cli.interface, "xdp_firewall", "drops", "--set", "0=1", "--cpu", "999", "--yes").code == 7
    )
    assert cli("map", cli.interface, "xdp_firewall", "drops", "--delete", "0", "--yes").code == 6
    assert cli("map", cli.interface, "xdp_firewall", "blocked", "--set", "7", "--yes").code == 7


def test_an_interface_without_programs(cli: CommandLine) -> None:
    assert cli("maps", cli.interface).code == 5


def test_the_maps_of_somebody_elses_program(cli: CommandLine, playground: Playground, samples: Path) -> None:
    with pinned_program(samples / "monitor.o") as pin:
        attach_pinned(playground, pin)
        playground.send([frames.udp(frames.PEER, frames.NEAR, 53, payload=bytes(58))] * 6)
        (found,) = cli.ok("maps", cli.interface).json["slots"]
        assert found["slot"] is None
        assert [bpf_map["name"] for bpf_map in found["maps"]] == ["protocols"]
        entries = cli.ok("map", cli.interface, "-", "protocols", "--filter", "UDP").json["entries"]
        assert [(entry["key"], entry["value"]) for entry in entries] == [
            ("KIND_UDP", {"packets": 6, "bytes": 600})
        ]
