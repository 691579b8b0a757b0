# SPDX-License-Identifier: Apache-2.0
"""docs/programs.md says what a component may contain, by linkage; here the kernel checks that."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.kernel.chains import look_at
from tests.objects.features import FEATURES, Feature, compiled
from xdpchain.change.author import current_author
from xdpchain.errors import XdpChainError
from xdpchain.linkage.linkers import LINKERS
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.slot import Slot
from xdpchain.objects.components import load_component
from xdpchain.sys import netns
from xdpchain.sys.libbpf import LoadFailed, Object
from xdpchain.testing.playground import Playground

TABLE = Path(__file__).parents[2] / "docs" / "programs.md"
LINKAGES = (Linkage.STATIC, Linkage.TAILCALL, Linkage.FREPLACE)


def committed() -> dict[str, dict[Linkage, str]]:
    """The cells of the table, by what a component contains."""
    rows = re.findall(r"^\| (.+?) \| (yes|no) \| (yes|no) \| (yes|no) \| .*\|$", TABLE.read_text(), re.M)
    return {what: dict(zip(LINKAGES, cells, strict=True)) for what, *cells in rows}


def loads_alone(feature: Feature, path: Path, playground: Playground) -> bool:
    """Whether this kernel accepts the program at all."""
    with Object(path.read_bytes()) as opened:
        for program in opened.programs():
            program.set_autoload(program.section.startswith("xdp"))
            if program.section.startswith("xdp"):
                program.as_xdp(False)
                if feature.bound:
                    program.bind_to(playground.ifindex)
        try:
            netns.run(playground.netns, opened.load)
        except LoadFailed:
            return False
    return True


def linked(playground: Playground, samples: Path, path: Path, linkage: Linkage, version: int | None) -> str:
    """Whether a chain accepts it as its second slot; if not, why."""
    first, second = load_component(str(samples / "pass.o")), load_component(str(path), name="program")
    slots = (Slot.of(first), Slot.of(second))
    running = look_at(playground)
    try:
        chain = Chain(slots, linkage, dispatcher_version=version)
        LINKERS[linkage]().build(chain, running, current_author()).close()
    except XdpChainError as error:
        return f"no ({error})"
    return "yes"


def test_the_table_has_every_feature() -> None:
    rows = committed()
    assert [*rows] == [feature.what for feature in FEATURES]
    for feature in FEATURES:
        refused = "no" in rows[feature.what].values()
        assert bool(feature.why) == refused, feature.what
        assert f"| {feature.why} |" in TABLE.read_text()


@pytest.mark.parametrize(
    "linkage",
    [
        Linkage.STATIC,
        Linkage.TAILCALL,
        pytest.param(Linkage.FREPLACE, marks=[pytest.mark.vm, pytest.mark.long]),
    ],
)
def test_the_table_is_what_the_kernel_says(
    playground: Playground, samples: Path, tmp_path: Path, linkage: Linkage
) -> None:
    rows, tried, wrong = committed(), 0, []
    for feature in FEATURES:
        path = compiled(feature, tmp_path)
        cell = rows[feature.what][linkage]
        if cell == "yes" and not loads_alone(feature, path, playground):
            continue  # this kernel lacks it
        tried += 1
        found = linked(playground, samples, path, linkage, 3 if feature.bound else None)
        if not found.startswith(cell):
            wrong.append(f"{feature.what}: the table says {cell}, the kernel {found}")
    assert not wrong, "\n".join(wrong)
    assert tried >= 12, "programs that every kernel takes"
