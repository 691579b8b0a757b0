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

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Final, NamedTuple

from . import opcodes as op
from .flow_graph import FlowGraph, Function, flow_of
from .instructions import Instruction, base_register, successors, whole
from .opcodes import Helper

__all__ = ["Called", "Code", "Decisions", "Edge", "Source", "decisions"]


class Source(Enum):
    """Where a code that is not a constant comes from."""

    COMPUTED = "computed"
    """Calculated, loaded from memory, or returned by a function that is not tracked."""
    TAIL_CALL = "tail call"
    """The program tail-called another."""


class Called(NamedTuple):
    """The return value of this helper: bpf_redirect() and similar return XDP_REDIRECT, or the code in their
    flags.
    """

    helper: int


Code = int | Source | Called
"""A return code (32 bits), or where it comes from."""

ABORTED = 0
REDIRECTING = (Helper.REDIRECT, Helper.REDIRECT_MAP)


class Edge(NamedTuple):
    """From one instruction to another that may follow it directly."""

    source: int
    target: int


@dataclass(frozen=True, slots=True)
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
MOST_VALUES = 16
"""Most values of a place before it counts as computed."""

_RESULT = 0
"""The place r0. Places are bits: registers 0 to 9, then stack slots."""
_SLOTS = 10
_MASK32, _MASK64 = (1 << 32) - 1, (1 << 64) - 1

Values = frozenset[Code]
_COMPUTED: Values = frozenset((Source.COMPUTED,))
Env = tuple[tuple[int, Values], ...]
"""What the live places hold, by place."""
Frame = tuple[int, Env]
"""The return address of a call, and what its caller knew."""
Node = tuple[tuple[Frame, ...], int, Env | None]
"""Calls that have not returned, instruction, and what is known there; None: it was joined, and is stored
elsewhere.
"""


class _Places:
    """One function's trackable stack slots, and which places are live at each instruction."""

    def __init__(self, graph: FlowGraph, function: Function) -> None:
        self.lines = {at: line for at, line in whole(graph.lines) if function.start <= at < function.end}
        self.start = function.start
        self.slots = _slots(self.lines)

    def slot(self, line: Instruction) -> int | None:
        """The place that a load or store accesses."""
        if base_register(line) != op.FRAME or line.code & op.MODE not in (op.MEM, op.MEMSX):
            return None
        return self.slots.get((line.offset, op.BYTES[line.code & op.SIZE]))

    def overwritten(self, line: Instruction) -> list[int]:
        """The places of slots that a store changes partly, or in a way that is not tracked."""
        if not op.is_store(line.code) or line.target != op.FRAME:
            return []
        low, high = line.offset, line.offset + op.BYTES[line.code & op.SIZE]
        own = self.slot(line)
        return [
            place
            for (start, size), place in self.slots.items()
            if start < high and low < start + size and place != own
        ]

    def liveness(self, entered: Mapping[int, int]) -> dict[int, int]:
        """The places, as bits, whose values may become the code, before each instruction; ``entered``: those
        that functions read when they are called.
        """
        before: dict[int, list[int]] = {at: [] for at in self.lines}
        for at, line in self.lines.items():
            for after in successors(at, line):
                before.setdefault(after, []).append(at)
        live = dict.fromkeys(self.lines, 0)
        todo = [at for at, line in self.lines.items() if line.code == op.EXIT]
        for at in todo:
            live[at] = 1 << _RESULT
        todo = [source for at in todo for source in before[at]]
        while todo:
            at = todo.pop()
            line = self.lines[at]
            after = 0
            for following in successors(at, line):
                after |= live.get(following, 0)
            now = self._before(at, line, after, entered)
            if now | live[at] != live[at]:
                live[at] |= now
                todo += before[at]
        return live

    def _before(self, at: int, line: Instruction, after: int, entered: Mapping[int, int]) -> int:
        kind = line.code & op.CLASS
        if line.code == op.CALL:
            read = 0
            if line.source == op.CALL_FUNCTION and after & 1 << _RESULT:
                read = entered.get(at + line.immediate + 1, 0) & 0b111110
            return after & ~0b111111 | read
        if kind in (op.ALU, op.ALU64):
            if not after >> line.target & 1 or line.target == op.FRAME:
                return after
            keeps = line.code & op.OPERATION != op.MOV
            reads = 1 << line.source if line.code & op.X and line.source != op.FRAME else 0
            return (after if keeps else after & ~(1 << line.target)) | reads
        if kind in (op.LD, op.LDX):
            slot = self.slot(line) if kind == op.LDX else None
            now = after & ~(1 << line.target)
            return now | 1 << slot if slot is not None and after >> line.target & 1 else now
        if op.is_store(line.code):
            slot = self.slot(line)
            for place in self.overwritten(line):
                after &= ~(1 << place)
            if slot is not None and after >> slot & 1:
                return after & ~(1 << slot) | (1 << line.source if kind == op.STX else 0)
            if line.code & op.MODE == op.ATOMIC:
                return after & ~(1 << line.source) & ~(1 << _RESULT)
        return after


