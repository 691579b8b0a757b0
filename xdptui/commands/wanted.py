# SPDX-License-Identifier: Apache-2.0
"""A parsed spec with its object files, and the steps that make one interface run what it says."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace

from xdpchain.change.kernel_warnings import with_kernel_warnings
from xdpchain.change.plan import Plan, make_plan
from xdpchain.errors import XdpChainError
from xdpchain.frozen import frozen
from xdpchain.linkage.choice import choose
from xdpchain.maps.filling import differing
from xdpchain.model.chain import Chain
from xdpchain.model.component import Component
from xdpchain.model.interface import WantedMode
from xdpchain.model.running import Running
from xdpchain.objects.components import with_shared_maps
from xdpchain.observe.discover import interfaces, look
from xdpchain.observe.interface_watch import Presence, names_of
from xdpchain.observe.permissions import require_capabilities
from xdpchain.spec.files import STDIN, read_text
from xdpchain.spec.matching import candidate
from xdpchain.spec.objects import Objects
from xdpchain.spec.reading import parse
from xdpchain.spec.targets import Missing, SpecTarget, idle_globs, namespaces, targets
from xdpchain.spec.values import Spec
from xdptui.commands.spec_report import Result, SpecState
from xdptui.commands.whatif import Attempt, Tried
from xdptui.outcome import Talk
from xdptui.words.printable import printable

__all__ = ["Wanted", "apply_target", "awaited", "plan_target", "read_wanted"]


@frozen
class Wanted:
    """A spec, and the components of each entry's slots; ``netns`` applies to entries that name none."""

    source: str
    spec: Spec
    components: tuple[tuple[Component | None, ...], ...]
    netns: str | None = None
    fresh_maps: bool = False


def read_wanted(path: str, netns: str | None, *, fresh_maps: bool = False) -> Wanted:
    """Read a spec (``-``: standard input) and all object files that it names.

    Raises NotFound, PermissionDenied, InvalidInput.
    """
    text = read_text(path)
    source = "standard input" if path == STDIN else printable(path)
    spec = parse(text, source)
    objects = Objects(os.getcwd() if path == STDIN else os.path.dirname(os.path.abspath(path)))
    components = []
    for entry in spec.interfaces:
        try:
            components.append(objects.components(entry.slots))
        except XdpChainError as error:
            error.what = f"{source}: {error.what}"
            raise
    return Wanted(source, spec, tuple(components), netns, fresh_maps)


def awaited(
    wanted: Wanted, patience: float
) -> tuple[tuple[SpecTarget, ...], tuple[Missing, ...], tuple[Missing, ...]]:
    """The interfaces the spec applies to; what is still missing after ``patience`` seconds: interfaces it
    names, and everything it wants in a namespace that does not exist; and the globs that match nothing
    elsewhere. Raises InvalidInput if two entries want the same interface.
    """
    end = time.monotonic() + patience
    with Presence(namespaces(wanted.spec, wanted.netns)) as presence:
        while True:
            there = presence.look()
            names = names_of(there)
            found, missing = targets(wanted.spec, names, wanted.netns)
            left = end - time.monotonic()
            if left <= 0 or not (missing or presence.absent):
                globs = idle_globs(wanted.spec, names, wanted.netns)
                nowhere = tuple(glob for glob in globs if glob.netns in presence.absent)
                idle = tuple(glob for glob in globs if glob.netns not in presence.absent)
                return found, (*missing, *nowhere), idle
            presence.wait(left)


def plan_target(
    wanted: Wanted, target: SpecTarget, running: Running | None = None
) -> tuple[Plan, tuple[str, ...]]:
    """The plan for one interface, and remarks; ``running``: what a look just found there. Raises what `look`,
    `make_plan` and `choose` raise.
    """
    running = running or look(target.name, target.netns)
    made, notes = _change(wanted, target)(running)
    return with_kernel_warnings(_plan(wanted, target, running, made)), notes


def _plan(wanted: Wanted, target: SpecTarget, running: Running, chain: Chain) -> Plan:
    mode = wanted.spec.interfaces[target.entry].mode
    if mode is WantedMode.BEST and running.chain is not None:  # keep the mode in which the chain runs
        mode = None
    return make_plan(running, chain, mode=mode)


def _change(wanted: Wanted, target: SpecTarget) -> Callable[[Running], tuple[Chain, tuple[str, ...]]]:
    entry = wanted.spec.interfaces[target.entry]

    def make(running: Running) -> tuple[Chain, tuple[str, ...]]:
        if not running.editable:
            require_capabilities()  # what can't be read looks like somebody else's
            make_plan(running, Chain())  # says whose program it is
        notes: list[str] = []
        chain = running.chain or Chain()
        linkage = chain.linkage
        if entry.slots:
            bound = any(one is not None and one.bound for one in wanted.components[target.entry])
            bound = bound and entry.dispatcher_version is None
            asked = entry.linkage.value if entry.linkage else "auto"
            linkage, why = choose(asked, running, bound=bound, slots=len(entry.slots))
            if running.chain is None or running.chain.linkage is not linkage:
                notes.append(f"{linkage} linkage: {why}")
        if running.pending is not None:
            notes.append(f"a change on {running.interface} is pending: it may be rolled back")
        components = wanted.components[target.entry]
        made = candidate(entry, components, running, linkage, fresh_maps=wanted.fresh_maps)
        if entry.share_maps:
            made = with_shared_maps(made, _siblings(wanted, target), every=True)
        return differing(made, target.netns), tuple(notes)

    return make


def _siblings(wanted: Wanted, target: SpecTarget) -> list[Chain]:
    """What runs on the other interfaces of the target's entry."""
    there = {target.netns: [interface.name for interface in interfaces(target.netns)]}
    found, _ = targets(wanted.spec, there, wanted.netns)
    others = [other for other in found if other.entry == target.entry and other.name != target.name]
    chains = (look(other.name, other.netns).chain for other in others)
    return [chain for chain in chains if chain is not None]


def apply_target(
    wanted: Wanted, planned: Result, talk: Talk, confirm: float | None, attempt: Attempt
) -> Result:
    """After ``attempt``, make an interface run what the spec says, and report the result. Uses the plan made
    before, unless somebody has changed the interface since.
    """
    from xdpchain.editing import edit

    target, made = planned.target, planned.plan
    assert target is not None
    if wanted.spec.interfaces[target.entry].share_maps:
        made = None  # others of its entry run by now; it shares their maps
    talk.step(f"{target}: begin")
    change = _change(wanted, target)
    tried = Tried()
    troubles: list[str] = []

    def make(running: Running) -> Plan:
        nonlocal tried
        chain, _ = change(running)
        plan = with_kernel_warnings(_plan(wanted, target, running, chain))
        tried = Tried() if plan.empty else attempt(running, chain)
        return plan

    try:
        if made is not None:
            tried = attempt(made.running, made.candidate)
        plan, now = edit(
            target.name,
            make,
            netns=target.netns,
            made=made,
            progress=talk.step,
            confirm=confirm,
            warn=troubles.append,
        )
    except XdpChainError as error:
        return replace(planned, state=SpecState.FAILED, error=error, troubles=tuple(troubles))
    state = SpecState.UNCHANGED if plan.empty else SpecState.CHANGED
    return replace(planned, state=state, plan=plan, tried=tried, now=now, troubles=tuple(troubles))
