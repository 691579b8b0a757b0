# SPDX-License-Identifier: Apache-2.0
"""The components of a running dispatcher, read from the kernel: from its pins, or from the links to it.

A component that we loaded carries its origin: a frozen map with its slot as a manifest, and its object file.
For any other component the kernel reports enough to attach it again.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from xdpchain.errors import InvalidInput, XdpChainError
from xdpchain.frozen import frozen
from xdpchain.linkage.counting import read_counting
from xdpchain.model.actions import ALL_ACTIONS, ActionSet
from xdpchain.model.component import Component, MapRef
from xdpchain.model.counting import Counting
from xdpchain.model.labels import Labels
from xdpchain.model.manifest import PLAIN, Author, Manifest
from xdpchain.model.runconfig import DEFAULT, MAX_PRIORITY, RunConfig
from xdpchain.model.slot import Slot
from xdpchain.objects.btf import Btf
from xdpchain.objects.btf_types import Kind
from xdpchain.objects.runconfig_btf import read_run_configs
from xdpchain.sys import blobs, bpf, bpffs
from xdpchain.sys.libbpf import BPF_F_XDP_HAS_FRAGS
from xdpchain.sys.while_it_lives import while_it_lives

from .config import EVERY_CODE, DispatcherConfig, SlotConfig
from .emit import MAIN, slot_function
from .recognise import btf_of
from .shadow import read_labels, read_note

__all__ = [
    "ORIGIN",
    "MadeFor",
    "OwnCounts",
    "PinsMissing",
    "author_of_component",
    "labels_of",
    "made_for",
    "own_counts",
    "replaces_main",
    "slots_by_links",
    "slots_by_pins",
]

ORIGIN = "xdptui_origin"
NAME_CUT = 15
"""Characters of a program's name that the kernel keeps."""


class PinsMissing(Exception):
    """Some or all of a dispatcher's pins are missing."""


@frozen
class _Facts:
    """What never changes about a loaded component."""

    component: Component
    key: str
    origin: Manifest | None
    off: Slot | None = None
    """The slot that it stands in for (`stand_in`)."""


def slots_by_pins(
    ifindex: int, dispatcher: int, config: DispatcherConfig, *, shades: bool
) -> tuple[tuple[Slot, ...], frozenset[int]]:
    """The slots of the dispatcher with this prog ID, and the indices of those whose links have no pin.

    As in libxdp, the programs' pins make the chain: a component without a link does not run, but the next
    edit attaches it again. ``shades``: whether the dispatcher can have slots in shadow (`replaces_main`).
    Raises PinsMissing, BpffsMissing, Untrusted, PermissionDenied, BpfError.
    """
    place = bpffs.dispatch_dir(ifindex, dispatcher)
    numbers, unlinked = [], set()
    try:
        with bpffs.open_dispatch_dir(place) as directory:
            for index in range(len(config.slots)):
                if not directory.holds_file(f"prog{index}-link"):
                    unlinked.add(index)
                with directory.get(f"prog{index}-prog") as program:
                    numbers.append(bpf.prog_info(program).id)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise PinsMissing(f"{place.path} lacks the pin of the program in slot {len(numbers)}") from None
        raise
    return _slots(numbers, config, dispatcher, shades), frozenset(unlinked)


def replaces_main(
    ifindex: int, dispatcher: int, config: DispatcherConfig, functions: dict[str, int], *, ours: bool
) -> bool:
    """Whether the dispatcher's only component has replaced its main function. What that component returns is
    then the verdict, whatever the configuration says, and it can't be in shadow. libxdp does this with a
    single component, bpfman doesn't.

    The link shows it from kernel 5.13 (441e8c66b23e); on older kernels the dispatcher's maker decides. Raises
    BpfError.
    """
    if len(config.slots) != 1:
        return False
    place = _pinned_link(ifindex, dispatcher)
    if place is None:
        attached = _attached(dispatcher)
        if attached is None:
            return not ours or slot_function(0, config.slots) == MAIN
        return functions.get(MAIN) in attached
    return place == functions.get(MAIN)


def _pinned_link(ifindex: int, dispatcher: int) -> int | None:
    """The BTF ID of the function that slot 0's pinned link replaces; None if it can't be read."""
    with (
        contextlib.suppress(OSError, XdpChainError),
        bpffs.open_dispatch_dir(bpffs.dispatch_dir(ifindex, dispatcher)) as directory,
        directory.get("prog0-link") as link,
    ):
        info = bpf.link_info(link)
        if info.target == dispatcher:
            return info.target_btf_id
    return None


