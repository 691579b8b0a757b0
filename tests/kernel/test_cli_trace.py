# SPDX-License-Identifier: Apache-2.0
"""``xdptui trace``: counters that outlive the command that made them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.kernel.chains import change, scripted_chain
from tests.kernel.command_line import CommandLine
from xdpchain.model.actions import ActionSet
from xdpchain.model.chain import Linkage
from xdpchain.testing.frames import scripted
from xdpchain.testing.playground import Playground

PASS_ON = ActionSet.parse("P")


def test_a_chain_that_counts_by_itself_needs_no_tracing(
    cli: CommandLine, playground: Playground, samples: Path
) -> None:
    change(playground, scripted_chain(samples, [PASS_ON], Linkage.STATIC))
    refused = cli("trace", "on", cli.interface)
    assert refused.code == 6
    assert "has its own counters" in refused.err
    off = cli("trace", "off", cli.interface)
    assert off.code == 0
    assert "was not traced" in off.out


@pytest.mark.vm
def test_on_counts_until_off(cli: CommandLine, playground: Playground, samples: Path) -> None:
    change(playground, scripted_chain(samples, [PASS_ON] * 2, Linkage.FREPLACE, counters=False))
    on = cli("trace", "on", cli.interface)
    assert on.code == 0
    assert re.search(r"costs about \d+ ns per packet", on.out)
    playground.send([scripted(b"\2\1")] * 5)
    slots = cli.status()["slots"]
    assert [slot["counters"]["XDP_PASS"]["packets"] for slot in slots] == [5, 0]
    assert [slot["counters"]["XDP_DROP"]["packets"] for slot in slots] == [0, 5]
    off = cli.ok("trace", "off", cli.interface).json
    assert off == {"interface": cli.interface, "traced": False, "changed": True}
    assert [slot["counters"] for slot in cli.status()["slots"]] == [None, None]


@pytest.mark.vm
def test_pinned_counters_follow_a_change_and_are_cleaned(
    cli: CommandLine, playground: Playground, samples: Path
) -> None:
    first = change(playground, scripted_chain(samples, [PASS_ON] * 2, Linkage.FREPLACE))
    assert cli("trace", "on", cli.interface).code == 0
    playground.send([scripted(b"\2\2")] * 3)
    assert first.chain is not None
    change(playground, scripted_chain(samples, [PASS_ON] * 3, Linkage.FREPLACE).remove([0, 1]))
    playground.send([scripted(b"\2\2\1")] * 4)
    slots = cli.status()["slots"]
    assert [(slot["name"], slot["counters"]["XDP_DROP"]["packets"]) for slot in slots] == [("scripted_2", 4)]
    assert cli("unload", cli.interface, "--all").code == 0
    assert cli.ok("clean").json["pins"] == [], "the last change took them along"
