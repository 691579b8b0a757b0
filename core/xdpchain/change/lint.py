# SPDX-License-Identifier: Apache-2.0
"""Warnings about what a chain does, or an edit loses, that its author may not intend. Pure.

Warnings stop nothing, since each of these can be intended. Only what is certain is reported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING

from xdpchain.advice import SINGLE_BUFFER_MTU
from xdpchain.errors import InvalidInput, XdpChainError
from xdpchain.frozen import frozen
from xdpchain.model.actions import ALL_ACTIONS, Action
from xdpchain.model.chain import Chain
from xdpchain.model.component import Component, MapRef
from xdpchain.model.interface import Mode
from xdpchain.model.map_entries import by_map
from xdpchain.model.naming import some
from xdpchain.model.paths import RETURN, entry, is_routed, reachable, successors
from xdpchain.model.running import Device, Running
from xdpchain.model.slot import Slot
from xdpchain.objects.effects import Effects, effects_of
from xdpchain.objects.redirects import redirect_use

if TYPE_CHECKING:
    from xdpchain.bytecode.sites import VerdictSite

__all__ = ["MapFact", "Neighbour", "Surroundings", "Warning", "lint"]

_NO_STATE = (".rodata", ".kconfig", "xdptui_")
"""Name prefixes of maps that programs only read."""

TRANSIENT = {"prog_array", "perf_event_array", "cgroup_array", "ringbuf", "user_ringbuf", "stack_trace"}
"""Map types without state worth keeping: they are refilled or only passed through."""


@frozen
class Warning:
    """Something that the chain's author may not intend. ``slot`` is an index, None for the whole chain."""

    slot: int | None
    text: str


@frozen
class MapFact:
    """Kernel state of a running map: its type as bpftool spells it, its number of elements (None: not
    countable, or not counted), and the ifindexes in it if it is a device map.
    """

    type: str
    elements: int | None = None
    targets: tuple[int, ...] = ()
    pinned: bool = False


@frozen
class Neighbour:
    """A device in the same namespace, with its driver's XDP features (None: not reported by this kernel)."""

    ifindex: int
    name: str
    features: frozenset[str] | None


@frozen
class Surroundings:
    """The surroundings of a chain: its running maps by ID, the other interfaces, and components' side effects
    by slot key (None: unknown), and verdict sites of components with a policy. Empty: not gathered.
    """

    maps: Mapping[int, MapFact] = field(default_factory=dict)
    neighbours: tuple[Neighbour, ...] = ()
    effects: Mapping[str, Effects | None] = field(default_factory=dict)
    sites: Mapping[str, Sequence[VerdictSite]] = field(default_factory=dict)


NOTHING_KNOWN = Surroundings()


def lint(
    chain: Chain,
    running: Running | None = None,
    around: Surroundings = NOTHING_KNOWN,
    *,
    keep_maps: bool = False,
) -> tuple[Warning, ...]:
    """Judge a candidate; ``running`` is what it would replace, including the device. ``keep_maps``: the maps
    of removed slots are kept.
    """
    device = running.device if running else None
    return (
        *_ways(chain),
        *_forbidden(chain, around),
        *_shadows(chain, around),
        *_order(chain),
        *_twins(chain),
        *_fragments(chain, device),
        *_fills(chain),
        *_redirects(chain, device, around),
        *(_lost(chain, running, around, keep_maps) if running else ()),
    )


@lru_cache(maxsize=8)  # the same chain may be planned for many interfaces
def _ways(chain: Chain) -> tuple[Warning, ...]:
    try:
        ways = successors(chain)
    except InvalidInput as error:
        return (Warning(None, str(error)),)
    off = chain.slots and entry(chain) == len(chain)
    passes = (Warning(None, "every slot is off: all packets pass"),) if off else ()
    return (*passes, *_unreachable(chain), *_verdicts(chain, ways))


def _unreachable(chain: Chain) -> Iterator[Warning]:
    if is_routed(chain):
        there = reachable(chain)
        for i, slot in enumerate(chain.slots):
            if i not in there and not slot.off:
                yield Warning(i, f"{slot.name} never runs: no return code leads to it")
        return
    for i, slot in enumerate(chain.slots):
        rest = [s.name for s in chain.slots[i + 1 :] if not s.off]
        if not slot.goes_on and not slot.off and rest:
            never = f"{', '.join(rest)} never run{'s' * (len(rest) == 1)}"
            yield Warning(i, f"{slot.name} always ends the chain: {never}")
            return


