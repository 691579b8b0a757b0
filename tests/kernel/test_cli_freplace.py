# SPDX-License-Identifier: Apache-2.0
"""The command line with freplace linkage, together with xdp-loader: both edit one chain, and show
it alike.
"""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.kernel.command_line import CommandLine
from xdpchain.testing.frames import NEAR, PEER, udp
from xdptui.commands import in_place

pytestmark = pytest.mark.vm

FRAMES = [udp(PEER, NEAR, 53)] * 10


def xdp_loader(cli: CommandLine, *words: str) -> str:
    entered = ["nsenter", f"--net=/run/netns/{cli.playground.netns}", "xdp-loader", *words]
    done = subprocess.run(entered, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rows(table: str) -> list[list[str]]:
    """The words of the components' rows."""
    words = [line.split() for line in table.splitlines()]
    return [row[1:] for row in words if row[:1] == ["=>"]]


def test_a_new_chain_is_shared_with_libxdp_and_the_tables_agree(cli: CommandLine) -> None:
    said = cli("load", cli.interface, cli.sample("firewall"), cli.sample("monitor"), "-A", "PD")
    assert said.code == 0, said.err
    assert "freplace linkage: this kernel supports freplace" in said.out
    assert cli.status()["linkage"] == "freplace"
    ours = rows(cli("status", cli.interface).out)
    assert len(ours) == 2
    assert ours == rows(xdp_loader(cli, "status", cli.interface))
    assert ours[0][-1] == "XDP_DROP,XDP_PASS"


def test_each_edits_what_the_other_loaded(cli: CommandLine) -> None:
    xdp_loader(cli, "load", cli.interface, cli.sample("firewall"), cli.sample("monitor"))
    assert cli.status()["owner"] == "libxdp"
    joined = cli.ok("load", cli.interface, cli.sample("pass"))
    assert joined.slots() == ["xdp_firewall", "xdp_pass", "xdp_monitor"]
    ids = {row[1]: row[2] for row in rows(xdp_loader(cli, "status", cli.interface))}
    assert cli("unload", cli.interface, "--id", ids["xdp_firewall"]).code == 0
    xdp_loader(cli, "unload", cli.interface, "--id", ids["xdp_pass"])
    assert [(slot["name"], slot["id"]) for slot in cli.status()["slots"]] == [
        ("xdp_monitor", int(ids["xdp_monitor"]))
    ]
    assert cli.ok("unload", cli.interface, "--all").json["running"]["owner"] is None
    assert cli("clean", cli.interface).out == "no stale pins\n"


def test_relink_moves_a_chain_to_and_fro_with_its_maps(cli: CommandLine) -> None:
    def maps() -> list[list[int]]:
        return [sorted(ref["id"] for ref in slot["maps"]) for slot in cli.status()["slots"]]

    cli.load("firewall", "monitor")
    before = maps()
    there = cli.ok("relink", cli.interface, "--linkage", "freplace").json
    assert there["running"]["linkage"] == "freplace"
    assert there["plan"]["changes"][0]["kind"] == "chain"
    assert maps() == before
    back = cli.ok("relink", cli.interface, "--linkage", "static").json
    assert back["running"]["linkage"] == "static"
    assert maps() == before


def test_a_plan_leaves_chain_and_pins_alone(cli: CommandLine) -> None:
    cli.ok("load", cli.interface, cli.sample("firewall"), cli.sample("monitor"), "--linkage", "freplace")
    before = cli.status()
    pins = xdp_loader(cli, "status", cli.interface)
    for command in (["load", cli.interface, cli.sample("pass")], ["move", cli.interface, "0", "1"]):
        assert cli("plan", *command).code == 2
    assert cli.status() == before
    assert xdp_loader(cli, "status", cli.interface) == pins


def test_the_version_of_the_dispatcher_can_be_chosen(cli: CommandLine) -> None:
    for version in (2, 3):
        words = ("load", cli.interface, cli.sample("pass"), "--linkage", "freplace")
        loaded = cli.ok(*words, "--dispatcher-version", str(version)).json
        assert loaded["running"]["dispatcher"]["version"] == version
        cli.ok("unload", cli.interface, "--all")


def test_watch_counts_from_outside(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = (cli.sample("firewall"), cli.sample("monitor"))
    cli.ok("load", cli.interface, *objects, "--linkage", "freplace", "--no-counters")
    cli.playground.send(FRAMES)
    assert all(slot["counters"] is None for slot in cli.status()["slots"])  # nobody looked
    lines: list[str] = []

    def write(line: str) -> None:
        if not lines:  # the first reading is out: counting has begun
            cli.playground.send(FRAMES)
        lines.append(line)

    monkeypatch.setattr(in_place, "write", write)
    assert cli("watch", cli.interface, "--interval", "0.1", "--count", "2", "--json").code == 0
    last = json.loads(lines[-1])["interfaces"][0]
    for counted in (*(slot["counters"] for slot in last["slots"]), last["verdict"]):
        assert counted["XDP_PASS"] == {"packets": len(FRAMES), "bytes": sum(map(len, FRAMES))}
    # Also with nobody looking, once they are loaded with counters of their own.
    cli.ok("set", cli.interface, "--counters")
    cli.playground.send(FRAMES)
    assert [slot["counters"]["XDP_PASS"]["packets"] for slot in cli.status()["slots"]] == [len(FRAMES)] * 2
