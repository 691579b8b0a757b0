# SPDX-License-Identifier: Apache-2.0
"""A chain of one component between two editors: libxdp lets it replace the dispatcher, where its actions mean
nothing. Such a chain is shown, tried and guarded as it behaves; one made here keeps the contract.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.libxdp import Loader, agreed
from tests.kernel.chains import change, look_at, run_through, scripted_chain
from tests.kernel.tracing import coded_object
from xdpchain.change.plan import make_plan
from xdpchain.model.actions import ALL_ACTIONS, ActionSet
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.paths import RETURN, successors
from xdpchain.model.running import Owner
from xdpchain.testing.frames import scripted
from xdpchain.testing.playground import Playground
from xdpchain.trial.run import Trial

pytestmark = pytest.mark.vm

EVERYTHING = ActionSet.parse("ADPTR")
PASS = 2


def test_what_xdp_loader_made_is_shown_and_tried_as_it_behaves(
    playground: Playground, loader: Loader
) -> None:
    loader.load(coded_object(), name="coded_0", priority=5, actions="XDP_DROP,XDP_PASS")
    theirs = look_at(playground)
    assert theirs.owner is Owner.LIBXDP
    assert theirs.chain is not None
    assert theirs.chain.bare
    assert "taken the dispatcher's place" in theirs.note
    assert set(successors(theirs.chain)[0]) == {RETURN}
    for code in ALL_ACTIONS:
        assert run_through(theirs, scripted(bytes([code]))).code == code


def test_an_edit_of_it_keeps_the_contract(playground: Playground, loader: Loader) -> None:
    loader.load(coded_object(), name="coded_0", priority=5, actions="XDP_DROP,XDP_PASS")
    theirs = look_at(playground)
    assert theirs.chain is not None
    same = make_plan(theirs, theirs.chain)
    assert [one.text for one in same.changes] == [
        "coded_0 goes behind the dispatcher, whose place it had taken"
    ]
    ours = change(playground, theirs.chain.retune(0, actions=EVERYTHING))
    assert ours.chain is not None
    assert (ours.chain.bare, ours.note) == (False, "")
    for code in ALL_ACTIONS:
        assert run_through(ours, scripted(bytes([code]))).code == PASS
    assert agreed(playground).chain == ours.chain  # xdp-loader lists it
    assert make_plan(ours, ours.chain).empty


def test_xdp_loader_edits_a_lone_component_behind_the_dispatcher(
    playground: Playground, samples: Path, loader: Loader
) -> None:
    alone = change(playground, scripted_chain(samples, [EVERYTHING], Linkage.FREPLACE))
    assert alone.chain is not None
    assert not alone.chain.bare
    first = alone.chain.slots[0].id
    loader.load(samples / "counter.o")
    two = agreed(playground)
    assert two.chain is not None
    assert two.chain.slots[0].id == first
    loader.unload(two.chain.slots[1].id or 0)
    left = look_at(playground)  # libxdp's form again
    assert left.chain is not None
    assert left.chain.bare
    assert run_through(left, scripted(b"\1")).code == 1
    change(playground, Chain(linkage=Linkage.FREPLACE))


def test_a_trial_of_it_says_what_it_does(playground: Playground, samples: Path) -> None:
    """For a component whose object file is known, left alone in libxdp's form."""
    ours = change(playground, scripted_chain(samples, [EVERYTHING], Linkage.FREPLACE))
    assert ours.chain is not None
    bare = Chain(ours.chain.slots, Linkage.FREPLACE, bare=True)
    for chain, verdict in ((ours.chain, PASS), (bare, 1)):
        with Trial(chain) as trial:
            assert trial.run(scripted(b"\1")).verdict == verdict
