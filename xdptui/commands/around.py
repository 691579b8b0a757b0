# SPDX-License-Identifier: Apache-2.0
"""What `status` says about an interface beside its chain: who loaded what runs, and what else is attached."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

from xdpchain.model.commands import Commands
from xdpchain.model.running import Running
from xdpchain.observe.beside import Beside, beside
from xdpchain.observe.gather_evidence import evidence_of
from xdpchain.observe.owner_evidence import Evidence, Ownership, judge
from xdptui.render import documents
from xdptui.words.beside_words import beside_lines
from xdptui.words.owners import evidence_lines

__all__ = ["Around"]


class Around(NamedTuple):
    """``owner`` is None if no program runs."""

    seen: Beside
    owner: tuple[Ownership, Evidence] | None

    @classmethod
    def of(cls, running: Running) -> Self:
        """Query the kernel and the process list."""
        evidence = next(iter(evidence_of((running,)).values()), None)
        ownership = None if evidence is None else judge(evidence, Commands(running.interface.netns))
        return cls(beside(running), None if evidence is None or ownership is None else (ownership, evidence))

    def document(self) -> dict[str, Any]:
        """Keys for the interface's JSON."""
        found: dict[str, Any] = {"beside": documents.beside(self.seen)}
        if self.owner is not None:
            found["owner_evidence"] = documents.owner_evidence(*self.owner)
        return found

    def lines(self) -> list[str]:
        """Lines to print below the table."""
        lines = []
        if self.owner is not None:
            ownership, evidence = self.owner
            lines += ["    what is known of its loader:"]
            lines += [f"      {line}" for line in evidence_lines(ownership.who, evidence)]
        return [*lines, "    beside XDP:", *(f"      {line}" for line in beside_lines(self.seen))]
