# SPDX-License-Identifier: Apache-2.0
"""The command line on real interfaces: what it changes, what it says, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.command_line import CommandLine
from xdpchain.sys import bpffs
from xdpchain.testing.frames import NEAR, PEER, arp_request, scripted, udp

FRAMES = [udp(PEER, NEAR, 53)] * 6 + [arp_request(PEER, NEAR)] * 4

ACTIONS = ("XDP_ABORTED", "XDP_DROP", "XDP_PASS", "XDP_TX", "XDP_REDIRECT")


def fits(value: Any, shape: Any) -> bool:
    """Whether a document has a shape: a type, a set of values, [shape of all], {key: shape}, or a choice."""
    if isinstance(shape, tuple):
        return any(fits(value, one) for one in shape)
    if isinstance(shape, dict):
        return isinstance(value, dict) and all(key in value and fits(value[key], shape[key]) for key in shape)
    if isinstance(shape, list):
        return isinstance(value, list) and all(fits(one, shape[0]) for one in value)
    if isinstance(shape, set | frozenset):
        return value in shape
    if shape is None:
        return value is None
    return isinstance(value, shape) and not (shape is int and isinstance(value, bool))


AMOUNT = {"packets": int, "bytes": int}
SLOT = {
    "slot": int,
    "name": str,
    "id": (int, None),
    "tag": (str, None),
    "program": (int, None),
    "priority": int,
    "actions": [frozenset(ACTIONS)],
    "counters": (dict.fromkeys(ACTIONS, AMOUNT), None),
}
INTERFACE = {
    "name": str,
    "ifindex": int,
    "netns": (str, None),
    "mode": (frozenset(("native", "generic", "offload")), None),
    "owner": (frozenset(("xdptui", "libxdp", "bpfman", "foreign")), None),
    "linkage": (frozenset(("static", "freplace", "tailcall")), None),
    "dispatcher": ({"id": int, "version": int}, None),
    "slots": [SLOT],
}


def test_the_status_of_everything_keeps_the_contract(cli: CommandLine) -> None:
    cli.load("firewall", "monitor")
    document = cli.ok("status").json
    assert fits(document, {"interfaces": [INTERFACE]}), json.dumps(document, indent=1)
    by_name = {entry["name"]: entry for entry in document["interfaces"]}
    assert set(by_name) == {"lo", cli.interface}
    free = by_name["lo"]
    assert (free["mode"], free["owner"], free["linkage"], free["dispatcher"]) == (None,) * 4
    assert free["slots"] == []
    ours = by_name[cli.interface]
    assert (ours["mode"], ours["owner"]) == ("native", "xdptui")
    assert ours["ifindex"] == cli.playground.ifindex
    assert ours["netns"] == cli.playground.netns
    assert [slot["slot"] for slot in ours["slots"]] == [0, 1]


def keys(value: Any, path: str = "") -> set[str]:
    """All key paths in a document, except those of the actions."""
    if isinstance(value, list):
        return set().union(*(keys(one, path) for one in value))
    if not isinstance(value, dict):
        return set()
    named = {key: one for key, one in value.items() if key not in (*ACTIONS, "other")}
    return {f"{path}.{key}" for key in named}.union(
        *(keys(one, f"{path}.{key}") for key, one in named.items())
    )


def test_the_documentation_shows_every_key(cli: CommandLine) -> None:
    text = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    status, change = (
        json.loads(text.split(heading)[1].split("```")[1].removeprefix("json"))
        for heading in ("### status", "### Changing commands")
    )
    loaded = cli.ok("load", cli.interface, cli.sample("firewall"), "-A", "XDP_DROP").json
    cli.load("monitor")
    cli.ok("set", cli.interface, "0", "--route", "TX:1", "--may", "PASS,DROP,TX")
    assert keys(status) == keys(cli.ok("status", cli.interface).json)
    real = loaded | {"running": {}}
    real["plan"]["candidate"]["slots"] = []
    # There are no findings on the component here: another test covers their keys.
    assert keys(change) - {f".plan.findings.{key}" for key in ("level", "text", "todo")} == keys(real)


def test_the_shape_of_the_contract_can_fail() -> None:
    assert not fits({"interfaces": [{"name": 1}]}, {"interfaces": [INTERFACE]})
    assert not fits(["XDP_MAYBE"], SLOT["actions"])


def test_three_objects_join_in_one_step_and_count_every_packet(cli: CommandLine) -> None:
    loaded = cli.load("monitor", "firewall", "ratelimit")
    assert loaded.json["changed"] is True
    assert loaded.slots() == ["xdp_firewall", "xdp_ratelimit", "xdp_monitor"]
    cli.playground.send(FRAMES)
    status = cli.status()
    for slot in status["slots"]:
        assert sum(amount["packets"] for amount in slot["counters"].values()) == len(FRAMES)
    assert status["slots"][0]["counters"]["XDP_PASS"] == {"packets": 10, "bytes": sum(map(len, FRAMES))}
    assert status["verdict"]["XDP_PASS"]["packets"] == len(FRAMES)


def test_the_plain_table_shows_the_counters(cli: CommandLine) -> None:
    cli.load("pass")
    cli.playground.send(FRAMES)
    table = cli("status", cli.interface).out
    assert f"10 packets: 10 XDP_PASS ({sum(map(len, FRAMES))} B)" in table


def test_a_chain_is_edited_from_load_to_unload(cli: CommandLine) -> None:
    cli.load("firewall", "ratelimit", "monitor")
    moved = cli.ok("move", cli.interface, "2", "0")
    assert moved.slots() == ["xdp_monitor", "xdp_firewall", "xdp_ratelimit"]
    priorities = [slot["priority"] for slot in moved.json["running"]["slots"]]
    assert priorities == sorted(priorities)
    tuned = cli.ok("set", cli.interface, "xdp_monitor", "-P", "90", "-A", "XDP_PASS,XDP_DROP")
    assert tuned.slots() == ["xdp_firewall", "xdp_ratelimit", "xdp_monitor"]
    assert tuned.json["running"]["slots"][2]["actions"] == ["XDP_DROP", "XDP_PASS"]
    assert [change["kind"] for change in tuned.json["plan"]["changes"]] == ["move", "retune"]
    assert cli.ok("unload", cli.interface, "xdp_ratelimit").slots() == ["xdp_firewall", "xdp_monitor"]
    assert cli.ok("unload", cli.interface, "0").slots() == ["xdp_monitor"]
    gone = cli.ok("unload", cli.interface, "--all").json
    assert gone["changed"] is True
    assert gone["running"]["mode"] is None
    assert cli.ok("unload", cli.interface, "--all").json["changed"] is False


def test_return_codes_lead_to_named_slots(cli: CommandLine) -> None:
    cli.load("firewall", "ratelimit")
    logger = ("load", cli.interface, cli.sample("monitor"), "-P", "90")
    loaded = cli.ok(*logger).json["running"]["slots"]
    assert [slot["name"] for slot in loaded] == ["xdp_firewall", "xdp_ratelimit", "xdp_monitor"]
    cli.ok("set", cli.interface, "xdp_firewall", "--route", "DROP:xdp_monitor,PASS:2,*:next")
    slots = cli.ok("status", cli.interface).json["interfaces"][0]["slots"]
    assert slots[0]["routes"] == [
        {"code": "XDP_DROP", "slot": 2, "name": "xdp_monitor"},
        {"code": "XDP_PASS", "slot": 2, "name": "xdp_monitor"},
        {"code": "*", "slot": 1, "name": "xdp_ratelimit"},
    ]
    assert "routes: XDP_DROP → 2 xdp_monitor" in cli("status", cli.interface).out
    cli.ok("set", cli.interface, "0", "--route", "DROP:return,PASS:next,*:return")
    (first, *_) = cli.ok("status", cli.interface).json["interfaces"][0]["slots"]
    assert (first["routes"], first["actions"]) == ([], ["XDP_PASS"])


def test_a_slot_declares_what_it_may_return(cli: CommandLine) -> None:
    cli.load("monitor")
    cli.ok("load", cli.interface, cli.sample("scripted"), "-n", "scripted_0", "-P", "1",
           "--may", "PASS,DROP", "--otherwise", "pass")  # fmt: skip
    cli.playground.send([scripted(b"\3")] * 3 + [scripted(b"\1")] * 2)
    first = cli.status()["slots"][0]
    assert first["policy"] == {"may": ["XDP_DROP", "XDP_PASS"], "otherwise": "pass", "forbidden": 3}
    shown = cli("status", cli.interface).out
    assert "may return XDP_DROP,XDP_PASS; anything else is reported and becomes pass" in shown
    assert "3 times it returned a forbidden code" in shown
    cli.ok("set", cli.interface, "0", "--may", "any")
    assert cli.status()["slots"][0]["policy"] is None
    cli.ok("set", cli.interface, "0", "--may", "PASS", "--otherwise", "drop")
    for words in (("--may", "any", "--otherwise", "drop"), ("--may", "none"), ("--may", "FOO")):
        assert cli("set", cli.interface, "0", *words).code == 7
    assert cli("set", cli.interface, "0", "--otherwise", "drop").code == 64


@pytest.mark.parametrize(
    ("route", "code"), [("DROP:0", 7), ("DROP:nosuch", 5), ("DROP", 7), ("MAYBE:1", 7), ("DROP:1,D:1", 7)]
)
def test_what_is_no_route_changes_nothing(cli: CommandLine, route: str, code: int) -> None:
    cli.load("firewall", "monitor")
    before = cli.ok("status", cli.interface).json["interfaces"][0]["programs"]
    result = cli("set", cli.interface, "1", "--route", route, "--json")
    assert result.code == code, result.err
    assert cli.ok("status", cli.interface).json["interfaces"][0]["programs"] == before


def test_the_new_version_of_a_component_keeps_its_maps(cli: CommandLine) -> None:
    cli.load("counter")
    before = cli.status()["slots"][0]
    new = cli.ok("replace", cli.interface, before["name"], cli.sample("counter_v2")).json["running"]
    after = new["slots"][0]
    assert after["object"]["sha256"] != before["object"]["sha256"]
    shared = {ref["id"] for ref in before["maps"]} & {ref["id"] for ref in after["maps"]}
    assert shared, (before["maps"], after["maps"])
    again = cli.ok("replace", cli.interface, "0", cli.sample("counter_v2"))
    assert again.json["changed"] is False
    fresh = cli.ok("replace", cli.interface, "0", cli.sample("counter_v2"), "--fresh-maps")
    assert "its own maps" in fresh.json["plan"]["changes"][0]["text"]
    maps = {ref["id"] for ref in fresh.json["running"]["slots"][0]["maps"]}
    assert not maps & {ref["id"] for ref in after["maps"]}


def test_two_programs_of_one_object_share_their_maps(cli: CommandLine) -> None:
    two = cli.sample("two")
    loaded = cli.ok("load", cli.interface, two, "-n", "two_learn", "-n", "two_enforce")
    assert loaded.slots() == ["two_learn", "two_enforce"]
    senders = [
        {ref["id"] for ref in slot["maps"] if ref["name"] == "senders"}
        for slot in loaded.json["running"]["slots"]
    ]
    assert senders[0] == senders[1] != set()


def test_it_says_which_program_of_several_was_taken(cli: CommandLine) -> None:
    said = cli("load", cli.interface, cli.sample("two"))
    assert "has 2 XDP programs: two_learn was used, not two_enforce" in said.out
    assert "linkage: " in said.out


def test_priority_and_actions_hold_for_all_given_objects(cli: CommandLine) -> None:
    objects = [cli.sample("pass"), cli.sample("monitor")]
    slots = cli.ok("load", cli.interface, *objects, "-P", "7", "-A", "PD").json["running"]["slots"]
    assert [(slot["priority"], slot["actions"]) for slot in slots] == [(7, ["XDP_DROP", "XDP_PASS"])] * 2


def test_several_objects_join_at_a_slot_in_their_order(cli: CommandLine) -> None:
    cli.load("firewall", "monitor")
    joined = cli.ok("load", cli.interface, cli.sample("ratelimit"), cli.sample("pass"), "--at", "1")
    assert joined.slots() == ["xdp_firewall", "xdp_ratelimit", "xdp_pass", "xdp_monitor"]


def test_counters_can_be_switched_off_and_on(cli: CommandLine) -> None:
    words = ("load", cli.interface, cli.sample("pass"), "--linkage", "static", "--no-counters")
    off = cli.ok(*words).json["running"]
    assert off["slots"][0]["counters"] is None
    on = cli.ok("set", cli.interface, "--counters").json["running"]
    assert on["slots"][0]["counters"] is not None


def test_generic_mode_runs_only_when_asked_for(cli: CommandLine) -> None:
    loaded = cli.ok("load", cli.interface, cli.sample("pass"), "-m", "skb", "--linkage", "static")
    assert loaded.json["running"]["mode"] == "generic"
    cli.playground.send(FRAMES)
    assert cli.status()["verdict"]["XDP_PASS"]["packets"] == len(FRAMES)
    # What joins a chain runs in the chain's mode.
    assert cli.load("monitor").json["running"]["mode"] == "generic"
    refused = cli("load", cli.interface, cli.sample("pass"), "-m", "native", "--json")
    assert refused.code == 7
    assert "generic mode" in refused.error["what"]


def test_unspecified_mode_is_native_and_says_so(cli: CommandLine) -> None:
    loaded = cli("load", cli.interface, cli.sample("pass"), "-m", "unspecified")
    assert (loaded.code, cli.status()["mode"]) == (0, "native")
    assert "-m generic" in loaded.out


CHANGES = {
    "load": ("load", "{if}", "{pass}"),
    "unload": ("unload", "{if}", "0"),
    "unload all": ("unload", "{if}", "--all"),
    "move": ("move", "{if}", "0", "1"),
    "set": ("set", "{if}", "1", "-P", "3"),
    "set counters": ("set", "{if}", "--no-counters"),
    "replace": ("replace", "{if}", "xdp_monitor", "{pass}", "-n", "xdp_pass"),
}


@pytest.mark.parametrize("words", CHANGES.values(), ids=CHANGES)
def test_a_dry_run_and_a_plan_change_nothing(cli: CommandLine, words: tuple[str, ...]) -> None:
    cli.load("firewall", "monitor")
    before = cli.status()
    command = [word.format_map({"if": cli.interface, "pass": cli.sample("pass")}) for word in words]
    dry = cli.ok(*command, "--dry-run").json
    planned = cli("plan", *command, "--json")
    assert cli.status() == before
    assert planned.code == 2
    for document in (dry, planned.json):
        assert (document["changed"], document["dry_run"]) == (False, True)
        assert document["plan"]["changes"]
        assert document["plan"]["steps"]
        assert document["running"]["dispatcher"] == before["dispatcher"]
    # The same without the restrictions does change something.
    assert cli.ok(*command).json["running"]["programs"] != before["programs"]


def test_a_plan_without_changes_says_so(cli: CommandLine) -> None:
    cli.load("monitor")
    same = cli("plan", "set", cli.interface, "0", "-P", "90")
    assert (same.code, same.out) == (
        0,
        f"{cli.interface} (netns {cli.playground.netns}): nothing to change\n",
    )


def test_a_dry_run_tells_what_the_kernel_would_refuse(cli: CommandLine) -> None:
    words = ("load", cli.interface, cli.sample("refused"), "--linkage", "static", "--dry-run")
    refused = cli(*words, "--json")
    assert refused.code not in (0, 2)
    assert refused.error["detail"]


def test_warnings_go_to_standard_error_or_into_the_document(cli: CommandLine) -> None:
    words = ("load", cli.interface, cli.sample("pass"), "-A", "XDP_DROP", "--dry-run")
    plain = cli(*words)
    assert "warning: slot 0: xdp_pass continues after XDP_DROP" in plain.err
    assert "warning" not in plain.out
    silent = cli(*words, "--json")
    assert silent.err == ""
    assert silent.json["plan"]["warnings"][0]["slot"] == 0


def test_findings_about_a_component(cli: CommandLine) -> None:
    words = ("load", cli.interface, cli.sample("pass"), "-m", "generic", "--dry-run")
    found = cli.ok(*words).json["plan"]["findings"]
    assert [(one["level"], set(one)) for one in found] == [("warn", {"level", "text", "todo"})]
    assert "warning: generic mode" in cli(*words).err


def test_xdp_loaders_spellings_and_table(cli: CommandLine) -> None:
    """What a script written for xdp-loader does: load, read the ids from the table, unload."""
    given = [cli.sample("firewall"), cli.sample("monitor")]
    assert cli("load", "-m", "native", "--prio", "30", "-vv", cli.interface, *given).code == 0
    rows = [line.split() for line in cli("status").out.splitlines()]
    slots = [row for row in rows if row and row[0] == "=>"]
    assert [(row[1], row[2], row[5]) for row in slots] == [
        ("30", "xdp_firewall", "XDP_PASS"),
        ("30", "xdp_monitor", "XDP_PASS"),
    ]
    assert [int(row[3]) for row in slots] == [slot["id"] for slot in cli.status()["slots"]]
    assert [row[4] for row in slots] == [slot["tag"] for slot in cli.status()["slots"]]
    assert cli("unload", cli.interface, "-i", slots[0][3]).code == 0
    assert [slot["name"] for slot in cli.status()["slots"]] == ["xdp_monitor"]
    assert cli("unload", "-a", cli.interface).code == 0
    assert cli.status()["slots"] == []
    assert cli("load", cli.interface, "-m", "skb", given[0], "-s", "xdp").code == 0
    features = cli("features", cli.interface).out
    assert "NETDEV_XDP_ACT_BASIC:" in features


def test_the_features_of_an_interface(cli: CommandLine) -> None:
    document = cli.ok("features", cli.interface).json
    entry = document["interfaces"][0]
    assert (entry["name"], entry["driver"], entry["native"]) == (cli.interface, "veth", True)
    assert entry["features"]["basic"] is True
    assert document["machine"]["missing"] == []
    assert document["machine"]["linkage"]["why"]


def test_cleaning_removes_what_a_dead_dispatcher_left(cli: CommandLine) -> None:
    cli.load("pass")
    left = bpffs.make_dispatch_dir(cli.playground.ifindex, 4_000_000_000)  # no program has such an id
    entry = {"path": str(left.path), "program": left.prog_id}
    dry = cli.ok("clean", cli.interface, "--dry-run").json
    assert [{key: pin[key] for key in entry} for pin in dry["pins"]] == [entry]
    assert left.path.exists()
    assert f"{left.path}: would be removed" in cli("clean", "--dry-run").out
    done = cli.ok("clean", cli.interface).json["pins"]
    assert [(one["path"], one["removed"]) for one in done] == [(str(left.path), True)]
    assert not left.path.exists()
    assert cli("clean", cli.interface).out == "no stale pins\n"
    assert cli.status()["slots"]


def test_watch_counts_in_lines_of_json(cli: CommandLine) -> None:
    cli.load("pass")
    cli.playground.send(FRAMES)
    lines = cli("watch", cli.interface, "--jsonl", "--interval", "0.05", "--count", "3").out.splitlines()
    assert len(lines) == 3
    first, last = json.loads(lines[0]), json.loads(lines[-1])
    slot = first["interfaces"][0]["slots"][0]
    assert slot["counters"]["XDP_PASS"]["packets"] == len(FRAMES)
    assert slot["rates"] is None
    assert last["interfaces"][0]["slots"][0]["rates"]["XDP_PASS"] == {"packets": 0, "bytes": 0}
    assert last["at"] - first["at"] >= 0.09


def test_watch_as_a_table(cli: CommandLine) -> None:
    cli.load("pass")
    cli.playground.send(FRAMES)
    table = cli("watch", "--interval", "0.05", "--count", "2").out
    assert table.count("verdict") == 2
    assert "\x1b" not in table
    assert table.splitlines()[2].split()[-1] == "10"


def test_watch_by_cpu(cli: CommandLine) -> None:
    """The sum over all CPUs is what the chain returned."""
    cli.ok("load", cli.interface, cli.sample("pass"), "--linkage", "static")
    cli.playground.send([udp(PEER, NEAR, 9)] * 11)
    line = json.loads(cli("watch", cli.interface, "--per-cpu", "--jsonl", "--count", "1").out)
    (interface,) = line["interfaces"]
    assert sum(one["verdict"]["XDP_PASS"]["packets"] for one in interface["cpus"]) == 11
    assert interface["verdict"]["XDP_PASS"]["packets"] == 11
    told = cli("watch", cli.interface, "--per-cpu", "--count", "1").out
    busy = [one for one in interface["cpus"] if one["verdict"]["XDP_PASS"]["packets"]]
    assert all(f"CPU {one['cpu']}, " in told for one in busy)


def test_watch_by_rx_queue(cli: CommandLine) -> None:
    """What the driver counts, if it runs the chain."""
    cli.ok("load", cli.interface, cli.sample("drop"), "--linkage", "static")
    cli.playground.send([udp(PEER, NEAR, 9)] * 11)
    first, second = cli(
        "watch", cli.interface, "--per-queue", "--jsonl", "--interval", "0.05", "--count", "2"
    ).out.splitlines()
    for line in (first, second):
        (interface,) = json.loads(line)["interfaces"]
        assert interface["queues_why"] == ""
        assert sum(queue["packets"]["received"] for queue in interface["queues"]) == 11
        assert sum(queue["packets"]["dropped"] for queue in interface["queues"]) == 11
    assert json.loads(first)["interfaces"][0]["queues"][0]["rates"] is None
    assert json.loads(second)["interfaces"][0]["queues"][0]["rates"]["received"] == 0
    told = cli("watch", cli.interface, "--per-queue", "--count", "1").out
    assert "RX queue 0: received 11, dropped 11" in told
    cli.ok("set", cli.interface, "--mode", "generic", "--confirm", "60")
    cli.ok("confirm", cli.interface)
    told = cli("watch", cli.interface, "--per-queue", "--count", "1").out
    assert "in generic mode the driver does not run the chain" in told
