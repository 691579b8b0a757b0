# SPDX-License-Identifier: Apache-2.0
"""Verdict sites: the places in a program where its return code is decided, with their source lines. Pure.

A site is the condition after which only one code was possible (`deciding`), or, if no branch decides, the
return itself. Branches that the compiler made from one condition are one site.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import field, replace

from xdpchain.frozen import frozen
from xdpchain.model.actions import ALL_ACTIONS, Action

from . import opcodes as op
from .code_values import Called, Code, Source
from .deciding import Edge, decisions
from .flow_graph import FlowGraph, flow_of

__all__ = ["InlinedCall", "SourceLine", "SourceMap", "VerdictSite", "code_word", "only_site", "verdict_sites"]

LONGEST_TEXT = 200


@frozen
class SourceLine:
    """A line of source: its file (the last part of the path), line number and text, all printable."""

    file: str
    number: int
    text: str

    @classmethod
    def clean(cls, file: str, number: int, text: str) -> SourceLine:
        """From an object file or program of somebody else's: no control characters, no long text."""
        return cls(_printable(file.rpartition("/")[2]), number, _printable(text.strip())[:LONGEST_TEXT])


@frozen
class InlinedCall:
    """A call in place of which the compiler put the called function's code: that ``function``, and the
    ``line`` that calls it.
    """

    function: str
    line: SourceLine

    @classmethod
    def clean(cls, function: str, line: SourceLine) -> InlinedCall:
        """From an object file that somebody else made."""
        return cls(_printable(function)[:LONGEST_TEXT], line)


@frozen
class SourceMap:
    """Which function and source line each instruction comes from: (first instruction, what), in order."""

    functions: tuple[tuple[int, str], ...] = ()
    lines: tuple[tuple[int, SourceLine], ...] = ()
    _starts: list[int] = field(init=False, repr=False, compare=False)
    _firsts: list[int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_starts", [at for at, _ in self.functions])
        object.__setattr__(self, "_firsts", [at for at, _ in self.lines])

    def function(self, insn: int) -> str:
        """The function's name; empty if unknown."""
        place = bisect_right(self._starts, insn) - 1
        return self.functions[place][1] if place >= 0 else ""

    def offset(self, insn: int) -> int:
        """The instruction's index within its function."""
        place = bisect_right(self._starts, insn) - 1
        return insn - self._starts[place] if place >= 0 else insn

    def line(self, insn: int) -> SourceLine | None:
        """The source line; an instruction without one counts to the line before it."""
        function = bisect_right(self._starts, insn) - 1
        start = self._starts[function] if function >= 0 else 0
        place = bisect_right(self._firsts, insn) - 1
        while place >= 0 and self._firsts[place] >= start:
            if self.lines[place][1].number:
                return self.lines[place][1]
            place -= 1
        return None


@frozen
class VerdictSite:
    """Where one code is decided. ``condition``: after that line only this code was possible; None: no branch
    decides it. ``returns``: the line after it that sets the code, if there is exactly one. ``insn``: the
    branch, or what sets the code. ``edges``: the branches, each of which decides. ``leads``: the next line on
    that side of the condition, if it is the same for all edges. ``called_from``: if the line is in an inlined
    function, the calls that lead to it, innermost first, once for each place where it was inlined; also empty
    if that is not known.
    """

    code: Code
    function: str
    condition: SourceLine | None
    returns: SourceLine | None
    insn: int
    edges: tuple[Edge, ...] = ()
    leads: SourceLine | None = None
    called_from: tuple[tuple[InlinedCall, ...], ...] = ()

    @property
    def line(self) -> SourceLine | None:
        """What to show: the condition, or else the return."""
        return self.condition or self.returns

    @property
    def place(self) -> str:
        """``firewall.bpf.c:47``, or ``instruction 7``."""
        return f"{self.line.file}:{self.line.number}" if self.line else f"instruction {self.insn}"

    @property
    def word(self) -> str:
        """The code in a word, see `code_word`."""
        return code_word(self.code)


def only_site(sites: Sequence[VerdictSite], code: int) -> int | None:
    """The index of the only site that can have decided a code; None if several can, or none."""
    able = [n for n, site in enumerate(sites) if site.code == code or not isinstance(site.code, int)]
    return able[0] if len(able) == 1 else None


def code_word(code: Code) -> str:
    """``PASS``, or ``31`` for a number that is no action; ``helper``, ``tail call`` or ``computed``."""
    if isinstance(code, Called):
        return "helper"
    if isinstance(code, Source):
        return code.value
    return Action(code).name if code in ALL_ACTIONS else str(code)


def verdict_sites(image: bytes, source: SourceMap, *, calls: bool = True) -> tuple[VerdictSite, ...]:
    """The sites of a program, in the order of its instructions; without ``calls`` only those of its main
    function. Raises InvalidInput if these are not valid instructions.
    """
    found, graph = decisions(image, calls=calls), flow_of(image)
    grouped: dict[tuple[object, ...], VerdictSite] = {}
    for edge, codes in sorted(found.edges.items()):
        for code in sorted(codes, key=str):
            function, condition = source.function(edge.source), source.line(edge.source)
            returns = _return_line(source, found.sets.get((edge, code), ()))
            key = (code, function, condition or edge.source, returns)
            before = grouped.get(key)
            if before is None:
                grouped[key] = VerdictSite(code, function, condition, returns, edge.source, (edge,))
            else:
                grouped[key] = VerdictSite(
                    code, function, condition, returns, before.insn, (*before.edges, edge)
                )
    sites = [replace(site, leads=_leads(graph, source, site)) for site in grouped.values()]
    for code in sorted(found.undecided, key=str):
        setting = found.sets.get((None, code), frozenset())
        exits = [block.end - 1 for block in graph.main.blocks if graph.lines[block.end - 1].code == op.EXIT]
        line = _return_line(source, setting) or _return_line(source, exits) or _only_line(source, setting)
        if code is Source.TAIL_CALL:
            line = _only_line(source, setting)
        insn = min(setting, default=exits[-1] if exits else 0)
        sites.append(VerdictSite(code, source.function(insn), None, line, insn))
    return tuple(sorted(sites, key=lambda site: (site.insn, site.word)))


def _leads(graph: FlowGraph, source: SourceMap, site: VerdictSite) -> SourceLine | None:
    """The line that follows a site's branches: after the condition's own, up to the next branch."""
    found = set()
    for edge in site.edges:
        at = edge.target
        for _ in range(_LOOK_AHEAD):
            line = source.line(at)
            following = graph.successors(at)
            if line is not None and line != site.condition:
                found.add(line)
                break
            if len(following) != 1:
                return None
            (at,) = following
        else:
            return None
    return found.pop() if len(found) == 1 else None


_LOOK_AHEAD = 64
"""Instructions."""


def _only_line(source: SourceMap, insns: Iterable[int]) -> SourceLine | None:
    lines = {source.line(insn) for insn in insns}
    return lines.pop() if len(lines) == 1 else None


def _return_line(source: SourceMap, insns: Iterable[int]) -> SourceLine | None:
    """The same, but only if it reads like a return: optimisers set codes early, among other lines'
    instructions.
    """
    line = _only_line(source, insns)
    return line if line is not None and ("return" in line.text or "XDP_" in line.text) else None


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " if c == "\t" else "?" for c in text)
