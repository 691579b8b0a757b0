# SPDX-License-Identifier: Apache-2.0
"""Specs on real interfaces: what runs is saved, and what is saved runs."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.chains import LINKAGES, look_at
from tests.kernel.command_line import CommandLine, Result
from tests.kernel.loaders import attach_pinned, pinned_program, xdp_loader
from xdpchain.change.confirm.by_hand import confirm
from xdpchain.maps import open_map
from xdpchain.testing.frames import NEAR, PEER, udp
from xdpchain.testing.playground import Playground
from xdptui.commands import wanted as wanted_module
from xdptui.commands.spec_report import Result as SpecResult
from xdptui.commands.wanted import Wanted

FRAMES = [udp(PEER, NEAR, 53)] * 5


@pytest.fixture
def objects(tmp_path: Path, samples: Path) -> Path:
    """This test's own object files, to be changed and removed."""
    folder = tmp_path / "objects"
    folder.mkdir()
    for name in ("firewall", "monitor", "counter", "pass", "drop", "two", "ratelimit"):
        shutil.copy(samples / f"{name}.o", folder)
    shutil.copy(samples / "counter_v2.o", folder)
    return folder


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def spec(cli: CommandLine, *slots: str, head: str = "", name: str | None = None) -> str:
    """A spec for the interface under test, statically linked: that works on every kernel."""
    lines = ["[[interface]]", f'name = "{name or cli.interface}"', head or 'linkage = "static"']
    for slot in slots:
        lines += ["[[interface.slot]]", *slot.split("; ")]
    return "\n".join(lines) + "\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "spec.toml"


def states(result: Result) -> list[tuple[str, str]]:
    return [(interface["interface"], interface["state"]) for interface in result.json["interfaces"]]


def counted(status: Any, slot: int) -> int:
    return sum(amount["packets"] for amount in status["slots"][slot]["counters"].values())


def test_what_is_saved_to_standard_output_is_the_file(cli: CommandLine, file: Path) -> None:
    name = "x\N{ZERO WIDTH SPACE}y"  # not printable, so shown as an escape elsewhere
    subprocess.run(["ip", "-n", cli.playground.netns, "link", "set", cli.interface, "name", name], check=True)
    cli.ok("load", name, cli.sample("pass"))
    cli.ok("save", name, "-o", str(file))
    said = cli("save", name).out
    assert name in said
    assert said == file.read_text()


def test_what_was_saved_is_nothing_to_apply(cli: CommandLine, file: Path) -> None:
    cli.ok("load", cli.interface, cli.sample("firewall"), cli.sample("monitor"), "--linkage", "static")
    cli.ok(
        "load",
        cli.interface,
        cli.sample("two"),
        "-n",
        "two_learn",
        "-n",
        "two_enforce",
        "-P",
        "70",
        "-A",
        "PD",
    )
    before = look_at(cli.playground).hook
    assert cli("save", cli.interface, "-o", str(file)).code == 0
    assert cli("plan", str(file)).code == 0
    applied = cli.ok("apply", str(file))
    assert applied.json["changed"] is False
    assert states(applied) == [(cli.interface, "unchanged")]
    assert look_at(cli.playground).hook == before


@pytest.mark.parametrize("linkage", LINKAGES)
def test_the_spec_brings_the_same_chain_back(cli: CommandLine, file: Path, linkage: str) -> None:
    cli.ok("load", cli.interface, cli.sample("firewall"), "--linkage", linkage, "-P", "7", "-A", "PT")
    cli.ok("load", cli.interface, cli.sample("two"), "-n", "two_learn", "-n", "two_enforce")
    cli.ok("load", cli.interface, cli.sample("drop"), "--shadow")
    if linkage != "freplace":
        cli.ok("set", cli.interface, "--no-counters")
        cli.ok("set", cli.interface, "two_learn", "--route", "TX:xdp_drop")
    kept = ("name", "section", "priority", "actions", "declared", "object", "frags", "shadow", "routes")
    before = [{key: slot[key] for key in kept} for slot in cli.status()["slots"]]
    counters = cli.status()["counters"]
    cli.ok("save", cli.interface, "-o", str(file))
    cli.ok("unload", cli.interface, "--all")
    planned = cli("plan", str(file), "--json")
    assert planned.code == 2, planned.err
    assert states(planned) == [(cli.interface, "would-change")]
    assert cli.status()["slots"] == []
    cli.ok("apply", str(file))
    after = cli.status()
    assert [{key: slot[key] for key in kept} for slot in after["slots"]] == before
    assert (after["linkage"], after["counters"]) == (linkage, counters)
    two = [slot["maps"] for slot in after["slots"] if slot["name"].startswith("two_")]
    first, second = ({bpf_map["id"] for bpf_map in maps if bpf_map["name"] == "senders"} for maps in two)
    assert first == second != set(), "they were loaded together and share their maps"
    assert cli("plan", str(file)).code == 0


