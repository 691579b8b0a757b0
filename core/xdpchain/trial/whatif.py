# SPDX-License-Identifier: Apache-2.0
"""What if: the same packets through what runs and through a candidate, away from the interface.

Both chains are linked statically over copies of all maps, made at the same time; the packets then go through
each in the order given, so a packet finds what those before it left in the copies, as on the interface (a
rate limit counts them all). What runs is neither changed nor counted. An interface on which nothing runs
passes every packet.

On a device whose packets begin in a way that nobody tried (`link_layer`), none is tried.

A program of somebody else can't be tried: running it as it is would change its maps, and copies can't be put
under it without its object file. Where that was given, and proved to be the same (`adoption`), it can.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from xdpchain.bytecode.instructions import LET_PASS
from xdpchain.bytecode.sites import VerdictSite
from xdpchain.bytecode.trial_limits import (
    TO_DEVICES,
    Traits,
    Where,
    only_to_stack,
    redirect_words,
    traits,
    words,
)
from xdpchain.errors import PermissionDenied, XdpChainError
from xdpchain.model.actions import Action, ActionSet
from xdpchain.model.chain import Chain, Interface
from xdpchain.model.running import Running
from xdpchain.sys import bpf, netns
from xdpchain.sys.device_maps import device_targets
from xdpchain.sys.netlink import Netlink

from .packets.packet import SHORTEST, Packet
from .packets.rewriting import Rewriting, compare
from .run import Trial

__all__ = ["Crossing", "Outcome", "Side", "Tally", "WhatIf", "what_if"]

PAGE = 3520
"""The longest packet that lies in one page: of 4096 bytes, 256 are headroom and 320 (on 64-bit machines)
what the kernel keeps at the end.
"""

LOST = (Action.DROP, Action.ABORTED)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one packet on one side: what each slot returned (None: it did not run), the verdict (an
    int is a code that is no action; None: not known, and ``why`` says the reason), and its bytes. ``sites``:
    which of each slot's places (`Side.sites`) decided; None where that is not known.
    """

    slots: tuple[Action | int | None, ...] = ()
    verdict: Action | int | None = None
    data: bytes = b""
    why: str = ""
    sites: tuple[int | None, ...] = ()

    @property
    def gone(self) -> bool:
        """Whether the packet ends here, so that its bytes don't matter any more."""
        return self.verdict in LOST or not isinstance(self.verdict, Action)


@dataclass(frozen=True, slots=True)
class Crossing:
    """One packet on both sides."""

    packet: Packet
    old: Outcome
    new: Outcome

    @property
    def differs(self) -> bool | None:
        """Whether its verdict differs, or its bytes where it goes on; None where a side is not known."""
        if self.old.verdict is None or self.new.verdict is None:
            return None
        return self.old.verdict != self.new.verdict or (not self.new.gone and self.old.data != self.new.data)

    @property
    def rewritten(self) -> tuple[Rewriting, Rewriting]:
        """What happened to its bytes, old and new; nothing where it ends."""
        first, second = (
            Rewriting() if outcome.gone else compare(self.packet.data, outcome.data)
            for outcome in (self.old, self.new)
        )
        return first, second


