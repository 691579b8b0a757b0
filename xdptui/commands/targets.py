# SPDX-License-Identifier: Apache-2.0
"""What a spec requires of each interface: planned and carried out, once by `apply`, repeatedly by the
service.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import FrameType

from xdpchain.errors import XdpChainError
from xdpchain.model.running import Running
from xdpchain.observe.discover import look_at
from xdpchain.spec.targets import SpecTarget
from xdptui.commands.change import try_out
from xdptui.commands.spec_report import Result, SpecState
from xdptui.commands.wanted import Wanted, apply_target, plan_target
from xdptui.commands.whatif import Attempt, Tried
from xdptui.outcome import Talk

__all__ = ["all_planned", "carry_out", "planned"]


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
    """Make the changes in order; after a failure go on only with ``keep_going``. Each result replaces its
    plan in ``results``. Raises KeyboardInterrupt between two interfaces.
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
                talk.progress(f"{done} of {len(todo)} done; {results[i].label}" * (len(todo) > 1))
                try:
                    results[i] = apply_target(wanted, results[i], talk, confirm, attempts())
                except KeyboardInterrupt:
                    results[i] = _looked_at(wanted, results[i], talk)
                    raise
                if results[i].error is not None and not keep_going:
                    return
        finally:
            talk.progress("")


@contextmanager
def _between_two(talk: Talk) -> Iterator[Callable[[], bool]]:
    """The first ctrl-C waits for the interface under way, the second doesn't; gives whether there was one.
    It changes nothing where ctrl-C is ignored, as under nohup, or somebody else handles it.
    """
    asked = False

    def note(signum: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        talk.progress("")
        talk.tell("stopping after this interface; ctrl-C again stops at once")

    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: asked
    finally:
        # After a ctrl-C only the report is left: another one must not cut it off.
        signal.signal(signal.SIGINT, signal.SIG_IGN if asked else before)


def _looked_at(wanted: Wanted, result: Result, talk: Talk) -> Result:
    """Whether an interface was changed before the interrupt."""
    assert result.target is not None
    now = planned(wanted, result.target, talk)
    return (
        replace(result, state=SpecState.CHANGED, now=now.now) if now.state is SpecState.UNCHANGED else result
    )
