# SPDX-License-Identifier: Apache-2.0
"""Recording with one key, and replaying with another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from textual.widgets import Input

from tests.tui.driving import THREE, change, driving, run_chain
from xdpchain.testing.playground import Playground
from xdptui.screens.recordings import OpenRecording, RecordTo


async def test_a_key_records_and_another_replays_it(
    playground: Playground, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    run_chain(playground, samples, *THREE)
    async with driving(playground.netns, playground.ifname) as driver:
        await driver.press("ctrl+r")
        await driver.until(lambda: driver.dialog(RecordTo))
        path = driver.app.screen.query_one("#path", Input).value
        assert path.startswith(str(tmp_path / "xdptui"))
        assert not list(tmp_path.iterdir()), "nothing is written before the answer"
        await driver.press("enter")
        await driver.until(lambda: "REC" in driver.lines("banner")[0])
        await driver.until(lambda: Path(path).exists() and Path(path).stat().st_size > 2000)
        await driver.press("ctrl+r")
        await driver.until(lambda: "REC" not in driver.lines("banner")[0])
        assert json.loads(Path(path).read_text().splitlines()[0])
        live = driver.app.main
        await driver.press("ctrl+o")
        await driver.until(lambda: driver.dialog(OpenRecording))
        assert Path(path).name in driver.text()
        await driver.press("enter")
        await driver.until(lambda: driver.app.main is not live)
        await driver.until(lambda: "xdp_ratelimit" in driver.text())
        banner = driver.lines("banner")[0]
        assert "REPLAY" in banner
        assert "RUNNING" not in banner
        assert "space play" in driver.lines("keys")[0]
        assert "q end replay" in driver.lines("keys")[0]
        change(playground, lambda chain: chain.remove([2]))
        assert "xdp_monitor" in driver.text()
        before = driver.lines("time")[0]
        await driver.press("left")
        assert "PAUSE" in driver.lines("time")[0] != before
        await driver.press("escape")
        assert driver.app.main is not live
        await driver.press("q")
        await driver.until(lambda: driver.app.main is live)
        await driver.until(lambda: len(driver.session.chain) == 2)
        assert "RUNNING" in driver.lines("banner")[0]


async def test_what_is_no_recording_is_said_in_words(
    playground: Playground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    (tmp_path / "xdptui").mkdir()
    (tmp_path / "xdptui" / "bad.jsonl").write_bytes(b"\0nothing\n" * 9)
    async with driving(playground.netns, playground.ifname) as driver:
        await driver.press("ctrl+o")
        await driver.until(lambda: driver.dialog(OpenRecording))
        await driver.press("enter")
        await driver.until(lambda: "Not replayed" in driver.text())
        await driver.press("escape")
        await driver.until(lambda: not driver.dialog())
        await driver.press("ctrl+r")
        await driver.until(lambda: driver.dialog(RecordTo))
        driver.app.screen.query_one("#path", Input).value = str(tmp_path / "xdptui" / "bad.jsonl")
        await driver.press("enter")
        assert driver.dialog(RecordTo), "a file that is there is never replaced"
        assert "exists" in driver.text()
        driver.app.screen.query_one("#path", Input).value = str(tmp_path / "no" / "such" / "folder.jsonl")
        await driver.press("enter")
        await driver.until(lambda: "Not recorded" in driver.text())
