# SPDX-License-Identifier: Apache-2.0
"""What the release before threaded chains left behind keeps working: chains and their counts, pending
changes, the journal, specs, recordings. That release is built from the repository's history.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kernel.arming import no_guardian_survives
from tests.kernel.chains import look_at
from tests.kernel.command_line import CommandLine
from tests.kernel.tracing import settled
from xdpchain.model.actions import ActionSet
from xdpchain.model.running import Running
from xdpchain.observe.counters import open_counters
from xdpchain.observe.recording.reader import Recording
from xdpchain.testing.frames import NEAR, PEER, scripted, udp
from xdpchain.testing.playground import Playground

ROOT = Path(__file__).parents[2]
FIRST_AFTER = "Thread the components of a static chain into one function"
"""The subject of the commit after that release."""

Old = Callable[..., str]


def git(*words: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    command = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), *words]
    return subprocess.run(command, capture_output=True, check=False, **options)  # type: ignore[call-overload,no-any-return]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That release, ready to run."""
    if git("rev-parse", "--is-shallow-repository").stdout.strip() != b"false":
        pytest.skip("the earlier release is built from the repository's history, which is not here whole")
    found = git("log", "-1", "--format=%H", f"--grep=^{FIRST_AFTER}$").stdout.decode().strip()
    assert found, f"no commit is called {FIRST_AFTER!r}"
    place = tmp_path_factory.mktemp("release")
    archive = git("archive", f"{found}^", "core", "xdptui", "bpf")
    assert archive.returncode == 0, archive.stderr
    subprocess.run(["tar", "-x", "-C", str(place)], input=archive.stdout, check=True)
    subprocess.run(["make", "-s", "-j2", "-C", str(place / "bpf"), "engine"], check=True, capture_output=True)
    return place


@pytest.fixture
def net(playground: Playground) -> Iterator[Playground]:
    with no_guardian_survives(playground):
        yield playground


@pytest.fixture
def old(release: Path, net: Playground) -> Old:
    """Its command line, in the playground's namespace; returns its standard output."""

    def run(*words: str) -> str:
        paths = os.pathsep.join((str(release / "core"), str(release)))  # not what is installed
        command = [sys.executable, "-m", "xdptui", *words, "--netns", net.netns]
        environment = {**os.environ, "PYTHONPATH": paths}
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment, cwd=release
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def packets(running: Running) -> dict[str, int]:
    with open_counters(running) or pytest.fail("nothing counts") as reader:
        sample = reader.read()
    return {slot.name: sample.slots[slot.key].total_packets for slot in running.chain or ()}


@pytest.mark.parametrize("linkage", ["static", "tailcall"])
def test_its_chain_is_edited_counted_on_and_rolled_back(
    cli: CommandLine, net: Playground, old: Old, linkage: str
) -> None:
    file = cli.sample("scripted")
    for number in (0, 1):
        old("load", net.ifname, file, "-n", f"scripted_{number}", "-P", str(number), "--linkage", linkage)
    running = look_at(net)
    assert (running.note, str(running.linkage), len(running.chain or ())) == ("", linkage, 2)
    sent = 0

    def send(count: int) -> None:
        nonlocal sent
        net.send([scripted(b"\2\2")] * count)
        sent += count
        assert set(packets(look_at(net)).values()) == {sent}

    send(3)
    first = {slot.id for slot in running.chain or ()}
    cli.ok("move", net.ifname, "1", "0")
    assert [slot.name for slot in look_at(net).chain or ()] == ["scripted_1", "scripted_0"]
    assert {slot.id for slot in look_at(net).chain or ()} == first
    send(4)
    cli.ok("undo", net.ifname)  # from the journal it wrote
    assert [slot.name for slot in look_at(net).chain or ()] == ["scripted_0", "scripted_1"]
    send(5)
    cli.ok("set", net.ifname, "0", "-A", "PD", "--confirm", "100")
    cli.ok("rollback", net.ifname)
    assert settled(lambda: look_at(net).pending is None)
    assert (look_at(net).chain or pytest.fail("gone")).slots[0].actions == ActionSet.parse("P")
    send(2)


@pytest.mark.parametrize("linkage", ["static", "tailcall"])
def test_its_chain_of_ten_grows_and_is_left_alone_by_it_then(
    cli: CommandLine, net: Playground, old: Old, linkage: str
) -> None:
    passing, sent = cli.sample("pass"), [udp(PEER, NEAR, 53)]

    def counted() -> list[int]:
        running = look_at(net)
        with open_counters(running) or pytest.fail("nothing counts") as reader:
            sample = reader.read()
        return [sample.slots[slot.key].total_packets for slot in running.chain or ()]

    old("load", net.ifname, *[passing] * 10, "--linkage", linkage)
    net.send(sent * 3)
    assert counted() == [3] * 10
    cli.ok("load", net.ifname, *[passing] * 22)
    net.send(sent * 4)
    assert sorted(counted()) == [4] * 22 + [7] * 10
    before = look_at(net).identity
    with pytest.raises(AssertionError, match="it has format 5, this reads up to"):
        old("unload", net.ifname, "0")
    assert look_at(net).identity == before
    cli.ok("undo", net.ifname)
    net.send(sent * 2)
    assert counted() == [9] * 10


