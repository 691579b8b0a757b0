# SPDX-License-Identifier: Apache-2.0
"""What a spec requires of each interface: planned and carried out, once by `apply`, repeatedly by the
service.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import FrameType

from xdpchain.errors import RaceLost, XdpChainError
from xdpchain.model.running import Running
from xdpchain.observe.discover import look, look_at
from xdpchain.observe.pending_pins import boot_clock
from xdpchain.spec.targets import SpecTarget
from xdptui.commands.change import try_out
from xdptui.commands.spec_report import Result, SpecState
from xdptui.commands.wanted import Wanted, apply_target, plan_target
from xdptui.commands.whatif import Attempt, Tried
from xdptui.outcome import Talk

__all__ = ["all_planned", "carry_out", "planned"]

ROLLING_BACK = 2.0
"""Seconds that guardians are given to roll back, once the time to confirm has passed."""


def all_planned(
    wanted: Wanted, found: Sequence[SpecTarget], talk: Talk, attempts: Callable[[], Attempt] | None
) -> list[Result]:
    """The plans for several interfaces, as `planned`; these are looked at together."""
    seen: dict[str | None, dict[str, Running]] = {}
    for netns in {target.netns for target in found}:
        with suppress(XdpChainError):  # each says so itself
            seen[netns] = look_at([target.name for target in found if target.netns == netns], netns)
    return [
        planned(wanted, target, talk, attempts and attempts(), seen.get(target.netns, {}).get(target.name))
        for target in found
    ]


def planned(
    wanted: Wanted,
    target: SpecTarget,
    talk: Talk,
    attempt: Attempt | None = None,
    running: Running | None = None,
) -> Result:
    """The plan for one interface, where ``running`` was just seen; with ``attempt``, the candidate is tried
    as well.
    """
    try:
        plan, notes = plan_target(wanted, target, running)
        tried = Tried()
        if attempt is not None and not plan.empty:
            notes = (*notes, *filter(None, [try_out(plan, talk)]))
            tried = attempt(plan.running, plan.candidate)
    except XdpChainError as error:
        return Result(target.name, target.netns, SpecState.FAILED, target=target, error=error)
    state = SpecState.UNCHANGED if plan.empty else SpecState.WOULD_CHANGE
    named = (target.name, target.netns)
    return Result(*named, state, target=target, plan=plan, notes=notes, tried=tried, now=plan.running)


def carry_out(
    wanted: Wanted,
    results: list[Result],
    talk: Talk,
    attempts: Callable[[], Attempt],
    *,
    confirm: float | None,
    keep_going: bool,
) -> None:
    """Make the changes in order; after a failure go on only with ``keep_going``, and never after one was
    rolled back because its time to confirm passed: so would be the others. Each result replaces its plan in
    ``results``. Raises KeyboardInterrupt between two interfaces.
    """
    todo = [i for i, result in enumerate(results) if result.state is SpecState.WOULD_CHANGE]
    if not todo:
        return
    from xdpchain.editing import one_by_one

    with one_by_one(talk.warn), _between_two(talk) as interrupted:
        try:
            for done, i in enumerate(todo):
                if interrupted():
                    raise KeyboardInterrupt
                if confirm is not None and _rolled_back(results, todo[:done]):
                    return
                talk.progress(f"{done} of {len(todo)} done; {results[i].label}" * (len(todo) > 1))
                try:
                    results[i] = apply_target(wanted, results[i], talk, confirm, attempts())
                except KeyboardInterrupt:
                    results[i] = _looked_at(wanted, results[i], talk)
                    raise
                if results[i].error is not None and not keep_going:
                    return
        finally:
            _rolled_back(results, todo)
            talk.progress("")


def _rolled_back(results: list[Result], done: Sequence[int]) -> bool:
    """Look again at the changes whose time to confirm has passed; whether one of them was rolled back."""
    overdue, end = [i for i in done if _overdue(results[i])], time.monotonic() + ROLLING_BACK
    for i in overdue:
        results[i] = _as_it_ended(results[i], end)
    return any(results[i].error is not None for i in overdue)


def _overdue(result: Result) -> bool:
    pending = result.now.pending if result.now is not None and result.state is SpecState.CHANGED else None
    return pending is not None and pending.deadline <= boot_clock()


def _as_it_ended(result: Result, end: float) -> Result:
    """The result of an overdue change: what runs now, which is the change if somebody confirmed it. Its
    guardian has until ``end``, by the monotonic clock.
    """
    from xdpchain.model.pending_change import Outcome, PendingState

    assert result.now is not None
    assert result.now.pending is not None
    change = result.now.pending
    try:
        while (now := look(result.name, result.netns)).pending is not None:
            mine = now.pending.decision == change.decision
            if not mine or now.pending.state is PendingState.UNGUARDED or time.monotonic() > end:
                break
            time.sleep(0.01)
    except XdpChainError as error:
        return replace(result, state=SpecState.FAILED, error=error)
    settled = now.settled if now.settled is not None and now.settled.decision == change.decision else None
    confirmed = settled is not None and settled.outcome is Outcome.CONFIRMED
    if confirmed or (now.hook and now.hook.prog_id) == change.new:
        return replace(result, now=now)
    if settled is not None and settled.detail == change.unconfirmed:
        lost = RaceLost(
            f"the change of {result.label} was rolled back",
            f"{change.unconfirmed}, while apply was still busy with others",
            "Give more time with --confirm SECONDS",
        )
    else:  # by hand, or by another tool
        why = settled.text if settled is not None else "it was changed again meanwhile"
        lost = RaceLost(f"{result.label} no longer runs the change", why)
    return replace(result, state=SpecState.FAILED, error=lost, now=now)


@contextmanager
def _between_two(talk: Talk) -> Iterator[Callable[[], bool]]:
    """The first ctrl-C or SIGTERM waits for the interface under way, the second doesn't; gives whether there
    was one. It changes nothing for one that is ignored, as under nohup, or that somebody else handles.
    """
    asked = False

    def note(signum: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        talk.progress("")
        talk.tell("stopping after this interface; ctrl-C again stops at once")

    untouched = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {signum: usual for signum, usual in untouched.items() if signal.getsignal(signum) is usual}
    for signum in before:
        signal.signal(signum, note)
    try:
        yield lambda: asked
    finally:
        # After one of them only the report is left: another one must not cut it off.
        for signum, usual in before.items():
            signal.signal(signum, signal.SIG_IGN if asked else usual)


def _looked_at(wanted: Wanted, result: Result, talk: Talk) -> Result:
    """Whether an interface was changed before the interrupt."""
    assert result.target is not None
    now = planned(wanted, result.target, talk)
    return (
        replace(result, state=SpecState.CHANGED, now=now.now) if now.state is SpecState.UNCHANGED else result
    )
