# SPDX-License-Identifier: Apache-2.0
"""At no moment does a change read as both settled and pending, or as neither: readers run continuously while
changes are armed, rolled back by their guardian, cancelled, and confirmed.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from tests.kernel.arming import arm, eventually, no_guardian_survives
from tests.kernel.chains import chain_of, change, look_at
from xdpchain.change.confirm.by_hand import confirm, roll_back
from xdpchain.model.pending_change import Outcome, PendingState
from xdpchain.model.running import Running
from xdpchain.testing.playground import Playground

ROUNDS = int(os.environ.get("XDPTUI_ROUNDS", "6"))
READERS = 3


class Watch:
    """Readers, and every state in which they found the interface, as (running, pending, settled)."""

    def __init__(self, playground: Playground) -> None:
        self._playground = playground
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._read) for _ in range(READERS)]
        self.seen: list[set[tuple[int | None, int | None, PendingState | None, Outcome | None]]] = [set()]
        self.looks = 0
        self.errors: list[BaseException] = []

    def _read(self) -> None:
        try:
            while not self._stop.is_set():
                seen = self.seen[-1]  # before looking: what is seen late belongs to the round before
                seen.add(state_of(look_at(self._playground)))
                self.looks += 1
        except BaseException as error:
            self.errors.append(error)
            raise

    def __enter__(self) -> Watch:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def state_of(running: Running) -> tuple[int | None, int | None, PendingState | None, Outcome | None]:
    return (
        running.hook.prog_id if running.hook else None,
        running.pending.decision if running.pending else None,
        running.pending.state if running.pending else None,
        running.settled.outcome if running.settled else None,
    )


@pytest.mark.parametrize("decide", ["nobody", "rollback", "confirm"])
def test_settled_or_waiting_but_never_both_and_never_neither(
    playground: Playground, samples: Path, decide: str
) -> None:
    chains = [chain_of(samples, "firewall"), chain_of(samples, "drop")]
    with no_guardian_survives(playground), Watch(playground) as watch:
        for _ in range(ROUNDS):
            old = change(playground, chains[0])
            watch.seen.append(set())
            new = arm(playground, chains[1], seconds=1.0 if decide == "nobody" else 60.0)
            assert new.pending is not None
            assert old.hook is not None
            assert new.hook is not None
            if decide != "nobody":
                (confirm if decide == "confirm" else roll_back)(playground.ifname, playground.netns)
            final = new.hook if decide == "confirm" else old.hook
            end = eventually(lambda: look_at(playground).settled, "it is settled")
            now = look_at(playground)
            assert (now.hook, now.pending, now.settled) == (final, None, end)
            for hook, pending, state, settled in watch.seen[-1]:
                said = (hook, pending, state, settled)
                assert pending is None or settled is None, f"both: {said}"
                if hook == new.hook.prog_id:
                    assert pending is not None or settled is not None, f"neither: {said}"
                if state is PendingState.MAKING:
                    assert hook == old.hook.prog_id, said
                if state is PendingState.PENDING:
                    assert hook == new.hook.prog_id, said
                if settled is Outcome.ROLLED_BACK:
                    assert hook == old.hook.prog_id, said
    assert not watch.errors
    assert watch.looks > 20 * ROUNDS
