# SPDX-License-Identifier: Apache-2.0
"""Recordings: written, truncated anywhere, damaged, read back; and where there is no BPF at all"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xdpchain.bytecode.code_values import Called
from xdpchain.bytecode.sites import SourceLine, VerdictSite
from xdpchain.errors import InvalidInput, NotFound
from xdpchain.model.actions import ActionSet
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.component import Component, GlobalValue, MapRef, ObjectRef
from xdpchain.model.counts import Sample, SlotCounts
from xdpchain.model.interface import Interface, Mode
from xdpchain.model.running import Device, DispatcherInfo, Hook, Owner, Running
from xdpchain.model.slot import Slot
from xdpchain.observe.recording import (
    LEAST_SIZE,
    Counted,
    Happened,
    Header,
    RecordedReading,
    Recording,
    Writer,
)
from xdpchain.observe.recording.states import running_in, running_out
from xdpchain.observe.site_shares import SlotReasons
from xdptui.commands.record import size
from xdptui.words.packet_event_documents import packet_events_document, read_packet_events
from xdptui.words.packet_events import packet_event_lines
from xdptui.workers.replay.player import Player

HEADER = Header("", 0, 1000.0, 1.0, "here", None, "test")


def running(name: str = "eth0", ifindex: int = 3, slots: int = 2, program: int = 70) -> Running:
    component = Component(
        "xdp_pass", ObjectRef("ab" * 32, 100, "samples/pass.o", 9), "xdp", id=5, tag="00ff", loaded_at=1,
        maps=(MapRef("m", 8),), globals=(GlobalValue("step", ".rodata", 0, b"\5\0\0\0", "5"),),
    )  # fmt: skip
    chain = Chain(
        tuple(
            replace(Slot.of(component, 10 * i, ActionSet.parse("PD")), key=f"k{i}", row=i)
            for i in range(slots)
        ),
        Linkage.STATIC, counters=True,
    )  # fmt: skip
    device = Device(
        Interface(name, ifindex, "blue"), True, "up", 1500, "veth", frozenset({"basic"}), (1, 2), (3, 4), "aa"
    )
    hook = Hook(Mode.NATIVE, program, "xdptui_chain", "abcd")
    return Running(
        device,
        (hook,),
        Owner.XDPTUI,
        Linkage.STATIC,
        DispatcherInfo(program, 3),
        chain,
        counters_map=6,
        note="n",
    )


def counts(number: int) -> SlotCounts:
    return SlotCounts((0, number, 2 * number, 0, 0, 0), (0, 60 * number, 120 * number, 0, 0, 0))


def reading(second: int, ifindex: int = 3) -> RecordedReading:
    sample = Sample(float(second), {"k0": counts(second), "k1": counts(2 * second)}, counts(second))
    return RecordedReading(1000.0 + second, float(second), {ifindex: Counted("eth0", ifindex, sample)})


def record(path: Path, seconds: int, *, most: int = 1 << 20) -> None:
    with Writer(str(path), HEADER, max_size=most) as writer:
        writer.running(1000.0, 0.0, [running()])
        for second in range(seconds):
            if second == seconds // 2:
                writer.running(1000.0 + second, float(second), [running(slots=1, program=71)])
            writer.reading(reading(second))


# -- what ran ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "one",
    [
        running(),
        replace(running(), chain=None, shown=running().chain, owner=Owner.LIBXDP, linkage=Linkage.FREPLACE),
        replace(running(), chain=replace(running().chain, counters=False, dispatcher_version=2)),  # type: ignore[type-var]
        replace(running(), dispatcher=DispatcherInfo(70, 3, bound=True)),
        Running(Device(Interface("lo", 1), False, "down", 65536, None, None)),
        replace(
            running(),
            chain=None,
            dispatcher=None,
            owner=Owner.FOREIGN,
            linkage=None,
            replaces_prog_id=4,
            arrays=(1, 2),
        ),
    ],
)
def test_what_runs_is_read_back_as_it_was(one: Running) -> None:
    assert running_in(json.loads(json.dumps(running_out(one)))) == one


def test_a_recording_from_before_bound_chains_is_read() -> None:
    document = running_out(running())
    del document["dispatcher"]["bound"]
    assert running_in(json.loads(json.dumps(document))) == running()


# -- files ---------------------------------------------------------------------------------------------------


def test_a_recording_is_read_back(tmp_path: Path) -> None:
    file = tmp_path / "r"
    record(file, 10)
    made = Recording(str(file))
    assert len(made) == 10
    assert [made.reading(i) for i in range(10)] == [reading(i) for i in range(10)]
    assert made.skipped == 0
    assert [len(made.runnings(i)[0].chain or ()) for i in range(10)] == [2] * 5 + [1] * 5
    assert (made.began, made.ended) == (0.0, 9.0)
    assert made.number_at(4.5) == 4
    assert made.number_at(-1) == 0


def test_sites_and_their_counts_are_read_back(tmp_path: Path) -> None:
    file = tmp_path / "r"
    line = SourceLine("a.c", 7, "if (x)")
    sites = (VerdictSite(1, "f", line, line, 9, leads=line), VerdictSite(Called(51), "f", None, None, 3))
    reasons = {3: (SlotReasons(0, "k0", "fw", sites), SlotReasons(1, "k1", "other", (), "no file"))}
    one = reading(4)
    sample = one.counted[3].sample
    assert sample is not None
    sample = replace(sample, sites={"k0": {(0, 1): (4, 240), (1, 4): (0, 0)}})
    one = replace(one, counted={3: replace(one.counted[3], sample=sample)})
    with Writer(str(file), HEADER) as writer:
        writer.running(1000.0, 0.0, [running()], reasons)
        writer.reading(one)
    made = Recording(str(file))
    assert made.reading(0) == one
    assert made.reasons(0) == reasons


def test_cut_off_at_any_byte(tmp_path: Path) -> None:
    """Killed at any moment: what was complete is there, and nothing else is."""
    file = tmp_path / "r"
    record(file, 4)
    data = file.read_bytes()
    lines = data.count(b"\n")
    for cut in range(0, len(data), 7):
        file.write_bytes(data[:cut])
        whole = data[:cut].count(b"\n")
        try:
            made = Recording(str(file))
        except InvalidInput:
            made = None
        assert (made is None) is (whole < 3), "a header, what ran, and one reading make a recording"
        if made is not None:
            assert len(made) == max(0, whole - 2 - (whole > 4)) if whole < lines else len(made) == 4
            assert made.skipped == (0 if data[:cut].endswith(b"\n") else 1)


def test_the_oldest_part_goes(tmp_path: Path) -> None:
    file = tmp_path / "r"
    record(file, 1000, most=LEAST_SIZE)
    sizes = [path.stat().st_size for path in (file, tmp_path / "r.1")]
    assert sum(sizes) <= LEAST_SIZE
    made = Recording(str(file))
    assert made.ended == 999.0
    assert made.began > 0
    assert 50 < len(made) < 1000
    assert [made.time(i) for i in range(len(made))] == [made.began + i for i in range(len(made))]
    assert made.runnings(0), "each part says what ran"
    assert made.runnings(len(made) - 1)[0].hooks[0].prog_id == 71
    file.unlink()
    assert Recording(str(file)).ended < 999.0, "killed between two parts: the older one is there"


def test_another_recordings_part_is_left_alone(tmp_path: Path) -> None:
    record(tmp_path / "old", 1000, most=LEAST_SIZE)
    record(tmp_path / "r", 3)
    (tmp_path / "old.1").rename(tmp_path / "r.1")
    assert len(Recording(str(tmp_path / "r"))) == 3


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    file = tmp_path / "r"
    file.write_text("precious")
    with pytest.raises(InvalidInput, match="already exists"):
        Writer(str(file), HEADER)
    assert file.read_text() == "precious"
    Writer(str(file), HEADER, overwrite=True).close()
    with pytest.raises(InvalidInput, match="No such file"):
        Writer(str(tmp_path / "none" / "r"), HEADER)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InvalidInput, match="already exists"):
        Writer(str(tmp_path / "link"), HEADER)
    assert not (tmp_path / "elsewhere").exists()


def test_what_is_no_recording(tmp_path: Path) -> None:
    file = tmp_path / "r"
    with pytest.raises(NotFound):
        Recording(str(file))
    for data in (b"", b"hello", b"{}\n", b"[1]\n", b"\xff\xfe\n", b"[" * 100_000 + b"\n"):
        file.write_bytes(data)
        with pytest.raises(InvalidInput, match="not a recording"):
            Recording(str(file))
    file.write_text('{"xdptui_recording":2,"recording":"a","part":0,"started":0,"interval":1}\n')
    with pytest.raises(InvalidInput, match="format 2"):
        Recording(str(file))
    with pytest.raises(InvalidInput):
        Recording(str(tmp_path))


def test_lines_of_another_kind_are_skipped_and_damaged_ones_counted(tmp_path: Path) -> None:
    file = tmp_path / "r"
    record(file, 3)
    with file.open("ab") as out:
        out.write(b'{"at":1003,"elapsed":3,"event":{"what":"exception"}}\n')
        out.write(b'{"at":1003,"elapsed":3,"interfaces":[{"name":1}]}\n{"at":1\n\n')
        out.write(b'{"at":1003,"elapsed":1e300,"interfaces":[]}\n')
        out.write(b'{"at":1003,"elapsed":1,"interfaces":[]}\n')
    made = Recording(str(file))
    assert len(made) == 3
    assert made.skipped == 5


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_damage_is_told_in_words(data: st.DataObject) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "r"
        record(file, 3)
        raw = bytearray(file.read_bytes())
        for _ in range(data.draw(st.integers(1, 8))):
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
        file.write_bytes(raw)
        try:
            made = Recording(str(file))
        except InvalidInput:
            return
        for index in range(len(made)):
            made.reading(index)
            made.runnings(index)


def test_sizes() -> None:
    assert (size("64M"), size("500k"), size("1g")) == (64 << 20, 500 << 10, 1 << 30)
    for wrong in ("", "1", "10k", "1T", "-1M", "x"):
        with pytest.raises(InvalidInput):
            size(wrong)


# -- moving about --------------------------------------------------------------------------------------------


class Times:
    def __init__(self, *times: float) -> None:
        self._times = times

    def __len__(self) -> int:
        return len(self._times)

    def time(self, index: int) -> float:
        return self._times[index]

    def number_at(self, elapsed: float) -> int:
        return max(0, sum(time_ <= elapsed for time_ in self._times) - 1)


def test_playing_keeps_the_recordings_time() -> None:
    player = Player(Times(0, 1, 2, 10, 11))
    assert [player.tick(1) for _ in range(13)] == [True, True, *[False] * 7, True, True, False, False]
    assert not player.playing
    player.toggle()
    assert (player.number, player.playing) == (0, True)


def test_steps_and_leaps() -> None:
    player = Player(Times(0, 1, 2, 70))
    assert player.step(-1) is False
    assert not player.playing
    assert player.step(2) is True
    assert player.elapsed == 2
    assert player.leap(60) is False
    assert player.leap(60) is True
    assert (player.number, player.elapsed) == (3, 70)
    assert player.leap(-1000) is True
    assert player.number == 0


# -- what happened to packets ------------------------------------------------------------------------------

TOLD = {
    "at": 5.0, "seconds": 2.0, "untold": 1, "unplaced": 0, "missed": 0,
    "rows": [
        {"tracepoint": "xdp_exception", "interface": "eth0", "ifindex": 3, "target": "",
         "target_ifindex": None, "via": "", "program": 7, "program_name": "x", "name": "XDP_ABORTED",
         "words": "w", "todo": "", "source": "s", "times": 2, "sent": 0, "lost": 2,
         "sent_rate": 0.0, "lost_rate": 1.0,
         "target_sent": None},
    ],
    "events": [
        {"at": 4.5, "interface": "eth0", "target": "", "via": "", "name": "XDP_ABORTED", "words": "w",
         "lost": 1, "head": ""},
    ],
}  # fmt: skip


def test_what_became_of_packets_stands_where_it_happened(tmp_path: Path) -> None:
    path = tmp_path / "r"
    with Writer(str(path), HEADER) as writer:
        for second in range(6):
            writer.reading(reading(second))
            if second in (2, 4):
                writer.happened(Happened(1000.0 + second, float(second), TOLD))
    recording = Recording(str(path))
    assert [len(recording.happened(index)) for index in range(6)] == [0, 0, 1, 1, 2, 2]
    found = read_packet_events([event.told for event in recording.happened(5)])
    assert (found.lost[0].lost, len(found.events), found.fresh, found.untold) == (2, 2, 1, 1)
    assert packet_events_document(found) | {"events": TOLD["events"]} == TOLD


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from([*TOLD, "lost", "sent", "name", "at"]), inner, max_size=4)
        ),
    ),
    st.sampled_from(["rows", "events", "seconds", "untold"]),
)
def test_damaged_words_are_left_out(value: object, where: str) -> None:
    found = read_packet_events([TOLD | {where: value}])
    assert packet_event_lines(found, 80)


# -- anywhere ------------------------------------------------------------------------------------------------


def test_a_replay_needs_nothing_of_linux() -> None:
    """Neither an engine module that touches the kernel nor anything Linux-specific is imported."""
    program = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.startswith(("xdpchain.sys", "pyroute2", "fcntl_", "resource")):
            raise ImportError("not on this machine: " + name)
sys.meta_path.insert(0, Blocked())
sys.path[:0] = {[str(Path(__file__).parents[2] / one) for one in ("core", ".")]!r}
import asyncio
from xdpchain.observe.recording import Recording
from xdptui import cli
from xdptui.app import XdpTui
from xdptui.commands.replay import DEMO
from xdptui.workers.replay import Replay
async def main():
    app = XdpTui(replay=Replay(Recording(str(DEMO))))
    async with app.run_test(size=(80, 24)) as pilot:
        for key in ("right_square_bracket", "right_curly_bracket", *"lmdpau", "enter", "question_mark"):
            await pilot.press(key)
            await pilot.pause()
        await pilot.press("escape", "b")
        await pilot.pause(0.3)
        assert ".bpf.c:" in str(app.screen.query_one("#live").render()), app.screen
        await pilot.press("escape", "x")
        await pilot.pause(1.5)
        assert app._exception is None
        assert "nothing" in str(app.screen.query_one("#happened").render()), app.screen
        text = "\\n".join(line.text for line in app.main.query_one("#chain").lines)
        assert "xdp_firewall" in text, text
asyncio.run(main())
print(cli.main(["replay", "--demo", "--json"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "80"},
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "0"
    assert json.loads(lines[0])["interfaces"][0]["slots"][0]["name"] == "xdp_firewall"