def test_only_what_differs_changes_and_the_rest_goes_on_counting(
    cli: CommandLine, file: Path, objects: Path
) -> None:
    one = f'object = "{objects}/counter.o"; priority = 10'
    file.write_text(spec(cli, one, f'object = "{objects}/pass.o"; priority = 20'))
    cli.ok("apply", str(file))
    cli.playground.send(FRAMES)
    before = cli.status()
    file.write_text(spec(cli, f'object = "{objects}/monitor.o"; priority = 5', one.replace("= 10", "= 30")))
    planned = cli("plan", str(file), "--json")
    assert planned.code == 2, planned.err
    changes = planned.json["interfaces"][0]["plan"]["changes"]
    assert {(c["kind"], c["name"]) for c in changes} == {
        ("remove", "xdp_pass"),
        ("add", "xdp_monitor"),
        ("retune", "xdp_counter"),
    }
    cli.ok("apply", str(file))
    cli.playground.send(FRAMES)
    after = cli.status()
    assert [slot["name"] for slot in after["slots"]] == ["xdp_monitor", "xdp_counter"]
    assert after["slots"][1]["id"] == before["slots"][0]["id"]
    assert after["slots"][1]["maps"] == before["slots"][0]["maps"]
    assert counted(after, 1) == 2 * len(FRAMES)
    assert counted(after, 0) == len(FRAMES)


def test_a_new_version_keeps_the_maps(cli: CommandLine, file: Path, objects: Path) -> None:
    file.write_text(spec(cli, f'object = "{objects}/counter.o"'))
    cli.ok("apply", str(file))
    before = cli.status()["slots"][0]
    shutil.copy(objects / "counter_v2.o", objects / "counter.o")
    planned = cli("plan", str(file), "--json")
    assert planned.code == 2, planned.err
    assert [c["kind"] for c in planned.json["interfaces"][0]["plan"]["changes"]] == ["replace"]
    cli.ok("apply", str(file))
    after = cli.status()["slots"][0]
    assert after["object"]["sha256"] == sha256(objects / "counter_v2.o")
    constants = [
        {m["id"] for m in slot["maps"] if m["name"].startswith(".rodata")} for slot in (before, after)
    ]
    assert not constants[0] & constants[1], "constants belong to the code"
    assert {m["id"] for m in after["maps"]} >= {m["id"] for m in before["maps"] if m["name"][0] != "."}
    assert cli("plan", str(file)).code == 0


