# SPDX-License-Identifier: Apache-2.0
"""Shadow from the command line: loaded, shown, confirmed; the figures come from real packets."""

from __future__ import annotations

from pathlib import Path

from tests.kernel.command_line import CommandLine
from xdpchain.testing.frames import scripted


def test_loaded_in_shadow_looked_at_and_armed(cli: CommandLine) -> None:
    given = (cli.interface, cli.sample("scripted"), "-n", "scripted_0", "--linkage", "static", "--shadow")
    planned = cli("plan", "load", *given)
    assert planned.code == 2
    assert "in shadow" in planned.out
    cli.ok("load", *given)
    cli.playground.send([scripted(b"\1")] * 3 + [scripted(b"\2")] * 197)
    (slot,) = cli.status()["slots"]
    assert (slot["shadow"], slot["actions"]) == (True, ["XDP_PASS"])
    assert slot["would_have"]["dropped"] == {"packets": 3, "share": 0.015}
    assert slot["counters"]["XDP_DROP"]["packets"] == 3
    assert cli.status()["verdict"]["XDP_PASS"]["packets"] == 200
    text = cli("status", cli.interface).out
    assert "would have dropped 1.5 % (3 of 200 packets)" in text
    (row,) = [line for line in text.splitlines() if line.startswith(" =>")]
    assert row.split()[3] == str(slot["id"])  # scripts take the fourth word
    assert "in shadow" in row
    changed = cli.ok("set", cli.interface, "scripted_0", "--no-shadow").json
    assert [change["text"] for change in changed["plan"]["changes"]] == ["in shadow → in force"]
    assert [slot["shadow"] for slot in changed["running"]["slots"]] == [False]
    assert "shadow" not in cli("status", cli.interface).out
    cli.playground.send([scripted(b"\1")] * 2)
    assert cli.status()["verdict"]["XDP_DROP"]["packets"] == 2
    assert cli.ok("set", cli.interface, "0", "--shadow").json["running"]["slots"][0]["shadow"]


def test_shadow_belongs_to_a_slot(cli: CommandLine) -> None:
    cli.load("pass")
    result = cli("set", cli.interface, "--shadow")
    assert result.code == 64
    assert "which slot" in result.err


def test_it_is_written_down(cli: CommandLine, tmp_path: Path) -> None:
    cli.ok("load", cli.interface, cli.sample("firewall"), "--linkage", "static", "--shadow")
    spec = tmp_path / "chain.toml"
    spec.write_text(cli("save", cli.interface).out)
    assert "shadow = true" in spec.read_text()
    assert cli("plan", str(spec)).code == 0
    cli.ok("set", cli.interface, "0", "--no-shadow")
    planned = cli("plan", str(spec))
    assert (planned.code, "in force → in shadow" in planned.out) == (2, True)
    cli.ok("apply", str(spec))
    assert cli.status()["slots"][0]["shadow"]
