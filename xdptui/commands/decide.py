# SPDX-License-Identifier: Apache-2.0
"""``xdptui confirm`` and ``xdptui rollback``: decide a pending change."""

from __future__ import annotations

import json
import time
from argparse import Namespace
from typing import Any

from xdpchain.change.confirm.by_hand import NotPending, confirm, roll_back
from xdpchain.errors import XdpChainError
from xdpchain.model.naming import some
from xdpchain.model.pending_change import Outcome
from xdpchain.model.running import Running
from xdpchain.observe.discover import look
from xdpchain.observe.pending_pins import boot_clock
from xdpchain.spec.values import is_glob
from xdptui.commands.chosen import chosen
from xdptui.outcome import Talk, error_document, write
from xdptui.render import documents
from xdptui.render.plan_text import running_text
from xdptui.words.printable import printable
from xdptui.workers.readings import totals

__all__ = ["run"]

JUST = 600.0
"""Seconds in which a rollback is probably that of the change that should be confirmed."""


def run(options: Namespace) -> int:
    """Confirm, or roll back now, and show what runs. Interfaces changed together are decided together; of
    several, each is decided that can be. A glob means those on which a change is pending.
    """
    talk, keeps = Talk(options.json, bool(options.verbose), options.netns), options.command == "confirm"
    names = chosen(options.interface, options.netns, most=None)
    each, errors = [], []
    decided: set[int] = set()
    for name in names:
        try:
            before = look(name, options.netns)
            now = _decided(before, decided, keeps=keeps)
        except XdpChainError as error:
            errors.append((name, error))
            continue
        pending = before.pending
        others = [] if pending is None else [name for name in pending.together if name != str(now.interface)]
        each.append((now, others))
        if not options.json:
            them = f", together with {some(others)}" if others else ""
            word = "confirmed" if keeps else "rolled back"
            write(f"{printable(str(now.interface))}: {word}{them}; {running_text(now)}")
    if each and is_glob(options.interface) and options.interface not in names:
        errors = [(name, why) for name, why in errors if not _was_not_meant(why, keeps=keeps)]
    if options.json and (each or len(names) > 1):
        failed = [{"interface": name, **error_document(why, options.netns)} for name, why in errors]
        done = [_document(now, others, keeps=keeps) for now, others in each]
        write(json.dumps({"interfaces": done, "errors": failed} if len(names) > 1 else done[0], indent=2))
    for _, why in errors[:1] if options.json else errors:
        talk.failed(why)
    return int(errors[0][1].exit_code) if errors else 0


def _decided(before: Running, decided: set[int], *, keeps: bool) -> Running:
    """What runs after the decision, which is added to those ``decided`` by this command. Raises
    XdpChainError, among others if there is nothing to decide.
    """
    pending = before.pending
    undecided = pending is not None and pending.decision not in decided
    if not undecided and before.settled is not None and before.settled.decision in decided:
        return before
    now = (confirm if keeps else roll_back)(before.interface.name, before.interface.netns)
    if pending is not None:
        decided.add(pending.decision)
    return now


def _was_not_meant(error: XdpChainError, *, keeps: bool) -> bool:
    """Whether it is about an interface that a glob matches by the way: nothing was pending there, nor was
    rolled back just before it could be confirmed.
    """
    if not isinstance(error, NotPending):
        return False
    last = error.settled
    late = last is not None and last.outcome is Outcome.ROLLED_BACK and time.time() - last.at < JUST
    return not (keeps and late)


def _document(now: Running, others: list[str], *, keeps: bool) -> dict[str, Any]:
    return {
        "interface": now.interface.name,
        "netns": now.interface.netns,
        "decision": "confirmed" if keeps else "rolled-back",
        "together": others,
        "running": documents.interface(now, totals(now), boot_clock()),
    }
