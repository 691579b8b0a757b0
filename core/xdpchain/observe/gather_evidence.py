# SPDX-License-Identifier: Apache-2.0
"""Gather evidence of who owns programs that can't be edited: links, pins, maps, and open descriptors."""

from __future__ import annotations

from collections.abc import Iterable

from xdpchain.model.interface import Mode
from xdpchain.model.running import Owner, Running
from xdpchain.sys import bpf
from xdpchain.sys.fd_owners import FdOwner, fd_owners
from xdpchain.sys.pinned import Pins, find_pins

from .owner_evidence import Evidence, Held

__all__ = ["evidence_of"]


def evidence_of(surveyed: Iterable[Running]) -> dict[int, Evidence]:
    """Evidence about programs that can't be edited (including dispatchers), by ifindex. If there are any,
    this walks all processes and pins. There is none for programs that can't be read.
    """
    foreign = [
        running
        for running in surveyed
        if running.hook is not None and running.chain is None and running.hook.tag and _others(running)
    ]
    if not foreign:
        return {}
    pins = find_pins()
    programs = {program for running in foreign for program in _programs(running)}
    links = {hook.link_id for running in foreign for hook in running.hooks if hook.link_id is not None}
    holding, complete = fd_owners(programs, links)
    return {running.interface.ifindex: _evidence(running, pins, holding, complete) for running in foreign}


def _evidence(running: Running, pins: Pins, holding: tuple[FdOwner, ...], complete: bool) -> Evidence:
    hook = running.hooks[0]
    held = tuple(
        Held(owner.pid, owner.command, owner.holds)
        for owner in holding
        if (owner.id == hook.link_id if owner.holds == "link" else owner.id in _programs(running))
    )
    names, map_ids = _maps(hook.prog_id)
    link_pins = pins.links.get(hook.link_id, ()) if hook.link_id is not None else ()
    paths = [
        *link_pins,
        *(path for program in sorted(_programs(running)) for path in pins.programs.get(program, ())),
    ]
    map_pins = tuple(path for map_id in map_ids for path in pins.maps.get(map_id, ()))
    return Evidence(
        interface=running.interface.name,
        mode=hook.mode,
        prog_id=hook.prog_id,
        name=hook.name,
        link_id=hook.link_id,
        maps=names,
        link_pins=tuple(link_pins),
        pins=(*paths, *map_pins),
        held=held,
        complete=complete and pins.complete,
        netns=running.interface.netns,
        adoptable=running.owner is Owner.FOREIGN and hook.mode is not Mode.OFFLOAD,
    )


def _others(running: Running) -> bool:
    """Whether another tool may have made it. For an xdptui chain without a dispatcher the note is enough."""
    return running.owner is not Owner.XDPTUI or running.linkage_facts.libxdp


def _programs(running: Running) -> frozenset[int]:
    """The programs on the hook, and the components of a dispatcher."""
    behind = (slot.id for slot in running.shown or ())
    return frozenset(
        (*(hook.prog_id for hook in running.hooks), *(prog_id for prog_id in behind if prog_id is not None))
    )


def _maps(program: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
    names, map_ids = [], []
    try:
        with bpf.prog_by_id(program) as fd:
            for map_id in bpf.prog_map_ids(fd):
                with bpf.map_by_id(map_id) as map_fd:
                    names.append(bpf.map_info(map_fd).name)
                    map_ids.append(map_id)
    except bpf.BpfError:  # gone meanwhile, or not permitted
        pass
    return tuple(names), tuple(map_ids)
