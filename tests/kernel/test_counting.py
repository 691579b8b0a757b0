# SPDX-License-Identifier: Apache-2.0
"""Counts continue: through edits that change the counters' layout, rollbacks, undo, and chains of earlier
releases; of slots that left, only the chain's own verdict counts are kept.
"""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from tests.kernel.arming import LATER, arm
from tests.kernel.chains import LINKAGES, chain_of, change, look_at, run_through, scripted_chain
from xdpchain.change.confirm.by_hand import roll_back
from xdpchain.change.journal.undoing import undo_of
from xdpchain.change.swap import swap
from xdpchain.editing import undo
from xdpchain.linkage import counting
from xdpchain.linkage.counting import COUNTERS, ROW_SIZE, make_counters
from xdpchain.model.actions import ActionSet
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.counting import Counting, slot_key
from xdpchain.model.counts import CODES, SlotCounts
from xdpchain.model.interface import Mode
from xdpchain.model.running import Running
from xdpchain.objects.components import keep_maps
from xdpchain.observe.counters import DispatcherCounters, Sample, open_counters
from xdpchain.sys import bpf
from xdpchain.testing import frames
from xdpchain.testing.frames import scripted
from xdpchain.testing.playground import Playground

PASS_ON = ActionSet.parse("P")
linkages = pytest.mark.parametrize("linkage", [Linkage.STATIC, Linkage.TAILCALL])


def read(running: Running) -> Sample:
    with open_counters(running) as reader:  # type: ignore[union-attr]
        return reader.read()


def packets(running: Running) -> list[tuple[int, ...]]:
    """For each slot, and last for the chain."""
    sample = read(running)
    return [*(sample.slots[slot.key].packets for slot in running.chain or ()), sample.verdict.packets]


def chain_in(running: Running) -> Chain:
    assert running.chain is not None
    return running.chain


@pytest.mark.parametrize("linkage", LINKAGES)
def test_without_sites_the_counts_are_the_same(
    playground: Playground, samples: Path, linkage: Linkage
) -> None:
    running = change(playground, chain_of(samples, "firewall", "monitor", linkage=linkage))
    playground.send([frames.udp(frames.PEER, frames.NEAR, 53)] * 5)
    whole = read(running)
    with open_counters(running, sites=False) as reader:  # type: ignore[union-attr]
        bare = reader.read()
    assert (bare.slots, bare.verdict) == (whole.slots, whole.verdict)
    assert sum(whole.slots[running.chain.slots[0].key].packets) == 5  # type: ignore[union-attr]
    assert whole.sites
    assert not bare.sites


@pytest.mark.parametrize("mode", [Mode.NATIVE, Mode.GENERIC])
@pytest.mark.parametrize("linkage", LINKAGES)
def test_random_edits_keep_every_count(
    guarded: Playground, samples: Path, linkage: Linkage, mode: Mode
) -> None:
    """Known packets between random edits; expected counts are computed here, from the contract alone."""
    chance = random.Random(f"{linkage.value} {mode.value}")
    running = change(guarded, scripted_chain(samples, [PASS_ON] * 3, linkage, mode))
    expected = Expected()
    origin = running.counters_map
    for kind in [kind for _ in range(2) for kind in chance.sample(KINDS, len(KINDS))]:
        expected.only(chain_in(running))
        expected.send(guarded, running, chance)
        if kind == "rollback":
            pending = arm(guarded, edited(running, samples, chance, chance.choice(EDITS)), LATER)
            expected.send(guarded, pending, chance)
            roll_back(guarded.ifname, guarded.netns)
            running = look_at(guarded)
            assert chain_in(running).slots
            continue
        if kind == "undo" and any(undo_of(running).candidate):
            running = undo(guarded.ifname, guarded.netns)
        else:
            running = change(guarded, edited(running, samples, chance, kind))
        assert running.counting is not None
        if running.linkage_facts.counts_chain:
            assert running.counters_map == origin
            assert len(running.counting.sources) <= counting.FOLD_AT + 1
    expected.only(chain_in(running))
    expected.send(guarded, running, chance)
    if running.linkage_facts.counts_chain:
        assert running.counting is not None
        assert running.counting.verdict.total_packets, "some maps were added up"


