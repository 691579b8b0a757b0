# SPDX-License-Identifier: Apache-2.0
"""The XDP objects in Debian's packages (libxdp and xdp-tools of three suites), linked statically: nearly all
get the cheapest form. The packages are downloaded and kept in the lab's cache.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from vmlab.errors import LabError
from vmlab.xdp_tools import fetch

from tests.kernel.chains import change
from xdpchain.linkage.threaded import Form
from xdpchain.model.actions import ActionSet
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.slot import Slot
from xdpchain.objects.components import component_of
from xdpchain.objects.objfile import ObjectFile
from xdpchain.testing.playground import Playground

SUITES = ("bookworm", "trixie", "sid")
MOST_SLOW = 0.04
"""Share of chains in a form that costs more."""
MADE_OF = Path("usr/lib/x86_64-linux-gnu/bpf")


def objects(suite: str) -> Iterator[ObjectFile]:
    try:
        tree = fetch(suite).tree
    except LabError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    for path in sorted((tree / MADE_OF).glob("*.o")):
        yield ObjectFile.open(str(path))


def chains(found: list[ObjectFile]) -> Iterator[Chain]:
    """Each program alone, and followed by the next one after any code."""
    slots = [
        Slot.of(component_of(source, name=program.name))
        for source in found
        for program in source.xdp_programs()
        if program.attach in ("xdp", "")
    ]
    every = ActionSet.parse("ADPTR")
    for place, slot in enumerate(slots):
        yield Chain((slot,), Linkage.STATIC)
        after = slots[(place + 1) % len(slots)]
        yield Chain(linkage=Linkage.STATIC).add(slot, 0).add(after, 1).retune(0, actions=every)


@pytest.mark.long
@pytest.mark.parametrize("suite", SUITES)
def test_packaged_programs_take_the_form_that_costs_least(playground: Playground, suite: str) -> None:
    count, slow = 0, []
    for chain in chains(list(objects(suite))):
        running = change(playground, chain)
        count += 1
        if running.form != Form.THREADED or running.form_reason:
            slow.append(f"{' + '.join(slot.name for slot in chain)}: {running.form}, {running.form_reason}")
        change(playground, Chain())
    print(f"{suite}: {count} chains, {len(slow)} slow", *slow, sep="\n  ")
    assert count >= 20
    assert len(slow) <= MOST_SLOW * count, "\n".join(slow)