def _slots(lines: Mapping[int, Instruction]) -> dict[tuple[int, int], int]:
    """The slots (offset, bytes) that plain loads and stores access and no pointer reaches, and their places.
    Slots may overlap: storing to one changes the other.
    """
    touched: set[tuple[int, int]] = set()
    lowest = 0
    ordered = list(lines.items())
    for place, (_, line) in enumerate(ordered):
        kind = line.code & op.CLASS
        if base_register(line) == op.FRAME and line.code & op.MODE in (op.MEM, op.MEMSX):
            size = op.BYTES[line.code & op.SIZE]
            if size >= 4:
                touched.add((line.offset, size))
        copies = kind in (op.ALU, op.ALU64) and line.code & op.X and line.source == op.FRAME
        if copies or (kind == op.STX and line.source == op.FRAME):
            lowest = min(lowest, _address(ordered, place))
    safe = sorted(slot for slot in touched if not lowest or slot[0] + slot[1] <= lowest)
    return {slot: _SLOTS + n for n, slot in enumerate(safe)}


def _address(lines: list[tuple[int, Instruction]], place: int) -> int:
    """The lowest stack offset that may be written through the copy of the frame pointer made here; 0: none.
    Anything above an address may belong to the object at that address.
    """
    copy = lines[place][1]
    if copy.code != op.MOV64_REG or place + 1 == len(lines):
        return -op.STACK
    added = lines[place + 1][1]
    if (added.code, added.target) != (op.ADD64_IMM, copy.target):
        return -op.STACK
    for _, line in lines[place + 2 :]:
        if line.code == op.CALL:
            reads = line.source == op.CALL_HELPER and line.immediate in READING
            return 0 if reads and copy.target <= 5 else added.immediate
        if line.code & op.CLASS in (op.JMP, op.JMP32) or copy.target in (line.source, line.target):
            break
    return added.immediate


READING = (
    Helper.MAP_LOOKUP_ELEM,
    Helper.MAP_UPDATE_ELEM,
    Helper.MAP_DELETE_ELEM,
    Helper.PERF_EVENT_OUTPUT,
    Helper.RINGBUF_OUTPUT,
)
"""Helpers that do not write through their arguments."""


class _Search:
    def __init__(self, graph: FlowGraph, most: int, calls: bool) -> None:
        self._lines = graph.lines
        self._most = most
        self._calls = calls
        self._places: dict[int, _Places] = {}
        self._live: dict[int, int] = {}
        places = {function.start: _Places(graph, function) for function in graph.functions}
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
                found.append((place, values.get(place, _COMPUTED)))
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
        return _bounded(values | known[place]) if known is not None and place in known else values

    def _union_env(self, mine: Env, theirs: Env) -> Env:
        other = dict(theirs)
        return tuple((place, _bounded(values | other.get(place, values))) for place, values in mine)

    def _step(self, node: Node) -> Iterable[tuple[tuple[Frame, ...], int, Env]]:
        frames, at, env = node
        if env is None:
            key = (tuple(back for back, _ in frames), at)
            frames, env = self._frames[key], tuple(self._joined[key].items())
        values, line = dict(env), self._lines[at]
        places = self._places[at]
        if line.code == op.EXIT:
            result = values.get(_RESULT, _COMPUTED)
            if not frames:
                self._exits[node] = frozenset(_code(giver) for giver in result)
                return ()
            (back, saved), frames = frames[-1], frames[:-1]
            return ((frames, back, self._env(back, dict(saved) | {_RESULT: result})),)
        if line.code == op.CALL and line.source == op.CALL_FUNCTION and self._calls:
            target = at + line.immediate + 1
            if self._live[at + 1] & 1 << _RESULT and not _recursive(target, frames, self._places):
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
                refined = _refined(line, values, taken=bool(taken))
                if refined is None:
                    continue  # this edge can't be taken
                learned = values | refined
            found.append((frames, following, self._env(following, learned)))
        return found

    def _carry_out(
        self, node: Node, at: int, line: Instruction, values: dict[int, Values], places: _Places
    ) -> None:
        kind = line.code & op.CLASS

        def put(place: int, some: Values, *, fresh: bool) -> None:
            values[place] = some
            if fresh and self._live.get(at + (2 if line.code == op.LD_IMM64 else 1), 0) >> place & 1:
                self._sets.setdefault(node, set()).update((at, _code(giver)) for giver in some)

        if line.code == op.CALL:
            for register in range(6):
                values.pop(register, None)
            redirects = line.source == op.CALL_HELPER and line.immediate in REDIRECTING
            put(_RESULT, frozenset((Called(line.immediate),)) if redirects else _COMPUTED, fresh=True)
        elif line.code == op.LD_IMM64:
            plain = line.source == op.IMM_VALUE
            value = line.immediate & _MASK32 | (self._lines[at + 1].immediate & _MASK32) << 32
            put(line.target, frozenset((value,)) if plain else _COMPUTED, fresh=True)
        elif kind in (op.ALU, op.ALU64):
            copies = line.code & (op.OPERATION | op.X) == op.MOV | op.X
            put(line.target, _calculated(line, values), fresh=not copies)
        elif kind == op.LDX:
            slot = places.slot(line)
            known = values.get(slot, _COMPUTED) if slot is not None else _COMPUTED
            signed = line.code & op.MODE == op.MEMSX
            size = op.BYTES[line.code & op.SIZE]
            put(line.target, _resized(known, size, signed=signed), fresh=slot is None)
        elif op.is_store(line.code):
            slot = places.slot(line)
            size = op.BYTES[line.code & op.SIZE]
            for place in places.overwritten(line):
                put(place, _COMPUTED, fresh=True)
            if slot is not None:
                if kind == op.ST:
                    put(
                        slot, _resized(frozenset((line.immediate & _MASK64,)), size, signed=False), fresh=True
                    )
                else:
                    known = values.get(line.source, _COMPUTED)
                    put(slot, _resized(known, size, signed=False), fresh=False)
            if line.code & op.MODE == op.ATOMIC and line.immediate & op.FETCH:
                put(_RESULT if line.immediate == op.CMPXCHG else line.source, _COMPUTED, fresh=True)

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


