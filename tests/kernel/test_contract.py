# SPDX-License-Identifier: Apache-2.0
"""The contract that all linkages keep: order, chain call actions, XDP_PASS after the last slot, the same
counters.

Every slot runs the sample ``scripted``: the packet says what each slot returns, and each slot that runs
appends its digit to it. So what ran, in which order, and the verdict are known in advance for every packet.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.kernel.chains import LINKAGES, change, expected, run_through, scripted_chain
from xdpchain.model.actions import ALL_ACTIONS, ActionSet
from xdpchain.model.chain import Linkage
from xdpchain.model.interface import Mode
from xdpchain.model.running import Running
from xdpchain.observe.counters import CODES, open_counters
from xdpchain.testing.frames import scripted
from xdpchain.testing.playground import Playground

pytestmark = pytest.mark.parametrize("linkage", LINKAGES)

PASS_ON = ActionSet.parse("P")
CHAINS: dict[str, list[str]] = {
    "one": ["P"],
    "one that goes on after all": ["ADPTR"],
    "one that goes on after none": ["none"],
    "two": ["P", "P"],
    "two, the first after DROP": ["D", "P"],
    "five of all kinds": ["P", "PD", "TR", "A", "ADPTR"],
    "ten": ["P"] * 10,
    "ten that go on after all": ["ADPTR"] * 10,
}
CODES_TRIED = (*ALL_ACTIONS, 5, 7, 30, 31, 32, 33, 34, 66, 127, 128, 255)


def scripts(length: int, chance: random.Random) -> list[bytes]:
    """Every code at the first and at the last slot, then random scripts."""
    found = [bytes([code, *[2] * (length - 1)]) for code in CODES_TRIED]
    found += [bytes([*[2] * (length - 1), code]) for code in CODES_TRIED]
    found += [bytes(chance.choice(CODES_TRIED) for _ in range(length)) for _ in range(40)]
    return found


@pytest.mark.parametrize("name", CHAINS)
def test_verdict_order_and_counters(
    playground: Playground, samples: Path, linkage: Linkage, name: str
) -> None:
    actions = [ActionSet.parse(text) for text in CHAINS[name]]
    running = change(playground, scripted_chain(samples, actions, linkage))
    tried = scripts(len(actions), random.Random(name))
    reader = open_counters(running)
    assert reader is not None
    with reader:
        before = reader.read()
        for script in tried:
            want = expected(actions, script, linkage)
            got = run_through(running, scripted(script), arrived=True)
            ran = "".join(chr(byte) for byte in got.data[60:])
            assert (got.code, ran) == (want.verdict, "0123456789"[: len(want.returned)]), script.hex()
        after = reader.read()
    wanted = [expected(actions, script, linkage) for script in tried]
    assert running.chain is not None
    for number, slot in enumerate(running.chain.slots):
        counted = after.slots[slot.key].since(before.slots[slot.key])
        assert counted.packets == by_code([w.returned[number] for w in wanted if len(w.returned) > number])
    assert after.verdict.since(before.verdict).packets == by_code([w.verdict for w in wanted])


def test_one_slot_with_every_action_set(playground: Playground, samples: Path, linkage: Linkage) -> None:
    for mask in range(1 << len(ALL_ACTIONS)):
        actions = [ActionSet(mask)]
        running = change(playground, scripted_chain(samples, actions, linkage))
        assert running.chain is not None
        assert not running.chain.bare
        for code in CODES_TRIED:
            got = run_through(running, scripted(bytes([code])), arrived=True)
            assert got.code == expected(actions, [code], linkage).verdict, (str(actions[0]), code)
            assert got.data[60:] == b"0"


@pytest.mark.parametrize("text", ["ADPTR", "D", "none", "P"])
def test_what_is_left_of_two_slots_keeps_the_contract(
    playground: Playground, samples: Path, linkage: Linkage, text: str
) -> None:
    actions = [ActionSet.parse(text), PASS_ON]
    two = change(playground, scripted_chain(samples, actions, linkage))
    assert two.chain is not None
    left = change(playground, two.chain.remove([1]))
    assert slots_of(left) == slots_of(two)[:1]
    for code in CODES_TRIED:
        want = expected(actions[:1], [code], linkage).verdict
        assert run_through(left, scripted(bytes([code])), arrived=True).code == want, code


def by_code(codes: list[int]) -> tuple[int, ...]:
    counts = [0] * CODES
    for code in codes:
        counts[min(code, CODES - 1)] += 1
    return tuple(counts)


@pytest.mark.parametrize("mode", [Mode.NATIVE, Mode.GENERIC])
def test_real_packets_are_counted_exactly(
    playground: Playground, samples: Path, linkage: Linkage, mode: Mode
) -> None:
    actions = [ActionSet.parse("PD"), ActionSet.parse("P"), ActionSet.parse("P")]
    running = change(playground, scripted_chain(samples, actions, linkage, mode))
    assert running.mode is mode
    scripts_and_numbers = {b"\2\2\2": 7, b"\1\1\2": 5, b"\2\2\1": 3, b"\0\2\2": 2, b"\1\2\2": 4}
    with open_counters(running) as reader:  # type: ignore[union-attr]
        before = reader.read()
        for script, number in scripts_and_numbers.items():
            playground.send([scripted(script)] * number)
        after = reader.read()
    wanted = [
        expected(actions, script, linkage) for script, n in scripts_and_numbers.items() for _ in range(n)
    ]
    for number, slot in enumerate(slots_of(running)):
        counted = after.slots[slot].since(before.slots[slot])
        returned = [w.returned[number] for w in wanted if len(w.returned) > number]
        assert counted.packets == by_code(returned)
        # Each slot that ran appended a byte to the 60-byte frame.
        assert counted.bytes == tuple((60 + number + 1) * packets for packets in counted.packets)
    assert after.verdict.since(before.verdict).packets == by_code([w.verdict for w in wanted])


def slots_of(running: Running) -> list[str]:
    assert running.chain is not None
    return [slot.key for slot in running.chain.slots]


def test_edits_keep_counters_and_change_the_outcome(
    playground: Playground, samples: Path, linkage: Linkage
) -> None:
    first = change(playground, scripted_chain(samples, [PASS_ON] * 3, linkage))
    playground.send([scripted(b"\2\1\2")] * 4)
    assert first.chain is not None
    _, b, c = slots_of(first)
    # b drops: c never runs. Then the same packets with c first, b continuing after DROP, and a gone.
    edited = first.chain.retune(1, actions=ActionSet.parse("PD")).move(2, 0).remove([1])
    second = change(playground, edited)
    assert slots_of(second) == [c, b]
    assert second.chain is not None
    assert [slot.actions for slot in second.chain.slots] == [PASS_ON, ActionSet.parse("PD")]
    got = run_through(second, scripted(b"\2\1\2"))
    assert (got.code, got.data[60:]) == (2, b"21")
    if linkage is Linkage.STATIC:  # the rows continued from dispatcher to dispatcher
        with open_counters(second) as reader:  # type: ignore[union-attr]
            sample = reader.read()
        assert sample.slots[b].packets == (0, 4 + 1, 0, 0, 0, 0)
        assert sample.slots[c].packets == (0, 0, 1, 0, 0, 0)
        assert sample.verdict.packets == (0, 4, 1, 0, 0, 0)


def test_unloading_everything_leaves_an_empty_hook(
    playground: Playground, samples: Path, linkage: Linkage
) -> None:
    running = change(playground, scripted_chain(samples, [PASS_ON] * 2, linkage))
    assert running.chain is not None
    after = change(playground, running.chain.remove([0, 1]))
    assert after.hooks == ()
    assert after.chain is None
    assert playground.send([scripted(b"\1\1")] * 3) == 3