@dataclass(frozen=True, slots=True)
class Side:
    """A chain as it was tried: the names of its slots, and which of them are in shadow. ``why`` is set where
    it could not be tried at all, ``empty`` where no program runs. ``to_stack`` are the slots that redirect by
    a cpumap and nothing else: another CPU then hands the packet to the network stack. ``sites``
    are each slot's verdict sites.
    """

    slots: tuple[str, ...] = ()
    shadow: frozenset[int] = frozenset()
    why: str = ""
    empty: bool = False
    to_stack: frozenset[int] = frozenset()
    sites: tuple[tuple[VerdictSite, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Tally:
    """How many packets went from one verdict to another (None: not known). Where both are the same,
    ``rewritten`` tells those whose bytes differ.
    """

    old: Action | int | None
    new: Action | int | None
    rewritten: bool
    count: int

    @property
    def differs(self) -> bool | None:
        """None where a side is not known."""
        if self.old is None or self.new is None:
            return None
        return self.old != self.new or self.rewritten


@dataclass(frozen=True, slots=True)
class WhatIf:
    """The matrix, in the order of the packets; ``unknown`` is what it does not tell, a sentence each."""

    interface: Interface
    old: Side
    new: Side
    crossings: tuple[Crossing, ...]
    unknown: tuple[str, ...]

    @property
    def tallies(self) -> tuple[Tally, ...]:
        """The packets counted by what became of them; what differs first, then the most."""
        counted = Counter(
            (c.old.verdict, c.new.verdict, bool(c.differs) and c.old.verdict == c.new.verdict)
            for c in self.crossings
        )
        found = [Tally(*key, count) for key, count in counted.items()]
        return tuple(
            sorted(found, key=lambda tally: (not tally.differs, tally.differs is None, -tally.count))
        )

    @property
    def reached(self) -> tuple[Mapping[int, int], ...]:
        """For each slot of what would run, the sites that packets reached, and how many did."""
        counts: list[Counter[int]] = [Counter() for _ in self.new.slots]
        for crossing in self.crossings:
            for found, site in zip(counts, crossing.new.sites, strict=False):
                if site is not None:
                    found[site] += 1
        return tuple(counts)

    @property
    def changed(self) -> tuple[Crossing, ...]:
        """The packets whose outcome differs."""
        return tuple(crossing for crossing in self.crossings if crossing.differs)


def what_if(
    running: Running, candidate: Chain, packets: Sequence[Packet], *, adopts: int | None = None
) -> WhatIf:
    """Try ``packets`` on what runs and on the candidate. A side that can't be tried, and a packet that the
    kernel does not take, say so in their place. ``adopts`` is as for `plan.make_plan`: the prog id of
    somebody else's program, which the candidate's first slot was proved to be.

    Raises PermissionDenied where nothing can be tried at all, NotFound if the interface's namespace is gone.
    """
    interface, layer = running.interface, running.device.layer
    if not layer.known:
        side = Side(why=f"not checked: the packet format on {interface.name} ({layer.name}) is not known")
        crossings = tuple(
            Crossing(packet, Outcome(why=side.why), Outcome(why=side.why)) for packet in packets
        )
        return WhatIf(interface, side, side, crossings, (side.why,))
    with contextlib.ExitStack() as held:
        old, new = _side(_runs(running, candidate, adopts), held, running), _side(candidate, held)
        arrived = netns.run(interface.netns, lambda: _takes(interface.ifindex))
        ingress = interface.ifindex if arrived else 0
        crossings = netns.run(
            interface.netns,
            lambda: tuple(
                Crossing(packet, old.send(packet, ingress), new.send(packet, ingress)) for packet in packets
            ),
        )
        for tried in (old, new):
            tried.survey(interface, runs=tried is old)
        return WhatIf(interface, old.side, new.side, crossings, _unknown(crossings, old, new, arrived))


class _Tried:
    """A side at work."""

    def __init__(self, side: Side, trial: Trial | None = None, frags: bool = True) -> None:
        self.side = side
        self.trial = trial
        self.places: list[tuple[str, Where, Traits]] = []
        self._frags = frags

    def send(self, packet: Packet, ingress: int) -> Outcome:
        if self.side.why:
            return Outcome(why=self.side.why)
        if len(packet.data) < SHORTEST:
            return Outcome(why=f"it has {len(packet.data)} bytes; the minimum is {SHORTEST}")
        if self.trial is None:
            return Outcome((), Action.PASS, packet.data)
        if len(packet.data) > PAGE and not self._frags:
            return Outcome(
                why=f"it has {len(packet.data)} bytes, more than a page: a chain without multi-buffer "
                f"support never receives it"
            )
        try:
            row = self.trial.run(packet.data, ingress=ingress)
        except PermissionDenied:
            raise
        except XdpChainError as error:
            return Outcome(why=f"{error.what}: {error.why}" if error.why else error.what)
        return Outcome(row.slots, row.verdict, row.frame_out, sites=row.sites)

    def survey(self, interface: Interface, *, runs: bool) -> None:
        """Look at what the components ask the kernel for, and where they redirect to."""
        if self.trial is not None:
            self.places = _places(self.trial, interface, runs)
            to_stack = frozenset(where.slot for _, where, has in self.places if only_to_stack(where, has))
            self.side = replace(self.side, to_stack=to_stack)


def _runs(running: Running, candidate: Chain, adopts: int | None) -> Chain | None:
    """What runs, as a chain that can be linked; None where it is somebody else's."""
    hook = running.hook
    if hook is None:
        return Chain()
    if running.chain is None and hook.prog_id == adopts:
        # Alone on the hook, what it returns is the verdict.
        first = candidate.slots[0]
        config = replace(first.config, actions=ActionSet())
        return Chain((replace(first, config=config, routes=(), shadow=False, policy=None),))
    return running.chain


def _side(chain: Chain | None, held: contextlib.ExitStack, running: Running | None = None) -> _Tried:
    if chain is None:
        hook = running.hook if running else None
        which = f"program {hook.prog_id} ({hook.name})" if hook else "what runs"
        return _Tried(Side(why=f"{which} is somebody else's: trying it would change its maps"))
    names = tuple(slot.name for slot in chain)
    shadow = frozenset(i for i, slot in enumerate(chain) if slot.shadow)
    if not names:
        return _Tried(Side(empty=True))
    try:
        trial = held.enter_context(Trial(chain))
    except PermissionDenied:
        raise
    except XdpChainError as error:
        return _Tried(Side(names, shadow, f"{error.what}: {error.why}" if error.why else error.what))
    return _Tried(Side(names, shadow, sites=trial.sites), trial, all(slot.component.frags for slot in chain))


def _takes(ifindex: int) -> bool:
    """Whether packets can seem to come in on the interface: it takes kernel 5.14, and most drivers prepare
    their queues for that only while a program is attached in native mode.
    """
    try:
        with bpf.prog_load(bpf.ProgType.XDP, LET_PASS, name="xdptui_arrival") as program:
            bpf.prog_test_run(program, bytes(64), ingress=ifindex)
    except bpf.BpfError:
        return False
    return True


def _unknown(crossings: Sequence[Crossing], old: _Tried, new: _Tried, arrived: bool) -> tuple[str, ...]:
    """What the matrix does not tell; what holds for a slot on both sides is said once, of the new one."""
    found: dict[str, None] = {}
    sent: set[str] = set()
    for what, side in (("what would run", new), ("what runs", old)):
        if side.side.why:
            found[f"{what} can't be tried: {side.side.why}"] = None
    said = {key for key, _, _ in new.places}
    for side, outcomes in ((new, [c.new for c in crossings]), (old, [c.old for c in crossings])):
        redirecting = {
            i for outcome in outcomes for i, code in enumerate(outcome.slots) if code is Action.REDIRECT
        }
        for key, where, has in side.places:
            if side is new or key not in said:
                found |= dict.fromkeys(words(where, has, arrived=arrived))
            if where.slot in redirecting and (side is new or key not in sent):
                found[redirect_words(where, has)] = None
        sent = {key for key, where, _ in side.places if where.slot in redirecting}
    if any(crossing.packet.cut for crossing in crossings):
        found["some packets were captured only in part, so programs saw them shortened"] = None
    return tuple(found)


def _names(interface: Interface, ifindexes: Iterable[int]) -> Iterator[str]:
    """What devices of the interface's namespace are called."""
    with Netlink(interface.netns) as netlink:
        for ifindex in ifindexes:
            try:
                yield netlink.link(ifindex).name
            except XdpChainError:
                yield f"interface {ifindex}"


def _places(trial: Trial, interface: Interface, runs: bool) -> list[tuple[str, Where, Traits]]:
    """Each slot's key, what is known of it, and what it does."""
    found = []
    for i, part in enumerate(trial.parts):
        kinds, devices = {}, {}
        for name, fd in part.maps.items():
            try:
                info = bpf.map_info(fd)
                kinds[name] = bpf.map_type_name(info.type)
                if kinds[name] in TO_DEVICES:
                    devices[name] = list(_names(interface, device_targets(fd, info)))
            except bpf.BpfError:  # no permission to read it: its targets stay unknown
                continue
        component = part.slot.component
        where = Where(i, component.name, kinds, part.partial, devices, bool(component.callees), runs)
        has = traits(part.unit.instructions, device=bool(part.unit.device_calls))
        found.append((part.slot.key, where, has))
    return found