@pytest.mark.parametrize("linkage", LINKAGES)
def test_global_variables(cli: CommandLine, file: Path, samples: Path, linkage: str) -> None:
    def total() -> int:
        cli.playground.send(FRAMES)
        with open_map(look_at(cli.playground), 0, ".data") as table:
            value = next(table.entries()).value
        return int(str(value))  # it is the section's only variable

    def written(more: str) -> None:
        file.write_text(spec(cli, f'object = "{samples}/globals.o"{more}', head=f'linkage = "{linkage}"'))

    sample = cli.sample("globals")
    cli.ok("load", cli.interface, sample, "--linkage", linkage, "--global", "step=7", "--global", "total=100")
    cli.ok("save", cli.interface, "-o", str(file))
    assert "globals = {step = 7, total = 100}" in file.read_text()
    assert total() == 100 + 7 * len(FRAMES)
    assert cli("plan", str(file)).code == 0
    cli.ok("unload", cli.interface, "--all")
    cli.ok("apply", str(file))
    assert total() == 100 + 7 * len(FRAMES)
    # Another constant means other code; the counts are kept.
    written("; globals = { step = 1, total = 100 }")
    cli.ok("apply", str(file))
    assert total() == 100 + 8 * len(FRAMES)
    # A new initial value for something in a map would be lost, or lose what is there.
    written("; globals = { step = 1, total = 0 }")
    refused = cli("apply", str(file))
    assert refused.code == 7
    assert "--fresh-maps" in refused.err
    cli.ok("apply", str(file), "--fresh-maps")
    assert total() == len(FRAMES)
    assert cli("plan", str(file)).code == 0
    written("; globals = { nope = 1 }")
    assert cli("plan", str(file)).code == 5
    written('; globals = { step = "x" }')
    assert cli("plan", str(file)).code == 7


def test_a_changed_object_is_refused_with_both_hashes(cli: CommandLine, file: Path, objects: Path) -> None:
    wanted = sha256(objects / "pass.o")
    file.write_text(spec(cli, f'object = "objects/pass.o"; sha256 = "{wanted}"'))
    cli.ok("apply", str(file))  # relative to the spec
    shutil.copy(objects / "drop.o", objects / "pass.o")
    for word in ("plan", "apply"):
        refused = cli(word, str(file), "--json")
        assert refused.code == 7
        assert wanted in refused.error["why"]
        assert sha256(objects / "drop.o") in refused.error["why"]
    (objects / "pass.o").unlink()
    missing = cli("apply", str(file), "--json")
    assert missing.code == 5
    assert wanted in missing.error["why"]
    assert cli.status()["slots"][0]["name"] == "xdp_pass"


def test_saving_says_what_could_not_be_applied(cli: CommandLine, file: Path, objects: Path) -> None:
    running = sha256(objects / "pass.o")
    cli.ok("load", cli.interface, str(objects / "pass.o"), "--linkage", "static")
    shutil.copy(objects / "drop.o", objects / "pass.o")
    refused = cli("save", cli.interface, "-o", str(file), "--json")
    assert refused.code == 7
    assert running in refused.error["why"]
    assert sha256(objects / "drop.o") in refused.error["why"]
    assert "--objects" in refused.error["todo"]
    assert not file.exists()
    (objects / "pass.o").unlink()
    assert cli("save", cli.interface).code == 7
    # The chain carries the file.
    made = cli.ok("save", cli.interface, "-o", str(file), "--objects", str(file.parent / "own"))
    (path,) = made.json["objects"]
    assert sha256(Path(path)) == running
    assert 'object = "own/pass.o"' in file.read_text()
    assert cli("plan", str(file)).code == 0
    cli.ok("unload", cli.interface, "--all")
    cli.ok("apply", str(file))
    assert cli.status()["slots"][0]["object"]["sha256"] == running


def test_object_files_of_others_are_not_replaced(cli: CommandLine, objects: Path, tmp_path: Path) -> None:
    cli.ok("load", cli.interface, str(objects / "pass.o"), "--linkage", "static")
    own = tmp_path / "own"
    own.mkdir()
    (own / "pass.o").write_text("mine")
    (path,) = cli.ok("save", cli.interface, "--objects", str(own)).json["objects"]
    assert (own / "pass.o").read_text() == "mine"
    assert sha256(Path(path)) == sha256(objects / "pass.o")
    assert cli.ok("save", cli.interface, "--objects", str(own)).json["objects"] == [path]


def test_a_spec_that_is_there_is_not_replaced_unasked(cli: CommandLine, file: Path) -> None:
    cli.load("pass")
    file.write_text("mine")
    assert cli("save", cli.interface, "-o", str(file)).code == 7
    assert file.read_text() == "mine"
    assert cli("save", cli.interface, "-o", str(file), "--force").code == 0
    assert cli("plan", str(file)).code == 0


