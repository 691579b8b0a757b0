# SPDX-License-Identifier: Apache-2.0
"""What if: run the same packets through the running chain and a candidate, without attaching either.

Both chains work on copies of all maps, made at the same time. Packets go through each in the given order, and
the copies keep their state between packets as on the interface (a rate limit counts them all). The running
chain is not changed or counted. An interface without a program passes every packet.

On a device with an unknown link layer (`link_layer`) nothing is tried.

Another tool's program can't be tried: running it would change its maps, and replacing these by copies takes
its object file. If that file was given and proved to be the same program (`adoption`), it can be tried.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

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
from xdpchain.frozen import frozen
from xdpchain.model.actions import Action, ActionSet
from xdpchain.model.chain import Chain
from xdpchain.model.interface import Interface
from xdpchain.model.running import Running
from xdpchain.sys import bpf, netns
from xdpchain.sys.device_maps import device_targets
from xdpchain.sys.netlink import Netlink

from .packets.packet import SHORTEST, Packet
from .packets.rewriting import Rewriting, compare
from .run import Trial

__all__ = ["Crossing", "Outcome", "Side", "Tally", "WhatIf", "what_if"]

PAGE = 3520
"""The longest packet that fits in one page: 4096 bytes less 256 of headroom and 320 (on 64-bit machines) that
the kernel reserves at the end.
"""

LOST = (Action.DROP, Action.ABORTED)


@frozen
class Outcome:
    """One packet's result on one side: each slot's return code (None: it did not run), the verdict (an int if
    it is not an action; None: unknown, see ``why``), and the resulting bytes. ``sites``: each slot's deciding
    site (index into `Side.sites`), None if unknown.
    """

    slots: tuple[Action | int | None, ...] = ()
    verdict: Action | int | None = None
    data: bytes = b""
    why: str = ""
    sites: tuple[int | None, ...] = ()

    @property
    def gone(self) -> bool:
        """Whether the packet ends here, so its bytes no longer matter."""
        return self.verdict in LOST or not isinstance(self.verdict, Action)


@frozen
class Crossing:
    """One packet's outcomes on both sides."""

    packet: Packet
    old: Outcome
    new: Outcome

    @property
    def differs(self) -> bool | None:
        """Whether the verdict differs, or the bytes if it goes on; None if a side is unknown."""
        if self.old.verdict is None or self.new.verdict is None:
            return None
        return self.old.verdict != self.new.verdict or (not self.new.gone and self.old.data != self.new.data)

    @property
    def rewritten(self) -> tuple[Rewriting, Rewriting]:
        """How its bytes were rewritten, old and new; empty if it ends."""
        first, second = (
            Rewriting() if outcome.gone else compare(self.packet.data, outcome.data)
            for outcome in (self.old, self.new)
        )
        return first, second


@frozen
class Side:
    """A chain that was tried: its slots' names, and which of them are shadows. ``why`` is set if it could not
    be tried at all, ``empty`` if no program runs. ``to_stack``: the slots that redirect only through a
    cpumap, where another CPU hands the packet to the network stack. ``sites``: each slot's verdict sites.
    """

    slots: tuple[str, ...] = ()
    shadow: frozenset[int] = frozenset()
    why: str = ""
    empty: bool = False
    to_stack: frozenset[int] = frozenset()
    sites: tuple[tuple[VerdictSite, ...], ...] = ()


@frozen
class Tally:
    """The number of packets with an old and a new verdict (None: unknown). If both are the same,
    ``rewritten`` says whether their bytes differ.
    """

    old: Action | int | None
    new: Action | int | None
    rewritten: bool
    count: int

    @property
    def differs(self) -> bool | None:
        """Whether the outcomes differ; None if a side is unknown."""
        if self.old is None or self.new is None:
            return None
        return self.old != self.new or self.rewritten


@frozen
class WhatIf:
    """The matrix, in packet order. ``unknown``: its limitations, a sentence each."""

    interface: Interface
    old: Side
    new: Side
    crossings: tuple[Crossing, ...]
    unknown: tuple[str, ...]

    @property
    def tallies(self) -> tuple[Tally, ...]:
        """The packets counted by outcome: those that differ first, then by count."""
        counted = Counter(
            (c.old.verdict, c.new.verdict, bool(c.differs) and c.old.verdict == c.new.verdict)
            for c in self.crossings
        )
        tallies = [Tally(*key, count) for key, count in counted.items()]
        return tuple(
            sorted(tallies, key=lambda tally: (not tally.differs, tally.differs is None, -tally.count))
        )

    @property
    def reached(self) -> tuple[Mapping[int, int], ...]:
        """For each slot of the candidate, the sites that packets reached, with their counts."""
        counts: list[Counter[int]] = [Counter() for _ in self.new.slots]
        for crossing in self.crossings:
            for slot_counts, site in zip(counts, crossing.new.sites, strict=False):
                if site is not None:
                    slot_counts[site] += 1
        return tuple(counts)

    @property
    def changed(self) -> tuple[Crossing, ...]:
        """The packets whose outcome differs."""
        return tuple(crossing for crossing in self.crossings if crossing.differs)