def _attached(dispatcher: int) -> dict[int, int] | None:
    """The prog IDs that replace functions of a dispatcher, by the functions' BTF IDs; None if links don't
    report their target. Raises BpfError.
    """
    attached: dict[int, int] = {}
    for link_id in bpf.ids(bpf.Command.LINK_GET_NEXT_ID):
        try:
            with bpf.link_by_id(link_id) as fd:
                info = bpf.link_info(fd)
        except bpf.BpfError as error:
            if error.errno == errno.ENOENT:  # it has gone away
                continue
            raise
        if info.type == bpf.LINK_TRACING and not info.target:
            return None
        if info.type == bpf.LINK_TRACING and info.target == dispatcher:
            attached[info.target_btf_id] = info.prog_id
    return attached


def slots_by_links(
    dispatcher: int, config: DispatcherConfig, functions: dict[str, int], *, shades: bool
) -> tuple[Slot, ...] | None:
    """The slots whose components are attached, pinned or not; fewer than the dispatcher is configured for if
    some are gone.

    ``functions`` are the dispatcher's BTF IDs. None if links don't report their target. Raises BpfError.
    """
    attached = _attached(dispatcher)
    if attached is None:
        return None
    places = [functions.get(f"prog{i}", 0) for i in range(len(config.slots))]
    if len(places) == 1 and functions.get(MAIN) in attached:
        places = [functions[MAIN]]
    here = [i for i, place in enumerate(places) if place in attached]
    found = replace(config, slots=tuple(config.slots[i] for i in here))
    return _slots([attached[places[i]] for i in here], found, dispatcher, shades)


def author_of_component(program: int) -> Author | None:
    """Who loaded a component, if it carries that."""
    try:
        origin = _facts(program).origin
    except bpf.BpfError:
        return None
    return origin.author if origin is not None else None


@frozen
class OwnCounts:
    """How a chain's components count for themselves: where (None if none counts); whether components that we
    load should count, judging by those that we loaded; and why, for each that does not count in the cheapest
    form.
    """

    counting: Counting | None = None
    wanted: bool = True
    reason: str = ""


def own_counts(slots: Sequence[Slot]) -> OwnCounts:
    """For the components in these slots. Raises BpfError, InvalidInput for a damaged description."""
    found, reasons, wanted = [], [], []
    for slot in slots:
        facts = _facts(slot.id) if slot.id is not None else None
        if slot.id is None or facts is None or facts.origin is None or facts.key != slot.key:
            continue
        origin = facts.origin
        if origin.form_reason:
            how = "counted while somebody looks" if origin.form == PLAIN else origin.form
            reasons.append(f"{slot.name} is {how}: {origin.form_reason}")
        wanted.append(_wanted(origin))
        with bpf.prog_by_id(slot.id) as program:
            counting = _counting(slot.id, bpf.prog_map_ids(program))
        if counting is not None:
            found.append(counting)
    return OwnCounts(Counting.of_components(found), not wanted or any(wanted), "; ".join(reasons))


@frozen
class MadeFor:
    """The slot that we loaded a component for, and whether it was to count for itself."""

    slot: Slot
    counts: bool


def made_for(program: int) -> MadeFor | None:
    """What a component was loaded for; None if xdptui did not load it. Raises BpfError."""
    origin = _facts(program).origin
    return None if origin is None else MadeFor(origin.chain.slots[0], _wanted(origin))


def _wanted(origin: Manifest) -> bool:
    return origin.form != PLAIN or bool(origin.form_reason)


@while_it_lives(bpf.prog_by_id)
def _counting(prog_id: int, map_ids: tuple[int, ...]) -> Counting | None:
    """Where the component with this prog ID counts, including maps bound to it later."""
    origin = _facts(prog_id).origin
    return None if origin is None else read_counting(origin, map_ids, ORIGIN)


