# SPDX-License-Identifier: Apache-2.0
"""Warnings of a plan that need kernel state: map contents, and which devices accept redirects."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from xdpchain.bytecode.sites import VerdictSite
from xdpchain.errors import XdpChainError
from xdpchain.linkage.linkable_slots import object_bytes
from xdpchain.model.chain import Chain
from xdpchain.model.component import Component
from xdpchain.model.interface import Mode
from xdpchain.model.running import Running
from xdpchain.objects.effects import Effects, effects_of
from xdpchain.objects.redirects import TO_DEVICES, redirect_use
from xdpchain.objects.verdicts import verdicts_of
from xdpchain.sys import bpf
from xdpchain.sys.device_maps import device_targets
from xdpchain.sys.netlink import Netlink
from xdpchain.sys.pinned import find_pins

from .lint import NOTHING_KNOWN, MapFact, Neighbour, Surroundings, lint
from .plan import Plan

__all__ = ["kernel_context", "with_kernel_warnings"]

COUNTED = 10_000
"""Most elements of a map that are counted; larger numbers are not reported."""

UNLISTED = {"queue", "stack", "ringbuf", "user_ringbuf", "bloom_filter", "perf_event_array", "arena"}
"""Map types whose elements can't be counted by key."""


def with_kernel_warnings(plan: Plan, around: Surroundings | None = None) -> Plan:
    """The plan with its chain's warnings extended by kernel state. Changes and raises nothing: what can't be
    read is omitted. ``around`` is the state from before the plan was applied.
    """
    if around is None:
        around = kernel_context(plan.running, plan.candidate)
    if around == NOTHING_KNOWN:
        return plan
    plain = lint(plan.candidate, plan.running, keep_maps=plan.keep_maps)
    of_the_change = tuple(warning for warning in plan.warnings if warning not in plain)
    known = lint(plan.candidate, plan.running, around, keep_maps=plan.keep_maps)
    return replace(plan, warnings=(*known, *of_the_change))


def kernel_context(running: Running, candidate: Chain) -> Surroundings:
    """The maps that leave the running chain, device maps of the slots that stay, other interfaces if the
    candidate redirects, side effects of shadow slots, and verdict sites of slots with a policy.
    """
    maps = _facts(running, candidate)
    types = {map_id: fact.type for map_id, fact in maps.items()}
    redirects = candidate.mode is Mode.NATIVE and any(
        redirect_use(slot.component, types) for slot in candidate
    )
    effects = {slot.key: _effects(slot.component) for slot in candidate if slot.shadow}
    sites = {slot.key: _sites(slot.component) for slot in candidate if slot.policy}
    return Surroundings(maps, _neighbours(running) if redirects else (), effects, sites)


def _effects(component: Component) -> Effects | None:
    if component.object is None:
        return None
    try:
        return effects_of(object_bytes(component.object), component.name)
    except XdpChainError:  # gone meanwhile, or not permitted
        return None


def _sites(component: Component) -> tuple[VerdictSite, ...]:
    if component.object is None:
        return ()
    try:
        return verdicts_of(object_bytes(component.object), component.name).sites
    except XdpChainError:  # as above
        return ()


def _facts(running: Running, candidate: Chain) -> dict[int, MapFact]:
    old = {ref.id for slot in running.chain or () for ref in slot.component.maps}
    kept = {ref.id for slot in candidate for ref in slot.component.maps}
    facts = {map_id: fact for map_id in sorted(old | kept) if (fact := _fact(map_id, old - kept))}
    if old - kept:
        pinned = find_pins(of_chains=False).maps
        facts |= {map_id: replace(fact, pinned=True) for map_id, fact in facts.items() if map_id in pinned}
    return facts


def _fact(map_id: int, leaving: Iterable[int]) -> MapFact | None:
    try:
        with bpf.map_by_id(map_id) as fd:
            info = bpf.map_info(fd)
            kind = bpf.map_type_name(info.type)
            targets = device_targets(fd, info) if kind in TO_DEVICES else ()
            counted = _count(fd, info, kind) if map_id in leaving else None
    except bpf.BpfError:  # gone meanwhile, or not permitted
        return None
    return MapFact(kind, counted, targets)


def _count(fd: bpf.Fd, info: bpf.MapInfo, kind: str) -> int | None:
    if kind in UNLISTED:
        return None
    if kind in ("array", "percpu_array"):
        return info.max_entries
    count = 0
    for _ in bpf.map_keys(fd, info.key_size):
        count += 1
        if count == COUNTED:
            return None
    return count


def _neighbours(running: Running) -> tuple[Neighbour, ...]:
    try:
        with Netlink(running.interface.netns) as netlink:
            features = netlink.xdp_features()
            links = netlink.links()
    except XdpChainError:
        return ()
    return tuple(
        Neighbour(link.ifindex, link.name, None if features is None else features.get(link.ifindex))
        for link in links
        # The loopback device accepts no XDP frames, and nobody sends it any.
        if link.kind is not None or link.address != "00:00:00:00:00:00"
    )
