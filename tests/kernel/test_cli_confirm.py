# SPDX-License-Identifier: Apache-2.0
"""Changes that wait to be confirmed, from the command line."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.arming import SOON, eventually, guardians, no_guardian_survives, pending_on, settled_on
from tests.kernel.command_line import CommandLine
from xdpchain.sys import netns
from xdpchain.testing.playground import Playground


@pytest.fixture
def cli(playground: Playground, capsys: pytest.CaptureFixture[str], samples: Path) -> Iterator[CommandLine]:
    with no_guardian_survives(playground):
        yield CommandLine(playground, capsys, samples)


def test_every_changing_command_can_wait(cli: CommandLine) -> None:
    interface = cli.interface
    cli.load("firewall", "monitor")
    commands = (
        ("load", interface, cli.sample("pass")),
        ("move", interface, "1", "0"),
        ("set", interface, "0", "-P", "3"),
        ("replace", interface, "xdp_monitor", cli.sample("pass"), "-n", "xdp_pass", "--fresh-maps"),
        ("unload", interface, "0"),
        ("unload", interface, "--all"),
        ("undo", interface),
    )
    for words in commands:
        before = cli.status()
        done = cli.ok(*words, "--confirm", "60").json
        pending = done["running"]["armed"]
        assert done["changed"] is True
        assert (pending["state"], pending["seconds"]) == ("armed", 60)
        assert 50 < pending["seconds_left"] <= 60
        assert pending["rolls_back_to"] == before["programs"][0]["id"]
        back = cli.ok("rollback", interface).json
        assert back["decision"] == "rolled-back"
        assert back["running"]["programs"] == before["programs"]
        assert back["running"]["settled"]["outcome"] == "rolled-back"


def test_the_words_of_a_change_that_waits(cli: CommandLine) -> None:
    cli.load("firewall")
    said = cli("load", cli.interface, cli.sample("drop"), "--confirm", "60").out
    assert "pending change: rolls back to program" in said
    assert f"`xdptui confirm {cli.interface} --netns {cli.playground.netns}` keeps it" in said
    status = cli("status", cli.interface).out
    assert "pending change: rolls back" in status
    assert "xdp_drop" in status
    busy = cli("unload", cli.interface, "0")
    assert (busy.code, "a pending change" in busy.err) == (4, True)
    assert cli("confirm", cli.interface).out.endswith("native mode, counters on)\n")
    assert "pending change" not in cli("status", cli.interface).out
    again = cli("confirm", cli.interface)
    assert (again.code, again.out) == (5, "")
    assert "confirmed" in again.err


def test_after_a_rollback_the_table_says_so(cli: CommandLine) -> None:
    cli.load("firewall")
    cli.ok("load", cli.interface, cli.sample("drop"), "--confirm", str(SOON))
    settled_on(cli.playground)
    table = cli("status", cli.interface).out
    assert f"the change was rolled back (nobody confirmed within {SOON:g} s); program" in table
    late = cli("confirm", cli.interface)
    assert (late.code, "rolled back" in late.err) == (5, True)

    def in_the_journal() -> bool:  # the guardian writes it after the outcome
        return cli.ok("log", cli.interface).json["entries"][-1]["command"] == "xdptui-guardian"

    assert eventually(in_the_journal, "the guardian's entry")


@pytest.mark.parametrize("seconds", ["soon", "0", "0.5", "-1", "nan", "86401"])
def test_a_deadline_that_is_none(cli: CommandLine, seconds: str) -> None:
    refused = cli("load", cli.interface, cli.sample("drop"), f"--confirm={seconds}", "--json")
    assert (refused.code, refused.out) == (7, "")
    assert cli.status()["programs"] == []


def test_nothing_to_change_waits_for_nothing(cli: CommandLine) -> None:
    cli.load("monitor")
    same = cli.ok("set", cli.interface, "0", "-P", "90", "--confirm", "60").json
    assert (same["changed"], same["running"]["armed"]) == (False, None)


def test_a_dry_run_arms_nothing(cli: CommandLine) -> None:
    cli.ok("load", cli.interface, cli.sample("drop"), "--confirm", "60", "--dry-run")
    assert cli.status()["armed"] is None
    assert pending_count(cli) == 0


def pending_count(cli: CommandLine) -> int:
    return len(guardians(netns.inode(cli.playground.netns)))


def test_the_armed_change_names_its_author(cli: CommandLine) -> None:
    cli.ok("load", cli.interface, cli.sample("drop"), "--confirm", "60")
    pending = pending_on(cli.playground)
    assert pending.author.pid == os.getpid()
    assert cli.status()["armed"]["by"]["pid"] == os.getpid()


def test_a_change_that_may_cut_our_own_connection_warns(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    netns_of = cli.playground.netns
    subprocess.run(
        ["ip", "-n", netns_of, "addr", "replace", "203.0.113.2/24", "dev", cli.interface], check=True
    )
    monkeypatch.setenv("SSH_CONNECTION", "203.0.113.9 50022 203.0.113.2 22")
    assert "your own connection" in cli("load", cli.interface, cli.sample("pass")).err
    assert cli("unload", cli.interface, "0", "--confirm", "60").err == ""
    monkeypatch.setenv("SSH_CONNECTION", "203.0.113.9 50022 203.0.113.77 22")
    cli.ok("rollback", cli.interface)
    assert cli("unload", cli.interface, "0").err == ""


@pytest.mark.parametrize("linkage", ["tailcall", pytest.param("freplace", marks=pytest.mark.vm)])
def test_relinked_with_its_maps_and_back_unless_confirmed(cli: CommandLine, linkage: str) -> None:
    """A static chain on trial with another linkage: it has the same maps, and afterwards the same programs
    run again."""
    cli.load("firewall", "counter")
    before = cli.status()
    maps = [slot["maps"] for slot in before["slots"]]
    there = cli.ok("relink", cli.interface, "--linkage", linkage, "--confirm", "60").json["running"]
    assert (there["linkage"], there["armed"]["state"]) == (linkage, "armed")
    assert [slot["maps"] for slot in there["slots"]] == maps
    back = cli.ok("rollback", cli.interface).json["running"]
    assert (back["linkage"], back["programs"]) == ("static", before["programs"])
    assert [slot["maps"] for slot in back["slots"]] == maps
    cli.ok("relink", cli.interface, "--linkage", linkage, "--confirm", "60")
    kept = cli.ok("confirm", cli.interface).json["running"]
    assert (kept["linkage"], [slot["maps"] for slot in kept["slots"]]) == (linkage, maps)


@pytest.fixture
def several(root: None, capsys: pytest.CaptureFixture[str], samples: Path) -> Iterator[CommandLine]:
    with Playground(links=3) as playground, no_guardian_survives(playground):
        yield CommandLine(playground, capsys, samples)


def names_of(cli: CommandLine) -> list[str]:
    return [link.ifname for link in cli.playground.links]


def is_pending(cli: CommandLine, name: str) -> bool:
    return cli.ok("status", name).json["interfaces"][0]["armed"] is not None


@pytest.mark.parametrize("command", ["confirm", "rollback"])
def test_a_glob_decides_all_that_is_pending(several: CommandLine, command: str) -> None:
    _, second, third = names_of(several)
    for name in (second, third):
        several.ok("load", name, several.sample("pass"), "--confirm", "60")
    done = several.ok(command, "xdp*").json
    assert ([entry["interface"] for entry in done["interfaces"]], done["errors"]) == ([second, third], [])
    assert not any(is_pending(several, name) for name in (second, third))
    nothing = several(command, "xdp*")
    assert (nothing.code, nothing.err.count("no change is pending")) == (5, 3)


def test_one_without_a_pending_change_does_not_keep_others_from_being_confirmed(several: CommandLine) -> None:
    first, second, third = names_of(several)
    for name in (first, third):
        several.ok("load", name, several.sample("pass"), "--confirm", "60")
    done = several("confirm", f"{first},{second},{third}", "--json")
    assert done.code == 5
    assert [entry["interface"] for entry in done.json["interfaces"]] == [first, third]
    assert [(entry["interface"], entry["kind"]) for entry in done.json["errors"]] == [(second, "NotPending")]
    assert not is_pending(several, third)


def test_a_glob_says_what_was_rolled_back_before_it_could_be_confirmed(several: CommandLine) -> None:
    first, second, _ = names_of(several)
    several.ok("load", first, several.sample("pass"), "--confirm", "60")
    several.ok("rollback", first)
    several.ok("load", second, several.sample("pass"), "--confirm", "60")
    done = several("confirm", "xdp*")
    assert (done.code, done.out.startswith(second), "confirmed" in done.out) == (5, True, True)
    assert done.err.count("no change is pending") == 1
    assert "rolled back" in done.err


def test_commands_that_decide_are_quoted(cli: CommandLine) -> None:
    playground = cli.playground
    renamed = ["ip", "-n", playground.netns, "link", "set", playground.ifname, "name", "x$y"]
    subprocess.run(renamed, check=True)
    said = cli("load", "x$y", cli.sample("drop"), "--confirm", "60").out
    assert f"`xdptui confirm 'x$y' --netns {playground.netns}` keeps it" in said
    assert cli("rollback", "x$y").code == 0
