# SPDX-License-Identifier: Apache-2.0
"""kill -9 at every step of a change: the interface runs the old chain or the new one, whole, and the next
change cleans up everything the killed one left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests import own_mounts
from tests.kernel.chains import LINKAGES, change, look_at, run_through
from tests.stress.children import forking
from tests.stress.holdings import holdings
from tests.stress.scale import LAB, SOAK, scaled
from tests.stress.syscalls import Call, changes_something, run_until
from xdpchain.change.plan import make_plan
from xdpchain.change.stale import clean
from xdpchain.editing import apply
from xdpchain.linkage.counting import FOLD_AT
from xdpchain.model.actions import ActionSet
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.counts import CODES, SlotCounts
from xdpchain.model.interface import Mode
from xdpchain.model.running import Running
from xdpchain.model.slot import Slot
from xdpchain.objects.components import load_component
from xdpchain.observe.counters import open_counters
from xdpchain.testing.frames import scripted
from xdpchain.testing.playground import Playground
from xdpchain.testing.wire import Listener

FRAME = scripted(bytes([2] * 32), length=200)
# What scripted_0, scripted_1 and so on return for the packets before a kill: one passes, the others are
# dropped by 2, sent back by 3, and given no valid action by 1.
SCRIPTS = [bytes([2] * 32), bytes([2, 2, 1, 2]), bytes([2, 2, 2, 3]), bytes([2, 7, 2, 2])]
STRIDE = scaled(1, 1, 12)


def marker(samples: Path, number: int) -> Slot:
    return Slot.of(load_component(str(samples / "scripted.o"), name=f"scripted_{number}"))


def tail_caller(samples: Path) -> Slot:
    return Slot.of(load_component(str(samples / "tailcalls.o")))


@dataclass(frozen=True)
class Edit:
    """A chain, a change of it, and the marks that a packet carries with each (None: no chain)."""

    start: Callable[[Chain, Path], Chain]
    change: Callable[[Chain, Path], Chain]
    old: str
    new: str


def three(chain: Chain, samples: Path) -> Chain:
    for number in (1, 2, 3):
        chain = chain.add(marker(samples, number))
    return chain


def with_pins(chain: Chain, samples: Path) -> Chain:
    return three(chain, samples).add(tail_caller(samples))


def all_of_them(chain: Chain, samples: Path) -> Chain:
    for number in range(32):
        component = load_component(str(samples / "scripted.o"), name=f"scripted_{number}", instance="one")
        chain = chain.add(Slot.of(component, number))
    return chain


def marks(numbers: Iterable[int]) -> str:
    return "".join(chr(ord("0") + number) for number in numbers)


LONG = "an edit of 32 slots"

EDITS = {
    "the first load": Edit(lambda empty, samples: empty, with_pins, "", "123"),
    "an edit": Edit(
        with_pins, lambda chain, samples: chain.move(3, 1).add(marker(samples, 5), 1), "123", "5312"
    ),
    "a removal and a toggle": Edit(
        with_pins,
        lambda chain, samples: chain.retune(2, actions=ActionSet.parse("none")).remove([0, 1]),
        "123",
        "2",
    ),
    "one action": Edit(
        with_pins, lambda chain, samples: chain.retune(2, actions=ActionSet.parse("none")), "123", "12"
    ),
    "unloading all": Edit(with_pins, lambda chain, samples: chain.remove(range(4)), "123", ""),
    LONG: Edit(
        all_of_them,
        lambda chain, samples: chain.move(31, 0).retune(9, actions=ActionSet.parse("none")),
        marks(range(32)),
        marks([31, *range(9)]),
    ),
}


def marks_now(playground: Playground, listener: Listener) -> str:
    """The marks on a real packet after the interface's chain, which must be those of a trial run as well."""
    playground.send([FRAME])
    (frame,) = listener.receive(1)
    marks = frame[len(FRAME) :].decode()
    running = look_at(playground)
    if running.hook is not None:
        tried = run_through(running, FRAME)
        assert (tried.code, tried.data[len(FRAME) :].decode()) == (2, marks)
    return marks


