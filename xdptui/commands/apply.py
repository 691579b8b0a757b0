# SPDX-License-Identifier: Apache-2.0
"""``xdptui apply FILE`` and ``xdptui plan FILE``: make interfaces run what a spec says, each atomically, in
the spec's order.

Every interface is planned before any is changed. What can't be planned stops the whole; so does the first
failure, unless --keep-going was given. What was changed before it stays.
"""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial

from xdpchain.change.confirm.arming import LEAST
from xdpchain.errors import NotFound, XdpChainError
from xdpchain.observe.discover import interfaces
from xdpchain.spec.targets import Missing, Target
from xdptui.commands.options import seconds
from xdptui.commands.spec_report import Result, State, report_document, report_text, summary
from xdptui.commands.wanted import Wanted, apply_target, awaited, plan_target, read_wanted
from xdptui.commands.whatif import Attempt, Tried, trying
from xdptui.outcome import ExitCode, Talk, write

__all__ = ["carry_out", "planned", "run"]


def run(options: Namespace) -> int:
    """Apply a spec, or plan it."""
    talk = Talk(options.json, bool(options.verbose))
    only_plan = options.command == "plan"
    waits = None if options.confirm is None else seconds(options.confirm, "time to confirm in", LEAST)
    if options.follow:
        from xdptui.commands.service import serve

        return serve(options, talk)
    patience = 0.0 if options.wait is None else seconds(options.wait, "time to wait", 0)
    wanted = read_wanted(options.file, options.netns, fresh_maps=options.fresh_maps)
    found, missing = awaited(wanted, patience)
    dry = only_plan or options.dry_run
    results = [Result(one.name, one.netns, State.FAILED, error=_absent(one)) for one in missing]
    attempts = partial(trying, options, talk, only_plan=dry)
    results += [planned(wanted, target, talk, attempts() if dry else None) for target in found]
    if not dry and (options.keep_going or not any(one.error for one in results)):
        try:
            carry_out(wanted, results, talk, attempts, confirm=waits, keep_going=options.keep_going)
        except KeyboardInterrupt:  # between two interfaces, or before a swap: what was changed is said
            _report(options, results, dry=dry)
            raise
    _report(options, results, dry=dry)
    return _exit_code(results, only_plan)


def _absent(one: Missing) -> XdpChainError:
    try:
        interfaces(one.netns)
    except XdpChainError as error:  # the namespace is missing, or can't be entered
        return error
    todo = "Name it as a glob if it may be missing, or wait for it with --wait SECONDS"
    return NotFound(f"there is no interface {one}", todo=todo)


def planned(wanted: Wanted, target: Target, talk: Talk, attempt: Attempt | None = None) -> Result:
    """What is to be done on one interface; with ``attempt`` the candidate is tried, too."""
    from xdptui.commands.change import try_out

    try:
        plan, notes = plan_target(wanted, target)
        tried = Tried()
        if attempt is not None and not plan.empty:
            notes = (*notes, *filter(None, [try_out(plan, talk)]))
            tried = attempt(plan.running, plan.candidate)
    except XdpChainError as error:
        return Result(target.name, target.netns, State.FAILED, target=target, error=error)
    state = State.UNCHANGED if plan.empty else State.WOULD_CHANGE
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
    """Change what is to be changed, in order; after a failure only with ``keep_going``. Each result takes the
    place of the plan that it comes from.
    """
    for i, one in enumerate(results):
        if one.state is State.WOULD_CHANGE and one.target is not None:
            results[i] = apply_target(wanted, one, talk, confirm, attempts())
            if results[i].error is not None and not keep_going:
                return


def _exit_code(results: Sequence[Result], only_plan: bool) -> int:
    for one in results:
        if one.error is not None:
            return int(one.error.exit_code)
    changes = any(one.state is State.WOULD_CHANGE for one in results)
    return ExitCode.CHANGES if only_plan and changes else ExitCode.OK


def _report(options: Namespace, results: Sequence[Result], *, dry: bool) -> None:
    talk = Talk(options.json, bool(options.verbose))
    failed = [one for one in results if one.error is not None]
    if options.json:
        write(json.dumps(report_document(options.file, results, dry=dry), indent=2))
    for one in results:
        if not options.json:
            for warning in one.warnings:
                talk.warn(warning)
            if text := report_text(one, dry=dry):
                write(text)
        if one.error is not None and (not options.json or one is failed[0]):
            talk.failed(one.named_error)
    if not options.json and len(results) != 1:
        write(summary(results, dry=dry))
