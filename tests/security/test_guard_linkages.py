# SPDX-License-Identifier: Apache-2.0
"""What the guard says about a chain is what happens to a real connection, with each linkage."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernel.chains import LINKAGES, change, look_at
from tests.kernel.two_hosts import NEAR4, PEER4, connection, introduce
from xdpchain.model.actions import Action, ActionSet
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.slot import Slot
from xdpchain.objects.components import load_component
from xdpchain.testing.playground import Playground
from xdpchain.trial.ssh_guard import Judgement, judge


@pytest.fixture
def ground(playground: Playground, monkeypatch: pytest.MonkeyPatch) -> Playground:
    introduce(playground)
    monkeypatch.setenv("SSH_CONNECTION", f"{PEER4} 50022 {NEAR4} 22")
    return playground


@pytest.mark.parametrize("linkage", LINKAGES)
@pytest.mark.parametrize(
    ("actions", "lives"),
    [(("P",), False), (("PD",), True), (("none", "P"), False), (("D", "P"), True), (("D", "none"), True)],
)
def test_one_slot_and_two(
    ground: Playground, samples: Path, linkage: Linkage, actions: tuple[str, ...], lives: bool
) -> None:
    """A program that drops, alone and before another: it depends on whether the chain continues after
    XDP_DROP."""
    chain = Chain(linkage=linkage)
    for sample, allowed in zip(("drop", "pass"), actions, strict=False):
        component = load_component(str(samples / f"{sample}.o"))
        chain = chain.add(Slot.of(component, 1, ActionSet.parse(allowed)))
    found = judge(look_at(ground), chain)
    assert found is not None
    if lives:
        assert found == Judgement("xdp0")
        change(ground, chain)
        connection(ground, NEAR4)
    else:
        assert [lost.verdict for lost in found.lost] == [Action.DROP] * 3
        change(ground, chain)
        with pytest.raises(TimeoutError):
            connection(ground, NEAR4)
