# SPDX-License-Identifier: Apache-2.0
"""Which paths through a chain are counted, and that their counters give all the others; and the encoded
description of counters.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xdpchain.errors import InvalidInput
from xdpchain.model.actions import ALL_ACTIONS, Action, ActionSet
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.component import Component
from xdpchain.model.counting import Counting, Layout, Rest, SiteTerms, Source, slot_key
from xdpchain.model.counts import CODES, SlotCounts
from xdpchain.model.flow import KINDS, STRAIGHT, Sites, Way, counted_ways, kind_of, ways_of
from xdpchain.model.paths import RETURN, entry
from xdpchain.model.policy import Answer, Policy
from xdpchain.model.slot import Slot

PASS_ON = ActionSet.of(Action.PASS)


def chain_of(*actions: ActionSet) -> Chain:
    chain = Chain(linkage=Linkage.STATIC)
    for number, some in enumerate(actions):
        chain = chain.add(Slot.of(Component(f"slot_{number}"), 10 + number, some))
    return chain


action_sets = st.sets(st.sampled_from(ALL_ACTIONS)).map(lambda some: ActionSet.of(*some))


@st.composite
def chains(draw: st.DrawFn) -> Chain:
    chain = chain_of(*draw(st.lists(action_sets, min_size=1, max_size=6)))
    for index in range(len(chain)):
        if draw(st.booleans()) and index + 1 < len(chain):
            target = draw(st.integers(index + 1, len(chain) - 1))
            chain = chain.route(index, draw(st.sampled_from((*ALL_ACTIONS, None))), chain.slots[target].key)
        if draw(st.integers(0, 3)) == 0:
            chain = chain.retune(index, shadow=True)
        if draw(st.integers(0, 3)) == 0:
            chain = chain.retune(index, off=True)
        if draw(st.integers(0, 3)) == 0:
            may = draw(action_sets.filter(bool))
            chain = chain.police(index, Policy(may, draw(st.sampled_from(Answer))))
    return chain


@given(chains(), st.data())
@settings(max_examples=300, deadline=None)
def test_the_counters_tell_all_ways(chain: Chain, data: st.DataObject) -> None:
    length = len(chain)
    kinds = st.sets(st.sampled_from(list(KINDS)), min_size=1)
    possible = data.draw(st.lists(kinds, min_size=length, max_size=length))
    keeps = data.draw(st.lists(st.booleans(), min_size=length, max_size=length))
    some = st.sets(st.sampled_from((None, 0, 1, 2)), min_size=1)
    sites = [("", {kind: data.draw(some) for kind in kinds}) for kinds in possible]
    counters, layout = counted_ways(chain, possible, keeps, sites)
    plain = counted_ways(chain, possible, keeps)[0].keys()
    assert plain <= counters.keys()
    for slot, kind in counters.keys() - plain:
        assert len(sites[slot][1][kind]) > 1, "a single site costs no addition"
    assert layout.stride >= layout.counters * 16
    values: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    slots = {slot_key(slot): ([0] * CODES, [0] * CODES) for slot in chain}
    verdict = [0] * CODES, [0] * CODES
    decided: Counter[tuple[int, int | None, int]] = Counter()
    lengths: Counter[tuple[int, int | None, int]] = Counter()
    ways = ways_of(chain)
    rests = [
        ((index, site, code), (*of_slot.terms.get((site, code), ()), *rest.plus), rest.minus)
        for index, of_slot in enumerate(layout.sites[slot_key(slot)] for slot in chain)
        for (site, code), rest in of_slot.apart.items()
    ]
    for _, plus, minus in rests:
        assert max(plus) < min(minus, default=layout.counters), "the order in which they are read"
    for size in data.draw(st.lists(st.integers(60, 9000), max_size=12)):
        at = entry(chain)
        if at == length:
            way = ways[STRAIGHT.slot, STRAIGHT.kind]
            counter = values[counters[way.slot, way.kind][None]]
            counter[0] += 1
            counter[1] += size
        while 0 <= at < length:
            way = ways[at, data.draw(st.sampled_from(sorted(possible[at])))]
            size += 0 if keeps[at] else data.draw(st.integers(-9, 9))
            site = data.draw(st.sampled_from(sorted(sites[at][1][way.kind], key=str)))
            decided[at, site, way.code] += 1
            lengths[at, site, way.code] += size
            number = counters.get((at, way.kind), {site: None})[site]
            if number is not None:
                counter = values[number]
                counter[0] += 1
                counter[1] += size
            for which, plus, minus in rests:  # whoever reads while the packet is under way
                now = sum(values[i][0] for i in plus) - sum(values[i][0] for i in minus)
                assert decided[which] - 1 <= now <= decided[which]
            row = slots[slot_key(chain.slots[at])]
            row[0][way.code] += 1
            row[1][way.code] += size
            at = way.to
        code = way.code if way.verdict is None else way.verdict
        verdict[0][code] += 1
        verdict[1][code] += size
    for terms, (packets, octets) in [
        *((layout.slots[key], row) for key, row in slots.items()),
        (layout.verdict, verdict),
    ]:
        assert [sum(values[i][0] for i in some) for some in terms] == packets
        assert [sum(values[i][1] for i in some) for some in terms] == octets
    for index, slot in enumerate(chain):
        of_slot = layout.sites.get(slot_key(slot))
        for (site, code), indices in of_slot.terms.items() if of_slot else ():
            alone = {kind for kind in possible[index] if min(kind, CODES - 1) == code}
            if all((index, kind) in counters for kind in alone) and (site, code) not in of_slot.apart:
                assert sum(values[i][0] for i in indices) == decided[index, site, code]
            assert set(indices) <= set(layout.slots[slot_key(slot)][code])
    for (index, number, code), packets in decided.items():
        if number is not None:
            of_slot = layout.sites[slot_key(chain.slots[index])]
            own = of_slot.terms.get((number, code), ())
            plus, minus = of_slot.apart.get((number, code), ((), ()))
            for unit, amount in enumerate((packets, lengths[index, number, code])):
                added = sum(values[i][unit] for i in (*own, *plus))
                assert added - sum(values[i][unit] for i in minus) == amount


def test_of_the_sites_of_a_sum_all_but_the_last_are_counted() -> None:
    chain = chain_of(PASS_ON, PASS_ON)
    several: Sites = {Action.PASS: {0, 2, 3}, Action.DROP: {1}}
    one: Sites = {Action.PASS: {0}}
    counters, layout = counted_ways(chain, [several, one], [True] * 2, [("a", several), ("b", one)])
    assert counters == {(0, 1): {1: 0}, (1, 2): {0: 1}, (0, 2): {0: 2, 2: 3, 3: None}}
    first, second = (layout.sites[slot_key(slot)] for slot in chain)
    assert first.terms == {(1, 1): (0,)}
    assert first.apart == {(0, 2): ((2,), ()), (2, 2): ((3,), ()), (3, 2): ((1,), (2, 3))}
    assert (second.terms, second.apart) == ({(0, 2): (1,)}, {})
    assert layout.slots[slot_key(chain.slots[0])][Action.PASS] == (1,)


def test_the_sites_of_sums_get_what_others_leave() -> None:
    chain = chain_of(*[PASS_ON] * 3)
    many: Sites = {Action.PASS: set(range(100)), Action.DROP: {100}}
    counters, layout = counted_ways(chain, [many] * 3, [True] * 3, [("a", many)] * 3)
    assert len(counters[2, Action.PASS]) == 100
    assert len(counters[0, Action.PASS]) == 100
    assert (1, Action.PASS) not in counters, "there is room for one of them"
    assert not layout.sites[slot_key(chain.slots[1])].apart


def counted(chain: Chain, *kinds: set[int], keeps: bool = True) -> set[tuple[int, int]]:
    return set(counted_ways(chain, kinds, [keeps] * len(chain))[0])


def test_most_chains_count_a_packet_once_where_it_leaves() -> None:
    chain = chain_of(*[PASS_ON] * 3)
    assert counted(chain, {Action.PASS}, {Action.PASS}, {Action.PASS}) == {(2, Action.PASS)}
    both = {Action.PASS, Action.DROP}
    assert counted(chain, both, both, both) == {(0, 1), (1, 1), (2, 1), (2, 2)}
    # Two paths into a slot each have a counter; what leaves it by its only path is their sum.
    chain = chain_of(ActionSet.parse("PD"), PASS_ON)
    assert counted(chain, both, {Action.PASS}) == {(0, 1), (0, 2)}
    # If lengths change, bytes can't be summed.
    assert counted(chain_of(PASS_ON, PASS_ON), both, {Action.PASS}, keeps=False) == {(0, 1), (0, 2), (1, 2)}


def test_where_codes_lead() -> None:
    chain = chain_of(PASS_ON, PASS_ON)
    ways = ways_of(chain.police(0, Policy(PASS_ON, Answer.DROP)))
    assert ways[0, Action.PASS] == Way(0, 2, 1)
    assert ways[0, Action.TX] == Way(0, 3, RETURN, Action.DROP, forbidden=True)
    assert ways[0, 6] == Way(0, 6, RETURN, Action.DROP, forbidden=True)
    assert ways[1, Action.PASS] == Way(1, 2, 2, Action.PASS)
    assert ways[1, Action.TX] == Way(1, 3, RETURN, Action.TX)
    assert ways[1, 5] == Way(1, 5, RETURN)
    assert ways[1, 6] == Way(1, 6, 2, Action.PASS)
    assert [list(kind_of(code)) for code in (2, 31, 7, 0xFFFFFFFF, None)] == [[2], [6], [5], [5], list(KINDS)]


TERMS = tuple((code,) for code in range(CODES))
LAYOUT = Layout(128, {("a", False): TERMS, ("b", True): ((),) * CODES}, TERMS)
APART = {(4, 2): Rest((6,), ()), (5, 2): Rest((2, 5), (6,))}
SITED = replace(LAYOUT, sites={("a", False): SiteTerms("fw", {(3, 1): (1,), (0, 2): (2, 5)}, APART)})
COUNTING = Counting(
    7,
    9,
    (Source(9, SITED), Source(7, LAYOUT)),
    {("a", False): SlotCounts((1,) * 6, (2,) * 6)},
    sites={(("a", False), "fw"): {(3, 1): (4, 400)}},
)


def test_a_description_is_read_as_it_was_written() -> None:
    assert Counting.decode(COUNTING.encode() + bytes(3)) == COUNTING
    document = json.loads(COUNTING.encode())
    for source in document["maps"]:
        del source["apart"]  # as earlier releases wrote it, and as they read ours
    before = Counting.decode(json.dumps(document).encode())
    assert [source.layout.sites for source in before.sources] == [
        {key: replace(some, apart={}) for key, some in source.layout.sites.items()}
        for source in COUNTING.sources
    ]
    assert [source.layout for source in COUNTING.current] == [SITED]
    kept = COUNTING.keeping({("b", True)})
    assert not kept.sites
    assert kept.slots == {}
    assert [set(source.layout.slots) for source in kept.sources] == [{("b", True)}] * 2
    later = Counting(7, None, (Source(9, replace(LAYOUT, stride=64)), Source(11, LAYOUT)))
    joined = COUNTING.joined([later])
    assert {source.map_id: source.layout.stride for source in joined.sources} == {9: 128, 7: 128, 11: 128}


UNSITED = {"id": 1, "stride": 64, "slots": [], "verdict": [[0]] * 6}


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"origin": -1},
        {"origin": True},
        {"own": "9"},
        {"maps": [{}]},
        {"maps": [{"id": 1, "stride": 8, "slots": [], "verdict": [[0]] * 6}]},
        {"maps": [{"id": 1, "stride": 64, "slots": [], "verdict": [[4]] * 6}]},
        {"maps": [{"id": 1, "stride": 64, "slots": [], "verdict": [[0]] * 5}]},
        {"maps": [{"id": 1, "stride": 1 << 30, "slots": [], "verdict": [[0]] * 6}]},
        {"slots": [["a", False, [0] * 6, [1 << 64] * 6]]},
        {"verdict": [[0] * 6]},
        {"maps": [{"id": 1, "stride": 64, "slots": [["a", False, 1, 2]], "verdict": [[0]] * 6}]},
        {"maps": [{"id": 1, "stride": 64, "slots": [["a", False, [[0]] * 6, 2]], "verdict": [[0]] * 6}]},
        {"maps": 3},
        *(
            {"maps": [UNSITED | {"sites": [["a", False, "fw", []]], "apart": [apart]}]}
            for apart in (
                3,
                ["a", False],
                ["a", False, [[0, 1, [0]]]],
                ["a", False, [[0, 1, [0], [4]]]],
                ["a", False, [[0, 1, [-1], [0]]]],
                ["a", False, [[0, 6, [0], [0]]]],
            )
        ),
        {"sites": [["a", False, "fw", [[0, 6, [1, 2]]]]]},
        {"sites": [["a", False, "fw", [[0, 1, [1]]]]]},
        {"sites": [["a", False, 7, []]]},
        {
            "maps": [
                {
                    "id": 1,
                    "stride": 64,
                    "slots": [],
                    "verdict": [[0]] * 6,
                    "sites": [["a", False, "", [[0, 1, [4]]]]],
                }
            ]
        },
    ],
)
def test_what_others_wrote_is_not_believed(change: dict[str, object]) -> None:
    document = json.loads(COUNTING.encode()) | change
    with pytest.raises(InvalidInput, match="counters"):
        Counting.decode(json.dumps(document).encode())


@given(st.binary(max_size=60))
def test_nothing_but_an_error_comes_of_garbage(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        Counting.decode(data)
    with pytest.raises(InvalidInput):
        Counting.decode(b"[" * 20_000 + data)