def test_a_spec_that_is_there_is_updated(many: CommandLine, file: Path, objects: Path) -> None:
    first, second, _ = (link.ifname for link in many.playground.links)
    slot = f'object = "{objects}/pass.o"; priority = 10  # mine'
    head = f'linkage = "static"\nnetns = "{many.playground.netns}"  # ours'
    one, other = (spec(many, slot, name=name, head=head) for name in (first, second))
    file.write_text(f"# All of it.\n{one}# The other.\n{other}")
    many.ok("apply", str(file))
    many.ok("set", second, "0", "-P", "20")
    many.ok("save", second, "-o", str(file))
    text = file.read_text()
    assert text.count("priority = 10  # mine") == 1
    assert text.count("priority = 20  # mine") == 1
    assert "# All of it." in text
    assert "# The other." in text
    assert text.count("# ours") == 2
    assert many("plan", str(file)).code == 0


def test_nothing_is_written_down_as_nothing(cli: CommandLine, file: Path) -> None:
    cli.ok("save", cli.interface, "-o", str(file))
    assert "slot = []" in file.read_text()
    cli.load("pass")
    assert cli("plan", str(file)).code == 2
    cli.ok("apply", str(file))
    assert cli.status()["mode"] is None


def test_standard_input(cli: CommandLine, objects: Path) -> None:
    text = spec(cli, f'object = "{objects}/pass.o"')
    ended = cli.process("apply", "-", "--json", input=text, capture_output=True)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["changed"] is True
    assert cli.process("plan", "-", input=text, capture_output=True).returncode == 0


def test_dry_run_changes_nothing(cli: CommandLine, file: Path, objects: Path) -> None:
    file.write_text(spec(cli, f'object = "{objects}/pass.o"'))
    assert cli.ok("apply", str(file), "--dry-run").json["dry_run"] is True
    assert cli.status()["mode"] is None


def programs(cli: CommandLine) -> dict[str, list[str]]:
    """What runs on each interface under test."""
    found = cli.ok("status").json["interfaces"]
    return {one["name"]: [slot["name"] for slot in one["slots"]] for one in found if one["name"] != "lo"}


@pytest.mark.parametrize("linkage", LINKAGES)
def test_a_sibling_joins_the_maps_that_run(cli: CommandLine, file: Path, objects: Path, linkage: str) -> None:
    head = f'linkage = "{linkage}"'
    one, two = (
        f'object = "{objects}/two.o"; program = "two_{name}"; instance = "both"'
        for name in ("learn", "enforce")
    )

    def senders() -> list[int]:
        maps = [bpf_map for slot in cli.status()["slots"] for bpf_map in slot["maps"]]
        return [bpf_map["id"] for bpf_map in maps if bpf_map["name"] == "senders"]

    file.write_text(spec(cli, one, head=head))
    cli.ok("apply", str(file))
    (before,) = senders()
    file.write_text(spec(cli, one, two, head=head))
    cli.ok("apply", str(file))
    assert senders() == [before, before]
    assert cli("plan", str(file)).code == 0
    file.write_text(spec(cli, one, two.replace("both", "apart"), head=head))
    cli.ok("apply", str(file))
    assert sorted(senders())[0] == before
    assert len(set(senders())) == 2
    assert cli("plan", str(file)).code == 0


def test_what_waits_to_be_confirmed_is_in_nobodys_way_but_of_another_change(
    cli: CommandLine, file: Path, objects: Path
) -> None:
    file.write_text(spec(cli, f'object = "{objects}/pass.o"'))
    cli.ok("apply", str(file), "--confirm", "60")
    notes = cli.ok("apply", str(file)).json["interfaces"][0]["plan"]["notes"]
    assert any("is pending" in note for note in notes)
    file.write_text(spec(cli, f'object = "{objects}/drop.o"'))
    assert cli("apply", str(file)).code == 4
    cli.ok("rollback", cli.interface)
    cli.ok("apply", str(file))
    assert cli.status()["slots"][0]["name"] == "xdp_drop"