@dataclass(frozen=True)
class Counts:
    """What an interface has counted, by slot key, and of the whole chain (None: not counted, as by libxdp's
    dispatcher).
    """

    slots: dict[str, SlotCounts] = field(default_factory=dict)
    chain: SlotCounts | None = None

    def kept_in(self, later: Counts, staying: int) -> bool:
        """Whether ``later`` has the same counts of all slots that are still there, which are at least so
        many, and new ones begin at zero.
        """
        same = all(counts == self.slots.get(key, SlotCounts()) for key, counts in later.slots.items())
        there = len(self.slots.keys() & later.slots.keys()) >= staying
        return same and there and later.chain in (None, self.chain or SlotCounts())


def counts_now(running: Running) -> Counts:
    """What the chain's programs themselves count; every slot must."""
    if running.chain is None:
        return Counts()
    with open_counters(running, attach=False) as reader:  # type: ignore[union-attr]
        sample = reader.read()
    assert set(sample.slots) == {slot.key for slot in running.chain}
    assert (sample.verdict is not None) == running.linkage_facts.counts_chain
    return Counts(dict(sample.slots), sample.verdict)


def send_known(running: Running) -> Counts:
    """Packets of every kind through the chain, if there is one; returns what it must count of them."""
    if running.chain is None:
        return Counts()
    slots = {slot.key: SlotCounts() for slot in running.chain}
    whole = SlotCounts()
    for times, script in enumerate(SCRIPTS, 1):
        frame = scripted(script, length=len(FRAME))
        for _ in range(times):
            run_through(running, frame)
        length = len(frame)
        code = 2
        for slot in running.chain:
            if slot.name.startswith("scripted_"):
                code = script[int(slot.name.removeprefix("scripted_"))]
                length += 1
            slots[slot.key] = slots[slot.key].plus(one_code(code, times, length))
            if code not in slot.actions:
                break
        whole = whole.plus(one_code(code, times, length))
    return Counts(slots, whole if running.linkage_facts.counts_chain else None)


def one_code(code: int, packets: int, length: int) -> SlotCounts:
    return SlotCounts(
        tuple(packets * (min(code, CODES - 1) == number) for number in range(CODES)),
        tuple(packets * length * (min(code, CODES - 1) == number) for number in range(CODES)),
    )


@pytest.mark.parametrize("mode", [Mode.NATIVE, Mode.GENERIC])
@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize("linkage", LINKAGES)
@pytest.mark.timeout(3600)
def test_killed_at_each_system_call(
    playground: Playground, samples: Path, own_bpffs: Path, linkage: Linkage, name: str, mode: Mode
) -> None:
    if mode is Mode.GENERIC and name != "an edit" and not SOAK:
        pytest.skip("the swap alone differs in generic mode")
    if len(EDITS[name].old) > linkage.facts.most_slots:
        pytest.skip(f"{linkage} linkage has {linkage.facts.most_slots} slots")
    # A long chain takes the same steps, most of them once per slot.
    stride = 12 * STRIDE if name == LONG and not SOAK else STRIDE
    kill_everywhere(playground, samples, own_bpffs, linkage, name, mode, stride)


@pytest.mark.parametrize("linkage", LINKAGES)
def test_killed_beside_what_others_do(
    playground: Playground, samples: Path, own_bpffs: Path, linkage: Linkage
) -> None:
    """Namespaces come and go, and somebody cleans up, with their own BPF filesystem."""
    with others_at_work():
        kill_everywhere(playground, samples, own_bpffs, linkage, "an edit", Mode.NATIVE, 16 * STRIDE)


