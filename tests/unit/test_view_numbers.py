# SPDX-License-Identifier: Apache-2.0
"""Numbers, rates, the waterfall's arithmetic, undo: the terminal's view model without a terminal."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdpchain.model.actions import Action, ActionSet
from xdpchain.model.chain import Chain
from xdpchain.model.component import Component
from xdpchain.model.runconfig import RunConfig
from xdpchain.model.slot import Slot
from xdptui.view.undo_stack import History
from xdptui.view.waterfall import flow
from xdptui.words.numbers import bar, percent, short, sparkline
from xdptui.words.rates import Rates, Trends, between


@dataclass(frozen=True)
class Counts:
    packets: tuple[int, ...] = (0,) * 6
    bytes: tuple[int, ...] = (0,) * 6


@dataclass(frozen=True)
class Sample:
    at: float
    slots: dict[str, Counts]
    verdict: Counts
    sites: dict[str, dict[tuple[int, int], tuple[int, int]]] = field(default_factory=dict)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0"),
        (0.2, "<1"),
        (1, "1"),
        (999, "999"),
        (999.6, "1.00k"),
        (1000, "1.00k"),
        (9994, "9.99k"),
        (9996, "10.0k"),
        (99_960, "100k"),
        (999_499, "999k"),
        (999_600, "1.00M"),
        (12_345_678, "12.3M"),
        (2**64 - 1, "18.4E"),
    ],
)
def test_short_number(value: float | None, text: str) -> None:
    assert short(value) == text


@given(st.floats(min_value=0, max_value=1e30, allow_nan=False))
def test_short_number_never_widens_a_column(value: float) -> None:
    assert 1 <= len(short(value)) <= 5


@given(st.floats(0, 1e12), st.floats(0, 1e12))
def test_percent_fits_and_never_rounds_something_to_nothing(part: float, whole: float) -> None:
    text = percent(part, whole)
    assert len(text) <= 4
    if 0 < part < whole and whole > 0 and part / whole > 0:
        assert text != "0%"
        assert text != "100%"


@given(st.floats(0, 1e9), st.floats(0, 1e9), st.integers(0, 60))
def test_bar_is_exactly_as_wide_as_asked(part: float, whole: float, width: int) -> None:
    text = bar(part, whole, width)
    assert len(text) == width
    if width and part > 0 and whole > 0:
        assert text.strip()


def test_bar_fills_in_proportion() -> None:
    assert bar(1, 2, 8) == "████    "
    assert bar(2, 2, 4) == "████"
    assert bar(0, 2, 4) == "    "


def test_sparkline_keeps_the_newest_and_shows_zero_as_blank() -> None:
    assert sparkline([8, 0, 4], 3) == "█ ▄"
    assert sparkline([1, 8, 0, 4], 3) == "█ ▄"
    assert sparkline([8], 3) == "  █"
    assert sparkline([], 3) == "   "
    assert len(sparkline([1, 2], 0)) == 0


def test_rates_are_differences_over_the_time_between() -> None:
    before = Sample(10.0, {"a": Counts((0, 5, 10, 0, 0, 0), (0, 50, 100, 0, 0, 0))}, Counts())
    after = Sample(
        12.0,
        {"a": Counts((0, 5, 30, 0, 0, 0), (0, 50, 500, 0, 0, 0))},
        Counts((0, 0, 20, 0, 0, 0), (0, 0, 400, 0, 0, 0)),
    )
    reading = between(before, after)
    assert reading.seconds == 2.0
    assert reading.rates["a"].packets == (0, 0, 10, 0, 0, 0)
    assert reading.rates["a"].bytes == (0, 0, 200, 0, 0, 0)
    assert reading.totals["a"].packets == (0, 5, 30, 0, 0, 0)
    assert reading.verdict_rates is not None
    assert reading.verdict_rates.all_packets == 10


def test_the_first_sample_gives_totals_and_no_rates() -> None:
    reading = between(None, Sample(1.0, {"a": Counts((1,) * 6, (1,) * 6)}, Counts()))
    assert reading.rates == {}
    assert reading.verdict_rates is None
    assert reading.totals["a"].all_packets == 6


def test_a_slot_whose_counters_began_anew_has_no_rate() -> None:
    before = Sample(1.0, {"a": Counts((9,) * 6)}, Counts())
    after = Sample(2.0, {"a": Counts((1,) * 6), "b": Counts((1,) * 6)}, Counts())
    assert between(before, after).rates == {}


def test_two_looks_at_the_same_time_give_no_rate() -> None:
    sample = Sample(1.0, {"a": Counts()}, Counts())
    assert between(sample, sample).rates == {}


def test_trends_follow_the_slots_that_are_there() -> None:
    trends = Trends()
    for at, packets in ((1.0, 0), (2.0, 5), (3.0, 25)):
        sample = Sample(at, {"a": Counts((packets, 0, 0, 0, 0, 0))}, Counts())
        reading = between(Sample(at - 1, {"a": Counts()}, Counts()), sample)
        trends.add(reading)
    assert trends.all() == {"a": (0.0, 5.0, 25.0)}
    trends.add(between(None, Sample(4.0, {"b": Counts()}, Counts())))
    assert trends.all() == {}


def chain_of(*actions: str) -> Chain:
    return Chain(
        tuple(
            Slot(Component(f"p{i}"), RunConfig(10 * i, ActionSet.parse(text)), key=f"k{i}")
            for i, text in enumerate(actions)
        )
    )


def rates(*packets: float) -> Rates:
    return Rates(tuple(packets), (0.0,) * 6)


def test_flow_adds_up() -> None:
    # Slot 0 continues on PASS and DROP; 100 arrive, 10 are sent back there, slot 1 drops 5 of the rest.
    chain = chain_of("PD", "P")
    slots = {"k0": rates(0, 30, 60, 10, 0, 0), "k1": rates(0, 5, 85, 0, 0, 0)}
    found = flow(chain, slots, rates(0, 5, 85, 10, 0, 0))
    assert found.received == 100
    first, second = found.stages
    assert (first.entered, first.goes_on) == (100, 90)
    assert first.ends == {Action.ABORTED: 0, Action.TX: 10, Action.REDIRECT: 0}
    assert (second.entered, second.goes_on) == (90, 85)
    assert second.ends[Action.DROP] == 5
    assert found.outcomes == {
        Action.ABORTED: 0,
        Action.DROP: 5,
        Action.PASS: 85,
        Action.TX: 10,
        Action.REDIRECT: 0,
    }


def test_unknown_codes_end_as_aborted() -> None:
    found = flow(chain_of("PA"), {"k0": rates(1, 0, 0, 0, 0, 3)}, rates(0, 0, 1, 0, 0, 3))
    assert found.stages[0].goes_on == 1
    assert found.stages[0].ends[Action.ABORTED] == 3
    assert found.outcomes[Action.ABORTED] == 3


def test_a_slot_that_nothing_reached_shows_zeros() -> None:
    found = flow(chain_of("", "P"), {"k0": rates(0, 7, 0, 0, 0, 0)}, rates(0, 7, 0, 0, 0, 0))
    assert found.stages[0].goes_on == 0
    assert found.stages[1].entered == 0


def test_undo_and_redo() -> None:
    history = History(1).push(2).push(3)
    assert history.undo().present == 2
    assert history.undo().redo() == history
    assert history.undo().push(9).redo().present == 9
    assert History(1).undo() == History(1)
    assert History(1).redo() == History(1)
    assert History(1).push(1) == History(1)


@given(st.lists(st.integers(0, 3), max_size=30))
def test_undoing_everything_comes_back_to_the_start(values: list[int]) -> None:
    history = History(-1)
    for value in values:
        history = history.push(value)
    end = history
    while history.past:
        history = history.undo()
    assert history.present == -1
    while history.future:
        history = history.redo()
    assert history == end
