# SPDX-License-Identifier: Apache-2.0
"""The instructions of a static chain: its slots' main functions, threaded into one. Pure.

Where a component's return code is known at an exit (`unfolding`), the exit becomes a jump to where that code
leads: the next slot, another slot, or the end. Nothing is returned and nothing tested. Only unknown codes are
tested. A way that is counted or reported passes through a few instructions that do so.

    slot 0 ─ XDP_PASS ──────────────▶ slot 1 ─ XDP_PASS ──▶ count, return XDP_PASS
       └──── XDP_DROP ─▶ count, return  └───── not known ─▶ which? ─▶ …

A slot that is a program of its own (tailcall linkage) is threaded alone: its ways lead to tail calls.

All share one frame. The context is stored below the components' stacks, which are used one after the other.
No registers need saving, since none holds a value of ours. A component that can't be part of it is called.

A slot that is threaded alone may still have the context in a register where it exits, and then it is not
loaded again. Around the call that tells the CPU it is saved in the way that a kernel from 6.12 on removes, if
it replaces that call by instructions (bpf_fastcall, 5b5f51bff1b6).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import field, replace
from enum import StrEnum

from xdpchain.bytecode import opcodes as op
from xdpchain.bytecode.assembler import Assembled, Assembly
from xdpchain.bytecode.exit_sites import NOWHERE, ExitSites
from xdpchain.bytecode.instructions import Instruction, decode, names_function
from xdpchain.bytecode.unfolding import Exit, Unfolded, lay_out
from xdpchain.frozen import frozen
from xdpchain.model.actions import Action
from xdpchain.model.counting import COUNTER
from xdpchain.model.flow import KINDS, STRAIGHT, UNREPLACED, Counters, Way, code_of, kind_of
from xdpchain.model.paths import RETURN
from xdpchain.model.routes import OTHER

__all__ = [
    "SITE_SHIFT",
    "ChainCall",
    "Code",
    "CountInto",
    "Form",
    "Functions",
    "Member",
    "Threaded",
    "thread",
]

DATA, DATA_END = 0, 4  # of struct xdp_md
VERDICT = 255  # the verdict's stage in bpf/include/follow.h
SITE_SHIFT = 8
"""The number of the deciding site, from 1 on, is in the bits above a slot's stage."""
CONTEXT = 1
CODE, LENGTH, AGAIN = 6, 7, 8  # used by the stubs of ways, after the component; calls keep them

JEQ32, JGT = op.JMP32 | op.JEQ | op.K, op.JMP | op.JGT | op.K

ORDER = (Action.PASS, Action.DROP, Action.TX, Action.REDIRECT, Action.ABORTED, OTHER + 1)
"""The kinds of codes in the order in which they are tested for; anything else is `OTHER`."""


class Form(StrEnum):
    """How a static chain contains its components: their exits are jumps, or jumps and tests, or they are
    called.
    """

    THREADED = "threaded"
    INLINED = "inlined"
    CALLS = "calls"


@frozen
class Code:
    """Instructions with this process's map descriptors, and where their functions begin."""

    lines: Sequence[Instruction]
    starts: Sequence[int]


@frozen
class Member:
    """A component: its code, its main function's stack in bytes, that function unfolded (None: it is called),
    and how its exits identify the site that decided.
    """

    code: Code
    stack: int
    unfolded: Unfolded | None
    sites: ExitSites = NOWHERE


@frozen
class Functions:
    """Code that is not a component's; its functions are called by name, and ``starts`` has where each begins.
    ``replaced`` has substitutes for functions, by where those began.
    """

    code: Code
    starts: Mapping[str, int]
    replaced: Mapping[int, bytes] = field(default_factory=dict)


@frozen
class CountInto:
    """The counter map's descriptor, its bytes per CPU and its number of CPUs, and the counters of ways."""

    map: int
    stride: int
    cpus: int
    counters: Counters

    def counter(self, way: Way, site: int | None) -> int | None:
        """None: not counted at this site. Raises KeyError for an unexpected site."""
        some = self.counters.get((way.slot, way.kind))
        return None if some is None else some[site if site in some else None]


@frozen
class ChainCall:
    """Ways out are tail calls: the descriptor of the program array, which has a row for each kind of code,
    and the first of the verdict counters, one per code. If a row is empty, the code is returned. ``last``:
    XDP_PASS ends the chain as XDP_PASS and needs no tail call.

    Each row has its own tail call, with a key that the verifier knows: the kernel patches such a call into a
    direct jump when the row is filled, and into a no-op when it is emptied (428d5df1fa4f). A key in a
    register would cost an indirect jump.
    """

    array: int
    verdicts: int = 0
    last: bool = False