@pytest.mark.vm
def test_its_freplace_chain_is_edited_and_counts_what_is_loaded_now(
    cli: CommandLine, net: Playground, old: Old
) -> None:
    """Its components don't count for themselves, and are kept as they run."""
    file = cli.sample("scripted")
    for number in (0, 1):
        old("load", net.ifname, file, "-n", f"scripted_{number}", "-P", str(number), "--linkage", "freplace")
    running = look_at(net)
    assert (running.note, str(running.linkage)) == ("", "freplace")
    first = [slot.id for slot in running.chain or ()]
    cli.ok("move", net.ifname, "1", "0")
    assert [slot.id for slot in look_at(net).chain or ()] == first[::-1]
    cli.ok("undo", net.ifname)  # from the journal it wrote
    assert [slot.id for slot in look_at(net).chain or ()] == first
    cli.ok("set", net.ifname, "0", "-A", "PD", "--confirm", "100")
    cli.ok("rollback", net.ifname)
    assert settled(lambda: look_at(net).pending is None)
    assert (look_at(net).chain or pytest.fail("gone")).slots[0].actions == ActionSet.parse("P")
    cli.ok("load", net.ifname, file, "-n", "scripted_2", "-P", "2")
    net.send([scripted(b"\2\2\2")] * 3)
    running = look_at(net)
    assert [slot.id for slot in running.chain or ()][:2] == first
    with open_counters(running, attach=False) or pytest.fail("nothing counts") as reader:
        sample = reader.read()
    assert {
        slot.name: sample.slots[slot.key].total_packets
        for slot in running.chain or ()
        if slot.key in sample.slots
    } == {"scripted_2": 3}
    old("set", net.ifname, "0", "-A", "PD")  # and the other way round
    assert [slot.name for slot in look_at(net).chain or ()] == ["scripted_0", "scripted_1", "scripted_2"]


@pytest.mark.parametrize("linkage", ["static", "tailcall", pytest.param("freplace", marks=pytest.mark.vm)])
def test_a_change_that_it_armed_is_rolled_back_in_time(
    cli: CommandLine, net: Playground, old: Old, linkage: str
) -> None:
    """By its own guardian, while this release looks at it."""
    old("load", net.ifname, cli.sample("firewall"), "--linkage", linkage)
    before = look_at(net)
    old("set", net.ifname, "0", "-P", "60", "--confirm", "5")
    armed = look_at(net)
    assert armed.pending is not None
    assert (armed.chain or pytest.fail("gone")).slots[0].priority == 60
    assert settled(lambda: look_at(net).pending is None, 60)
    now = look_at(net)
    assert (now.hook, now.chain) == (before.hook, before.chain)


@pytest.mark.parametrize("linkage", ["static", "tailcall", pytest.param("freplace", marks=pytest.mark.vm)])
def test_a_change_that_it_armed_is_confirmed_or_rolled_back(
    cli: CommandLine, net: Playground, old: Old, linkage: str
) -> None:
    file = cli.sample("firewall")
    old("load", net.ifname, file, "--linkage", linkage)
    for command, priority in (("confirm", 50), ("rollback", 50)):
        old("set", net.ifname, "0", "-P", str(priority if command == "confirm" else 60), "--confirm", "100")
        assert look_at(net).pending is not None
        cli.ok(command, net.ifname)
        assert settled(lambda: look_at(net).pending is None)
        assert [slot.priority for slot in look_at(net).chain or ()] == [priority]


def test_its_specs_and_recordings_are_read(
    cli: CommandLine, net: Playground, old: Old, tmp_path: Path
) -> None:
    old("load", net.ifname, cli.sample("firewall"), cli.sample("monitor"), "--linkage", "static")
    spec, recording = tmp_path / "spec.toml", tmp_path / "recording"
    old("save", net.ifname, "-o", str(spec))
    assert cli("plan", str(spec)).code == 0, "what runs differs in nothing"
    net.send([udp(PEER, NEAR, 53)] * 3)
    old("record", str(recording), net.ifname, "--interval", "0.1", "--duration", "0.3")
    lines = [json.loads(line) for line in cli.ok("replay", str(recording)).out.splitlines()]
    assert {line["interfaces"][0]["verdict"]["XDP_PASS"]["packets"] for line in lines} == {3}
    entries = json.loads(cli.ok("log", net.ifname).out)
    assert entries
    replayed = Recording(str(recording))
    counted = replayed.reading(0).counted[net.ifindex].sample
    assert counted is not None
    assert counted.verdict is not None
    assert counted.verdict.total_packets == 3