def test_two_at_once_come_to_one_chain(cli: CommandLine, file: Path, objects: Path) -> None:
    cli.load("monitor")
    slots = [
        f'object = "{objects}/{name}.o"; priority = {n}'
        for n, name in enumerate(("pass", "firewall", "monitor"))
    ]
    file.write_text(spec(cli, *slots))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    both = [cli.process("apply", str(file), "--json", run=subprocess.Popen, **pipes) for _ in range(2)]
    ended = [one.communicate(timeout=60) for one in both]
    assert [one.returncode for one in both] == [0, 0], ended
    assert sorted(json.loads(out)["changed"] for out, _ in ended) == [False, True]
    assert [slot["name"] for slot in cli.status()["slots"]] == ["xdp_pass", "xdp_firewall", "xdp_monitor"]
    assert cli("plan", str(file)).code == 0


def test_undo_takes_an_apply_back(cli: CommandLine, file: Path, objects: Path) -> None:
    cli.load("monitor")
    file.write_text(spec(cli, f'object = "{objects}/pass.o"'))
    cli.ok("apply", str(file))
    cli.ok("undo", cli.interface)
    assert [slot["name"] for slot in cli.status()["slots"]] == ["xdp_monitor"]


def test_a_glob_is_all_of_them_and_a_name_outranks_it(many: CommandLine, file: Path, objects: Path) -> None:
    first, second, third = (link.ifname for link in many.playground.links)
    glob = first.rstrip("0123456789") + "*"
    file.write_text(
        spec(many, f'object = "{objects}/pass.o"', name=glob)
        + spec(many, f'object = "{objects}/drop.o"', name=second)
        + spec(many, f'object = "{objects}/drop.o"', name="nothing*")
    )
    assert dict(states(many.ok("apply", str(file)))) == dict.fromkeys((first, second, third), "changed")
    assert programs(many) == {first: ["xdp_pass"], second: ["xdp_drop"], third: ["xdp_pass"]}
    assert many("plan", str(file)).code == 0
    saved = many.ok("save", glob).json["spec"]
    assert f'name = ["{first}", "{third}"]' in saved


def test_a_glob_that_matches_nothing_is_named(cli: CommandLine, file: Path) -> None:
    file.write_text('[[interface]]\nname = ["none[0-9]*", "nothing*", "*"]\nslot = []\n')
    planned = cli("plan", str(file))
    where = f"(netns {cli.playground.netns})"
    assert planned.code == 0
    assert f"no interface matches none[0-9]* {where}, nothing* {where}\n" in planned.err


def test_two_globs_for_one_interface_are_refused(many: CommandLine, file: Path, objects: Path) -> None:
    slot = f'object = "{objects}/pass.o"'
    file.write_text(spec(many, slot, name="*") + spec(many, slot, name="?*"))
    refused = many("apply", str(file), "--json")
    assert refused.code == 7
    assert "two globs" in refused.error["why"]


def test_what_can_not_be_planned_stops_the_whole(
    many: CommandLine, file: Path, objects: Path, samples: Path
) -> None:
    first, second, third = (link.ifname for link in many.playground.links)
    with pinned_program(samples / "pass.o") as pin:
        attach_pinned(many.playground, pin, link=1)
    theirs = look_at(many.playground, 1).hook
    assert theirs is not None
    slot = f'object = "{objects}/pass.o"'
    file.write_text("".join(spec(many, slot, name=name) for name in (first, second, third)))
    refused = many("apply", str(file), "--json")
    assert refused.code == 4
    assert states(refused) == [(first, "would-change"), (second, "failed"), (third, "would-change")]
    assert refused.error["what"] == refused.json["interfaces"][1]["error"]["what"]
    assert second in refused.error["what"]
    assert programs(many) == {first: [], second: [], third: []}
    going = many("apply", str(file), "--keep-going", "--json")
    assert going.code == 4
    assert states(going) == [(first, "changed"), (second, "failed"), (third, "changed")]
    assert programs(many) == {first: ["xdp_pass"], second: [], third: ["xdp_pass"]}
    assert look_at(many.playground, 1).hook == theirs
    again = many("apply", str(file), "--keep-going", "--json")
    assert states(again) == [(first, "unchanged"), (second, "failed"), (third, "unchanged")]


