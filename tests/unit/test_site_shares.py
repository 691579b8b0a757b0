# SPDX-License-Identifier: Apache-2.0
"""Each verdict site's share of what a slot counted."""

from __future__ import annotations

from xdpchain.bytecode.sites import VerdictSite
from xdpchain.model.actions import Action
from xdpchain.model.counts import CODES
from xdpchain.observe.site_shares import Share, shares

SITES = tuple(
    VerdictSite(code, "f", None, None, insn)
    for insn, code in enumerate((Action.DROP, Action.PASS, Action.PASS))
)


def counted(**packets: int) -> list[float]:
    return [float(packets.get(action.name, 0)) for action in Action] + [0.0] * (CODES - len(Action))


def test_what_has_no_counter_is_the_rest() -> None:
    found = shares(SITES, counted(DROP=5, PASS=30), {(1, Action.PASS): 10})
    assert found == {
        Share(Action.DROP, (0,)): 5,
        Share(Action.PASS, (1,)): 10,
        Share(Action.PASS, (2,)): 20,
    }


def test_what_was_counted_by_code_before_an_edit_is_shared_by_all_sites_of_the_code() -> None:
    found = shares(SITES, counted(PASS=30), {(1, Action.PASS): 10, (2, Action.PASS): 4})
    assert found[Share(Action.PASS, (1, 2))] == 16


def test_the_only_site_of_a_code_has_all_of_it() -> None:
    assert shares(SITES, counted(DROP=9), {(0, Action.DROP): 2}) == {Share(Action.DROP, (0,)): 9}


def test_a_code_that_no_site_returns_has_no_place() -> None:
    assert shares(SITES, counted(TX=3), {}) == {Share(Action.TX, ()): 3}
