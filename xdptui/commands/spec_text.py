# SPDX-License-Identifier: Apache-2.0
"""What `apply` and `plan FILE` say: once for all interfaces that end alike."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from xdpchain.errors import XdpChainError
from xdpchain.frozen import frozen
from xdpchain.model.naming import counted, some
from xdpchain.observe.pending_pins import boot_clock
from xdptui.commands.spec_report import Result, SpecState
from xdptui.outcome import Talk, write
from xdptui.render.pending_text import pending_line
from xdptui.render.plan_text import outcome_text, plan_text

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
    together, with their first names, or with all if ``whole``. Errors come one by one.
    """
    alike: dict[tuple[str, ...], list[Result]] = {}
    for result in results:
        alone = result.error is not None or bool(result.troubles)
        told = (_text(result, dry=dry), *result.mistakes)
        alike.setdefault((result.label,) if alone else _unnamed(told, result), []).append(result)
    for told, group in alike.items():
        if len(group) > 1:
            names = _names(group, whole=whole)
            text, *mistakes = told
            head = text.removeprefix(EACH) if text.startswith(f"{EACH}: ") else f":\n{text}"
            yield Report(tuple(f"{names}: {mistake}" for mistake in mistakes), f"{names}{head}")
            continue
        (result,) = group
        error = None if result.error is None else result.named_error
        yield Report(result.warnings, _text(result, dry=dry), error)


def _unnamed(texts: Iterable[str], result: Result) -> tuple[str, ...]:
    """The texts without what differs between interfaces that run the same."""
    told = (_unnamed_in(text, result.label) for text in texts)
    return tuple(re.sub(r"\b(dispatcher|program) \d+", r"its \1", text) for text in told)


def _unnamed_in(text: str, label: str) -> str:
    # A regular expression for each name would take longer to compile than all else here.
    first, *rest = text.split(label)
    said = first
    for part in rest:
        inside = _IN_NAME.match(said[-1:]) or _IN_NAME.match(part[:1])
        said += (label if inside else EACH) + part
    return said


_IN_NAME = re.compile(r"[\w.-]")


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
