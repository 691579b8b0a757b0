# SPDX-License-Identifier: Apache-2.0
"""Every command that changes a chain: look, edit, plan; then report the plan or carry it out."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from xdpchain.change.confirm.arming import LEAST
from xdpchain.change.kernel_warnings import with_kernel_warnings
from xdpchain.change.plan import Plan
from xdpchain.frozen import frozen
from xdpchain.model.running import Running
from xdpchain.observe.discover import look
from xdpchain.observe.pending_pins import boot_clock
from xdpchain.observe.permissions import require_capabilities
from xdpchain.trial.packets.own import OwnTraffic
from xdptui.commands.chosen import chosen
from xdptui.commands.edits import EDITS, Edit, Proposal
from xdptui.commands.options import seconds
from xdptui.commands.whatif import Tried, trying
from xdptui.outcome import ExitCode, Talk, UsageError, write
from xdptui.render import documents
from xdptui.render.pending_text import pending_line
from xdptui.render.plan_text import outcome_text, plan_text
from xdptui.workers.plan_check import findings_of, link_candidate, mistakes_in
from xdptui.workers.readings import totals

__all__ = ["run", "try_out"]


@frozen
class ChangeReport:
    """The report on one interface: its plan with remarks, and what runs ``now``."""

    plan: Plan
    now: Running
    notes: tuple[str, ...]
    packets: Tried


def run(options: Namespace) -> int:
    """Run or plan a changing command; on several interfaces it changes all or none."""
    talk = Talk(options.json, bool(options.verbose))
    waits = None if options.confirm is None else seconds(options.confirm, "time to confirm", LEAST)
    only_plan = options.command == "plan"
    names = chosen(options.interface, options.netns)
    if getattr(options, "share_maps", False) and len(names) < 2:
        raise UsageError("--share-maps needs several interfaces", todo="Name them: eth0,eth1")
    edit = EDITS[options.changing if only_plan else options.command](options)
    if only_plan or options.dry_run:
        outcomes = [_planned(options, name, edit, talk, only_plan=True) for name in names]
    else:
        outcomes = _apply(options, names, edit, talk, waits)
    _show(options, outcomes)
    changes = any(not outcome.plan.empty for outcome in outcomes)
    return ExitCode.CHANGES if only_plan and changes else ExitCode.OK


def _planned(options: Namespace, name: str, edit: Edit, talk: Talk, *, only_plan: bool) -> ChangeReport:
    running = look(name, options.netns)
    if not running.editable:
        require_capabilities()  # without them, our own chains look like somebody else's
    proposal = edit.make(running)
    plan = with_kernel_warnings(proposal.plan(running))
    tried = try_out(plan, talk)
    attempt = trying(options, talk, only_plan=only_plan, own_traffic=OwnTraffic())
    packets = attempt(running, plan.candidate, plan.adopts)
    return ChangeReport(plan, running, (*proposal.notes, *filter(None, [tried])), packets)


def _apply(
    options: Namespace, names: Sequence[str], change: Edit, talk: Talk, waits: float | None
) -> list[ChangeReport]:
    from xdpchain.editing import TRIES, edit_all

    own = OwnTraffic()
    attempts = {name: trying(options, talk, only_plan=False, own_traffic=own) for name in names}
    made: dict[str, tuple[Proposal, Tried]] = {}

    def make(running: Running) -> Plan:
        name = running.interface.name
        proposal = change.make(running)
        plan = proposal.plan(running)  # no point in trying what can't be changed at all
        made[name] = proposal, attempts[name](running, plan.candidate, plan.adopts)
        return with_kernel_warnings(plan)

    trouble: list[str] = []
    edited = edit_all(
        names,
        make,
        netns=options.netns,
        share_maps=getattr(options, "share_maps", False),
        progress=talk.step,
        tries=TRIES if change.repeatable else 1,
        confirm=waits,
        warn=trouble.append,
    )
    outcomes = []
    for name, (plan, now) in zip(names, edited, strict=True):
        proposal, packets = made[name]
        outcomes.append(ChangeReport(plan, now, (*proposal.notes, *trouble), packets))
        trouble.clear()
    return outcomes


def try_out(plan: Plan, talk: Talk) -> str:
    """Link the candidate without attaching it, and return a remark. Raises what `link_candidate` raises."""
    talk.step("link the candidate without attaching it")
    return link_candidate(plan)


def _show(options: Namespace, outcomes: Sequence[ChangeReport]) -> None:
    talk = Talk(options.json, bool(options.verbose))
    dry = options.command == "plan" or options.dry_run
    if options.json:
        each = [_document(outcome, dry=dry) for outcome in outcomes]
        together = {
            "changed": any(document["changed"] for document in each),
            "dry_run": dry,
            "interfaces": each,
        }
        write(json.dumps(together if len(each) > 1 else each[0], indent=2))
        return
    for outcome in outcomes:
        where = f"{outcome.now.interface}: " if len(outcomes) > 1 else ""
        for mistake in mistakes_in(outcome.plan):
            talk.warn(where + mistake)
        write(plan_text(outcome.plan) if dry else outcome_text(outcome.plan, outcome.now))
        for note in outcome.notes:
            write(f"  {note}")
        if outcome.packets.matrix is not None:
            from xdptui.render.whatif_text import whatif_text

            write(whatif_text(outcome.packets.matrix, outcome.packets.notes))
    made = [outcome.now for outcome in outcomes if not (dry or outcome.plan.empty)]
    for now, pending in [(now, now.pending) for now in made if now.pending is not None][:1]:
        write(pending_line(pending, now, boot_clock()))


def _document(outcome: ChangeReport, *, dry: bool) -> dict[str, Any]:
    """The ``--json`` of one interface."""
    return {
        "interface": outcome.now.interface.name,
        "netns": outcome.now.interface.netns,
        "changed": not (dry or outcome.plan.empty),
        "dry_run": dry,
        "plan": documents.plan(outcome.plan, outcome.notes, findings_of(outcome.plan)),
        "what_if": outcome.packets.matrix
        and documents.what_if(outcome.packets.matrix, outcome.packets.notes),
        "ssh": outcome.packets.own and documents.own_connection(outcome.packets.own),
        "running": documents.interface(outcome.now, totals(outcome.now), boot_clock()),
    }