class Expected:
    """What a chain must have counted, by slot and in total."""

    def __init__(self) -> None:
        self.slots: dict[tuple[str, bool], SlotCounts] = {}
        self.chain = SlotCounts()

    def only(self, chain: Chain) -> None:
        """Forget slots that left."""
        self.slots = {slot_key(slot): self.slots.get(slot_key(slot), SlotCounts()) for slot in chain}

    def send(self, playground: Playground, running: Running, chance: random.Random) -> None:
        """Some equal packets, real ones but for the first; then everything counted must be as expected."""
        script = bytes(chance.choice((1, 2, 2, 2, 3)) for _ in range(10))
        frame, sent = scripted(script), chance.randrange(1, 4)
        code, length = 2, len(frame)
        for slot in chain_in(running):
            code, length = script[int(slot.name.removeprefix("scripted_"))], length + 1
            self._add(slot_key(slot), one_code(code, sent, length))
            if code not in slot.actions and not slot.shadow:
                break
        else:
            code = 2
        self.chain = self.chain.plus(one_code(code, sent, length))
        assert run_through(running, frame).code == code
        playground.send([frame] * (sent - 1))
        with open_counters(running, attach=False) as reader:  # type: ignore[union-attr]
            sample = reader.read()
        for slot in chain_in(running):
            assert sample.slots[slot.key] == self.slots.get(slot_key(slot), SlotCounts())
        assert sample.verdict == (self.chain if running.linkage_facts.counts_chain else None)

    def _add(self, key: tuple[str, bool], more: SlotCounts) -> None:
        self.slots[key] = self.slots.get(key, SlotCounts()).plus(more)


def one_code(code: int, packets: int, length: int) -> SlotCounts:
    def at_code(amount: int) -> tuple[int, ...]:
        return tuple(amount if number == code else 0 for number in range(CODES))

    return SlotCounts(at_code(packets), at_code(packets * length))


EDITS = ("toggle", "move", "shadow", "add", "remove", "replace", "relink")
KINDS = (*EDITS, "undo", "rollback")
RELINKED = {Linkage.STATIC: Linkage.TAILCALL, Linkage.TAILCALL: Linkage.STATIC}


def edited(running: Running, samples: Path, chance: random.Random, kind: str) -> Chain:
    chain = chain_in(running)
    index = chance.randrange(len(chain))
    if kind == "move" and len(chain) > 1:
        return chain.move(index, (index + 1) % len(chain))
    # A component doesn't count what it does in shadow apart: that is counted from outside.
    if kind == "shadow" and not chain.linkage.facts.by_component:
        return chain.retune(index, shadow=not chain.slots[index].shadow)
    if kind == "remove" and len(chain) > 1:
        return chain.remove([index])
    if kind == "relink" and chain.linkage in RELINKED:
        return chain.relink(RELINKED[chain.linkage])
    number = chance.randrange(10)
    (slot,) = scripted_chain(samples, [PASS_ON] * 10, chain.linkage).slots[number : number + 1]
    if kind == "replace":
        return chain.substitute(index, keep_maps(slot.component, chain.slots[index].component))
    if kind == "add" and len(chain) < 6:
        return chain.add(replace(slot, key=f"{slot.key}{chance.random()}"))
    actions = chain.slots[index].actions
    return chain.retune(index, actions=ActionSet.parse("PD") if actions == PASS_ON else PASS_ON)


@linkages
def test_what_is_counted_before_a_rollback_stays(
    guarded: Playground, samples: Path, linkage: Linkage
) -> None:
    old = change(guarded, scripted_chain(samples, [PASS_ON] * 2, linkage))
    assert guarded.send([scripted(b"\2\2")] * 5) == 5
    pending = arm(guarded, chain_in(old).move(1, 0).retune(0, actions=ActionSet.parse("PD")), LATER)
    assert guarded.send([scripted(b"\1\1")] * 7) == 7
    assert packets(pending) == [(0, 7, 5, 0, 0, 0), (0, 7, 5, 0, 0, 0), (0, 7, 5, 0, 0, 0)]
    roll_back(guarded.ifname, guarded.netns)
    back = look_at(guarded)
    assert back.hook == old.hook
    assert guarded.send([scripted(b"\1\2")] * 2) == 2
    assert packets(back) == [(0, 9, 5, 0, 0, 0), (0, 7, 5, 0, 0, 0), (0, 9, 5, 0, 0, 0)]
    # Also through the next edit, though that knows nothing about what was rolled back.
    edited_again = change(guarded, chain_in(back).retune(1, priority=77))
    assert packets(edited_again) == packets(back)


