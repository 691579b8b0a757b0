# SPDX-License-Identifier: Apache-2.0
"""``xdptui apply FILE`` and ``xdptui plan FILE``: make interfaces run what a spec says, each atomically, in
the order of the spec.

Every interface is planned before any is changed. If one can't be planned, nothing is changed. The first
failure stops the rest unless --keep-going was given; interfaces changed before it stay changed.
"""

from __future__ import annotations

import gc
import json
from argparse import Namespace
from collections.abc import Sequence
from functools import partial

from xdpchain.change.confirm.arming import LEAST
from xdpchain.errors import NotFound, XdpChainError
from xdpchain.model.naming import some
from xdpchain.observe.discover import interfaces, reuse_sockets
from xdpchain.spec.targets import Missing
from xdpchain.trial.packets.own import OwnTraffic
from xdptui.commands.options import seconds
from xdptui.commands.spec_report import Result, SpecState, report_document
from xdptui.commands.spec_text import reports, summary
from xdptui.commands.targets import all_planned, carry_out
from xdptui.commands.wanted import awaited, read_wanted
from xdptui.commands.whatif import trying
from xdptui.outcome import ExitCode, Talk, write

__all__ = ["run"]


def run(options: Namespace) -> int:
    """Apply or plan a spec."""
    talk = Talk(options.json, bool(options.verbose))
    only_plan = options.command == "plan"
    waits = None if options.confirm is None else seconds(options.confirm, "time to confirm", LEAST)
    if options.follow:
        from xdptui.commands.service import serve

        return serve(options, talk)
    patience = 0.0 if options.wait is None else seconds(options.wait, "time to wait", 0)
    with reuse_sockets():
        return _run(options, talk, only_plan, waits, patience)


def _run(options: Namespace, talk: Talk, only_plan: bool, waits: float | None, patience: float) -> int:
    wanted = read_wanted(options.file, options.netns, fresh_maps=options.fresh_maps)
    if not wanted.spec.interfaces:
        talk.warn(f"{wanted.source} names no interface: there is nothing to do")
    found, missing, idle = awaited(wanted, patience)
    if idle:
        talk.warn(f"no interface matches {some(idle)}")
    dry = only_plan or options.dry_run
    waited = options.wait is not None
    results = [
        Result(absent.name, absent.netns, SpecState.FAILED, error=_absent(absent, waited=waited))
        for absent in missing
    ]
    attempts = partial(trying, options, talk, only_plan=dry, own_traffic=OwnTraffic())
    results += all_planned(wanted, found, talk, attempts if dry else None)
    if not dry and (options.keep_going or not any(result.error for result in results)):
        gc.freeze()  # what is loaded and planned stays to the end: it need not be searched again and again
        try:
            carry_out(wanted, results, talk, attempts, confirm=waits, keep_going=options.keep_going)
        except KeyboardInterrupt:  # between two interfaces, or before a swap: report what was changed
            _report(options, results, dry=dry)
            raise
    _report(options, results, dry=dry)
    return _exit_code(results, only_plan)


def _absent(missing: Missing, *, waited: bool) -> XdpChainError:
    try:
        interfaces(missing.netns)
    except XdpChainError as error:  # the namespace is missing or can't be entered
        return error
    todo = "Use a glob if it may be missing" + ("" if waited else ", or wait for it with --wait SECONDS")
    return NotFound(f"there is no interface {missing}", todo=todo)


def _exit_code(results: Sequence[Result], only_plan: bool) -> int:
    for result in results:
        if result.error is not None:
            return int(result.error.exit_code)
    changes = any(result.state is SpecState.WOULD_CHANGE for result in results)
    return ExitCode.CHANGES if only_plan and changes else ExitCode.OK


def _report(options: Namespace, results: Sequence[Result], *, dry: bool) -> None:
    talk = Talk(options.json, bool(options.verbose))
    if options.json:
        write(json.dumps(report_document(options.file, results, dry=dry), indent=2))
        for error in [result.named_error for result in results if result.error is not None][:1]:
            talk.failed(error)
        return
    for report in reports(results, dry=dry, whole=talk.verbose):
        report.say(talk)
    if len(results) != 1:
        write(summary(results, dry=dry))
