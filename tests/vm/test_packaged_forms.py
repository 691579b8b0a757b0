# SPDX-License-Identifier: Apache-2.0
"""The samples and the XDP objects of libxdp and xdp-tools, linked statically: nearly all get the cheapest
form. Those that are installed here always run. Those of three Debian suites are for the long tests: they are
downloaded and kept in the lab's cache.
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
from xdpchain.errors import XdpChainError
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
SLOW = {
    "xdp_hugestack": "combined stack size of 2 calls is 528. Too large",  # its own 512, and the chain's 16
    "xdp_tailcalls": "called, because it makes tail calls: xdp_tailcalls",
}
"""Samples that are in a slower form, or refused, and why: the verifier's line where it has one."""
MADE_OF = Path("usr/lib/x86_64-linux-gnu/bpf")
SAMPLES = Path(__file__).parents[2] / "build/samples"


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


def slow_forms(playground: Playground, found: list[ObjectFile]) -> tuple[int, dict[str, str]]:
    """How many chains there are of these objects, and why those that are in a form that costs more are."""
    count, slow = 0, {}
    for chain in chains(found):
        count += 1
        names = " + ".join(slot.name for slot in chain)
        try:
            running = change(playground, chain)
        except XdpChainError as error:
            slow[names] = f"refused: {error}"
            continue
        if running.form != Form.THREADED or running.form_reason:
            slow[names] = f"{running.form}: {running.form_reason}"
        change(playground, Chain())
    return count, slow


@pytest.mark.long
@pytest.mark.parametrize("suite", SUITES)
def test_packaged_programs_take_the_form_that_costs_least(playground: Playground, suite: str) -> None:
    count, slow = slow_forms(playground, list(objects(suite)))
    report = [f"{names}: {why}" for names, why in slow.items()]
    print(f"{suite}: {count} chains, {len(slow)} slow", *report, sep="\n  ")
    assert count >= 20
    assert len(slow) <= MOST_SLOW * count, "\n".join(report)


def test_samples_and_installed_programs_take_the_form_that_costs_least(playground: Playground) -> None:
    paths = [*sorted(SAMPLES.glob("*.o")), *sorted((Path("/") / MADE_OF).glob("*.o"))]
    count, slow = slow_forms(
        playground, [ObjectFile.open(str(one)) for one in paths if one.stem != "refused"]
    )
    assert count >= 100
    for name, why in SLOW.items():
        found = [said for names, said in slow.items() if name in names.split(" + ")]
        assert len(found) == 3, "alone, before and behind another one"
        assert all(why in said for said in found), found
    others = {names: said for names, said in slow.items() if not SLOW.keys() & set(names.split(" + "))}
    assert others == {}
