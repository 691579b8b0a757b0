# SPDX-License-Identifier: Apache-2.0
"""Two processes edit the same chain at once: one wins, the other is told, and no packet sees a mixture."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from tests.kernel.chains import LINKAGES, change, look_at, run_through
from tests.stress.children import forking, run_cli
from tests.stress.holdings import holdings
from tests.stress.scale import scaled
from xdpchain.change import transaction
from xdpchain.change.plan import make_plan
from xdpchain.editing import apply
from xdpchain.errors import RaceLost, XdpChainError
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.slot import Slot
from xdpchain.objects.components import load_component
from xdpchain.testing.frames import scripted
from xdpchain.testing.playground import Playground

ROUNDS = scaled(25, 500, 5)
FRAME = scripted(bytes([2] * 10), length=66)
TOLD = {"RaceLost", "Busy", "HookBusy"}


def marker(samples: Path, number: int) -> Slot:
    return Slot.of(load_component(str(samples / "scripted.o"), name=f"scripted_{number}"))


class Editor:
    """A process that makes a plan on request, and applies it on command; it answers with names of errors."""

    def __init__(self, playground: Playground, edit: Callable[[Chain], Chain], prepare: Callable[[], None]):
        self._playground, self._edit, self._prepare = playground, edit, prepare
        self.talk, far = forking.Pipe()
        self._process = forking.Process(target=self._work, args=(far,), daemon=True)
        self._process.start()
        far.close()

    def _work(self, wire: Connection) -> None:
        self._prepare()
        while wire.recv():
            running = look_at(self._playground)
            plan = make_plan(running, self._edit(running.chain or Chain()))
            wire.send("ready")
            wire.recv()
            try:
                apply(plan)
                wire.send(("won", ""))
            except XdpChainError as error:
                wire.send((type(error).__name__, f"{error.why} {error.todo}"))

    def close(self) -> None:
        self.talk.send(False)
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self.talk.close()


@contextlib.contextmanager
def editors(
    playground: Playground, edits: list[Callable[[Chain], Chain]], locked: bool
) -> Iterator[list[Editor]]:
    def prepare() -> None:
        if not locked:  # an editor that ignores the lock
            transaction.bpffs.lock = lambda timeout: contextlib.nullcontext()  # type: ignore[assignment]

    made = [Editor(playground, edit, prepare) for edit in edits]
    try:
        yield made
    finally:
        for editor in made:
            editor.close()


RACES = [
    *(
        pytest.param(*linkage.values, True, id=f"{linkage.id}-locked", marks=linkage.marks)
        for linkage in LINKAGES
    ),
    pytest.param(Linkage.STATIC, False, id="static-without the lock"),
]


@pytest.mark.parametrize(("linkage", "locked"), RACES)
@pytest.mark.parametrize("start", ["empty", "chain"])
@pytest.mark.timeout(300)
def test_one_wins_and_the_other_is_told(
    playground: Playground, samples: Path, own_bpffs: Path, linkage: Linkage, locked: bool, start: str
) -> None:
    """Both plan from the same chain. What runs afterwards is what the winner planned, to the last slot."""
    begin = Chain(linkage=linkage)
    if start == "chain":
        begin = begin.add(marker(samples, 4)).add(marker(samples, 5))

    def one(chain: Chain) -> Chain:
        return chain.relink(linkage).add(marker(samples, 1))

    def other(chain: Chain) -> Chain:
        chain = chain.relink(linkage)
        return (chain.remove([0]) if chain.slots else chain).add(marker(samples, 2)).add(marker(samples, 3))

    marks = {"empty": ("1", "23"), "chain": ("145", "235")}[start]
    told: list[str] = []
    winners = [0, 0]
    with editors(playground, [one, other], locked) as both:
        for index in range(ROUNDS):
            change(playground, begin)
            before = holdings(playground, own_bpffs).counts
            for editor in both:
                editor.talk.send(True)
                assert editor.talk.poll(30)
                assert editor.talk.recv() == "ready"
            for editor in both[:: 1 if index % 2 else -1]:
                editor.talk.send("go")
            answers = [editor.talk.recv() for editor in both]
            assert sorted(name == "won" for name, _ in answers) == [False, True], answers
            winner = [name for name, _ in answers].index("won")
            winners[winner] += 1
            name, text = answers[1 - winner]
            assert name in TOLD
            assert text.strip()
            told.append(name)
            running = look_at(playground)
            assert run_through(running, FRAME).data[len(FRAME) :].decode() == marks[winner]
            change(playground, Chain())
            assert holdings(playground, own_bpffs).counts["programs"] == 0
            assert holdings(playground, own_bpffs).pins == ()
            if start == "chain":
                assert before["programs"]
    assert all(winners) or ROUNDS < 20, f"each won once: {winners}"
    print(f"{linkage}, lock {locked}: {winners} wins, {dict.fromkeys(told)} told")


@pytest.mark.parametrize("linkage", LINKAGES)
@pytest.mark.timeout(300)
def test_editors_that_try_again_both_get_through(
    playground: Playground, samples: Path, own_bpffs: Path, linkage: Linkage
) -> None:
    """Each adds and removes its slot again and again, and looks again after a lost race."""
    start = change(playground, Chain(linkage=linkage).add(marker(samples, 9)))

    def work(wire: Connection, mine: Slot) -> None:
        lost = 0
        for _ in range(ROUNDS):
            for there in (True, False):
                while True:
                    running = look_at(playground)
                    chain = running.chain
                    assert chain is not None
                    keys = [slot.key for slot in chain.slots if slot.name == mine.name]
                    assert bool(keys) is not there, "my slot is as I left it, whatever the other does"
                    wanted = chain.add(mine) if there else chain.remove([chain.position(keys[0])])
                    try:
                        apply(make_plan(running, wanted))
                        break
                    except RaceLost:
                        lost += 1
        wire.send(lost)

    near, children = [], []
    for number in (1, 2):
        connection, far = forking.Pipe(duplex=False)
        child = forking.Process(target=work, args=(far, marker(samples, number)), daemon=True)
        child.start()
        near.append(connection)
        children.append(child)
        far.close()
    frame = FRAME
    seen = set()
    while any(child.is_alive() for child in children):
        running = look_at(playground)
        try:
            marks = run_through(running, frame).data[len(frame) :].decode()
        except OSError:
            continue  # replaced between the look and the run
        if look_at(playground).identity == running.identity:  # it may be one being dismantled
            seen.add(marks)
    for child in children:
        child.join()
        assert child.exitcode == 0
    lost = [connection.recv() for connection in near]
    assert seen <= {"9", "19", "29", "129"}
    assert sum(lost), "they did meet"
    now = look_at(playground)
    assert now.chain is not None
    assert start.chain is not None
    assert [slot.key for slot in now.chain.slots] == [slot.key for slot in start.chain.slots]
    print(f"{linkage}: {4 * ROUNDS} changes, {lost} races lost and run again, packets saw {sorted(seen)}")


@pytest.mark.parametrize("linkage", LINKAGES)
def test_commands_at_once(playground: Playground, samples: Path, own_bpffs: Path, linkage: Linkage) -> None:
    """An edit that names no slot by number is repeated on the other's chain, so both succeed. A
    move is not.
    """
    where = (playground.ifname, "--netns", playground.netns)
    outcomes = at_once(
        ["load", *where, str(samples / "scripted.o"), "-n", "scripted_1", "--linkage", str(linkage)],
        ["load", *where, str(samples / "scripted.o"), "-n", "scripted_2", "--linkage", str(linkage)],
    )
    assert outcomes == [0, 0]
    running = look_at(playground)
    assert running.chain is not None
    assert [slot.name for slot in running.chain.slots] == ["scripted_1", "scripted_2"]
    for _ in range(ROUNDS // 5):
        outcomes = at_once(["move", *where, "0", "1"], ["move", *where, "0", "1"])
        assert sorted(outcomes) in ([0, 0], [0, 4])


def at_once(*commands: list[str]) -> list[int]:
    """Exit codes of commands run simultaneously."""
    results = []
    for arguments in commands:
        near, far = forking.Pipe(duplex=False)
        # Not daemons: each has a child of its own.
        child = forking.Process(target=lambda w, a: w.send(run_cli(*a).code), args=(far, arguments))
        child.start()
        far.close()
        results.append((near, child))
    codes = []
    for near, child in results:
        codes.append(near.recv())
        child.join()
    return codes
