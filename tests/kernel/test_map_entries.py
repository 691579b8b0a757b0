# SPDX-License-Identifier: Apache-2.0
"""Map entries in specs: set before the swap, compared, and saved; and off in specs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernel.chains import LINKAGES, look_at
from tests.kernel.command_line import CommandLine
from tests.kernel.test_cli_spec import spec
from xdpchain.maps import open_map
from xdpchain.testing.frames import NEAR, PEER, udp
from xdpchain.testing.playground import Playground

DNS, HTTP = "{port=53, protocol=17}", "{port=80, protocol=6}"


def firewall(cli: CommandLine, *entries: str, more: str = "") -> str:
    slot = f'object = "{cli.sample("firewall")}"{more}'
    table = (
        f'[[interface.slot.map]]; name = "blocked"; entries = [{", ".join(repr(entry) for entry in entries)}]'
    )
    return f"{slot}; {table}" if entries else slot


def held(playground: Playground, slot: int = 0) -> dict[str, str]:
    with open_map(look_at(playground), slot, "blocked") as table:
        return {entry.label: entry.text() for entry in table.entries()}


@pytest.mark.parametrize("linkage", LINKAGES)
def test_a_new_component_meets_no_packet_without_its_entries(
    cli: CommandLine, playground: Playground, tmp_path: Path, linkage: str
) -> None:
    file = tmp_path / "spec.toml"
    head = f'linkage = "{linkage}"'
    file.write_text(spec(cli, firewall(cli, f"{DNS}=1"), head=head))
    planned = cli("plan", str(file), "--json")
    assert planned.code == 2
    assert "{port=53, protocol=17} = 1" in str(planned.json["interfaces"][0]["plan"]["changes"])
    cli.ok("apply", str(file))
    assert list(held(playground).values()) == ["1"]
    playground.send([udp(PEER, NEAR, 53)] * 3)
    assert cli("plan", str(file)).code == 0
    # A changed value and a new one in the running map: nothing is relinked.
    before = look_at(playground).identity
    file.write_text(spec(cli, firewall(cli, f"{DNS}=2", f"{HTTP}=1"), head=head))
    planned = cli("plan", str(file))
    assert (planned.code, "1 → 2" in planned.out, "written while it runs" in planned.err) == (2, True, True)
    assert "xdp_firewall" in cli.ok("apply", str(file)).out
    assert (sorted(held(playground).values()), look_at(playground).identity) == (["1", "2"], before)
    # Other entries stay, and are not differences.
    cli.ok("map", cli.interface, "0", "blocked", "--set", "{port=22, protocol=6}=7", "--yes")
    assert cli("plan", str(file)).code == 0
    assert len(held(playground)) == 3


def test_nothing_is_written_where_an_entry_is_wrong(
    cli: CommandLine, playground: Playground, tmp_path: Path
) -> None:
    file = tmp_path / "spec.toml"
    file.write_text(spec(cli, firewall(cli, f"{DNS}=1", f"{HTTP}=300")))
    for command in ("plan", "apply"):
        failed = cli(command, str(file))
        assert (failed.code, "map blocked" in failed.err, "300" in failed.err) == (7, True, True), failed.err
    assert look_at(playground).hook is None
    file.write_text(spec(cli, firewall(cli, f"{DNS}=1")))
    cli.ok("apply", str(file))
    # The first is valid, the second is not: the first is undone.
    file.write_text(spec(cli, firewall(cli, f"{DNS}=5", f"{HTTP}=300")))
    assert cli("apply", str(file)).code == 7
    assert list(held(playground).values()) == ["1"]
    file.write_text(spec(cli, f'object = "{cli.sample("firewall")}"; [[interface.slot.map]]; name = "no"; '
                              'entries = ["1=1"]'))  # fmt: skip
    failed = cli("apply", str(file))
    assert (failed.code, "no map 'no'" in failed.err, "blocked" in failed.err) == (5, True, True), failed.err


def test_entries_alone_cannot_wait(cli: CommandLine, playground: Playground, tmp_path: Path) -> None:
    file = tmp_path / "spec.toml"
    file.write_text(spec(cli, firewall(cli, f"{DNS}=1")))
    cli.ok("apply", str(file))
    file.write_text(spec(cli, firewall(cli, f"{DNS}=2")))
    refused = cli("apply", str(file), "--confirm", "60")
    assert (refused.code, "can't be pending" in refused.err) == (7, True), refused.err
    assert list(held(playground).values()) == ["1"]
    # Undo restores the previous chain, not the contents of the map.
    cli.ok("apply", str(file))
    assert "xdp_firewall" in cli.ok("undo", cli.interface).out
    assert look_at(playground).hook is None


def test_save_writes_them_and_keeps_them(cli: CommandLine, playground: Playground, tmp_path: Path) -> None:
    file = tmp_path / "spec.toml"
    cli.ok("load", cli.interface, cli.sample("firewall"), cli.sample("monitor"), "--linkage", "static")
    cli.ok("map", cli.interface, "xdp_firewall", "blocked", "--set", f"{DNS}=1", "--yes")
    saved = cli.ok("save", cli.interface, "--maps", "-o", str(file))
    assert "drops of xdp_firewall: percpu_array" in str(saved.json["warnings"])
    text = file.read_text()
    assert "[[interface.slot.map]]" in text
    assert cli("plan", str(file)).code == 0
    # Saved again without entries, the spec keeps those it has; with them, it gets the current ones.
    cli.ok("set", cli.interface, "xdp_monitor", "--off")
    cli.ok("map", cli.interface, "xdp_firewall", "blocked", "--set", f"{HTTP}=1", "--yes")
    cli.ok("save", cli.interface, "-o", str(file))
    assert (file.read_text().count("port="), "off = true" in file.read_text()) == (1, True)
    cli.ok("save", cli.interface, "--maps", "-o", str(file))
    assert file.read_text().count("port=") == 2
    cli.ok("unload", cli.interface, "--all")
    cli.ok("apply", str(file))
    assert len(held(playground)) == 2
    assert [slot.off for slot in (look_at(playground).chain or ())] == [False, True]
    assert cli("plan", str(file)).code == 0