def what_if(
    running: Running,
    candidate: Chain,
    packets: Sequence[Packet],
    *,
    adopts: int | None = None,
    call_lines: bool = False,
) -> WhatIf:
    """Try ``packets`` on the running chain and the candidate. Sides that can't be tried and packets that the
    kernel refuses carry the reason. ``adopts`` is as for `plan.make_plan`: the ID of another tool's program
    that was proved to be the candidate's first slot. With ``call_lines`` the sites also tell where inlined
    functions are called, which takes reading the objects' DWARF.

    Raises PermissionDenied if nothing can be tried, NotFound if the interface's namespace is gone.
    """
    interface, layer = running.interface, running.device.layer
    if not layer.known:
        side = Side(why=f"not checked: the packet format on {interface.name} ({layer.name}) is not known")
        crossings = tuple(
            Crossing(packet, Outcome(why=side.why), Outcome(why=side.why)) for packet in packets
        )
        return WhatIf(interface, side, side, crossings, (side.why,))
    with contextlib.ExitStack() as held:
        runs = _runs(running, candidate, adopts)
        old, new = _side(runs, held, running, call_lines), _side(candidate, held, None, call_lines)
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
    """A side while it is being tried."""

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
        """Find out which kernel state the components use, and where they redirect to."""
        if self.trial is not None:
            self.places = _places(self.trial, interface, runs)
            to_stack = frozenset(where.slot for _, where, has in self.places if only_to_stack(where, has))
            self.side = replace(self.side, to_stack=to_stack)


def _runs(running: Running, candidate: Chain, adopts: int | None) -> Chain | None:
    """The running program as a chain that can be linked; None if it is another tool's."""
    hook = running.hook
    if hook is None:
        return Chain()
    if running.chain is None and hook.prog_id == adopts:
        # Alone on the hook, its return code is the verdict.
        first = candidate.slots[0]
        config = replace(first.config, actions=ActionSet())
        return Chain((replace(first, config=config, routes=(), shadow=False, policy=None),))
    return running.chain


def _side(
    chain: Chain | None, held: contextlib.ExitStack, running: Running | None, call_lines: bool
) -> _Tried:
    if chain is None:
        hook = running.hook if running else None
        which = f"program {hook.prog_id} ({hook.name})" if hook else "what runs"
        return _Tried(Side(why=f"{which} is not ours: trying it would change its maps"))
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
    sites = trial.shown_sites() if call_lines else trial.sites
    return _Tried(Side(names, shadow, sites=sites), trial, all(slot.component.frags for slot in chain))


def _takes(ifindex: int) -> bool:
    """Whether test packets can appear to arrive on the interface: this takes kernel 5.14, and most drivers
    set their queues up for it only while a program is attached in native mode.
    """
    try:
        with bpf.prog_load(bpf.ProgType.XDP, LET_PASS, name="xdptui_arrival") as program:
            bpf.prog_test_run(program, bytes(64), ingress=ifindex)
    except bpf.BpfError:
        return False
    return True


def _unknown(crossings: Sequence[Crossing], old: _Tried, new: _Tried, arrived: bool) -> tuple[str, ...]:
    """The matrix's limitations. Those of a slot on both sides are given once, for the new side."""
    limits: dict[str, None] = {}
    sent: set[str] = set()
    for what, side in (("what would run", new), ("what runs", old)):
        if side.side.why:
            limits[f"{what} can't be tried: {side.side.why}"] = None
    said = {key for key, _, _ in new.places}
    for side, outcomes in ((new, [c.new for c in crossings]), (old, [c.old for c in crossings])):
        redirecting = {
            i for outcome in outcomes for i, code in enumerate(outcome.slots) if code is Action.REDIRECT
        }
        for key, where, has in side.places:
            if side is new or key not in said:
                limits |= dict.fromkeys(words(where, has, arrived=arrived))
            if where.slot in redirecting and (side is new or key not in sent):
                limits[redirect_words(where, has)] = None
        sent = {key for key, where, _ in side.places if where.slot in redirecting}
    if any(crossing.packet.cut for crossing in crossings):
        limits["some packets were captured only in part, so programs saw them shortened"] = None
    return tuple(limits)


def _names(interface: Interface, ifindexes: Iterable[int]) -> Iterator[str]:
    """Names of devices in the interface's namespace."""
    with Netlink(interface.netns) as netlink:
        for ifindex in ifindexes:
            try:
                yield netlink.link(ifindex).name
            except XdpChainError:
                yield f"interface {ifindex}"


def _places(trial: Trial, interface: Interface, runs: bool) -> list[tuple[str, Where, Traits]]:
    """Each slot's key, its known surroundings, and its traits."""
    places = []
    for i, part in enumerate(trial.parts):
        kinds, devices = {}, {}
        for name, fd in part.maps.items():
            try:
                info = bpf.map_info(fd)
                kinds[name] = bpf.map_type_name(info.type)
                if kinds[name] in TO_DEVICES:
                    devices[name] = list(_names(interface, device_targets(fd, info)))
            except bpf.BpfError:  # not permitted to read it: its targets stay unknown
                continue
        component = part.slot.component
        where = Where(i, component.name, kinds, part.partial, devices, bool(component.callees), runs)
        has = traits(part.unit.instructions, device=bool(part.unit.device_calls))
        places.append((part.slot.key, where, has))
    return places
