# SPDX-License-Identifier: Apache-2.0
"""Undo returns to the previous chain, whoever changed it; the journal says who, and gets in nobody's way."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.kernel.arming import LATER, SOON, arm, eventually, settled_on
from tests.kernel.chains import LINKAGES, chain_of, change, look_at
from tests.kernel.command_line import CommandLine
from tests.kernel.test_guardian import full_disk
from tests.kernel.test_state import all_contents, eventually_gone
from xdpchain.change.confirm.by_hand import roll_back
from xdpchain.change.journal import store
from xdpchain.change.journal.entries import EntryKind
from xdpchain.change.journal.undoing import NothingToUndo, history, undo_of
from xdpchain.change.plan import make_plan
from xdpchain.editing import apply, edit, one_by_one, undo
from xdpchain.errors import Busy, NotFound, NotOurs
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.running import Running
from xdpchain.model.slot import Slot
from xdpchain.objects.components import keep_maps, load_component
from xdpchain.observe.discover import look
from xdpchain.sys import bpf
from xdpchain.sys.netlink import Netlink
from xdpchain.testing import frames
from xdpchain.testing.playground import Playground

FRAME = frames.udp(frames.PEER, frames.NEAR, 9)


@pytest.fixture
def cli(guarded: Playground, capsys: pytest.CaptureFixture[str], samples: Path) -> CommandLine:
    return CommandLine(guarded, capsys, samples)


def undone(playground: Playground) -> Running:
    return undo(playground.ifname, playground.netns)


def shown(running: Running) -> list[tuple[str, int, str]]:
    """A chain as its operator sees it."""
    return [(slot.name, slot.priority, str(slot.actions)) for slot in running.chain or ()]


@pytest.mark.parametrize("linkage", LINKAGES)
def test_undo_walks_back_through_every_change(guarded: Playground, samples: Path, linkage: Linkage) -> None:
    states = [look_at(guarded)]
    states.append(change(guarded, chain_of(samples, "firewall", "monitor", linkage=linkage)))
    chain = states[-1].chain
    assert chain is not None
    states.append(change(guarded, chain.move(1, 0)))
    assert states[-1].chain is not None
    states.append(change(guarded, states[-1].chain.retune(0, priority=77)))
    assert states[-1].chain is not None
    states.append(change(guarded, states[-1].chain.add(Slot.of(load_component(str(samples / "pass.o"))))))
    guarded.send([FRAME] * 4)
    contents = {key: value for key, value in all_contents(look_at(guarded)).items() if key[0] != "xdp_pass"}
    assert any(value.strip(b"\0") for values in contents.values() for value in values.values())
    for before in reversed(states[:-1]):
        now = undone(guarded)
        assert shown(now) == shown(before)
        assert now.linkage == before.linkage
        if now.chain is not None:
            assert [slot.key for slot in now.chain] == [slot.key for slot in before.chain or ()]
            assert all_contents(now) == contents  # components that stayed kept all their contents
    assert look_at(guarded).hooks == ()
    with pytest.raises(NothingToUndo, match="no further back"):
        undone(guarded)


def test_several_changes_are_undone_at_once(guarded: Playground, samples: Path) -> None:
    first = change(guarded, chain_of(samples, "firewall", "monitor"))
    assert first.chain is not None
    second = change(guarded, first.chain.move(1, 0))
    assert second.chain is not None
    change(guarded, second.chain.retune(0, priority=77))
    numbers = [entry.number for entry in history(look_at(guarded))]
    found = undo_of(look_at(guarded), numbers[1])
    assert found.what == f"changes {numbers[1]} to {numbers[2]}"
    now = apply(make_plan(look_at(guarded), found.candidate, restores=found.restores))
    assert shown(now) == shown(first)
    with pytest.raises(NothingToUndo, match="has no change 99"):
        undo_of(now, 99)
    (*_, last) = history(now)
    again = undo_of(now, last.number)  # an undo is a change, too
    assert 77 in [slot.priority for slot in again.candidate]
    undone(guarded)
    assert look_at(guarded).hooks == (), "what was undone at once is one step"


def test_what_was_removed_comes_back_from_the_journals_object(
    guarded: Playground, samples: Path, tmp_path: Path
) -> None:
    path = tmp_path / "mine.o"
    path.write_bytes((samples / "firewall.o").read_bytes())
    chain = Chain().add(Slot.of(load_component(str(path))))
    running = change(guarded, chain.add(Slot.of(load_component(str(samples / "monitor.o")))))
    assert running.chain is not None
    path.unlink()
    removed = change(guarded, running.chain.remove([0]))
    eventually_gone({ref.id for ref in running.chain.slots[0].component.maps})
    found = undo_of(removed)
    assert any("xdp_firewall comes back without the contents of its map" in what for what in found.lost)
    assert not any("xdp_monitor" in what for what in found.lost)
    now = undone(guarded)
    assert shown(now) == shown(running)
    assert now.chain is not None
    kept = {slot.name: slot.component.maps for slot in now.chain}
    was = {slot.name: slot.component.maps for slot in running.chain}
    assert kept["xdp_monitor"] == was["xdp_monitor"]
    assert {ref.name for ref in kept["xdp_firewall"]} == {ref.name for ref in was["xdp_firewall"]}


def test_a_replaced_version_comes_back_with_the_maps_that_both_use(
    guarded: Playground, samples: Path
) -> None:
    running = change(guarded, chain_of(samples, "counter", "monitor"))
    guarded.send([FRAME] * 5)
    assert running.chain is not None
    old = running.chain.slots[0]
    newer = keep_maps(load_component(str(samples / "counter_v2.o")), old.component)
    change(guarded, running.chain.substitute(0, newer))
    guarded.send([FRAME] * 2)
    before = all_contents(look_at(guarded))
    now = undone(guarded)
    assert now.chain is not None
    again = now.chain.slots[0].component
    assert again.object is not None
    assert old.component.object is not None
    assert again.object.sha256 == old.component.object.sha256
    kept = all_contents(now)
    assert ("xdp_counter", "packets") in kept
    assert kept == {key: before[key] for key in kept}


def test_another_tools_removal_is_taken_back(guarded: Playground, samples: Path) -> None:
    old = change(guarded, chain_of(samples, "firewall", "monitor"))
    subprocess.run(["ip", "-n", guarded.netns, "link", "set", guarded.ifname, "xdp", "off"], check=True)
    assert "another tool or a reboot" in undo_of(look_at(guarded)).what
    assert shown(undone(guarded)) == shown(old)
    # What was undone stays undone: the next step is the one before.
    assert undone(guarded).hooks == ()


def test_somebody_elses_program_is_not_undone(guarded: Playground, samples: Path) -> None:
    old = change(guarded, chain_of(samples, "firewall"))
    assert old.hook is not None
    code = bytes.fromhex("b7000000020000009500000000000000")
    with (
        bpf.prog_load(bpf.ProgType.XDP, code, name="intruder") as program,
        bpf.prog_by_id(old.hook.prog_id) as ours,
        Netlink(guarded.netns) as netlink,
    ):
        netlink.attach_xdp(guarded.ifindex, program.fileno(), "native", ours.fileno())
        with pytest.raises(NotOurs, match="intruder"):
            undone(guarded)
        netlink.attach_xdp(guarded.ifindex, -1, "native", program.fileno())
    assert shown(undone(guarded)) == shown(old)


@pytest.mark.vm
def test_a_change_of_libxdp_is_taken_back(guarded: Playground, samples: Path) -> None:
    old = change(guarded, chain_of(samples, "firewall", "monitor", linkage=Linkage.FREPLACE))
    assert old.chain is not None
    # What libxdp does to a chain: another dispatcher with fewer of its components, without telling us.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xdpchain.change.journal.keeping.Journal.after", lambda *_: "")
        other = change(guarded, old.chain.remove([0]))
    assert "a change that the journal does not have" in undo_of(other).what
    assert shown(undone(guarded)) == shown(old)


def test_a_rollback_is_no_step_to_undo(guarded: Playground, samples: Path) -> None:
    first = change(guarded, chain_of(samples, "firewall"))
    second = change(guarded, chain_of(samples, "firewall", "monitor"))
    arm(guarded, chain_of(samples, "drop"))
    settled_on(guarded)
    assert look_at(guarded).hook == second.hook
    assert shown(undone(guarded)) == shown(first)


def test_a_rollback_that_is_not_in_the_journal_is_none_either(
    guarded: Playground, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for chains in (("firewall", "monitor"), ()):
        before = change(guarded, chain_of(samples, *chains))
        for _ in range(2):
            with monkeypatch.context() as patch:
                arm(guarded, chain_of(samples, "drop"), LATER)
                patch.setattr("xdpchain.change.confirm.by_hand.note_settled", lambda *_, **__: None)
                assert roll_back(guarded.ifname, guarded.netns).hook == before.hook
        assert "xdp_drop" not in [slot.name for slot in undo_of(look_at(guarded)).candidate]


def test_an_undo_can_wait_to_be_confirmed(guarded: Playground, samples: Path) -> None:
    change(guarded, chain_of(samples, "firewall"))
    second = change(guarded, chain_of(samples, "monitor"))
    waiting = undo(guarded.ifname, guarded.netns, confirm=SOON)
    assert waiting.pending is not None
    assert [slot.name for slot in waiting.chain or ()] == ["xdp_firewall"]
    settled_on(guarded)
    assert look_at(guarded).hook == second.hook
    eventually(lambda: history(look_at(guarded))[-1].kind is EntryKind.ROLLBACK, "it is in the journal")
    assert history(look_at(guarded))[-2].kind is EntryKind.UNDO
    assert [slot.name for slot in undone(guarded).chain or ()] == ["xdp_firewall"]


def test_without_a_journal_there_is_nothing_to_undo(
    guarded: Playground, samples: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(store.STATE, str(tmp_path / "none"))
    with pytest.raises(NothingToUndo, match="no change"):
        undone(guarded)
    change(guarded, chain_of(samples, "firewall"))
    subprocess.run(["rm", "-r", str(tmp_path / "none")], check=True)
    with pytest.raises(NothingToUndo):
        undone(guarded)
    change(guarded, chain_of(samples, "monitor"))  # deleted, it starts afresh
    assert [slot.name for slot in undone(guarded).chain or ()] == ["xdp_firewall"]


@pytest.mark.parametrize("trouble", ["full", "not a folder", "read-only"])
def test_a_journal_that_can_not_be_written_fails_no_change(
    guarded: Playground, samples: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, trouble: str
) -> None:
    first = change(guarded, chain_of(samples, "firewall"))
    said: list[str] = []
    with full_disk(tmp_path / "disk"):
        place = tmp_path / "disk"
        if trouble == "not a folder":
            place = tmp_path / "file"
            place.write_text("")
        elif trouble == "read-only":
            subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        monkeypatch.setenv(store.STATE, str(place))
        plan = make_plan(first, chain_of(samples, "monitor"))
        second = apply(plan, warn=said.append)
    assert [slot.name for slot in second.chain or ()] == ["xdp_monitor"]
    assert len(said) == 1
    assert "could not be recorded in the journal" in said[0]
    # Undo then takes it for another tool's change, with the same effect.
    monkeypatch.undo()
    assert shown(undone(guarded)) == shown(first)


def test_a_damaged_journal_is_read_as_far_as_it_goes(
    guarded: Playground, samples: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(store.STATE, str(tmp_path))
    running = change(guarded, chain_of(samples, "firewall", "monitor"))
    assert running.chain is not None
    change(guarded, running.chain.remove([0]))
    entry = next(tmp_path.rglob("1.json"))
    entry.write_bytes(entry.read_bytes()[:100])
    (entry.parent / "notes.txt").write_text("hello")
    (entry.parent / "7.json").write_text('{"format": 99}')
    assert [one.number for one in history(look_at(guarded))] == [2]
    for stored in (tmp_path / "objects").iterdir():
        stored.write_bytes(b"not what it was")
    with pytest.raises(NotFound, match="not in the journal"):
        undone(guarded)


def renamed(playground: Playground, old: str, new: str) -> Running:
    subprocess.run(["ip", "-n", playground.netns, "link", "set", old, "name", new], check=True)
    return look(new, playground.netns)


@pytest.fixture(
    params=[nullcontext, lambda: one_by_one(pytest.fail)], ids=["searched each time", "searched once"]
)
def searching(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[None]:
    monkeypatch.setenv(store.STATE, str(tmp_path))
    with request.param():
        yield


def test_history_follows_an_interface_that_is_renamed(
    guarded: Playground, samples: Path, searching: None
) -> None:
    name = guarded.ifname
    first = change(guarded, chain_of(samples, "firewall", "monitor"))
    assert first.chain is not None
    change(guarded, first.chain.remove([0]))
    now = renamed(guarded, name, "later0")
    assert [entry.number for entry in history(now)] == [1, 2]
    back = undo("later0", guarded.netns)
    assert shown(back) == shown(first)
    assert [entry.kind for entry in history(back)] == [EntryKind.CHANGE, EntryKind.CHANGE, EntryKind.UNDO]
    assert history(renamed(guarded, "later0", name))[-1].kind is EntryKind.UNDO, "and back again"
    # Another one takes its name: that history is not its own.
    renamed(guarded, name, "later1")
    subprocess.run(
        ["ip", "-n", guarded.netns, "link", "add", name, "type", "veth", "peer", "name", "other"], check=True
    )
    assert history(look(name, guarded.netns)) == ()
    edit(name, lambda _: chain_of(samples, "pass"), netns=guarded.netns)
    assert [entry.before.program for entry in history(look(name, guarded.netns))] == [None]
    assert len(history(look("later1", guarded.netns))) == 3


def test_history_follows_an_interface_to_another_namespace(
    guarded: Playground, samples: Path, searching: None
) -> None:
    first = change(guarded, chain_of(samples, "firewall", "monitor"))
    assert first.chain is not None
    second = change(guarded, first.chain.remove([0]))
    words = ["ip", "-n", guarded.netns, "link", "set", guarded.ifname, "netns", guarded.peer_netns]
    subprocess.run([*words, "name", "moved0"], check=True)
    now = look("moved0", guarded.peer_netns)
    assert now.identity[1] == second.identity[1], "the program goes along"
    assert [entry.number for entry in history(now)] == [1, 2]
    assert shown(undo("moved0", guarded.peer_netns)) == shown(first)
    assert len(history(look("moved0", guarded.peer_netns))) == 3


def test_changes_of_many_are_bounded_at_their_end(
    three: Playground, samples: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(store.STATE, str(tmp_path))
    monkeypatch.setattr(store, "MOST_INTERFACES", 2)
    warnings: list[str] = []
    with one_by_one(warnings.append):
        for link in range(3):
            change(three, chain_of(samples, "pass"), link)
        assert len(list((tmp_path / "interfaces").glob("*/*"))) == 3
    assert len(list((tmp_path / "interfaces").glob("*/*"))) == 2
    assert [text.rpartition(" on ")[2] for text in warnings] == [three.links[0].ifname]


def test_the_journal_is_bounded(
    guarded: Playground, samples: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(store.STATE, str(tmp_path))
    monkeypatch.setattr(store, "MOST_ENTRIES", 3)
    monkeypatch.setattr(store, "MOST_OBJECT_BYTES", (samples / "drop.o").stat().st_size + 100)
    running = change(guarded, chain_of(samples, "firewall", "drop"))
    for priority in range(5):
        assert running.chain is not None
        running = change(guarded, running.chain.retune(0, priority=priority + 20))
    assert [entry.number for entry in history(running)] == [4, 5, 6]
    stored = list((tmp_path / "objects").iterdir())
    assert sum(path.stat().st_size for path in stored) <= store.MOST_OBJECT_BYTES
    assert not list(tmp_path.rglob(".writing*"))


# From the command line


def test_undo_says_what_it_takes_back_and_what_is_lost(cli: CommandLine) -> None:
    cli.load("firewall", "monitor")
    maps = {bpf_map["id"] for bpf_map in cli.status()["slots"][0]["maps"]}
    cli.ok("unload", cli.interface, "xdp_firewall")
    eventually_gone(maps)
    plan = cli("plan", "undo", cli.interface)
    assert plan.code == 2
    assert "+ xdp_firewall" in plan.out
    assert "this undoes change 2, made by" in plan.out
    assert "xdp_firewall comes back without the contents of its map" in plan.out + plan.err
    assert cli.ok("undo", cli.interface).slots() == ["xdp_firewall", "xdp_monitor"]
    assert "this undoes change 1, made by" in cli("plan", "undo", cli.interface).out
    assert cli.ok("undo", cli.interface).slots() == []
    nothing = cli("undo", cli.interface)
    assert (nothing.code, nothing.out) == (5, "")


def test_the_log_says_who_what_and_when(cli: CommandLine) -> None:
    assert cli("log", cli.interface).out.startswith("the journal has no changes for this interface\n")
    cli.load("firewall")
    cli.ok("set", cli.interface, "0", "-P", "7", "--confirm", "60")
    cli.ok("confirm", cli.interface)
    subprocess.run(["ip", "-n", cli.playground.netns, "link", "set", cli.interface, "xdp", "off"], check=True)
    gone = cli.ok("log", cli.interface).json
    assert gone["running"]["known"] is False
    cli.load("monitor")
    document = cli.ok("log", cli.interface).json
    assert [entry["kind"] for entry in document["entries"]] == ["change", "change", "confirm", "change"]
    first, second = document["entries"][:2]
    assert (first["pid"], first["before"]["program"]) == (os.getpid(), None)
    assert first["changes"] == ["+ xdp_firewall slot 0, priority 10, continues on XDP_PASS"]
    assert second["confirm_seconds"] == 60
    assert second["before"]["program"] == first["after"]["program"]
    assert first["after"]["slots"][0]["path"].endswith("firewall.o")
    assert document["running"]["known"] is True
    text = cli("log", cli.interface).out
    assert f"? program {second['after']['program']} became nothing, not with xdptui" in text
    assert "to be confirmed within 60 s" in text
    assert text.splitlines()[-1].startswith("program ")
    assert len(cli.ok("log", cli.interface, "--last", "1").json["entries"]) == 1


def test_a_warning_about_the_journal_does_not_change_the_exit_code(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(store.STATE, str(tmp_path / "file"))
    done = cli("load", cli.interface, cli.sample("pass"), "--json")
    assert done.code == 0
    assert any(
        "could not be recorded in the journal" in note for note in json.loads(done.out)["plan"]["notes"]
    )


def test_a_waiting_change_is_decided_before_an_undo(guarded: Playground, samples: Path) -> None:
    change(guarded, chain_of(samples, "firewall"))
    arm(guarded, chain_of(samples, "monitor"), LATER)
    with pytest.raises(Busy):
        undone(guarded)