def _recursive(target: int, frames: tuple[Frame, ...], places: Mapping[int, _Places]) -> bool:
    """Whether a function calls itself, which no kernel accepts."""
    return len(frames) >= DEEPEST_CALLS or any(places[back].start == target for back, _ in frames)


def _code(value: Code) -> Code:
    return value & _MASK32 if isinstance(value, int) else value


def _bounded(values: Values) -> Values:
    return values if len(values) <= MOST_VALUES else _COMPUTED


def _resized(values: Values, size: int, *, signed: bool) -> Values:
    bits = 8 * size
    found: set[Code] = set()
    for value in values:
        if isinstance(value, int):
            value &= (1 << bits) - 1
            found.add(value | _MASK64 & -(1 << bits) if signed and value >> (bits - 1) else value)
        else:
            found.add(value if size >= 4 else Source.COMPUTED)
    return frozenset(found)


def _calculated(line: Instruction, values: Mapping[int, Values]) -> Values:
    """What arithmetic leaves in its target."""
    operation, wide = line.code & op.OPERATION, line.code & op.CLASS == op.ALU64
    own = values.get(line.target, _COMPUTED)
    other: Values = frozenset((line.immediate & _MASK64,))
    if line.code & op.X:
        other = values.get(line.source, _COMPUTED)
    if operation == op.MOV:
        if line.offset not in (0, 8, 16, 32):
            return _COMPUTED  # no kernel accepts it
        if line.offset:  # sign-extending (kernel 6.6)
            other = _resized(other, line.offset // 8, signed=True)
        return other if wide else _resized(other, 4, signed=False)
    if operation not in _FOLDS or line.offset or len(own) * len(other) > MOST_VALUES:
        return _COMPUTED
    found: set[Code] = set()
    for a in own:
        for b in other:
            if not (isinstance(a, int) and isinstance(b, int)):
                return _COMPUTED
            mask = _MASK64 if wide else _MASK32
            result = _FOLDS[operation](a & mask, b & mask, 63 if wide else 31) & mask
            if 1 << 16 < result < mask - (1 << 16):
                return _COMPUTED  # not a code: a counter, a hash, an address
            found.add(result)
    return frozenset(found)


_FOLDS: Final[Mapping[int, Callable[[int, int, int], int]]] = {
    op.ADD: lambda a, b, _: a + b,
    op.SUB: lambda a, b, _: a - b,
    op.OR: lambda a, b, _: a | b,
    op.AND: lambda a, b, _: a & b,
    op.XOR: lambda a, b, _: a ^ b,
    op.LSH: lambda a, b, bits: a << (b & bits),
    op.RSH: lambda a, b, bits: a >> (b & bits),
}


def _refined(line: Instruction, values: Mapping[int, Values], *, taken: bool) -> dict[int, Values] | None:
    """What a comparison with a constant says about a tracked register; None: this edge can't be taken."""
    if line.code & op.X or line.code == op.MAY_GOTO or line.target not in values:
        return {}
    operation, wide = line.code & op.OPERATION, line.code & op.CLASS == op.JMP
    mask = _MASK64 if wide else _MASK32
    constant = line.immediate & mask
    compare = _COMPARES.get(operation)
    if compare is None:
        return {}
    kept: set[Code] = set()
    for value in values[line.target]:
        if isinstance(value, int):
            if compare(value & mask, constant) == taken:
                kept.add(value)
        elif taken == (operation == op.JEQ) and operation in (op.JEQ, op.JNE):
            kept.add(line.immediate & _MASK64)
        else:
            kept.add(value)
    return {line.target: frozenset(kept)} if kept else None


_COMPARES: Final[Mapping[int, Callable[[int, int], bool]]] = {
    op.JEQ: lambda a, b: a == b,
    op.JNE: lambda a, b: a != b,
    op.JGT: lambda a, b: a > b,
    op.JGE: lambda a, b: a >= b,
    op.JLT: lambda a, b: a < b,
    op.JLE: lambda a, b: a <= b,
    op.JSET: lambda a, b: bool(a & b),
}
