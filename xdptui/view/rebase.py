# SPDX-License-Identifier: Apache-2.0
"""Carry a candidate over to the chain that another editor put in place of its base. Pure."""

from __future__ import annotations

from dataclasses import replace

from xdpchain.errors import InvalidInput
from xdpchain.model.chain import Chain
from xdpchain.model.labels import labels_change
from xdpchain.model.routes import route_name
from xdpchain.model.slot import Slot

__all__ = ["rebase"]


def rebase(base: Chain, candidate: Chain, now: Chain) -> tuple[Chain, tuple[str, ...]]:
    """Make the same edits on ``now``, slot by slot; also returns, as text, what could not be carried over.

    An edit of a slot is what differs from ``base``, so the other editor's changes to the rest of the slot
    stay.
    """
    lost: list[str] = []
    chain = replace(now, linkage=candidate.linkage if candidate.linkage is not base.linkage else now.linkage)
    if candidate.counters != base.counters:
        chain = replace(chain, counters=candidate.counters)
    before = {slot.key: slot for slot in base}
    here = {slot.key for slot in now}
    wanted = {slot.key for slot in candidate}
    chain = chain.remove([i for i, slot in enumerate(now) if slot.key in before and slot.key not in wanted])
    for slot in candidate:
        was = before.get(slot.key)
        if was is None and len(chain) >= chain.linkage.facts.most_slots:
            lost.append(f"{slot.name} could not be added: the chain is full")
        elif was is None:
            chain = chain.add(replace(slot, routes=()))
        elif slot.key not in here:
            if slot != was:
                lost.append(f"{slot.name} is no longer in the chain")
        else:
            chain = _carry(chain, was, slot)
            try:
                change = labels_change(was.labels, slot.labels)
                chain = chain.label(chain.position(slot.key), change)
            except InvalidInput as error:
                lost.append(f"the labels of {slot.name}: {error.what}")
    for slot in candidate:
        chain, gone = _routes(chain, before.get(slot.key), slot)
        lost += gone
    return chain, tuple(lost)


def _carry(chain: Chain, was: Slot, slot: Slot) -> Chain:
    if slot.component != was.component:
        chain = chain.substitute(chain.position(slot.key), slot.component)
    if slot.actions != was.actions:
        chain = chain.retune(chain.position(slot.key), actions=slot.actions)
    if slot.shadow != was.shadow:
        chain = chain.retune(chain.position(slot.key), shadow=slot.shadow)
    if slot.off != was.off:
        chain = chain.retune(chain.position(slot.key), off=slot.off)
    if slot.policy != was.policy:
        chain = chain.police(chain.position(slot.key), slot.policy)
    if slot.priority != was.priority:
        chain = chain.retune(chain.position(slot.key), priority=slot.priority)
    return chain


def _routes(chain: Chain, was: Slot | None, slot: Slot) -> tuple[Chain, list[str]]:
    """Apply the slot's changed routes to the chain, which has their targets by now."""
    before = {route.code: route.target for route in was.routes} if was else {}
    after = {route.code: route.target for route in slot.routes}
    here, lost = {slot.key for slot in chain}, []
    for code in dict.fromkeys((*before, *after)):
        target = after.get(code)
        if before.get(code) == target or slot.key not in here:
            continue
        if target is None or target in here:
            chain = chain.route(chain.position(slot.key), code, target)
        else:
            lost.append(f"{slot.name}: {route_name(code)} leads to a removed slot")
    return chain, lost
