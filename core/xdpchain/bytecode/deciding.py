# SPDX-License-Identifier: Apache-2.0
"""Which edge of a program decides its return code? Pure.

A *deciding edge* is the branch after which only one code was possible. It is found on a graph of
(instruction, what is known there about values that may become the code); at an exit, r0 is the code. Working
backwards, each state gets the set of codes that it can still lead to: where that set shrinks to one, the edge
decides.

XDP_ABORTED is the code for errors ("the lookup can't fail"): it is left out of the sets, unless it is the
only result. Otherwise a program would seem undecided until the null check of its last lookup.

Tracked are registers, 4- and 8-byte stack slots that no pointer can write to, and calls of the program's own
functions, each call separately. Known are constants, and the results of comparisons with constants. If there
are too many states, they are joined: then less is known (an edge is missed, and its code is found at a later
edge or at the exit), but nothing wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from xdpchain.frozen import frozen

from . import opcodes as op
from .code_values import (
    COMPUTED,
    MASK32,
    MASK64,
    Called,
    Code,
    Source,
    Values,
    bounded,
    calculated,
    code_of,
    refined,
    resized,
)
from .flow_graph import FlowGraph, flow_of
from .instructions import Instruction, successors
from .opcodes import Helper
from .places import RESULT, Places

__all__ = ["Decisions", "Edge", "decisions"]


ABORTED = 0
REDIRECTING = (Helper.REDIRECT, Helper.REDIRECT_MAP)


class Edge(NamedTuple):
    """From one instruction to another that may follow it directly."""

    source: int
    target: int


@frozen
class Decisions:
    """``edges``: the codes that a deciding edge decides, mostly one. ``last``: the codes that can result when
    that edge was the last deciding one passed; more than one if paths whose code was already decided pass it
    too. ``undecided``: the codes that no edge decides, because there is only one, or because it is chosen
    without a branch. ``sets``: the instructions that set the code after the edge (None: no edge decides).
    ``joined``: states were joined.
    """

    edges: Mapping[Edge, frozenset[Code]]
    last: Mapping[Edge, frozenset[Code]]
    undecided: frozenset[Code]
    sets: Mapping[tuple[Edge | None, Code], frozenset[int]]
    joined: bool


@lru_cache(maxsize=32)
def decisions(image: bytes, *, calls: bool = True) -> Decisions:
    """The deciding edges of a program's main function, and with ``calls`` also of functions whose result it
    returns. Raises InvalidInput if these are not valid instructions.
    """
    graph = flow_of(image)
    for most, follow in ((MOST_ALIKE, calls), (1, calls), (1, False)):
        search = _Search(graph, most, follow)
        if search.explore(MOST_STATES if follow else None):
            break
    return search.decide()


MOST_ALIKE = 64
"""Most states of one instruction before they are joined."""
MOST_STATES = 30_000
DEEPEST_CALLS = 8
"""The kernel's limit (MAX_CALL_FRAMES)."""
Env = tuple[tuple[int, Values], ...]
"""What the live places hold, by place."""
Frame = tuple[int, Env]
"""The return address of a call, and what its caller knew."""
Node = tuple[tuple[Frame, ...], int, Env | None]
"""Calls that have not returned, instruction, and what is known there; None: it was joined, and is stored
elsewhere.
"""


