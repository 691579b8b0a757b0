# SPDX-License-Identifier: Apache-2.0
"""``xdptui trace``: counters that outlive the command that made them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.kernel.chains import change, scripted_chain
from xdpchain.model.actions import ActionSet
from xdpchain.model.chain import Linkage
from xdpchain.testing.frames import scripted
from xdpchain.testing.playground import Playground
from xdptui.cli import main


def test_a_chain_that_counts_by_itself_needs_no_tracing(
    playground: Playground, samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(playground, scripted_chain(samples, [ActionSet.parse("P")], Linkage.STATIC))
    assert main(["trace", "on", playground.ifname, "--netns", playground.netns]) == 6
    assert "has its own counters" in capsys.readouterr().err
    assert main(["trace", "off", playground.ifname, "--netns", playground.netns]) == 0
    assert "was not traced" in capsys.readouterr().out


@pytest.mark.vm
def test_on_counts_until_off(
    playground: Playground, samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = (playground.ifname, "--netns", playground.netns)
    change(playground, scripted_chain(samples, [ActionSet.parse("P")] * 2, Linkage.FREPLACE, counters=False))
    assert main(["trace", "on", *where]) == 0
    assert re.search(r"costs about \d+ ns per packet", capsys.readouterr().out)
    playground.send([scripted(b"\2\1")] * 5)
    assert main(["status", *where, "--json"]) == 0
    slots = json.loads(capsys.readouterr().out)["interfaces"][0]["slots"]
    assert [slot["counters"]["XDP_PASS"]["packets"] for slot in slots] == [5, 0]
    assert [slot["counters"]["XDP_DROP"]["packets"] for slot in slots] == [0, 5]
    assert main(["trace", "off", *where, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "interface": playground.ifname,
        "traced": False,
        "changed": True,
    }
    assert main(["status", *where, "--json"]) == 0
    slots = json.loads(capsys.readouterr().out)["interfaces"][0]["slots"]
    assert [slot["counters"] for slot in slots] == [None, None]


@pytest.mark.vm
def test_pinned_counters_follow_a_change_and_are_cleaned(
    playground: Playground, samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = (playground.ifname, "--netns", playground.netns)
    first = change(playground, scripted_chain(samples, [ActionSet.parse("P")] * 2, Linkage.FREPLACE))
    assert main(["trace", "on", *where]) == 0
    playground.send([scripted(b"\2\2")] * 3)
    assert first.chain is not None
    change(playground, scripted_chain(samples, [ActionSet.parse("P")] * 3, Linkage.FREPLACE).remove([0, 1]))
    playground.send([scripted(b"\2\2\1")] * 4)
    capsys.readouterr()
    assert main(["status", *where, "--json"]) == 0
    slots = json.loads(capsys.readouterr().out)["interfaces"][0]["slots"]
    assert [(slot["name"], slot["counters"]["XDP_DROP"]["packets"]) for slot in slots] == [("scripted_2", 4)]
    assert main(["unload", *where, "--all"]) == 0
    capsys.readouterr()
    assert main(["clean", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pins"] == [], "the last change took them along"
