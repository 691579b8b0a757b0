# SPDX-License-Identifier: Apache-2.0
"""`xdptui record` keeps the counts of real packets, even when it is killed"""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.kernel.chains import chain_of, change, look_at, scripted_chain
from tests.kernel.command_line import CommandLine
from tests.kernel.mishaps import listeners
from xdpchain.errors import XdpChainError
from xdpchain.model.actions import ActionSet
from xdpchain.model.chain import Linkage
from xdpchain.model.policy import Policy
from xdpchain.observe.recording import Recording
from xdpchain.testing import frames
from xdpchain.testing.frames import scripted
from xdpchain.testing.playground import Playground
from xdptui.words.packet_event_documents import read_packet_events
from xdptui.workers.replay import Replay

UDP = frames.udp(frames.PEER, frames.NEAR, 53, payload=bytes(58))


def begun(path: Path) -> Recording:
    """The recording, once it has a reading."""
    for _ in range(200):
        try:
            return Recording(str(path))
        except XdpChainError:
            time.sleep(0.05)
    raise AssertionError("nothing was recorded")


def passed(recording: Recording, number: int, ifindex: int) -> int:
    sample = recording.reading(number).counted[ifindex].sample
    return sample.verdict.packets[2] if sample else -1


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_known_packets_and_an_edit(
    cli: CommandLine, playground: Playground, samples: Path, tmp_path: Path, end: int
) -> None:
    file = tmp_path / "r"
    change(playground, chain_of(samples, "firewall", "monitor"))
    process = cli.process(
        "record", str(file), cli.interface, "--interval", "0.1", run=subprocess.Popen, stdout=subprocess.PIPE
    )
    try:
        begun(file)
        playground.send([UDP] * 12)
        time.sleep(0.5)
        running = look_at(playground)
        assert running.chain is not None
        after = change(playground, running.chain.remove([0]))
        playground.send([UDP] * 5)
        time.sleep(0.7)
        process.send_signal(end)
        out, _ = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == (0 if end != signal.SIGKILL else -signal.SIGKILL)
    if end != signal.SIGKILL:
        assert "2 snapshots of what ran" in out
    recording = Recording(str(file))
    index = playground.ifindex
    assert passed(recording, 0, index) == 0
    assert passed(recording, len(recording) - 1, index) == 17
    assert all(
        passed(recording, i, index) <= passed(recording, i + 1, index) for i in range(len(recording) - 1)
    )
    first, last = recording.runnings(0)[0], recording.runnings(len(recording) - 1)[0]
    assert [slot.name for slot in first.chain or ()] == ["xdp_firewall", "xdp_monitor"]
    assert [slot.name for slot in last.chain or ()] == ["xdp_monitor"]
    assert last.identity[:3] == after.identity[:3], "all but the namespace, which no recording keeps"
    monitor = after.chain.slots[0].key  # type: ignore[union-attr]
    sample = recording.reading(len(recording) - 1).counted[index].sample
    assert sample is not None
    assert (sample.slots[monitor].packets[2], sample.slots[monitor].bytes[2]) == (17, 1700)


def test_replayed_as_the_lines_of_watch(
    cli: CommandLine, playground: Playground, samples: Path, tmp_path: Path
) -> None:
    """`replay --json` prints what `watch --jsonl` prints for the same counters, but for the programs behind
    the chain's redirects: no recording counts those.
    """
    file = tmp_path / "r"
    change(playground, chain_of(samples, "firewall"))
    playground.send([UDP] * 3)
    cli.ok("record", str(file), "--interval", "0.1", "--duration", "0.35")
    watched = json.loads(cli("watch", cli.interface, "--jsonl", "--count", "1").out)
    assert watched["interfaces"][0].pop("behind") == []
    code = cli("replay", str(file), "--json")
    lines = [json.loads(line) for line in code.out.splitlines()]
    assert 3 <= len(lines) <= 4
    assert lines[0]["interfaces"] == watched["interfaces"]
    assert lines[-1]["interfaces"][0]["verdict_rates"]["XDP_PASS"]["packets"] == 0
    assert lines[0]["interfaces"][0]["verdict"]["XDP_PASS"] == {"packets": 3, "bytes": 300}
    # Also the line that let them pass.
    recording = Recording(str(file))
    (slot,) = recording.reasons(0)[playground.ifindex]
    sample = recording.reading(0).counted[playground.ifindex].sample
    assert sample is not None
    counted = {slot.sites[site].line: packets for (site, _), (packets, _) in sample.sites[slot.key].items()}
    assert {line.text: packets for line, packets in counted.items() if line and packets} == {
        "if (!bpf_map_lookup_elem(&blocked, &key))": 3
    }