def _verdicts(chain: Chain, ways: Sequence[Sequence[int]]) -> Iterator[Warning]:
    end = len(chain)
    for i, slot in enumerate(chain.slots):
        if slot.shadow or slot.off:
            continue  # its verdicts are meant to be ignored
        goes_on = [action for action in ALL_ACTIONS if ways[i][action] != RETURN]
        lost = [action for action in goes_on if action in (Action.DROP, Action.ABORTED)]
        if lost:
            last = all(ways[i][action] == end for action in lost)
            outcome = "XDP_PASS ends the chain" if last else "a later slot decides"
            yield Warning(
                i, f"{slot.name} continues after {_listed(lost)}: {outcome}, so the packet may pass"
            )
        sent = [action for action in goes_on if action in (Action.TX, Action.REDIRECT)]
        if sent and all(ways[i][action] == end for action in sent):
            yield Warning(i, f"{slot.name} is last: its {_listed(sent)} becomes XDP_PASS")
        elif sent:
            yield Warning(
                i,
                f"{slot.name} continues after {_listed(sent)}: a later slot's verdict replaces "
                "it, and the packet may not be sent",
            )


def _forbidden(chain: Chain, around: Surroundings) -> Iterator[Warning]:
    """The lines of components that return what their policy forbids. A code that no line shows as a constant
    is found when it is returned.
    """
    for i, slot in enumerate(chain.slots):
        if slot.policy is None:
            continue
        broken: dict[int, list[str]] = {}
        for site in _sites(slot, around):
            if isinstance(site.code, int) and slot.policy.broken_by(site.code):
                broken.setdefault(site.code, []).append(site.place)
        answer = slot.policy.otherwise.action
        becomes = "reported" if answer is None else f"reported, and becomes {answer.xdp_name}"
        for code, places in sorted(broken.items()):
            name = Action(code).xdp_name if code in ALL_ACTIONS else f"code {code}"
            where = some(dict.fromkeys(places))
            yield Warning(i, f"{slot.name} may not return {name}, but does at {where}: it is {becomes}")


def _sites(slot: Slot, around: Surroundings) -> Sequence[VerdictSite]:
    source = slot.component.object
    if slot.key in around.sites or source is None or source.data is None:
        return around.sites.get(slot.key, ())
    from xdpchain.objects.verdicts import verdicts_of  # late: plans of running chains read no object file

    try:
        return verdicts_of(source.data, slot.component.name).sites
    except XdpChainError:  # what can't be read has no lines to name
        return ()


def _listed(actions: Sequence[Action]) -> str:
    return " and ".join(action.xdp_name for action in actions)


def _shadows(chain: Chain, around: Surroundings) -> Iterator[Warning]:
    """Effects that a shadow slot still has."""
    for i, slot in enumerate(chain.slots):
        if not slot.shadow or slot.off:
            continue
        shared = _shared(chain, slot)
        for other, names in shared.items():
            what = f"shares {names} with {other}: what it writes there affects both"
            yield Warning(i, f"{slot.name} is in shadow, but {what}")
        if slot.key in around.effects:
            effects = around.effects[slot.key]
        elif slot.component.object is not None and slot.component.object.data is not None:
            effects = effects_of(slot.component.object.data, slot.name)
        else:
            continue
        for text in _effects(effects, _redirect_later(chain, i, around)):
            yield Warning(i, f"{slot.name} is in shadow, but {text}")


def _shared(chain: Chain, slot: Slot) -> dict[str, str]:
    """The names of the maps that a slot shares with active slots, by slot name."""
    shared = {}
    ids = {ref.id: ref.name for ref in slot.component.maps if not ref.name.startswith(_NO_STATE)}
    for other in chain:
        if other.shadow or other.off:
            continue
        names = {ids[ref.id] for ref in other.component.maps if ref.id in ids}
        if slot.component.instance and slot.component.instance == other.component.instance:
            names |= set(slot.component.uses) & set(other.component.uses)
        names = {name for name in names if not name.startswith(_NO_STATE)}
        if names:
            shared[other.name] = ", ".join(sorted(names))
    return shared