@contextmanager
def others_at_work() -> Iterator[None]:
    """Another run on this machine: its namespaces come and go, and it removes uncertain pins, too."""

    def work() -> None:
        own_mounts.enter()
        while True:
            with Playground():
                assert clean(force=True) == ()

    others = forking.Process(target=work, daemon=True)
    others.start()
    try:
        yield
        assert others.is_alive(), "the others found something to remove"
    finally:
        others.kill()
        others.join()


def kill_everywhere(
    playground: Playground,
    samples: Path,
    own_bpffs: Path,
    linkage: Linkage,
    name: str,
    mode: Mode,
    stride: int,
) -> None:
    """Kill the edit at every ``stride``-th relevant call."""
    edit = EDITS[name]
    listener = playground.listen()
    empty = Chain(linkage=linkage, mode=mode)

    def restart() -> Running:
        change(playground, Chain())
        assert holdings(playground, own_bpffs).counts == bare, "the next change removed what was left"
        return change(playground, edit.start(empty, samples))

    change(playground, with_pins(empty, samples))  # so that everything is imported and cached
    change(playground, Chain())
    bare = holdings(playground, own_bpffs).counts
    assert not bare["programs"]
    assert not bare["pins"]
    running = restart()
    started = holdings(playground, own_bpffs).counts
    slots = running.chain or empty
    staying = len({slot.key for slot in slots} & {slot.key for slot in edit.change(slots, samples)})
    assert marks_now(playground, listener) == edit.old

    def body() -> object:
        now = look_at(playground)
        return apply(make_plan(now, edit.change(now.chain or empty, samples)))

    calls, code = run_until(body, None, counted)
    assert code == 0
    assert marks_now(playground, listener) == edit.new
    finished = holdings(playground, own_bpffs).counts
    seen: dict[str, int] = {}
    for stop in range(0, len(calls), stride):
        running = restart()
        assert holdings(playground, own_bpffs).counts == started
        sent = send_known(running)
        assert counts_now(running) == sent
        made, code = run_until(body, stop, counted)
        if code == 0 and stop > 0.9 * len(calls):
            break  # the number of memory requests varies: this time there were fewer calls
        assert code is None, f"killed at call {stop}"
        where = f"killed at call {stop} of {len(calls)}, {made[-1]}, after {', '.join(map(str, made[-6:-1]))}"
        now = look_at(playground)
        assert sent.kept_in(counts_now(now), staying), f"the kill lost counts, {where}"
        marks = marks_now(playground, listener)
        seen[marks] = seen.get(marks, 0) + 1
        before = counts_now(now)
        if now.identity == running.identity:
            assert marks == edit.old, where
            assert now.chain == running.chain, where
        else:
            assert marks == edit.new, where
        # The same change, repeated or made for the first time, cleans up after the other.
        if now.identity == running.identity:
            body()
        else:
            change_and_back(playground, now, samples, linkage)
        again = counts_now(look_at(playground))
        assert before.kept_in(again, staying), f"the next change lost counts, {where}"
        assert marks_now(playground, listener) == edit.new, where
        held = holdings(playground, own_bpffs)
        assert held.counts == finished, where
        assert len(held.counters) <= 2 * (FOLD_AT + 2), where
    assert set(seen) == {edit.old, edit.new} or len(calls) // stride < 30, (
        "the kills hit both sides of the swap"
    )
    print(f"{linkage} {mode}, {name}: killed at {len(calls)} calls, outcome {seen}")


def change_and_back(playground: Playground, now: Running, samples: Path, linkage: Linkage) -> None:
    """Two changes that leave the chain as it is; if there is none, one comes and goes."""
    if now.chain is None:
        change(playground, Chain(linkage=linkage).add(marker(samples, 0)))
        change(playground, Chain())
        return
    other = now.chain.slots[0].actions.toggle(1)
    changed = change(playground, now.chain.retune(0, actions=other))
    assert changed.chain is not None
    change(playground, changed.chain.retune(0, actions=now.chain.slots[0].actions))


def counted(call: Call) -> bool:
    """In a long run on the host every call counts, otherwise those that change something."""
    return (SOAK and not LAB) or changes_something(call)
