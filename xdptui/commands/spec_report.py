# SPDX-License-Identifier: Apache-2.0
"""What `apply` and `plan FILE` did with each interface, or would do: as a value, as text and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from xdpchain.change.plan import Plan
from xdpchain.errors import XdpChainError
from xdpchain.model.running import Running
from xdpchain.observe.pending_pins import boot_clock
from xdpchain.spec.targets import Target
from xdptui.commands.whatif import Tried
from xdptui.outcome import error_document
from xdptui.render import documents
from xdptui.render.armed_text import armed_line
from xdptui.render.plan_text import outcome_text, plan_text
from xdptui.render.whatif_text import whatif_text
from xdptui.workers.plan_check import findings_of
from xdptui.workers.readings import totals

__all__ = ["Result", "State", "report_document", "report_line", "report_text", "summary"]

NOT_TRIED = Tried()


class State(StrEnum):
    """What becomes of one interface."""

    UNCHANGED = "unchanged"
    WOULD_CHANGE = "would-change"
    CHANGED = "changed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Result:
    """One interface: its plan, what runs there ``now``, what there is to say; or why it failed. An interface
    that would be changed, and was not, for another one failed, keeps that state.
    """

    name: str
    netns: str | None
    state: State
    target: Target | None = None
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
        """The error, with the interface that it is about in it."""
        error = self.error
        assert error is not None
        if self.name in error.what:
            return error
        named = XdpChainError(f"{self.label}: {error.what}", error.why, error.todo, detail=error.detail)
        named.exit_code = error.exit_code
        return named

    @property
    def warnings(self) -> tuple[str, ...]:
        """What may not be meant: of the plan, of the new components here, of the change itself."""
        if self.plan is None or self.error is not None:
            return self.troubles
        found = [f"{one.text}. {one.todo}" if one.todo else one.text for one in findings_of(self.plan)]
        for one in self.plan.warnings:
            found.append(one.text if one.slot is None else f"slot {one.slot}: {one.text}")
        return (*(f"{self.label}: {text}" for text in found), *self.troubles)


WORDS = {
    State.UNCHANGED: "as the spec says",
    State.WOULD_CHANGE: "would change",
    State.CHANGED: "changed",
    State.FAILED: "failed",
}


def report_text(one: Result, *, dry: bool) -> str:
    """What is said of one interface on standard output."""
    if one.plan is None or one.error is not None:
        return ""
    if one.state is State.UNCHANGED:
        lines = [f"{one.label}: nothing to change"]
    elif one.state is State.CHANGED and one.now is not None:
        lines = [outcome_text(one.plan, one.now)]
    elif dry:
        lines = [plan_text(one.plan)]
    else:
        lines = [f"{one.label}: not changed, for another interface failed"]
    lines += [f"  {note}" for note in one.notes]
    if one.tried.matrix is not None:
        lines.append(whatif_text(one.tried.matrix, one.tried.notes))
    if one.state is State.CHANGED and one.now is not None and one.now.armed is not None:
        lines.append(armed_line(one.now.armed, one.now, boot_clock()))
    return "\n".join(lines)


def summary(results: Sequence[Result], *, dry: bool) -> str:
    """How many interfaces came to what."""
    count = Counter(one.state for one in results)
    total = f"{len(results)} interface{'s' * (len(results) != 1)}"
    words = WORDS if dry else {**WORDS, State.WOULD_CHANGE: "not reached"}
    return ": ".join(filter(None, [total, ", ".join(f"{count[s]} {words[s]}" for s in State if count[s])]))


def report_document(source: str, results: Sequence[Result], *, dry: bool) -> dict[str, Any]:
    """``apply --json`` and ``plan --json`` of a spec."""
    return {
        "spec": source,
        "changed": any(one.state is State.CHANGED for one in results),
        "differs": any(one.state is State.WOULD_CHANGE for one in results),
        "dry_run": dry,
        "interfaces": [_result(one) for one in results],
    }


def report_line(one: Result, at: float) -> dict[str, Any]:
    """What ``apply --follow --json`` says of one interface; ``at`` is in seconds since 1970."""
    return {"at": round(at, 3), **_result(one)}


def _result(one: Result) -> dict[str, Any]:
    plan, tried = None, one.tried
    if one.plan is not None:
        plan = documents.plan(one.plan)
        plan["notes"] = list(one.notes)
        plan["findings"] = [{"level": f.level, "text": f.text, "todo": f.todo} for f in findings_of(one.plan)]
    return {
        "interface": one.name,
        "netns": one.netns,
        "state": one.state.value,
        "plan": plan,
        "warnings": list(one.warnings),
        "what_if": tried.matrix and documents.what_if(tried.matrix, tried.notes),
        "ssh": tried.own and documents.own_connection(tried.own),
        "error": None if one.error is None else error_document(one.error, one.netns),
        "running": None if one.now is None else documents.interface(one.now, totals(one.now), boot_clock()),
    }