def _effects(effects: Effects | None, redirect_later: bool) -> Iterator[str]:
    if effects is None:
        yield "what it does besides returning a verdict is not known, because its object file is not"
        return
    if effects.writes:
        how = ", ".join("direct stores" if write == "stores" else write for write in effects.writes)
        yield f"it still changes packets ({how}): later slots and receivers see that"
    elif effects.unsure:
        yield "whether it changes packets is not known: it is too long to analyse"
    if effects.redirects:
        later = ". A later slot that returns XDP_REDIRECT without setting a target would use this one's"
        text = f"it redirects ({', '.join(effects.redirects)}): nothing is sent there, the packet continues"
        yield text + later * redirect_later
    if effects.tells:
        yield f"it still reports to user space ({', '.join(effects.tells)}): listeners may act on it"
    if effects.kernel:
        yield f"it still calls {', '.join(effects.kernel)}, which may have other effects"
    if effects.pinned:
        yield f"it still writes to {', '.join(effects.pinned)}, pinned for sharing with other programs"


def _redirect_later(chain: Chain, index: int, around: Surroundings) -> bool:
    """Whether an active slot after this one may redirect."""
    types = {map_id: fact.type for map_id, fact in around.maps.items()}
    for slot in chain.slots[index + 1 :]:
        unknown = slot.component.object is None
        if not (slot.shadow or slot.off) and (unknown or redirect_use(slot.component, types)):
            return True
    return False


def _fills(chain: Chain) -> Iterator[Warning]:
    for i, slot in enumerate(chain.slots):
        live = [name for name in by_map(slot.entries) if any(ref.name == name for ref in slot.component.maps)]
        if live:
            what = f"map {', '.join(live)} of {slot.name} is written while it runs"
            yield Warning(i, f"{what}: neither a rollback nor an undo reverts that")


def _order(chain: Chain) -> Iterator[Warning]:
    for priority, tied in groupby(enumerate(chain.slots), key=lambda placed: placed[1].priority):
        slots = list(tied)
        names = {slot.name for _, slot in slots}
        if len(names) > 1:
            *others, last = (slot.name for _, slot in slots)
            who = f"{', '.join(others)} and {last}"
            text = f"{who} have the same priority ({priority}): they run in order of their names"
            yield Warning(slots[0][0], text)


def _twins(chain: Chain) -> Iterator[Warning]:
    for i, slot in enumerate(chain.slots):
        for j, earlier in enumerate(chain.slots[:i]):
            if _same_program(earlier.component, slot.component):
                yield Warning(i, f"{slot.name} runs twice, in slots {j} and {i}, on the same packets")
                break


def _same_program(component: Component, other: Component) -> bool:
    if component.name != other.name:
        return False
    if component.object is not None and other.object is not None:
        return component.object.sha256 == other.object.sha256
    return component.tag is not None and component.tag == other.tag


def _fragments(chain: Chain, device: Device | None) -> Iterator[Warning]:
    if not chain.slots or chain.mode is not Mode.NATIVE:
        return  # generic mode linearizes packets for programs that need it
    lacking = [i for i, slot in enumerate(chain.slots) if not slot.component.frags]
    names = ", ".join(chain.slots[i].name for i in lacking)
    slot = lacking[0] if len(lacking) == 1 else None
    large = device is not None and device.mtu > SINGLE_BUFFER_MTU
    if device is not None and large and lacking:
        yield Warning(
            slot,
            f"MTU {device.mtu} needs multi-buffer support (missing in {names}): most "
            f"drivers refuse the chain. Lower the MTU to {SINGLE_BUFFER_MTU}, or build it in section "
            f"xdp.frags",
        )
    elif device is not None and large and device.features is not None and "rx-sg" not in device.features:
        driver = device.driver or "the driver"
        text = f"MTU {device.mtu} needs multi-buffer support, which {driver} does not have for XDP"
        yield Warning(None, f"{text}. Lower the MTU to {SINGLE_BUFFER_MTU}")
    elif 0 < len(lacking) < len(chain):
        need = f"; MTU {device.mtu} needs none" if device is not None else ""
        text = f"no multi-buffer packets (jumbo frames), because of {names}{need}"
        yield Warning(slot, text)