@pytest.mark.parametrize(("number", "times"), [(signal.SIGINT, 1), (signal.SIGINT, 2), (signal.SIGTERM, 1)])
def test_ctrl_c_and_sigterm_tell_what_was_changed(
    file: Path,
    objects: Path,
    samples: Path,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
    times: int,
) -> None:
    """Once: it ends between two interfaces. Twice: at once, and it looks again at the one under way."""
    with Playground(links=12) as playground:
        cli = CommandLine(playground, capsys, samples)
        names = [link.ifname for link in playground.links]
        file.write_text("".join(spec(cli, f'object = "{objects}/pass.o"', name=name) for name in names))
        applying = cli.process(
            "apply", str(file), "--json", run=subprocess.Popen, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        deadline = time.monotonic() + 60
        while not programs(cli)[names[0]]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        for _ in range(times):
            applying.send_signal(number)
            time.sleep(0.02)
        out, _ = applying.communicate(timeout=60)
        assert applying.returncode == 130
        told = {entry["interface"]: entry["state"] for entry in json.loads(out)["interfaces"]}
        runs = programs(cli)
        assert 0 < sum(map(bool, runs.values())) < len(names)
        assert told == {name: "changed" if runs[name] else "would-change" for name in names}


def test_the_first_failure_ends_it_and_what_was_changed_stays(
    many: CommandLine, file: Path, objects: Path, samples: Path
) -> None:
    """The verifier rejects it when the chain is built, after everything was planned."""
    shutil.copy(samples / "refused.o", objects)
    first, second, third = (link.ifname for link in many.playground.links)
    good, bad = (f'object = "{objects}/{name}.o"' for name in ("pass", "refused"))
    file.write_text(
        spec(many, good, name=first) + spec(many, bad, name=second) + spec(many, good, name=third)
    )
    refused = many("apply", str(file))
    assert refused.code == 1
    assert f"{third} (netns {many.playground.netns}): not reached, so not changed" in refused.out
    assert "1 changed" in refused.out
    assert second in refused.err
    assert programs(many) == {first: ["xdp_pass"], second: [], third: []}
    assert many("apply", str(file), "--keep-going").code == 1
    assert programs(many)[third] == ["xdp_pass"]
    planned = many("plan", str(file), "--json")
    assert planned.code == 1
    assert states(planned) == [(first, "unchanged"), (second, "failed"), (third, "unchanged")]


def test_a_missing_interface_is_an_error_unless_it_comes_in_time(
    cli: CommandLine, file: Path, objects: Path
) -> None:
    late = f"late{os.getpid() % 10000}"
    slot = f'object = "{objects}/pass.o"'
    file.write_text(spec(cli, slot) + spec(cli, slot, name=late))
    missing = cli("apply", str(file), "--json")
    assert missing.code == 5
    assert late in missing.error["what"]
    assert cli.status()["mode"] is None, "nothing was changed"
    assert "--wait SECONDS" in missing.error["todo"]
    waited = cli("apply", str(file), "--wait", "0.3")
    assert waited.code == 5
    assert "--wait" not in waited.err

    def come() -> None:
        time.sleep(0.5)
        add_veth(cli.playground.netns, late)

    thread = threading.Thread(target=come)
    thread.start()
    try:
        begun = time.monotonic()
        waited = cli("apply", str(file), "--wait", "30", "--json")
        assert waited.code == 0, waited.err
        assert time.monotonic() - begun < 15
        assert dict(states(waited)) == {cli.interface: "changed", late: "changed"}
    finally:
        thread.join()


def add_veth(namespace: str, name: str) -> None:
    subprocess.run(
        ["ip", "-n", namespace, "link", "add", name, "type", "veth", "peer", "name", f"{name}p"], check=True
    )


def test_each_changed_interface_waits_to_be_confirmed(many: CommandLine, file: Path, objects: Path) -> None:
    first, second, third = (link.ifname for link in many.playground.links)
    slot = f'object = "{objects}/pass.o"'
    file.write_text(spec(many, slot, name=first))
    many.ok("apply", str(file))
    file.write_text("".join(spec(many, slot, name=name) for name in (first, second, third)))
    pending = many.ok("apply", str(file), "--confirm", "60")
    waiting = {
        interface["interface"]: interface["running"]["armed"] is not None
        for interface in pending.json["interfaces"]
    }
    assert waiting == {first: False, second: True, third: True}
    # While they wait, the spec is what runs: applying it again changes nothing, and confirms nothing.
    again = many.ok("apply", str(file))
    assert again.json["changed"] is False
    many.ok("confirm", second)
    many.ok("rollback", third)
    assert programs(many) == {first: ["xdp_pass"], second: ["xdp_pass"], third: []}
    assert many("plan", str(file)).code == 2


@pytest.mark.parametrize("slow", ["first", "first, but confirmed", "last"])
def test_what_was_rolled_back_while_apply_was_busy_is_no_change(
    many: CommandLine, file: Path, objects: Path, monkeypatch: pytest.MonkeyPatch, slow: str
) -> None:
    names = [link.ifname for link in many.playground.links]
    first, *_, third = names
    file.write_text("".join(spec(many, f'object = "{objects}/pass.o"', name=name) for name in names))

    def slowly(wanted: Wanted, result: SpecResult, *rest: Any) -> SpecResult:
        made = wanted_module.apply_target(wanted, result, *rest)
        if "confirmed" in slow and result.name == first:
            confirm(first, many.playground.netns)
        if result.name == (third if slow == "last" else first):
            time.sleep(1.1)
        return made

    monkeypatch.setattr("xdptui.commands.targets.apply_target", slowly)
    applied = many("apply", str(file), "--confirm", "1", "--keep-going", "--json")
    told = dict(states(applied))
    if "confirmed" in slow:
        assert applied.code == 0, applied.err
        assert told == dict.fromkeys(names, "changed")
        return
    late = names if slow == "last" else [first]
    assert applied.code == 4
    assert told == {name: "failed" if name in late else "would-change" for name in names}
    assert programs(many) == {name: [] for name in names}
    assert applied.json["changed"] is False
    assert "nobody confirmed within 1 s, while apply was still busy" in applied.error["why"]
    assert "--confirm" in applied.error["todo"]


def test_the_namespace_of_an_entry(cli: CommandLine, file: Path, objects: Path) -> None:
    text = spec(
        cli, f'object = "{objects}/pass.o"', head=f'linkage = "static"\nnetns = "{cli.playground.netns}"'
    )
    file.write_text(text)
    from xdptui.cli import main

    assert main(["apply", str(file)]) == 0
    assert cli.status()["slots"][0]["name"] == "xdp_pass"
    saved = cli.ok("save", cli.interface).json["spec"]
    assert f'netns = "{cli.playground.netns}"' in saved
    nowhere = text.replace(cli.playground.netns, "nowhere")
    file.write_text(nowhere)
    assert main(["apply", str(file)]) == 5
    # The others need not wait for it.
    cli.ok("unload", cli.interface, "--all")
    file.write_text(nowhere + text)
    assert main(["apply", str(file), "--keep-going"]) == 5
    assert cli.status()["slots"][0]["name"] == "xdp_pass"


def test_the_mode_is_never_changed_by_itself(cli: CommandLine, file: Path, objects: Path) -> None:
    slot = f'object = "{objects}/pass.o"'
    file.write_text(spec(cli, slot, head='linkage = "static"\nmode = "generic"'))
    cli.ok("apply", str(file))
    assert cli.status()["mode"] == "generic"
    assert cli("plan", str(file)).code == 0
    file.write_text(spec(cli, slot))
    refused = cli("apply", str(file))
    assert refused.code == 7
    assert "generic mode" in refused.err


BAD = {
    "no file": (None, 5),
    "not TOML": ("= =", 7),
    "no UTF-8": (b"\xff\xfe", 7),
    "an unknown key": ("frob = 1", 7),
    "no such program": (
        '[[interface]]\nname = "x*"\n[[interface.slot]]\nobject = "pass.o"\nprogram = "frob"',
        5,
    ),
    "no object file": ('[[interface]]\nname = "x*"\n[[interface.slot]]\nobject = "spec.toml"', 7),
    "a folder for an object": ('[[interface]]\nname = "x*"\n[[interface.slot]]\nobject = "."', 7),
    "a missing object": ('[[interface]]\nname = "x*"\n[[interface.slot]]\nobject = "none.o"', 5),
    "no such namespace": ('[[interface]]\nname = "x*"\nnetns = "nowhere"\nslot = []', 5),
}


@pytest.mark.parametrize(("content", "code"), BAD.values(), ids=BAD)
@pytest.mark.parametrize("word", ["plan", "apply"])
def test_bad_specs(
    cli: CommandLine, file: Path, samples: Path, word: str, content: str | bytes | None, code: int
) -> None:
    if content is not None:
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    shutil.copy(samples / "pass.o", file.parent)
    refused = cli(word, str(file))
    assert refused.code == code
    assert refused.err.startswith("xdptui: ")
    assert "Traceback" not in refused.err


def test_others_programs_are_not_written_down(cli: CommandLine, samples: Path, file: Path) -> None:
    with pinned_program(samples / "pass.o") as pin:
        attach_pinned(cli.playground, pin)
    refused = cli("save", cli.interface, "-o", str(file))
    assert refused.code == 4
    assert not file.exists()
    assert cli("save", "*").code == 5
    assert cli("save", "frob").code == 5


def test_an_empty_spec_is_nothing_to_do(cli: CommandLine, file: Path) -> None:
    file.write_text("")
    planned = cli("plan", str(file))
    assert (planned.code, "names no interface" in planned.err) == (0, True), "said, for it is rarely meant"
    assert cli("apply", str(file), "--json").json["interfaces"] == []


@pytest.mark.vm
def test_what_another_tool_loaded_is_kept_and_not_made(cli: CommandLine, file: Path, objects: Path) -> None:
    xdp_loader(cli.playground, "load", objects / "firewall.o", objects / "monitor.o")
    theirs = [slot["id"] for slot in cli.status()["slots"]]
    saved = cli.ok("save", cli.interface, "-o", str(file))
    assert len(saved.json["warnings"]) == 2
    assert "another tool loaded it" in file.read_text()
    assert cli("plan", str(file)).code == 0
    # Adding one of ours does not reload theirs.
    with file.open("a") as more:
        more.write(f'\n[[interface.slot]]\nobject = "{objects}/pass.o"\npriority = 1\n')
    cli.ok("apply", str(file))
    after = cli.status()["slots"]
    assert after[0]["name"] == "xdp_pass"
    assert [slot["id"] for slot in after[1:]] == theirs
    assert cli("plan", str(file)).code == 0
    # Their object files, once named in the spec: the tag shows that they already run.
    text = file.read_text()
    for name in ("firewall", "monitor"):
        text = text.replace(
            f'program = "xdp_{name}"', f'program = "xdp_{name}"\nobject = "{objects}/{name}.o"'
        )
    cli.ok("unload", cli.interface, "--all")
    refused = cli("apply", str(file))
    assert refused.code == 5
    assert "can't be loaded" in refused.err
    xdp_loader(cli.playground, "load", objects / "firewall.o", objects / "monitor.o")
    theirs = [slot["id"] for slot in cli.status()["slots"]]
    file.write_text(text)
    cli.ok("apply", str(file))
    assert [slot["id"] for slot in cli.status()["slots"][1:]] == theirs
    cli.ok("unload", cli.interface, "--all")
    cli.ok("apply", str(file))
    assert [slot["name"] for slot in cli.status()["slots"]] == ["xdp_pass", "xdp_firewall", "xdp_monitor"]


def test_where_a_spec_is_saved_to(cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cli.ok("load", cli.interface, cli.sample("pass"), "--linkage", "static")
    plain = cli("save", cli.interface)
    assert cli("save", cli.interface, "-o", "-").out == plain.out
    assert not (tmp_path / "-").exists()
    missing = cli("save", cli.interface, "-o", str(tmp_path / "missing/x.toml"))
    assert (missing.code, "there is no directory" in missing.err) == (5, True)
    assert not (tmp_path / "missing").exists()
    for words in ((), ("--force",)):
        refused = cli("save", cli.interface, "-o", str(tmp_path), *words)
        assert (refused.code, "it is a directory" in refused.err) == (7, True)