def test_a_slot_that_comes_back_begins_anew(playground: Playground, samples: Path) -> None:
    """The chain's own verdict counts continue, including those of slots that left."""
    first = change(playground, scripted_chain(samples, [PASS_ON] * 2, Linkage.STATIC))
    playground.send([scripted(b"\1\2")] * 3)
    gone = change(playground, chain_in(first).remove([0]))
    playground.send([scripted(b"\1\2")] * 4)
    assert packets(gone) == [(0, 0, 4, 0, 0, 0), (0, 3, 4, 0, 0, 0)]
    fresh = scripted_chain(samples, [PASS_ON] * 2, Linkage.STATIC).slots[0]
    back = replace(fresh, key=chain_in(first).slots[0].key)
    again = change(playground, replace(chain_in(gone), slots=(back, *chain_in(gone).slots)))
    assert packets(again) == [(0,) * CODES, (0, 0, 4, 0, 0, 0), (0, 3, 4, 0, 0, 0)]


def test_an_edit_that_counts_the_same_counts_in_the_same_map(playground: Playground, samples: Path) -> None:
    """So nothing needs adding up, and readers keep reading."""
    first = change(playground, scripted_chain(samples, [PASS_ON] * 2, Linkage.STATIC))
    with open_counters(first) as reader:  # type: ignore[union-attr]
        second = change(playground, chain_in(first).retune(1, priority=99))
        assert second.hook != first.hook
        assert second.counting == first.counting
        playground.send([scripted(b"\2\2")] * 3)
        assert reader.read().verdict.total_packets == 3


@linkages
def test_a_chain_of_an_earlier_release_is_counted_on(
    playground: Playground, samples: Path, monkeypatch: pytest.MonkeyPatch, linkage: Linkage
) -> None:
    """It has rows in one map, and nothing that describes them."""
    running = change(playground, scripted_chain(samples, [PASS_ON] * 2, linkage))
    assert running.counting is not None
    fixed = make_counters()
    number = bpf.map_info(fixed).id
    rows = {slot.key: slot.row or 0 for slot in chain_in(running)}
    with fixed:
        block = bytearray(bpf.map_info(fixed).value_size)
        for row in (0, *rows.values()):
            at = row * ROW_SIZE + 2 * 16  # XDP_PASS
            block[at : at + 16] = (5).to_bytes(8, "little") + (300).to_bytes(8, "little")
        bpf.map_update(fixed, bytes(4), bytes(block))
        old = Counting(number, number, (counting.Source(number, counting.row_layout(chain_in(running))),))
        before = replace(running, counting=old, counters_map=number)
        assert packets(before) == [(0, 0, 5, 0, 0, 0)] * 3
        with DispatcherCounters(old, chain_in(running)) as reader:
            assert reader.read().verdict == SlotCounts((0, 0, 5, 0, 0, 0), (0, 0, 300, 0, 0, 0))
        from xdpchain.linkage.linkers import LINKERS
        from xdpchain.model.manifest import Author

        linker = LINKERS[linkage]()
        built = linker.build(chain_in(running).move(1, 0), before, Author("", 0, "test", 0.0))
        try:
            built.pin()
            swap(before, built.program, chain_in(running).mode)
        finally:
            built.close()
    now = look_at(playground)
    assert now.counters_map == number
    playground.send([scripted(b"\2\2")] * 2)
    assert packets(now) == [(0, 0, 7, 0, 0, 0)] * 3
    assert bpf.map_by_id(number).close() is None, "the old map lives as long as it is needed"


def test_programs_hold_what_their_counts_are_in(playground: Playground, samples: Path) -> None:
    running = change(playground, scripted_chain(samples, [PASS_ON] * 2, Linkage.STATIC))
    for _ in range(6):
        running = change(playground, chain_in(running).move(1, 0))
        assert running.hook is not None
        assert running.counting is not None
        with bpf.prog_by_id(running.hook.prog_id) as program:
            held = set(bpf.prog_map_ids(program))
        assert set(running.counting.maps) <= held
        for map_id in running.counting.maps:
            with bpf.map_by_id(map_id) as fd:
                assert bpf.map_info(fd).name == COUNTERS