def _redirects(chain: Chain, device: Device | None, around: Surroundings) -> Iterator[Warning]:
    if chain.mode is not Mode.NATIVE:
        return  # generic redirects use the normal transmit path, which every device has
    types = {map_id: fact.type for map_id, fact in around.maps.items()}
    for i, slot in enumerate(chain.slots):
        use = redirect_use(slot.component, types)
        if slot.shadow or slot.off or not use:
            continue
        features = device.features if device is not None else None
        if device is not None and features is not None and "redirect" not in features:
            lacks = (
                f"{device.driver or 'the driver'} of {device.interface.name} does not support (no "
                f"redirect feature)"
            )
            yield Warning(i, f"{slot.name} redirects packets, which {lacks}: they are lost")
        if use.devices or use.anywhere:
            yield from _targets(i, slot, use.devices, around)


def _targets(i: int, slot: Slot, names: tuple[str, ...], around: Surroundings) -> Iterator[Warning]:
    """Warn about redirect targets. A running component's are in its device maps; a new one's are unknown."""
    deaf = {neighbour.ifindex: neighbour.name for neighbour in around.neighbours if _deaf(neighbour)}
    filled = {ref.name: around.maps[ref.id].targets for ref in slot.component.maps if ref.id in around.maps}
    known = {ifindex for name in names for ifindex in filled.get(name, ())}
    if known:
        here = {neighbour.ifindex for neighbour in around.neighbours}
        targets = [deaf[ifindex] for ifindex in sorted(known & deaf.keys())]
        if targets:
            yield Warning(i, f"{slot.name} redirects to {some(targets)}: {_NO_XMIT}, packets are lost")
        if around.neighbours and (gone := sorted(known - here)):
            numbers = some(gone)
            text = f"{slot.name} redirects to ifindex {numbers}, which is not in this namespace (any more)"
            yield Warning(i, text)
    elif deaf:
        listed = some(deaf.values())
        where = f"the targets in {', '.join(names)} are not set yet" if names else "its targets are not known"
        yield Warning(i, f"{slot.name} redirects packets, and {where}: {listed} would lose them, {_NO_XMIT}")


_NO_XMIT = "no ndo-xmit feature"


def _deaf(neighbour: Neighbour) -> bool:
    return neighbour.features is not None and "ndo-xmit" not in neighbour.features


def _lost(chain: Chain, running: Running, around: Surroundings, keep_maps: bool) -> Iterator[Warning]:
    """The state that is lost with a removed slot or a replaced program."""
    old = running.chain
    if old is None:
        return
    kept = {ref.id for slot in chain.slots for ref in _kept(slot.component)}
    after = {slot.key: i for i, slot in enumerate(chain.slots)}
    told: set[int] = set()
    for slot in old.slots:
        if keep_maps and slot.key not in after:
            continue
        gone = [ref for ref in slot.component.maps if _matters(ref, around) and ref.id not in kept | told]
        told.update(ref.id for ref in gone)
        if not gone:
            continue
        what = ", ".join(_described(ref, around) for ref in gone)
        place = after.get(slot.key)
        how = "is removed" if place is None else "is replaced"
        yield Warning(place, f"{slot.name} {how}, and the contents of its maps are lost: {what}")
    if running.counting is not None and chain.slots:
        if not chain.counters:
            yield Warning(None, "counts so far are lost: counters are turned off")
        elif not chain.linkage.facts.counts_chain and running.counters_map is not None:
            what = "counting of what the chain returned does not continue"
            yield Warning(None, f"{what}: with {chain.linkage} linkage, only slots count")


def _kept(component: Component) -> tuple[MapRef, ...]:
    """The running maps that a component keeps: a new version keeps those that it has by name."""
    if component.id is not None:
        return component.maps
    return tuple(ref for ref in component.maps if ref.name in component.uses)


def _matters(ref: MapRef, around: Surroundings) -> bool:
    fact = around.maps.get(ref.id)
    if ref.name.startswith(_NO_STATE):
        return False
    return fact is None or not (fact.pinned or fact.type in TRANSIENT or fact.elements == 0)


def _described(ref: MapRef, around: Surroundings) -> str:
    fact = around.maps.get(ref.id)
    if fact is None:
        return ref.name
    if fact.elements is None or fact.type in ("array", "percpu_array"):
        return f"{ref.name} ({fact.type})"
    entries = "entry" if fact.elements == 1 else "entries"
    return f"{ref.name} ({fact.type}, {fact.elements} {entries})"
