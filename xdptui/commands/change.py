# SPDX-License-Identifier: Apache-2.0
"""Every command that changes a chain: look, edit, plan; then say what would happen, or make it happen."""

from __future__ import annotations

import json
from argparse import Namespace

from xdpchain.change.confirm.arming import LEAST
from xdpchain.change.kernel_warnings import with_kernel_warnings
from xdpchain.change.plan import Plan
from xdpchain.model.running import Running
from xdpchain.observe.discover import look
from xdpchain.observe.pending_pins import boot_clock
from xdpchain.observe.permissions import require_capabilities
from xdptui.commands.edits import EDITS, Edit, Proposal
from xdptui.commands.options import seconds
from xdptui.commands.whatif import Tried, trying
from xdptui.outcome import ExitCode, Talk, write
from xdptui.render import documents
from xdptui.render.armed_text import armed_line
from xdptui.render.plan_text import outcome_text, plan_text
from xdptui.render.whatif_text import whatif_text
from xdptui.workers.plan_check import findings_of, link_candidate
from xdptui.workers.readings import totals

__all__ = ["run", "try_out"]


def run(options: Namespace) -> int:
    """Run a changing command, or plan it."""
    talk = Talk(options.json, bool(options.verbose))
    waits = None if options.confirm is None else seconds(options.confirm, "time to confirm in", LEAST)
    only_plan = options.command == "plan"
    edit = EDITS[options.changing if only_plan else options.command](options)
    if only_plan or options.dry_run:
        plan, notes = _planned(options, edit)
        tried = try_out(plan, talk)
        packets = trying(options, talk, only_plan=True)(plan.running, plan.candidate, plan.adopts)
        _show(options, plan, notes, plan.running, packets, changed=False, tried=tried)
        return ExitCode.CHANGES if only_plan and not plan.empty else ExitCode.OK
    plan, notes, now, packets = _apply(options, edit, talk, waits)
    _show(options, plan, notes, now, packets, changed=not plan.empty)
    return ExitCode.OK


def _planned(options: Namespace, edit: Edit) -> tuple[Plan, tuple[str, ...]]:
    running = look(options.interface, options.netns)
    if not running.editable:
        require_capabilities()  # what can't be read looks like somebody else's
    proposal = edit.make(running)
    return with_kernel_warnings(proposal.plan(running)), proposal.notes


def _apply(
    options: Namespace, change: Edit, talk: Talk, waits: float | None
) -> tuple[Plan, tuple[str, ...], Running, Tried]:
    from xdpchain.editing import TRIES, edit

    attempt = trying(options, talk, only_plan=False)
    proposal: Proposal | None = None
    tried = Tried()

    def make(running: Running) -> Plan:
        nonlocal proposal, tried
        proposal = change.make(running)
        plan = proposal.plan(running)  # what can't be changed at all need not be tried
        tried = attempt(running, plan.candidate, plan.adopts)
        return with_kernel_warnings(plan)

    trouble: list[str] = []
    plan, now = edit(
        options.interface,
        make,
        netns=options.netns,
        progress=talk.step,
        tries=TRIES if change.repeatable else 1,
        confirm=waits,
        warn=trouble.append,
    )
    assert proposal is not None
    return plan, (*proposal.notes, *trouble), now, tried


def try_out(plan: Plan, talk: Talk) -> str:
    """Link the candidate, attached to nothing, and return a remark. Raises what `link_candidate` raises."""
    talk.step("link the candidate, attach it to nothing")
    return link_candidate(plan)


def _show(
    options: Namespace,
    plan: Plan,
    notes: tuple[str, ...],
    now: Running,
    packets: Tried,
    *,
    changed: bool,
    tried: str = "",
) -> None:
    talk = Talk(options.json, bool(options.verbose))
    dry = options.command == "plan" or options.dry_run
    findings = findings_of(plan)
    if options.json:
        document = documents.plan(plan)
        document["notes"] = [*notes, *([tried] if tried else [])]
        document["findings"] = [{"level": f.level, "text": f.text, "todo": f.todo} for f in findings]
        write(
            json.dumps(
                {
                    "interface": now.interface.name,
                    "netns": now.interface.netns,
                    "changed": changed,
                    "dry_run": dry,
                    "plan": document,
                    "what_if": packets.matrix and documents.what_if(packets.matrix, packets.notes),
                    "ssh": packets.own and documents.own_connection(packets.own),
                    "running": documents.interface(now, totals(now), boot_clock()),
                },
                indent=2,
            )
        )
        return
    for finding in findings:
        talk.warn(f"{finding.text}. {finding.todo}" if finding.todo else finding.text)
    for warning in plan.warnings:
        where = "" if warning.slot is None else f"slot {warning.slot}: "
        talk.warn(where + warning.text)
    write(plan_text(plan) if dry else outcome_text(plan, now))
    for note in (*notes, *([tried] if tried else [])):
        write(f"  {note}")
    if packets.matrix is not None:
        write(whatif_text(packets.matrix, packets.notes))
    if changed and now.armed is not None:
        write(armed_line(now.armed, now, boot_clock()))