@frozen
class Threaded:
    """``assembled.labels`` has where functions begin, by (owner, old index); the owner is a slot's index or
    the name of some `Functions`. ``origins``: the (owner, old index) of instructions, by index.
    """

    assembled: Assembled
    origins: Mapping[int, tuple[Hashable, int]]
    slots: frozenset[int]


def thread(
    members: Sequence[Member],
    ways: Mapping[tuple[int, int], Way],
    *,
    frags: bool,
    first: int = 0,
    counting: CountInto | None = None,
    follow: Functions | None = None,
    report: tuple[Functions, Sequence[int]] | None = None,
    chain_call: ChainCall | None = None,
) -> Threaded | None:
    """One program of all members; ``ways`` by slot and kind, ``first`` the slot that packets enter (the
    number of members: none). ``report`` includes the number by which each slot is reported.

    None if the stack is too small.
    """
    threading = _Threading(members, ways, frags, first, counting, follow, report, chain_call)
    return None if threading.depth > op.STACK else threading.threaded()


class _Threading:
    def __init__(
        self,
        members: Sequence[Member],
        ways: Mapping[tuple[int, int], Way],
        frags: bool,
        first: int,
        counting: CountInto | None,
        follow: Functions | None,
        report: tuple[Functions, Sequence[int]] | None,
        chain_call: ChainCall | None,
    ) -> None:
        self._members, self._ways, self._frags, self._first = members, ways, frags, first
        self._counting, self._follow, self._report = counting, follow, report
        self._chain_call = chain_call
        deepest = max((member.stack for member in members if member.unfolded is not None), default=0)
        self._context = -(-(-deepest // 8) * 8) - 8
        self._followed = self._context - 8
        self._kept: Mapping[Exit, int] = {}  # the registers that have the context
        ends: set[int | None] = {None}
        if not members:
            ends = {CONTEXT}
        elif len(members) == 1 and members[0].unfolded is not None:
            self._kept = members[0].unfolded.context
            ends = set(map(self._kept.get, members[0].unfolded.exits))
        if frags or follow is not None or report is not None:
            self._kept, ends = {}, {None}
        uses = counting is not None or follow is not None or report is not None or chain_call is not None
        later = any(map(self._reads, range(first + 1, len(members))))
        self._stored = later or (uses and None in ends)
        self._saved = self._context - 8 * self._stored
        saves = counting is not None and any(end is not None and end < CODE for end in ends)
        if saves and -self._saved > op.STACK:
            self._kept, self._stored, saves = {}, True, False
        self.depth = -(self._followed if follow is not None else self._saved if saves else self._context)
        self._out = Assembly()
        self._origins: dict[int, tuple[Hashable, int]] = {}
        self._wanted: list[tuple[Hashable, Callable[[], None]]] = []
        self._known: set[Hashable] = set()
        self._entered: set[int] = set()

    def threaded(self) -> Threaded:
        out = self._out
        if self._stored:
            out.put(op.STX_DW, op.FRAME, 1, self._context)
        if self._follow is not None:
            self._call("follow", self._follow.starts["follow_begin"])
            out.put(op.STX_DW, op.FRAME, 0, self._followed)
            self._load_context()
        if self._first < len(self._members):
            self._enter(self._first)
        else:
            out.put(op.MOV64_IMM, 0, 0, 0, Action.PASS)
            kept = None if self._members or self._stored else CONTEXT
            self._way(self._ways[STRAIGHT.slot, STRAIGHT.kind], None, kept)
        while self._wanted:
            label, place = self._wanted.pop()
            out.label(label)
            place()
        for owner, code, replaced in self._pieces():
            self._functions(owner, code, replaced)
        return Threaded(out.assemble(), self._origins, frozenset(self._entered))

    def _want(self, label: Hashable, place: Callable[[], None]) -> Hashable:
        """This label, to be placed later."""
        if label not in self._known:
            self._known.add(label)
            self._wanted.append((label, place))
        return label

    def _enter(self, index: int) -> Hashable:
        """The label of a slot's start."""
        self._entered.add(index)
        return self._want(("slot", index), lambda: self._slot(index))

    def _slot(self, index: int) -> None:
        member = self._members[index]
        if index != self._first and self._reads(index):
            self._load_context()
        if member.unfolded is None:
            self._call(index, 0)
            self._out.jump(self._exit(index, Exit(None)))
            return
        origins: dict[int, int] = {}
        lay_out(
            member.unfolded,
            self._out,
            lambda end: self._exit(index, end),
            lambda start: (index, start),
            origins,
            member.code.lines,
        )
        self._origins |= {at: (index, old) for at, old in origins.items()}

    def _reads(self, index: int) -> bool:
        """Whether a slot reads the context."""
        unfolded = self._members[index].unfolded
        return unfolded is None or unfolded.reads_context

    def _exit(self, index: int, end: Exit) -> Hashable:
        """The label of what follows this exit of a slot."""
        kinds = kind_of(end.code)
        if len(kinds) == 1:
            (kind,) = kinds
            site = self._members[index].sites.site(end, end.code)
            return self._way(self._ways[index, kind], site, self._kept.get(end))
        return self._want(("which", index, end.marks), lambda: self._which(index, end))

    def _way(self, way: Way, site: int | None, kept: int | None) -> Hashable:
        """The label of a way: its destination, unless something must be done first. ``kept``: the register
        that holds the context (None: none does).
        """
        counter = self._counting.counter(way, site) if self._counting is not None else None
        calls = self._follow is not None or self._chain_call is not None
        if counter is not None or calls or (way.forbidden and self._report is not None):
            told = site if self._follow is not None else None
            return self._want(
                ("way", way.slot, way.kind, counter, told, kept), lambda: self._take(way, counter, told, kept)
            )
        return self._destination(way)

    def _destination(self, way: Way) -> Hashable:
        if 0 <= way.to < len(self._members):
            return self._enter(way.to)
        own = way.verdict is None or (way.verdict == way.kind and way.to == RETURN)
        verdict = None if own else way.verdict
        return self._want(("return", verdict), lambda: self._return(verdict))

    def _which(self, index: int, end: Exit) -> None:
        """Test the unknown code in r0."""
        sites, kept = self._members[index].sites, self._kept.get(end)
        rest = self._way(self._ways[index, OTHER], sites.site(end, None), kept)
        for kind in ORDER:
            code = UNREPLACED if kind > OTHER else kind
            label = self._way(self._ways[index, kind], sites.site(end, code), kept)
            if label != rest:
                self._out.jump(label, JEQ32, 0, code)
        self._out.jump(rest)

    def _take(self, way: Way, counter: int | None, site: int | None, kept: int | None) -> None:
        """What must be done on a way."""
        out = self._out
        if code_of(way.kind) is None:
            if kept == CODE:
                out.put(op.MOV64_REG, AGAIN, kept)
                kept = AGAIN
            out.put(op.MOV64_REG, CODE, 0)
        loaded = kept
        if self._follow is not None and way.slot != STRAIGHT.slot:
            self._tell(way.slot + 1, way, site)
        if self._counting is not None and counter is not None:
            self._count(self._counting, counter, kept)
            loaded = CONTEXT
        if way.forbidden and self._report is not None:
            functions, numbers = self._report
            self._load_context()
            out.put(op.MOV64_IMM, 2, 0, 0, numbers[way.slot])
            self._put_code(3, way)
            self._call("report", functions.starts["report_violation"])
            loaded = None
        if 0 <= way.to < len(self._members):
            out.jump(self._enter(way.to))
            return
        if self._chain_call is not None:
            self._hand_on(self._chain_call, way, loaded, kept)
        if way.verdict is not None and way.verdict != way.kind:
            way = replace(way, kind=way.verdict)
        if self._follow is not None:
            self._tell(VERDICT, way)
        self._put_code(0, way)
        out.put(op.EXIT)

    def _hand_on(self, call: ChainCall, way: Way, loaded: int | None, kept: int | None) -> None:
        """Tail-call the program that the code leads to, if there is one; otherwise the chain returns the
        code. ``loaded``: the register that has the context now; ``kept``: that had it at the exit.
        """
        if way.verdict is not None:  # its policy's replacement for what it returned
            way = replace(way, kind=way.verdict)
        after = None
        if not self._stored:
            after = kept if kept is not None and kept >= CODE else loaded
        if not (call.last and way.kind == Action.PASS):
            self._load_context(loaded)
            if self._counting is not None and after is not None and after < CODE:
                self._out.put(op.MOV64_REG, AGAIN, CONTEXT)
                after = AGAIN
            self._out.map(2, call.array)
            self._out.put(op.MOV64_IMM, 3, 0, 0, way.kind)
            self._out.put(op.CALL, 0, 0, 0, op.Helper.TAIL_CALL)
        if self._counting is not None:
            self._count(self._counting, call.verdicts + way.code, after)

    def _put_code(self, register: int, way: Way) -> None:
        """The code of a way; `CODE` holds it if the kind has several codes."""
        code = code_of(way.kind)
        if code is None:
            self._out.put(op.MOV64_REG, register, CODE)
        else:
            self._out.put(op.MOV64_IMM, register, 0, 0, code)

    def _return(self, verdict: Action | None) -> None:
        if verdict is not None:
            self._out.put(op.MOV64_IMM, 0, 0, 0, verdict)
        self._out.put(op.EXIT)

    def _tell(self, stage: int, way: Way, site: int | None = None) -> None:
        """If the packet is followed, record a stage and the site that decided it."""
        assert self._follow is not None
        out, past = self._out, object()
        out.put(op.LDX_DW, 1, op.FRAME, self._followed)
        out.jump(past, op.JEQ_IMM, 1, 0)
        self._load_context()
        out.put(op.MOV64_IMM, 2, 0, 0, stage | (0 if site is None else (site + 1) << SITE_SHIFT))
        self._put_code(3, way)
        self._call("follow", self._follow.starts["follow_step"])
        out.label(past)

    def _count(self, into: CountInto, counter: int, kept: int | None) -> None:
        """Count a packet and its length in one counter of this CPU. Afterwards r1 is the context.

        Uses no callee-saved register if possible: the JIT saves those that a program uses, and restores them
        before each tail call.
        """
        out, never, length = self._out, object(), 3
        if self._frags:
            length = LENGTH
            self._load_context()
            out.put(op.CALL, 0, 0, 0, op.Helper.XDP_GET_BUFF_LEN)
            out.put(op.MOV64_REG, length, 0)
        if kept is not None and kept < CODE:
            self._load_context(kept)
            out.put(op.STX_DW, op.FRAME, CONTEXT, self._saved)
            out.put(op.CALL, 0, 0, 0, op.Helper.GET_SMP_PROCESSOR_ID)
            out.put(op.LDX_DW, CONTEXT, op.FRAME, self._saved)
        else:
            out.put(op.CALL, 0, 0, 0, op.Helper.GET_SMP_PROCESSOR_ID)
            self._load_context(kept)
        out.jump(never, JGT, 0, into.cpus - 1)  # the map has room for every CPU, but the verifier can't know
        out.put(op.MUL64_IMM, 0, 0, 0, into.stride)
        out.put(op.LD_IMM64, 4, op.IMM_MAP_VALUE, 0, into.map)
        out.put(0, 0, 0, 0, counter * COUNTER)
        out.put(op.ADD64_REG, 4, 0)
        if not self._frags:
            out.put(op.LDX_W, length, CONTEXT, DATA_END)
            out.put(op.LDX_W, 2, CONTEXT, DATA)
            out.put(op.SUB64_REG, length, 2)
        for offset, by in ((0, None), (8, length)):
            out.put(op.LDX_DW, 2, 4, offset)
            if by is None:
                out.put(op.ADD64_IMM, 2, 0, 0, 1)
            else:
                out.put(op.ADD64_REG, 2, by)
            out.put(op.STX_DW, 4, 2, offset)
        out.label(never)

    def _load_context(self, kept: int | None = None) -> None:
        if kept is None:
            self._out.put(op.LDX_DW, CONTEXT, op.FRAME, self._context)
        elif kept != CONTEXT:
            self._out.put(op.MOV64_REG, CONTEXT, kept)

    def _call(self, owner: Hashable, start: int) -> None:
        self._out.refer((owner, start), Instruction(op.CALL, 0, op.CALL_FUNCTION, 0, 0))

    def _pieces(self) -> list[tuple[Hashable, Code, Mapping[int, bytes]]]:
        """Code whose functions are part of the program."""
        pieces: list[tuple[Hashable, Code, Mapping[int, bytes]]] = []
        pieces += [(index, self._members[index].code, {}) for index in sorted(self._entered)]
        if self._follow is not None:
            pieces.append(("follow", self._follow.code, self._follow.replaced))
        if self._report is not None:
            functions, _ = self._report
            if self._out.uses(("report", functions.starts["report_violation"])):
                pieces.append(("report", functions.code, {}))
        return pieces

    def _functions(self, owner: Hashable, code: Code, replaced: Mapping[int, bytes]) -> None:
        """All functions of a piece; its main one only if it is called."""
        lines, out = code.lines, self._out
        for start, end in zip(code.starts, (*code.starts[1:], len(lines)), strict=True):
            called = isinstance(owner, int) and self._members[owner].unfolded is None
            if start == 0 and not called:
                continue
            out.label((owner, start))
            if start in replaced:
                out.add(decode(replaced[start]))
                continue
            for at in range(start, end):
                self._origins[len(out)] = owner, at
                if names_function(lines[at]):
                    out.refer((owner, at + lines[at].immediate + 1), lines[at])
                else:
                    out.add([lines[at]])


assert len(ORDER) + 1 == len(KINDS)