def _slots(programs: list[int], config: DispatcherConfig, dispatcher: int, shades: bool) -> tuple[Slot, ...]:
    keys: set[str] = set()
    slots = []
    for prog_id, placed in zip(programs, config.slots, strict=True):
        facts = _facts(prog_id)
        key = facts.key if facts.key not in keys else f"{facts.key}:{len(keys)}"
        keys.add(key)
        if facts.off is not None:
            slots.append(_off(facts.off, placed, key, prog_id))
            continue
        component = replace(facts.component, frags=bool(placed.flags & BPF_F_XDP_HAS_FRAGS))
        everything = placed.actions == EVERY_CODE
        noted = read_note(prog_id, dispatcher) if everything else None
        policy = facts.origin.chain.slots[0].policy if facts.origin is not None else None
        slots.append(
            Slot(
                component,
                _in_force(placed, noted),
                key,
                shadow=everything and shades,
                labels=labels_of(prog_id, dispatcher),
                policy=policy,
            )
        )
    return tuple(slots)


def labels_of(component: int, dispatcher: int) -> Labels:
    """The labels of a component's slot on this dispatcher: the latest note, else those from when it was
    loaded.
    """
    noted = read_labels(component, dispatcher)
    if noted is not None:
        return noted
    origin = _facts(component).origin
    return origin.chain.slots[0].labels if origin is not None else ()


def _off(slot: Slot, placed: SlotConfig, key: str, stand_in: int) -> Slot:
    """The slot that a program stands in for. The component may be gone because somebody removed its pin; its
    maps still exist.
    """
    component = slot.component
    if component.id is not None and not bpf.prog_lives(component.id):
        component = replace(component, id=None)
    config = RunConfig(min(placed.priority, MAX_PRIORITY), slot.actions)
    return replace(slot, component=component, config=config, key=key, program=stand_in)


def _in_force(placed: SlotConfig, noted: ActionSet | None) -> RunConfig:
    # A program that writes the block itself can set codes beyond the five actions; no component returns
    # those.
    known = ActionSet(placed.actions & (1 << len(ALL_ACTIONS)) - 1)
    return RunConfig(min(placed.priority, MAX_PRIORITY), known if noted is None else noted)


@while_it_lives(bpf.prog_by_id)
def _facts(prog_id: int) -> _Facts:
    with bpf.prog_by_id(prog_id) as program:
        info = bpf.prog_info(program)
        map_ids = bpf.prog_map_ids(program)
        btf = btf_of(info.btf_id) if info.btf_id else None
        name = _full_name(program, info, btf)
    declared = DEFAULT
    if btf is not None:
        with contextlib.suppress(InvalidInput):
            declared = read_run_configs(btf).get(name, DEFAULT)
    known: dict[str, Any] = {
        "id": info.id,
        "tag": info.tag,
        "loaded_at": info.load_time,
        "instructions": info.xlated_len // 8,
    }
    refs, origin = _maps(map_ids)
    if origin is not None:
        slot = origin.chain.slots[0]
        if slot.off:
            return _Facts(slot.component, slot.key, origin, slot)
        return _Facts(replace(slot.component, declared=declared, **known), slot.key, origin)
    licence = "GPL" if info.gpl else "not GPL-compatible"
    component = Component(name, declared=declared, licence=licence, maps=refs, **known)
    return _Facts(component, f"prog:{prog_id}", None)


def _full_name(program: bpf.Fd, info: bpf.ProgInfo, btf: Btf | None) -> str:
    """The main function's name from BTF; the kernel's own is truncated."""
    if btf is None:
        return info.name
    functions = bpf.prog_func_info(program)
    if functions:
        return btf.type(functions[0][1]).name
    if btf.find(info.name, Kind.FUNC) is None and len(info.name) == NAME_CUT:
        longer = [function.name for function in btf.functions() if function.name.startswith(info.name)]
        if len(longer) == 1:
            return longer[0]
    return info.name


def _maps(map_ids: tuple[int, ...]) -> tuple[tuple[MapRef, ...], Manifest | None]:
    refs, origin = [], None
    for map_id in map_ids:
        with bpf.map_by_id(map_id) as fd:
            name = bpf.map_info(fd).name
            if name == ORIGIN:
                with contextlib.suppress(InvalidInput):
                    origin = Manifest.decode(blobs.read(fd))
        # libbpf puts part of the object's name before a data section's.
        section = name[name.index(".") :] if "." in name else name
        if not name.startswith("xdptui_"):
            refs.append(MapRef(section, map_id))
    return tuple(refs), origin
