# SPDX-License-Identifier: Apache-2.0
"""What `apply` and `plan FILE` did or would do on each interface: as values and JSON."""

from __future__ import annotations

import re
from collections.abc import Sequence
from copy import copy
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
from xdptui.workers.plan_check import findings_of, mistakes_in
from xdptui.workers.readings import totals

__all__ = ["Result", "SpecState", "parts_around", "report_document", "report_line"]

NOT_TRIED = Tried()
_IN_NAME = re.compile(r"[\w.-]")


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
        """The error, with the interface it concerns and its namespace."""
        error = self.error
        assert error is not None
        if len(parts_around(error.what, self.label)) > 1:
            return error
        parts = parts_around(error.what, self.name)
        named = copy(error)
        named.what = self.label.join(parts) if len(parts) > 1 else f"{self.label}: {error.what}"
        return named

    def warnings(self, *, dry: bool) -> tuple[str, ...]:
        """Possible mistakes: in the plan, in the new components, and in the change itself."""
        return (*(f"{self.label}: {text}" for text in self.mistakes(dry=dry)), *self.troubles)

    def mistakes(self, *, dry: bool) -> tuple[str, ...]:
        """Possible mistakes in the plan and in the new components; none in a plan that was not reached."""
        not_reached = self.state is SpecState.WOULD_CHANGE and not dry
        if self.plan is None or self.error is not None or not_reached:
            return ()
        return tuple(mistakes_in(self.plan))


def parts_around(text: str, name: str) -> list[str]:
    """What is between the places where the text has this name as a whole word."""
    # A regular expression for each name would take longer to compile than all else here.
    first, *rest = text.split(name)
    parts = [first]
    for part in rest:
        if _IN_NAME.match(parts[-1][-1:]) or _IN_NAME.match(part[:1]):
            parts[-1] += name + part
        else:
            parts.append(part)
    return parts


def report_document(source: str, results: Sequence[Result], *, dry: bool) -> dict[str, Any]:
    """The JSON of ``apply --json`` and ``plan --json`` for a spec."""
    return {
        "spec": source,
        "changed": any(result.state is SpecState.CHANGED for result in results),
        "differs": any(result.state is SpecState.WOULD_CHANGE for result in results),
        "dry_run": dry,
        "interfaces": [_result(result, dry=dry) for result in results],
    }


def report_line(result: Result, at: float) -> dict[str, Any]:
    """The JSON line of ``apply --follow --json`` for one interface; ``at`` is in seconds since 1970."""
    return {"at": round(at, 3), **_result(result, dry=False)}


def _result(result: Result, *, dry: bool) -> dict[str, Any]:
    plan, tried = result.plan, result.tried
    return {
        "interface": result.name,
        "netns": result.netns,
        "state": result.state.value,
        "plan": None if plan is None else documents.plan(plan, result.notes, findings_of(plan)),
        "warnings": list(result.warnings(dry=dry)),
        "what_if": tried.matrix and documents.what_if(tried.matrix, tried.notes),
        "ssh": tried.own and documents.own_connection(tried.own),
        "error": None if result.error is None else error_document(result.named_error, result.netns),
        "running": None
        if result.now is None
        else documents.interface(result.now, totals(result.now), boot_clock()),
    }
