# SPDX-License-Identifier: Apache-2.0
"""What `apply` and `plan FILE` did or would do on each interface: as values, text and JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from xdpchain.change.plan import Plan
from xdpchain.errors import XdpChainError
from xdpchain.frozen import frozen
from xdpchain.model.running import Running
from xdpchain.observe.pending_pins import boot_clock
from xdpchain.spec.targets import SpecTarget
from xdptui.commands.whatif import Tried
from xdptui.outcome import error_document
from xdptui.render import documents
from xdptui.render.pending_text import pending_line
from xdptui.render.plan_text import outcome_text, plan_text
from xdptui.render.whatif_text import whatif_text
from xdptui.workers.plan_check import findings_of
from xdptui.workers.readings import totals

__all__ = ["Result", "SpecState", "report_document", "report_line", "report_text", "summary"]

NOT_TRIED = Tried()


class SpecState(StrEnum):
    """What happens to one interface."""

    UNCHANGED = "unchanged"
    WOULD_CHANGE = "would-change"
    CHANGED = "changed"
    FAILED = "failed"


@frozen
class Result:
    """One interface: its plan, what runs there ``now``, and remarks; or why it failed. An interface that was
    not reached, after a failure or ctrl-C, keeps the state that says it would change.
    """

    name: str
    netns: str | None
    state: SpecState
    target: SpecTarget | None = None
    plan: Plan | None = None
    notes: tuple[str, ...] = ()
    tried: Tried = NOT_TRIED
    now: Running | None = None
    error: XdpChainError | None = None
    troubles: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        return f"{self.name} (netns {self.netns})" if self.netns else self.name

    @property
    def named_error(self) -> XdpChainError:
        """The error, with the interface it concerns."""
        error = self.error
        assert error is not None
        if self.name in error.what:
            return error
        named = XdpChainError(f"{self.label}: {error.what}", error.why, error.todo, detail=error.detail)
        named.exit_code = error.exit_code
        return named

    @property
    def warnings(self) -> tuple[str, ...]:
        """Possible mistakes: in the plan, in the new components, and in the change itself."""
        if self.plan is None or self.error is not None:
            return self.troubles
        found = [
            f"{finding.text}. {finding.todo}" if finding.todo else finding.text
            for finding in findings_of(self.plan)
        ]
        for warning in self.plan.warnings:
            found.append(warning.text if warning.slot is None else f"slot {warning.slot}: {warning.text}")
        return (*(f"{self.label}: {text}" for text in found), *self.troubles)


WORDS = {
    SpecState.UNCHANGED: "as the spec says",
    SpecState.WOULD_CHANGE: "would change",
    SpecState.CHANGED: "changed",
    SpecState.FAILED: "failed",
}


def report_text(result: Result, *, dry: bool) -> str:
    """The report on one interface for standard output."""
    if result.plan is None or result.error is not None:
        return ""
    if result.state is SpecState.UNCHANGED:
        lines = [f"{result.label}: nothing to change"]
    elif result.state is SpecState.CHANGED and result.now is not None:
        lines = [outcome_text(result.plan, result.now)]
    elif dry:
        lines = [plan_text(result.plan)]
    else:
        lines = [f"{result.label}: not reached, so not changed"]
    lines += [f"  {note}" for note in result.notes]
    if result.tried.matrix is not None:
        lines.append(whatif_text(result.tried.matrix, result.tried.notes))
    if result.state is SpecState.CHANGED and result.now is not None and result.now.pending is not None:
        lines.append(pending_line(result.now.pending, result.now, boot_clock()))
    return "\n".join(lines)


def summary(results: Sequence[Result], *, dry: bool) -> str:
    """How many interfaces ended in each state."""
    count = Counter(result.state for result in results)
    total = f"{len(results)} interface{'s' * (len(results) != 1)}"
    words = WORDS if dry else {**WORDS, SpecState.WOULD_CHANGE: "not reached"}
    return ": ".join(
        filter(None, [total, ", ".join(f"{count[s]} {words[s]}" for s in SpecState if count[s])])
    )


def report_document(source: str, results: Sequence[Result], *, dry: bool) -> dict[str, Any]:
    """The JSON of ``apply --json`` and ``plan --json`` for a spec."""
    return {
        "spec": source,
        "changed": any(result.state is SpecState.CHANGED for result in results),
        "differs": any(result.state is SpecState.WOULD_CHANGE for result in results),
        "dry_run": dry,
        "interfaces": [_result(result) for result in results],
    }


def report_line(result: Result, at: float) -> dict[str, Any]:
    """The JSON line of ``apply --follow --json`` for one interface; ``at`` is in seconds since 1970."""
    return {"at": round(at, 3), **_result(result)}


def _result(result: Result) -> dict[str, Any]:
    plan, tried = None, result.tried
    if result.plan is not None:
        plan = documents.plan(result.plan)
        plan["notes"] = list(result.notes)
        plan["findings"] = [
            {"level": f.level, "text": f.text, "todo": f.todo} for f in findings_of(result.plan)
        ]
    return {
        "interface": result.name,
        "netns": result.netns,
        "state": result.state.value,
        "plan": plan,
        "warnings": list(result.warnings),
        "what_if": tried.matrix and documents.what_if(tried.matrix, tried.notes),
        "ssh": tried.own and documents.own_connection(tried.own),
        "error": None if result.error is None else error_document(result.error, result.netns),
        "running": None
        if result.now is None
        else documents.interface(result.now, totals(result.now), boot_clock()),
    }
