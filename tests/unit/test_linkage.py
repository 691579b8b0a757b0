# SPDX-License-Identifier: Apache-2.0
"""A linkage is a row in each of a few tables, and nothing else of the engine knows it by name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from xdpchain.linkage.linkers import CLONING_LINKERS, LINKERS
from xdpchain.model.linkage import MAX_SLOTS, Linkage
from xdptui.screens.linkage import KEYS, WHAT

ROOT = Path(__file__).parents[2]
ENGINE = ROOT / "core" / "xdpchain"


@pytest.mark.parametrize("linkage", Linkage)
def test_every_table_has_it(linkage: Linkage) -> None:
    facts = linkage.facts
    assert 0 < facts.most_slots <= MAX_SLOTS
    assert linkage in LINKERS
    assert (linkage in CLONING_LINKERS) == (facts.tried or facts.records_inside)
    assert linkage in KEYS.values()
    assert linkage in WHAT


def test_the_engine_asks_for_facts() -> None:
    asked = re.compile(r"linkage\w* (?:is(?: not)?|==|!=|in|not in) \(?Linkage\.")
    asking = [path for path in ENGINE.rglob("*.py") if asked.search(path.read_text())]
    assert {path.relative_to(ENGINE).parts[0] for path in asking} <= {"linkage"}


def test_few_places_name_a_linkage() -> None:
    named = re.compile(r"(?<!types\.)\bLinkage\.[A-Z]")
    sources = [*ENGINE.rglob("*.py"), *(ROOT / "xdptui").rglob("*.py")]
    names = {str(path.relative_to(ROOT)) for path in sources if named.search(path.read_text())}
    assert {name for name in names if not name.startswith("core/xdpchain/linkage/")} == {
        "core/xdpchain/model/linkage.py",  # the facts
        "core/xdpchain/model/chain.py",  # the default of a new chain
        "core/xdpchain/observe/hook.py",  # a dispatcher without a manifest
        "core/xdpchain/trial/run.py",  # what chains that can't be tried as they are are tried as
        "xdptui/screens/linkage.py",  # keys and phrases
        "xdptui/view/session.py",  # the default before the kernel was asked
    }
