# SPDX-License-Identifier: Apache-2.0
"""What a spec requires of each interface: planned and carried out, once by `apply`, repeatedly by the
service.
"""

from __future__ import annotations

from collections.abc import Callable

from xdpchain.errors import XdpChainError
from xdpchain.spec.targets import SpecTarget
from xdptui.commands.change import try_out
from xdptui.commands.spec_report import Result, SpecState
from xdptui.commands.wanted import Wanted, apply_target, plan_target
from xdptui.commands.whatif import Attempt, Tried
from xdptui.outcome import Talk

__all__ = ["carry_out", "planned"]


def planned(wanted: Wanted, target: SpecTarget, talk: Talk, attempt: Attempt | None = None) -> Result:
    """The plan for one interface; with ``attempt``, the candidate is tried as well."""
    try:
        plan, notes = plan_target(wanted, target)
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
    plan in ``results``.
    """
    for i, result in enumerate(results):
        if result.state is SpecState.WOULD_CHANGE and result.target is not None:
            results[i] = apply_target(wanted, result, talk, confirm, attempts())
            if results[i].error is not None and not keep_going:
                return