def test_what_can_not_be_recorded(cli: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "r"
    assert cli("record", str(file), "nowhere").code == 5
    assert not file.exists()
    assert cli("record", str(file), "--max-size", "1").code == 7
    assert cli("record", str(file), "--interval", "0").code == 7
    assert cli("record", str(tmp_path / "no" / "r")).code == 7
    assert cli("record", str(file), "--duration", "0.1", "--interval", "0.1").code == 0
    assert cli("record", str(file), "--duration", "0.1").code == 7
    assert cli("replay", str(file)).code == 64
    assert cli("replay").code == 64
    assert cli("replay", str(tmp_path / "none"), "--json").code == 5


def test_a_full_disk_is_told(cli: CommandLine, tmp_path: Path) -> None:
    """/dev/full can't be a regular file, so use a tiny filesystem."""
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(small)], check=True)
    try:
        result = cli("record", str(small / "r"), "--interval", "0.05", "--duration", "20")
        assert result.code == 1
        assert "No space left" in result.err
        assert len(Recording(str(small / "r"))) > 1
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_what_became_of_packets_is_recorded_too(
    cli: CommandLine, playground: Playground, samples: Path, tmp_path: Path
) -> None:
    file = tmp_path / "r"
    chain = scripted_chain(samples, [ActionSet.parse("P")], Linkage.STATIC)
    change(playground, chain.police(0, Policy(ActionSet.parse("PDA"))))
    process = cli.process(
        "record", str(file), cli.interface, "--interval", "0.1", run=subprocess.Popen, stdout=subprocess.PIPE
    )
    try:
        begun(file)
        playground.send([scripted(b"\0")] * 4 + [scripted(b"\2")] * 3)  # XDP_ABORTED: the kernel reports it
        time.sleep(0.5)
        playground.send([scripted(b"\7")] * 2)  # not an action: forbidden, and aborted as well
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    recording = Recording(str(file))
    last = len(recording) - 1
    assert recording.happened(0) == ()
    replay = Replay(recording)
    replay.player.step(last)
    found = read_packet_events([event.told for event in recording.happened(last)])
    assert sum(row.lost for row in found.lost) == 6
    assert sum(event.lost for event in found.events if event.via != "scripted_0") == 6
    assert [event.name for event in found.events if event.via == "scripted_0"] == ["code 7"] * 2
    (running,) = recording.runnings(last)
    shown = "\n".join("".join(text for text, _ in line) for line in replay.events(running).read()(100))
    assert "forbidden to scripted_0" in shown
    assert "XDP_ABORTED" in shown
    # Each is where it happened: before the second, there is only the first.
    early = next(n for n in range(len(recording)) if recording.happened(n))
    told = read_packet_events([event.told for event in recording.happened(early)])
    assert sum(row.lost for row in told.lost) <= 4


def test_without_events(cli: CommandLine, playground: Playground, samples: Path, tmp_path: Path) -> None:
    change(playground, scripted_chain(samples, [ActionSet.parse("P")], Linkage.STATIC))
    before = listeners()
    process = cli.process(
        "record", str(tmp_path / "r"), "--no-events", "--duration", "0.5", "--interval", "0.1",
        run=subprocess.Popen, stdout=subprocess.PIPE,
    )  # fmt: skip
    begun(tmp_path / "r")
    assert listeners() <= before
    playground.send([scripted(b"\0")] * 2)
    process.communicate(timeout=20)
    assert process.returncode == 0
    recording = Recording(str(tmp_path / "r"))
    assert recording.happened(len(recording) - 1) == ()
