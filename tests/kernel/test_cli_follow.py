# SPDX-License-Identifier: Apache-2.0
"""`xdptui follow`, and what status, clean and doctor say about a killed one."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.chains import chain_of, change, expected, look_at, scripted_chain
from tests.kernel.command_line import CommandLine
from tests.kernel.test_follow import left_over, wait_until_it_counts_as_gone
from xdpchain.model.actions import Action, ActionSet
from xdpchain.model.chain import Linkage
from xdpchain.model.running import Running
from xdpchain.testing.frames import scripted
from xdpchain.testing.playground import Playground

PASS_ON = ActionSet.parse("P")
SCRIPTS = (b"\2\2\2", b"\2\1\2", b"\2\2\0")
PATIENCE = 20.0


@pytest.fixture
def three(playground: Playground, samples: Path) -> Running:
    return change(playground, scripted_chain(samples, [PASS_ON] * 3, Linkage.STATIC))


@pytest.fixture
def traffic(playground: Playground) -> Iterator[None]:
    """One packet of each script, as soon as somebody follows."""
    stop = threading.Event()

    def send() -> None:
        end = time.monotonic() + PATIENCE
        while not stop.wait(0.05) and time.monotonic() < end:
            found = look_at(playground).following
            if found is not None and found.alive:
                playground.send([scripted(script) for script in SCRIPTS])
                return

    thread = threading.Thread(target=send)
    thread.start()
    yield
    stop.set()
    thread.join()


def until_followed(playground: Playground) -> None:
    end = time.monotonic() + PATIENCE
    while look_at(playground).following is None and time.monotonic() < end:
        time.sleep(0.05)


def same(now: Running, before: Running) -> bool:
    return (now.hook, now.following) == (before.hook, None)


@pytest.mark.usefixtures("traffic")
def test_lines(cli: CommandLine, three: Running) -> None:
    result = cli("follow", cli.interface, "ether", "proto", "0x88b5", "-c", "3", "-v")
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "ethertype 0x88b5, 60 B" in lines[0]
    text = " ".join(result.out.split())
    for index in range(3):
        assert f"✂ scripted_{index}: 1 byte added at {60 + index}: 3{index}" in text
    assert text.count("= DROP") == 1
    assert "3 packets examined, 3 followed" in result.err
    assert same(look_at(cli.playground), three)


@pytest.mark.usefixtures("three", "traffic")
def test_only_some_verdicts(cli: CommandLine) -> None:
    """Of three packets, one is dropped by the second slot and one ends in XDP_ABORTED."""
    words = ("follow", cli.interface, "-c", "1", "--timeout", str(PATIENCE))
    result = cli(*words, "--verdict", "aborted,drop")
    assert result.code == 0, result.err
    assert result.out.count(" = ") == 1
    assert "= DROP" in result.out
    assert (
        "ended: 1 packet followed, 1 with other verdicts; requested number of packets reached" in result.err
    )


@pytest.mark.usefixtures("three", "traffic")
def test_a_verdict_that_nothing_gets(cli: CommandLine) -> None:
    words = ("follow", cli.interface, "--verdict", "TX", "--timeout", "3")
    result = cli(*words)
    assert (result.code, result.out) == (0, "")
    assert "ended: 0 packets followed, 3 with other verdicts; time is up (--timeout)" in result.err
    wrong = cli("follow", cli.interface, "--verdict", "LOST")
    assert wrong.code == 7
    assert "'LOST' is not an XDP action" in wrong.err


@pytest.mark.usefixtures("traffic")
def test_json_lines(cli: CommandLine, three: Running) -> None:
    result = cli("follow", cli.interface, "-c", "3", "--jsonl")
    assert result.code == 0, result.err
    *packets, end = map(json.loads, result.out.splitlines())
    assert end["end"]["followed"] == 3
    assert end["end"]["lost"] == 0
    for number, (packet, script) in enumerate(zip(packets, SCRIPTS, strict=True), 1):
        want = expected([PASS_ON] * 3, script)
        assert packet["packet"] == number
        assert (packet["length"], bytes.fromhex(packet["head"])) == (60, scripted(script))
        assert tuple(slot["code"] for slot in packet["slots"]) == want.returned
        assert packet["slots"][0]["action"] == "PASS"
        assert (packet["verdict"], packet["verdict_action"]) == (want.verdict, Action(want.verdict).name)
        (change,) = packet["slots"][0]["changes"]
        assert change == {"at": 60, "before": "", "at_after": 60, "after": "30"}
    assert same(look_at(cli.playground), three)


def read_back(path: Path) -> list[dict[str, Any]]:
    """What tshark says about each packet in a file."""
    done = subprocess.run(
        ["tshark", "-r", str(path), "-T", "json"], capture_output=True, text=True, check=True, timeout=60
    )
    return [load["_source"]["layers"] for load in json.loads(done.stdout)]


@pytest.mark.usefixtures("traffic")
def test_tshark_reads_the_file(cli: CommandLine, three: Running, tmp_path: Path) -> None:
    path = tmp_path / "way.pcapng"
    result = cli("follow", cli.interface, "ether proto 0x88b5", "-c", "3", "-w", str(path))
    assert result.code == 0, result.err
    found = read_back(path)
    comments = [one["pkt_comment"]["frame.comment"] for one in found if "pkt_comment" in one]
    assert len(comments) == len(found)
    entries = [i for i, one in enumerate(found) if one["frame"]["frame.interface_id"] == "0"]
    assert [found[i]["frame"]["frame.len"] for i in entries] == ["60"] * 3
    for i, script in zip(entries, SCRIPTS, strict=True):
        want = expected([PASS_ON] * 3, script)
        steps = [f"scripted_{n} {Action(code).name} changed" for n, code in enumerate(want.returned)]
        assert all(step in comments[i] for step in steps)
        assert comments[i].endswith(f"verdict {Action(want.verdict).name}")
        verdict = found[i]["frame"]["frame.verdict_tree"]
        assert verdict["frame.verdict.ebpf_xdp"] == str(want.verdict)
        # Also the packet as each slot left it, on a separate interface.
        for n in range(len(want.returned)):
            after = found[i + 1 + n]["frame"]
            assert after["frame.len"] == str(61 + n)
            names = after["frame.interface_id_tree"]
            assert names["frame.interface_name"] == f"{cli.interface} after scripted_{n}"
            assert comments[i + 1 + n] == f"scripted_{n}: added at {60 + n}: 3{n}"
    assert len(found) == 3 + 3 + 2 + 3


def test_whole_packets_are_kept(cli: CommandLine, three: Running, tmp_path: Path) -> None:
    path = tmp_path / "whole.pcapng"
    words = ("follow", cli.interface, "-c", "1", "-s", "2000", "-w", str(path))
    child = cli.process(*words, run=subprocess.Popen, stdout=subprocess.DEVNULL)
    try:
        until_followed(cli.playground)
        cli.playground.send([scripted(b"\1", length=1400)])
        assert child.wait(PATIENCE) == 0
    finally:
        child.kill()
        child.wait()
    came, left = (one["frame"] for one in read_back(path))
    assert (came["frame.len"], came["frame.cap_len"]) == ("1400", "1400")
    assert (left["frame.len"], left["frame.cap_len"]) == ("1401", "1401")
    assert came["frame.interface_queue"] == "0"
    refused = cli("follow", cli.interface, "-s", "20000")
    assert refused.code == 7
    assert "a snaplen of 20000 bytes is out of range" in refused.err


def test_a_capture_on_the_output(cli: CommandLine, three: Running, tmp_path: Path) -> None:
    """For Wireshark; the file is complete whenever it is read."""
    path = tmp_path / "live.pcapng"
    with path.open("wb") as out:
        child = cli.process("follow", cli.interface, "-c", "3", "-w", "-", run=subprocess.Popen, stdout=out)
        until_followed(cli.playground)
        cli.playground.send([scripted(script) for script in SCRIPTS])
        assert child.wait(PATIENCE) == 0
    assert sum(one["frame"]["frame.interface_id"] == "0" for one in read_back(path)) == 3


def test_a_time_limit_and_an_interrupt(cli: CommandLine, three: Running) -> None:
    result = cli("follow", cli.interface, "--timeout", "0.3", "--json")
    assert (result.code, json.loads(result.out)["end"]["followed"]) == (0, 0)
    for signum, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)):
        child = cli.process("follow", cli.interface, run=subprocess.Popen, stdout=subprocess.PIPE)
        until_followed(cli.playground)
        time.sleep(0.3)  # between swap and loop, a signal ends it like any process
        child.send_signal(signum)
        assert child.wait(PATIENCE) == code
        child.stdout.close()
        assert same(look_at(cli.playground), three), signum


def test_a_reader_that_goes_away(cli: CommandLine, three: Running) -> None:
    """As with `| head`: the normal chain is back."""
    child = cli.process("follow", cli.interface, run=subprocess.Popen, stdout=subprocess.PIPE)
    child.stdout.close()
    end = time.monotonic() + PATIENCE
    while child.poll() is None and time.monotonic() < end:
        if look_at(cli.playground).following is not None:
            cli.playground.send([scripted(b"\2\2\2")])
        time.sleep(0.05)
    assert child.wait(PATIENCE) == 141
    assert same(look_at(cli.playground), three)


def test_an_edit_by_somebody_else(cli: CommandLine, three: Running) -> None:
    assert three.chain is not None
    edited = three.chain.remove([2])

    def edit() -> None:
        until_followed(cli.playground)
        change(cli.playground, edited)

    thread = threading.Thread(target=edit)
    thread.start()
    result = cli("follow", cli.interface)
    thread.join()
    assert result.code == 4
    assert "following ended before 10 packets arrived" in result.err
    assert [slot.name for slot in look_at(cli.playground).chain or ()] == ["scripted_0", "scripted_1"]


def test_bad_words(cli: CommandLine, three: Running, tmp_path: Path) -> None:
    result = cli("follow", cli.interface, "host", "and")
    assert (result.code, "syntax error" in result.err) == (7, True)
    assert "pcap-filter" in result.err
    assert cli("follow", cli.interface, "--count", "0").code == 7
    assert cli("follow", cli.interface, "--rate", "99999999").code == 7
    assert cli("follow", cli.interface, "-w", str(tmp_path)).code == 7
    assert cli("follow", "no-such-link").code == 5
    assert same(look_at(cli.playground), three)
    beyond = cli("follow", cli.interface, "ether[300] = 1", "--timeout", "0.2")
    assert (beyond.code, "byte 300" in beyond.err) == (0, True)


def test_an_empty_interface(cli: CommandLine) -> None:
    result = cli("follow", cli.interface)
    assert (result.code, "no XDP program runs there" in result.err) == (5, True)


def test_what_a_killed_follower_leaves(cli: CommandLine, three: Running) -> None:
    left_over(cli.playground)
    assert "FOLLOWED: all packets are recorded" in cli("status", cli.interface).out
    assert cli.status()["following"]["alive"] is True
    wait_until_it_counts_as_gone(cli.playground)
    assert "who is gone" in cli("status", cli.interface).out
    assert cli.status()["following"]["alive"] is False
    doctor = cli("doctor", cli.interface)
    assert f"xdptui clean {cli.interface}" in doctor.out
    dry = cli.ok("clean", cli.interface, "--dry-run")
    assert dry.json["followed"] == [{"interface": cli.interface, "taken_back": False, "why_not": ""}]
    assert look_at(cli.playground).following is not None
    result = cli("clean", cli.interface)
    assert (result.code, "its normal dispatcher restored" in result.out) == (0, True)
    after = look_at(cli.playground)
    assert after.following is None
    assert after.identity == three.identity
    assert cli.ok("clean").json["followed"] == []


def test_the_log_knows_what_a_rollback_of_it_brought_back(cli: CommandLine, three: Running) -> None:
    left_over(cli.playground)
    wait_until_it_counts_as_gone(cli.playground)
    cli.ok("load", cli.interface, cli.sample("pass"), "--confirm", "60")
    cli.ok("rollback", cli.interface)
    document = cli.ok("log", cli.interface).json
    assert document["running"]["known"] is True
    assert document["running"]["program"] == cli.status()["dispatcher"]["id"]


@pytest.mark.usefixtures("traffic")
def test_the_line_that_decided_and_the_path_to_it(cli: CommandLine, samples: Path) -> None:
    change(cli.playground, chain_of(samples, "firewall", "pass"))
    result = cli("follow", cli.interface, "-c", "1", "--path", "--jsonl")
    assert result.code == 0, result.err
    first, second = json.loads(result.out.splitlines()[0])["slots"]
    # It is not IP, as an inlined function from a header finds.
    assert (first["action"], first["site"]["file"]) == ("PASS", "transport.h")
    assert first["site"]["condition"]
    assert (second["site"]["text"], second["path"]["lines"][-1]["text"]) == ("return XDP_PASS;",) * 2
    path = first["path"]
    assert (path["replayed"], path["same"], path["why"]) == (True, True, "")
    ran = [(line["file"], line["line"]) for line in path["lines"]]
    assert (first["site"]["file"], first["site"]["line"]) in ran
    assert path["lines"][ran.index((first["site"]["file"], first["site"]["line"]))]["branch"]
    assert not any("bpf_map_lookup_elem" in line["text"] for line in path["lines"]), "it did not get there"


@pytest.mark.usefixtures("three")
def test_a_bounded_capture(cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both parts begin as separate files, and the newest packets are there."""
    monkeypatch.setattr("xdptui.commands.follow.size", lambda text: 8000)
    file = tmp_path / "bounded.pcapng"
    stop = threading.Event()

    def send() -> None:
        end = time.monotonic() + PATIENCE
        while not stop.wait(0.05) and time.monotonic() < end:
            cli.playground.send([scripted(b"\2\2\2")])

    thread = threading.Thread(target=send)
    thread.start()
    try:
        result = cli("follow", cli.interface, "-c", "20", "-w", str(file), "--max-size", "8k")
    finally:
        stop.set()
        thread.join()
    assert result.code == 0, result.err
    older = Path(f"{file}.1")
    assert file.stat().st_size <= 4000 + 200
    assert older.stat().st_size <= 4000
    assert file.read_bytes()[:4] == older.read_bytes()[:4] == b"\n\r\r\n"
    words = ("follow", cli.interface, "-c", "1", "-w", "/dev/null", "--max-size", "1M")
    assert cli(*words).code == 7


@pytest.mark.usefixtures("traffic")
def test_a_path_in_words(cli: CommandLine, samples: Path) -> None:
    change(cli.playground, chain_of(samples, "firewall"))
    result = cli("follow", cli.interface, "-c", "1", "--path")
    assert "xdp_firewall PASS: transport.h:" in result.out
    assert "path through xdp_firewall, replayed on copies of its maps:" in " ".join(result.out.split())
    assert "→ firewall.bpf.c:" in result.out
