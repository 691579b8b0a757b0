# SPDX-License-Identifier: Apache-2.0
"""What `apply` and `plan FILE` say: once for all interfaces that end alike."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from copy import copy

from xdpchain.errors import XdpChainError
from xdpchain.frozen import frozen
from xdpchain.model.naming import counted, some
from xdpchain.observe.pending_pins import boot_clock
from xdptui.commands.spec_report import Result, SpecState, parts_around
from xdptui.outcome import Talk, write
from xdptui.render.pending_text import pending_line
from xdptui.render.plan_text import outcome_text, plan_text
from xdptui.words.advice import worded

__all__ = ["Report", "reports", "summary"]

EACH = "each"
WORDS = {
    SpecState.UNCHANGED: "as the spec says",
    SpecState.WOULD_CHANGE: "would change",
    SpecState.CHANGED: "changed",
    SpecState.FAILED: "failed",
}


@frozen
class Report:
    """On one interface, or on several that end alike: warnings, text for standard output, and the error."""

    warnings: tuple[str, ...]
    text: str
    error: XdpChainError | None = None

    def say(self, talk: Talk) -> None:
        """Say all of it, on standard output and standard error."""
        for warning in self.warnings:
            talk.warn(warning)
        if self.text:
            write(self.text)
        if self.error is not None:
            talk.failed(self.error)


def reports(results: Sequence[Result], *, dry: bool, whole: bool = False) -> Iterator[Report]:
    """In the order of the results; those that differ only in names of interfaces and IDs of programs come
    together, with their first names, or with all if ``whole``.
    """
    alike: dict[tuple[str, ...], list[Result]] = {}
    for result in results:
        alike.setdefault(_told(result, dry=dry, whole=whole), []).append(result)
    for told, group in alike.items():
        first = group[0]
        if len(group) == 1:
            error = None if first.error is None else first.named_error
            yield Report(first.warnings(dry=dry), _text(first, dry=dry), error)
        elif first.error is not None:
            yield Report((), "", _failure_of(group, whole=whole))
        else:
            names = _names(group, whole=whole)
            text, *mistakes = told
            head = text.removeprefix(EACH) if text.startswith(f"{EACH}: ") else f":\n{text}"
            yield Report(tuple(f"{names}: {mistake}" for mistake in mistakes), f"{names}{head}")


def _told(result: Result, *, dry: bool, whole: bool) -> tuple[str, ...]:
    """What is said of an interface, without what differs between those that end alike."""
    if result.troubles:  # they name it in their own words
        return (result.label,)
    if result.error is None:
        told = (_unnamed(text, result) for text in (_text(result, dry=dry), *result.mistakes(dry=dry)))
        return tuple(re.sub(r"\b(dispatcher|program) \d+", r"its \1", text) for text in told)
    error = result.named_error
    texts = (error.what, error.why, worded(error.todo), error.detail if whole else "")
    return (type(error).__name__, *(_unnamed(text, result, result.netns) for text in texts))


def _failure_of(group: Sequence[Result], *, whole: bool) -> XdpChainError:
    """The error with which each of them failed."""
    first = group[0]
    netns = first.netns if len({result.netns for result in group}) > 1 else None
    error = copy(first.named_error)
    before, *after = (_unnamed(part, first, netns) for part in parts_around(error.what, first.label))
    error.what = f"{before}{_names(group, whole=whole)}{EACH.join(after)}"
    error.why = _unnamed(error.why, first, netns)
    error.todo = _unnamed(worded(error.todo), first, netns)
    return error


def _unnamed(text: str, result: Result, netns: str | None = None) -> str:
    """The text without the interface's name, and without that of its namespace if given."""
    for name in filter(None, (result.label, result.name, netns)):
        text = EACH.join(parts_around(text, name))
    return text


def _names(group: Sequence[Result], *, whole: bool) -> str:
    """``v0, v1, v2 and 3 more (6 interfaces, netns web)``."""
    names = [result.name for result in group]
    spaces = {result.netns for result in group}
    labels = names if len(spaces) == 1 else [result.label for result in group]
    where = "".join(f", netns {netns}" for netns in spaces if netns and len(spaces) == 1)
    return f"{', '.join(labels) if whole else some(labels)} ({counted(len(group), 'interface')}{where})"


def _text(result: Result, *, dry: bool) -> str:
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
        from xdptui.render.whatif_text import whatif_text

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
