# SPDX-License-Identifier: Apache-2.0
"""`xdptui why` on a running chain, with known packets: which line decided, and for how many packets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.kernel.command_line import CommandLine
from tests.kernel.loaders import attach_pinned, pinned_program
from xdpchain.testing import frames
from xdpchain.testing.frames import NEAR, PEER

SOURCE = Path(__file__).parents[2] / "bpf/samples"
BLOCKED, OPEN = 137, 41


def line_of(file: str, text: str) -> int:
    lines = (SOURCE / file).read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


def send(cli: CommandLine) -> int:
    """Known packets for a firewall that blocks UDP port 9; returns the bytes of one."""
    blocked, open_ = frames.udp(PEER, NEAR, 9), frames.udp(PEER, NEAR, 10)
    cli.playground.send([blocked] * BLOCKED + [open_] * OPEN)
    return len(blocked)


def block(cli: CommandLine) -> None:
    rule = "{port=9, protocol=17}=1"
    cli.ok("map", cli.interface, "xdp_firewall", "blocked", "--set", rule, "--yes")


@pytest.mark.parametrize("linkage", ["static", "tailcall", pytest.param("freplace", marks=pytest.mark.vm)])
def test_the_line_that_dropped_and_how_many_packets(cli: CommandLine, linkage: str) -> None:
    cli.ok("load", cli.interface, cli.sample("firewall"), cli.sample("pass"), "--linkage", linkage)
    block(cli)
    size = send(cli)
    document = cli.ok("why", cli.interface, "--interval", "0.1").json
    assert (document["interface"], document["note"]) == (cli.interface, "")
    first, second = document["slots"]
    (drop,) = (site for site in first["sites"] if site["code"] == "DROP")
    where = line_of("firewall.bpf.c", "if (!bpf_map_lookup_elem(&blocked, &key))")
    assert (drop["file"], drop["line"], drop["condition"]) == ("firewall.bpf.c", where, True)
    assert (drop["packets"], drop["bytes"]) == (BLOCKED, BLOCKED * size)
    passes = [(site["line"], site["packets"]) for site in first["sites"] if site["code"] == "PASS"]
    assert len(passes) == 9
    assert [(line, packets) for line, packets in passes if packets] == [(where, OPEN)]
    counted = {code["code"]: code["packets"] for code in first["codes"]}
    assert counted == {"ABORTED": 0, "DROP": BLOCKED, "PASS": OPEN, "TX": 0, "REDIRECT": 0, "other": 0}
    (only,) = second["sites"]
    assert (only["code"], only["packets"], only["text"]) == ("PASS", OPEN, "return XDP_PASS;")


def test_as_text_for_one_slot_and_one_code(cli: CommandLine) -> None:
    cli.ok("load", cli.interface, cli.sample("firewall"), cli.sample("pass"), "--linkage", "static")
    block(cli)
    send(cli)
    told = cli("why", cli.interface, "0", "--code", "drop", "--interval", "0.1")
    assert told.code == 0
    assert "firewall.bpf.c" in told.out
    assert "if (!bpf_map_lookup_elem(&blocked, &key))" in told.out
    assert f"{BLOCKED} packets  77%" in told.out
    assert "xdp_pass" not in told.out
    whole = cli("why", cli.interface, "xdp_firewall", "--interval", "0.1").out
    assert "counted together" not in whole
    assert re.search(rf"PASS .* {OPEN} packets  23%  continues to slot 1  firewall.bpf.c", whole)
    assert cli("why", cli.interface, "7").code == 5
    assert cli("why", cli.interface, "--code", "perhaps").code != 0


def test_what_goes_on_after_a_drop_is_not_dropped(cli: CommandLine) -> None:
    cli.ok("load", cli.interface, cli.sample("firewall"), cli.sample("pass"), "--linkage", "static")
    cli.ok("set", cli.interface, "0", "--actions", "PASS,DROP")
    block(cli)
    send(cli)
    told = cli("why", cli.interface, "--interval", "0.1").out
    assert f"{BLOCKED} packets  77%  continues to slot 1  firewall.bpf.c" in told
    assert f"dropped on {cli.interface}: –/s, 0 packets; arrived: {BLOCKED + OPEN}" in re.sub(
        r"\d/s", "–/s", told
    )


def test_each_place_has_its_own_count_where_packets_leave_the_chain(cli: CommandLine) -> None:
    cli.ok("load", cli.interface, cli.sample("firewall"), "--linkage", "static")
    block(cli)
    send(cli)
    (slot,) = cli.ok("why", cli.interface, "--interval", "0.1").json["slots"]
    counts = {(site["code"], site["line"]): site["packets"] for site in slot["sites"]}
    where = line_of("firewall.bpf.c", "if (!bpf_map_lookup_elem(&blocked, &key))")
    assert counts.pop(("DROP", where)) == BLOCKED
    assert counts.pop(("PASS", where)) == OPEN, "the same line, the other way"
    assert set(counts.values()) == {0}
    told = cli("why", cli.interface, "--watch", "--count", "2", "--interval", "0.1").out
    assert "counted together" not in told
    assert f"{OPEN} packets" in told


def test_readings_follow_one_another(cli: CommandLine) -> None:
    cli.ok("load", cli.interface, cli.sample("pass"), "--linkage", "static")
    told = cli("why", cli.interface, "--watch", "--count", "3", "--interval", "0.1", "--json")
    assert told.code == 0
    assert len(told.out.splitlines()) == 3


def test_a_program_of_somebody_else_is_read_from_the_kernel(cli: CommandLine, samples: Path) -> None:
    with pinned_program(samples / "firewall.o") as pin:
        attach_pinned(cli.playground, pin)
        (slot,) = cli.ok("why", cli.interface, "--interval", "0.1").json["slots"]
    where = line_of("firewall.bpf.c", "if (!bpf_map_lookup_elem(&blocked, &key))")
    assert ("DROP", where) in {(site["code"], site["line"]) for site in slot["sites"]}


def test_where_nothing_runs(cli: CommandLine) -> None:
    assert cli("why", cli.interface, "0").code == 5
    assert "no program runs" in cli("why", cli.interface, "--interval", "0.1").out


def test_counters_that_are_off_are_said_to_be(cli: CommandLine) -> None:
    cli.ok("load", cli.interface, cli.sample("pass"), "--linkage", "static", "--no-counters")
    note = cli.ok("why", cli.interface, "--interval", "0.1").json["note"]
    on = f"xdptui set {cli.interface} --counters --netns {cli.playground.netns}"
    assert note == f"its counters are off. `{on}` turns the counters on"
    assert f"nothing is counted: {note}" in cli("why", cli.interface, "--interval", "0.1").out