class _Search:
    def __init__(self, graph: FlowGraph, most: int, calls: bool) -> None:
        self._lines = graph.lines
        self._most = most
        self._calls = calls
        self._places: dict[int, Places] = {}
        self._live: dict[int, int] = {}
        places = {function.start: Places(graph, function) for function in graph.functions}
        entered: dict[int, int] = {}
        # What a function reads when it is called depends on the functions it calls.
        for _ in range(DEEPEST_CALLS + 1 if calls else 1):
            before = dict(entered)
            for start, one in places.items():
                live = one.liveness(entered if calls else {})
                entered[start] = live[start]
                self._live |= live
            if entered == before:
                break
        for one in places.values():
            self._places |= dict.fromkeys(one.lines, one)
        self._edges: dict[Node, tuple[Node, ...]] = {}
        self._exits: dict[Node, Values] = {}
        self._alike: dict[int, int] = {}
        self._joined: dict[tuple[tuple[int, ...], int], dict[int, Values]] = {}
        self._frames: dict[tuple[tuple[int, ...], int], tuple[Frame, ...]] = {}
        self._sets: dict[Node, set[tuple[int, Code]]] = {}
        self._start: Node = ((), 0, self._env(0, {}))
        self._known: set[Node] = {self._start}

    def _env(self, at: int, values: Mapping[int, Values]) -> Env:
        live, place, found = self._live[at], 0, []
        while live:
            if live & 1:
                found.append((place, values.get(place, COMPUTED)))
            live, place = live >> 1, place + 1
        return tuple(found)

    def explore(self, most: int | None) -> bool:
        """Build the graph. False: it has more than ``most`` states."""
        todo = [self._start]
        while todo:
            node = todo.pop()
            if node in self._edges and node[2] is not None:
                continue
            if most is not None and len(self._edges) >= most:
                return False
            following = tuple(self._placed(*one, todo) for one in self._step(node))
            self._edges[node] = following
            todo += [one for one in following if one not in self._edges]
        return True

    def _placed(self, frames: tuple[Frame, ...], at: int, env: Env, todo: list[Node]) -> Node:
        """The node of a state: its own, or one that it is joined with."""
        node: Node = (frames, at, env)
        if node in self._known:
            return node
        key = (tuple(back for back, _ in frames), at)
        if self._alike.get(at, 0) < self._most and key not in self._joined:
            self._alike[at] = self._alike.get(at, 0) + 1
            self._known.add(node)
            return node
        known = self._joined.get(key)
        joined = {place: self._union(known, place, values) for place, values in env}
        kept = self._frames.get(key)
        if kept is not None and kept != frames:
            frames = tuple(
                (back, self._union_env(mine, theirs))
                for (back, mine), (_, theirs) in zip(kept, frames, strict=True)
            )
        node = (tuple((back, ()) for back, _ in frames), at, None)
        if joined != known or kept != frames:
            self._joined[key], self._frames[key] = joined, frames
            todo.append(node)
        return node

    @staticmethod
    def _union(known: Mapping[int, Values] | None, place: int, values: Values) -> Values:
        return bounded(values | known[place]) if known is not None and place in known else values

    def _union_env(self, mine: Env, theirs: Env) -> Env:
        other = dict(theirs)
        return tuple((place, bounded(values | other.get(place, values))) for place, values in mine)

    def _step(self, node: Node) -> Iterable[tuple[tuple[Frame, ...], int, Env]]:
        frames, at, env = node
        if env is None:
            key = (tuple(back for back, _ in frames), at)
            frames, env = self._frames[key], tuple(self._joined[key].items())
        values, line = dict(env), self._lines[at]
        places = self._places[at]
        if line.code == op.EXIT:
            result = values.get(RESULT, COMPUTED)
            if not frames:
                self._exits[node] = frozenset(code_of(giver) for giver in result)
                return ()
            (back, saved), frames = frames[-1], frames[:-1]
            return ((frames, back, self._env(back, dict(saved) | {RESULT: result})),)
        if line.code == op.CALL and line.source == op.CALL_FUNCTION and self._calls:
            target = at + line.immediate + 1
            if self._live[at + 1] & 1 << RESULT and not _recursive(target, frames, self._places):
                arguments = {place: some for place, some in values.items() if 1 <= place <= 5}
                saved = tuple((p, v) for p, v in values.items() if p > 5 and self._live[at + 1] >> p & 1)
                return (((*frames, (at + 1, saved)), target, self._env(target, arguments)),)
        if line.code == op.CALL and (line.source, line.immediate) == (op.CALL_HELPER, Helper.TAIL_CALL):
            self._exits[node] = frozenset((Source.TAIL_CALL,))
            self._sets[node] = {(at, Source.TAIL_CALL)}
        self._carry_out(node, at, line, values, places)
        found = []
        for taken, following in enumerate(successors(at, line)):
            learned = values
            if op.is_jump(line.code) and not op.is_goto(line.code):
                known = refined(line, values, taken=bool(taken))
                if known is None:
                    continue  # this edge can't be taken
                learned = values | known
            found.append((frames, following, self._env(following, learned)))
        return found

    def _carry_out(
        self, node: Node, at: int, line: Instruction, values: dict[int, Values], places: Places
    ) -> None:
        kind = line.code & op.CLASS

        def put(place: int, some: Values, *, fresh: bool) -> None:
            values[place] = some
            if fresh and self._live.get(at + (2 if line.code == op.LD_IMM64 else 1), 0) >> place & 1:
                self._sets.setdefault(node, set()).update((at, code_of(giver)) for giver in some)

        if line.code == op.CALL:
            for register in range(6):
                values.pop(register, None)
            redirects = line.source == op.CALL_HELPER and line.immediate in REDIRECTING
            put(RESULT, frozenset((Called(line.immediate),)) if redirects else COMPUTED, fresh=True)
        elif line.code == op.LD_IMM64:
            plain = line.source == op.IMM_VALUE
            value = line.immediate & MASK32 | (self._lines[at + 1].immediate & MASK32) << 32
            put(line.target, frozenset((value,)) if plain else COMPUTED, fresh=True)
        elif kind in (op.ALU, op.ALU64):
            copies = line.code & (op.OPERATION | op.X) == op.MOV | op.X
            put(line.target, calculated(line, values), fresh=not copies)
        elif kind == op.LDX:
            slot = places.slot(line)
            known = values.get(slot, COMPUTED) if slot is not None else COMPUTED
            signed = line.code & op.MODE == op.MEMSX
            size = op.BYTES[line.code & op.SIZE]
            put(line.target, resized(known, size, signed=signed), fresh=slot is None)
        elif op.is_store(line.code):
            slot = places.slot(line)
            size = op.BYTES[line.code & op.SIZE]
            for place in places.overwritten(line):
                put(place, COMPUTED, fresh=True)
            if slot is not None:
                if kind == op.ST:
                    put(slot, resized(frozenset((line.immediate & MASK64,)), size, signed=False), fresh=True)
                else:
                    known = values.get(line.source, COMPUTED)
                    put(slot, resized(known, size, signed=False), fresh=False)
            if line.code & op.MODE == op.ATOMIC and line.immediate & op.FETCH:
                put(RESULT if line.immediate == op.CMPXCHG else line.source, COMPUTED, fresh=True)

    # -- results ------------------------------------------------------------------------------------------

    def decide(self) -> Decisions:
        """Find the deciding edges in the finished graph."""
        reached = self._reached()
        back: dict[Node, list[Node]] = {node: [] for node in reached}
        for node in reached:
            for following in self._edges[node]:
                back[following].append(node)
        possible: dict[Node, frozenset[Code]] = {node: self._exits.get(node, frozenset()) for node in reached}
        todo = [node for node in reached if possible[node]]
        while todo:
            node = todo.pop()
            for before in back[node]:
                if not possible[node] <= possible[before]:
                    possible[before] |= possible[node]
                    todo.append(before)
        found: dict[Edge, frozenset[Code]] = {}
        ends: dict[Edge, list[Node]] = {}
        deciding: set[tuple[Node, Node]] = set()
        passed: dict[Edge, frozenset[Code]] = {}
        for node in reached:
            still = possible[node] - {ABORTED}
            for following in self._edges[node]:
                edge = Edge(node[1], following[1])
                then = possible[following] - {ABORTED}
                if len(then) <= 1:
                    passed[edge] = passed.get(edge, frozenset()) | possible[following]
                if (len(still) > 1 and len(then) == 1) or (still and not then and possible[following]):
                    found[edge] = found.get(edge, frozenset()) | (then or possible[following])
                    ends.setdefault(edge, []).append(following)
                    deciding.add((node, following))
        sets: dict[tuple[Edge | None, Code], frozenset[int]] = {}
        for edge, nodes in ends.items():
            for at, code in self._set_behind(nodes):
                sets[edge, code] = sets.get((edge, code), frozenset()) | {at}
        undecided = self._undecided(deciding)
        for at, code in self._set_behind([self._start]) if undecided else ():
            sets[None, code] = sets.get((None, code), frozenset()) | {at}
        last = {edge: passed.get(edge, frozenset()) | codes for edge, codes in found.items()}
        return Decisions(found, last, undecided, sets, bool(self._joined))

    def _reached(self) -> list[Node]:
        """What is reachable from the start; joining leaves unreachable states behind."""
        order, seen = [self._start], {self._start}
        for node in order:
            for following in self._edges[node]:
                if following not in seen:
                    seen.add(following)
                    order.append(following)
        return order

    def _undecided(self, deciding: set[tuple[Node, Node]]) -> frozenset[Code]:
        """The codes of exits that some path reaches without passing a deciding edge."""
        codes: frozenset[Code] = frozenset()
        seen, todo = {self._start}, [self._start]
        while todo:
            node = todo.pop()
            codes |= self._exits.get(node, frozenset())
            for following in self._edges[node]:
                if following not in seen and (node, following) not in deciding:
                    seen.add(following)
                    todo.append(following)
        return codes

    def _set_behind(self, nodes: list[Node]) -> set[tuple[int, Code]]:
        """(instruction, code) of what sets the code on paths from these nodes."""
        found: set[tuple[int, Code]] = set()
        seen, todo = set(nodes), list(nodes)
        while todo and len(seen) < _LOOK_AHEAD:
            node = todo.pop()
            found |= self._sets.get(node, set())
            for following in self._edges[node]:
                if following not in seen:
                    seen.add(following)
                    todo.append(following)
        return found


_LOOK_AHEAD = 2_000


def _recursive(target: int, frames: tuple[Frame, ...], places: Mapping[int, Places]) -> bool:
    """Whether a function calls itself, which no kernel accepts."""
    return len(frames) >= DEEPEST_CALLS or any(places[back].start == target for back, _ in frames)
