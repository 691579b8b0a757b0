# SPDX-License-Identifier: Apache-2.0
"""Slot labels: kept through edits, linkages, undo and specs; and what selectors match."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernel.chains import LINKAGES, look_at
from tests.kernel.command_line import CommandLine
from xdpchain.testing.playground import Playground


def labels(playground: Playground) -> dict[str, dict[str, str]]:
    running = look_at(playground)
    assert running.chain is not None, running.note
    return {slot.name: dict(slot.labels) for slot in running.chain}


@pytest.mark.parametrize("linkage", LINKAGES)
def test_they_stay_through_edits(cli: CommandLine, playground: Playground, linkage: str) -> None:
    cli.ok("load", cli.interface, cli.sample("firewall"), "--label", "team=edge", "--linkage", linkage)
    cli.ok("load", cli.interface, cli.sample("monitor"))
    assert labels(playground) == {"xdp_firewall": {"team": "edge"}, "xdp_monitor": {}}
    planned = cli("plan", "set", cli.interface, "xdp_monitor", "--label", "team=core", "--label", "tier=1")
    assert (planned.code, "labels none → team=core, tier=1" in planned.out) == (2, True), planned.out
    cli.ok("set", cli.interface, "xdp_monitor", "--label", "team=core", "--label", "tier=1")
    cli.ok("set", cli.interface, "xdp_firewall", "-P", "77", "--label", "team=")
    assert labels(playground) == {"xdp_firewall": {}, "xdp_monitor": {"team": "core", "tier": "1"}}
    cli.ok("set", cli.interface, "xdp_monitor", "--off")
    cli.ok("undo", cli.interface)
    cli.ok("undo", cli.interface)
    assert labels(playground) == {
        "xdp_firewall": {"team": "edge"},
        "xdp_monitor": {"team": "core", "tier": "1"},
    }
    slots = cli.ok("status", cli.interface).json["interfaces"][0]["slots"]
    assert [slot["labels"] for slot in slots] == [{"team": "edge"}, {"team": "core", "tier": "1"}]
    entries = cli.ok("log", cli.interface).json["entries"]
    assert any(slot["labels"] == {"team": "edge"} for slot in entries[-1]["after"]["slots"])


def test_selectors(cli: CommandLine, playground: Playground) -> None:
    cli.ok("load", cli.interface, cli.sample("firewall"), cli.sample("monitor"), "--label", "team=edge",
           "--label", "tier=1", "--linkage", "static")  # fmt: skip
    cli.ok("load", cli.interface, cli.sample("counter"), "--label", "team=core", "--label", "tier=1")
    assert len(cli.ok("maps", cli.interface, "--where", "team=core").json["slots"]) == 1
    cli.ok("set", cli.interface, "--where", "team=edge", "--off")
    running = look_at(playground)
    assert {slot.name for slot in running.chain or () if slot.off} == {"xdp_firewall", "xdp_monitor"}
    refused = cli("set", cli.interface, "0", "--where", "team=edge", "--on")
    assert "exclude each other" in refused.err
    missing = cli("unload", cli.interface, "--where", "team=edge", "--where", "tier=2")
    assert (missing.code, "team=core, tier=1" in missing.err) == (5, True), missing.err
    assert [
        interface["name"] for interface in cli.ok("status", "--where", "team=core").json["interfaces"]
    ] == ["xdp0"]
    assert cli.ok("status", "--where", "team=none").json["interfaces"] == []
    cli.ok("unload", cli.interface, "--where", "team=edge", "--where", "tier=1")
    assert labels(playground) == {"xdp_counter": {"team": "core", "tier": "1"}}


def test_one_slot_by_label(cli: CommandLine, playground: Playground) -> None:
    """Commands that take one slot refuse labels that no slot or several slots have."""
    cli.ok("load", cli.interface, cli.sample("firewall"), cli.sample("monitor"), "--label", "team=edge",
           "--linkage", "static")  # fmt: skip
    cli.ok("set", cli.interface, "xdp_monitor", "--label", "tier=1")
    taking_one = (
        ("move", cli.interface, "0"),
        ("replace", cli.interface, cli.sample("monitor"), "--fresh-maps"),
        ("map", cli.interface, "protocols"),
        ("logs", cli.interface, "--timeout", "0.1"),
    )
    for command in taking_one:
        several = cli(*command, "--where", "team=edge")
        assert (several.code, "0 xdp_firewall, 1 xdp_monitor" in several.err) == (7, True), several.err
        assert cli(*command, "--where", "team=core").code == 5
    for command in (*taking_one[:3], ("why", cli.interface), ("maps", cli.interface)):
        assert cli(*command[:2], "0", *command[2:], "--where", "tier=1").code == 64
    assert "SLOT, or --where" in cli("move", cli.interface, "0").err

    cli.ok("map", cli.interface, "protocols", "--where", "tier=1")
    (slot,) = cli.ok("why", cli.interface, "--where", "tier=1", "--interval", "0.1").json["slots"]
    assert slot["name"] == "xdp_monitor"
    assert cli("why", cli.interface, "--where", "tier=2").code == 5
    (watched,) = cli.ok("watch", "--where", "tier=1", "--count", "1").json["interfaces"]
    assert watched["name"] == playground.ifname
    assert cli("watch", "--where", "tier=2", "--count", "1").code == 5
    before = look_at(playground).chain
    cli.ok("replace", cli.interface, cli.sample("monitor"), "--fresh-maps", "--where", "tier=1")
    cli.ok("move", cli.interface, "--where", "tier=1", "0")
    after = look_at(playground).chain
    assert before is not None
    assert after is not None
    assert [slot.name for slot in after] == ["xdp_monitor", "xdp_firewall"]
    assert after.slots[0].id != before.slots[1].id
    assert after.slots[1].id == before.slots[0].id


@pytest.mark.parametrize(
    "label", ["team", "=x", "te am=x", "team=a\nb", "team=\x1b[31m", "a" * 64 + "=x", "team=" + "x" * 64]
)
def test_hostile_labels_are_refused(cli: CommandLine, playground: Playground, label: str) -> None:
    refused = cli("load", cli.interface, cli.sample("pass"), "--label", label)
    assert (refused.code, "\x1b" in refused.err) == (7, False), refused.err
    assert look_at(playground).hook is None


def test_in_specs(cli: CommandLine, playground: Playground, tmp_path: Path) -> None:
    file = tmp_path / "spec.toml"
    cli.ok("load", cli.interface, cli.sample("pass"), "--label", "team=edge", "--linkage", "tailcall")
    cli.ok("save", cli.interface, "-o", str(file))
    assert 'team = "edge"' in file.read_text()
    cli.ok("relink", cli.interface, "--linkage", "static")
    cli.ok("relink", cli.interface, "--linkage", "tailcall")
    assert cli("plan", str(file)).code == 0
    file.write_text(file.read_text().replace('"edge"', '"core"'))
    assert cli("plan", str(file)).code == 2
    cli.ok("apply", str(file))
    assert labels(playground) == {"xdp_pass": {"team": "core"}}
    file.write_text(file.read_text().replace('"core"', '"two words"'))
    assert "is not a valid value for label team" in cli("apply", str(file)).err
