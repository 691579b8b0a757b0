# SPDX-License-Identifier: Apache-2.0
"""What can be found out about a plan before it is carried out: whether the kernel accepts the candidate,
objections to its new components, and the fate of packets. Attaches nothing.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from xdpchain.errors import InvalidInput, KernelRefused, PermissionDenied, Unsupported, XdpChainError
from xdpchain.frozen import frozen
from xdptui.words.advice import told

if TYPE_CHECKING:
    from xdpchain.change.checks import Finding
    from xdpchain.change.plan import Plan
    from xdpchain.trial.whatif import WhatIf

__all__ = ["PlanCheck", "check_plan", "findings_of", "link_candidate", "mistakes_in", "sample_plan"]


@frozen
class PlanCheck:
    """``refusal`` is the error that applying would end with, None if the kernel accepts the candidate or
    could not be asked (``note`` says which). ``packets``: what happened to the built-in packets, as text;
    ``why``: why that is unknown. ``own``: some of the changed packets belong to the operator's own
    connection.
    """

    refusal: XdpChainError | None = None
    note: str = ""
    findings: tuple[Finding, ...] = ()
    packets: str = ""
    why: str = ""
    own: bool = False


def link_candidate(plan: Plan) -> str:
    """Link the candidate on copies of its maps without attaching it, to find out what the kernel refuses.

    Returns a remark. Raises LinkRefused and anything else that applying would raise while linking.
    """
    if plan.empty or not plan.candidate.slots:
        return ""
    if not plan.candidate.linkage.facts.tried:
        return f"not tried: {plan.candidate.linkage} linkage is only tested when applied"
    from xdpchain.trial.run import MapTooLarge, run_trial

    try:
        run_trial(plan.candidate, ())
    except (PermissionDenied, MapTooLarge) as error:
        return f"not tried: {told(error)}"
    return "tried: the kernel accepts the linked chain (without attaching it)"


def findings_of(plan: Plan) -> tuple[Finding, ...]:
    """Objections to the new components on this interface, without duplicates."""
    from xdpchain.change.checks import check_component

    found: dict[Finding, None] = {}
    kept = {slot.key for slot in plan.running.chain or ()}
    for slot in plan.candidate.slots:
        if slot.key not in kept:
            for finding in check_component(slot.component, plan.running, plan.candidate.mode):
                if finding.level != "ok":
                    found[finding] = None
    return tuple(found)


def mistakes_in(plan: Plan) -> list[str]:
    """Objections to the new components, and the plan's warnings, as sentences."""
    found = [f"{f.text}. {f.todo}" if f.todo else f.text for f in findings_of(plan)]
    return found + [w.text if w.slot is None else f"slot {w.slot}: {w.text}" for w in plan.warnings]


def check_plan(plan: Plan) -> PlanCheck:
    """All of the above; takes tens of milliseconds. Raises none of the engine's errors."""
    findings = findings_of(plan)
    try:
        note = link_candidate(plan)
    except (KernelRefused, Unsupported, InvalidInput) as error:
        return PlanCheck(error, findings=findings)
    except XdpChainError as error:  # what runs has changed: applying will say so
        return PlanCheck(None, f"not tried: {told(error)}", findings)
    from xdpchain.trial.packets.sources import BUILTIN, packets_of
    from xdpchain.trial.whatif import what_if
    from xdptui.words.whatif_words import summary

    try:
        packets = packets_of(BUILTIN, plan.running.interface).packets
        tried = what_if(plan.running, plan.candidate, packets, adopts=plan.adopts)
    except (XdpChainError, OSError) as error:
        return PlanCheck(None, note, findings, f"not tried: {told(error)}")
    own = any(crossing.packet.own for crossing in tried.changed)
    # Twenty made-up packets prove a difference, never that there is none.
    only = "" if tried.changed else " (built-in packets only: current traffic may differ)"
    return PlanCheck(None, note, findings, f"built-in {summary(tried)}{only}", tried.new.why, own)


def sample_plan(plan: Plan, stop: threading.Event) -> tuple[WhatIf, tuple[str, ...]]:
    """What the plan does to current packets, and remarks on them; takes a second, or less once ``stop`` is
    set. Raises what `live_packets` and `what_if` do.
    """
    from xdpchain.follow.sample import live_packets
    from xdpchain.trial.whatif import what_if

    supply = live_packets(plan.running, stop)
    return what_if(plan.running, plan.candidate, supply.packets, adopts=plan.adopts), supply.notes
