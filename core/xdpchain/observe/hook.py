# SPDX-License-Identifier: Apache-2.0
"""The programs on an XDP hook: their owner, and their chain."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from xdpchain.advice import Do, advise
from xdpchain.errors import InvalidInput, XdpChainError
from xdpchain.linkage.counting import read_counting
from xdpchain.linkage.dispatcher import MAIN as DISPATCHER
from xdpchain.linkage.prog_array_entries import read_table
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.interface import Mode
from xdpchain.model.manifest import Author, Manifest
from xdpchain.model.paths import adjusted
from xdpchain.model.running import Device, DispatcherInfo, Hook, Owner, Running
from xdpchain.sys import blobs, bpf
from xdpchain.sys.netlink import XdpAttachment

from .permissions import missing_privileges

if TYPE_CHECKING:
    from xdpchain.linkage.dispatcher.recognise import Recognised
    from xdpchain.model.following import Following

__all__ = ["author_of", "manifest_of", "read_hook"]

MANIFEST = "xdptui_manifest"
FOLLOWED = "xdptui_followed"
EMPTIED = "its program arrays were emptied because their pins were removed: only the first slot runs"
STATIC_VERSION = 3
MOST_NOTED = 1 << 20
"""Largest manifest or mark in bytes."""


def read_hook(device: Device, programs: Sequence[XdpAttachment]) -> Running:
    """Identify these programs and read their chain. Programs with invalid metadata are reported as unreadable
    instead of raising.
    """
    try:
        return _running(device, programs)
    except (bpf.BpfError, XdpChainError) as error:  # BpfError: parts of it are gone meanwhile
        hooks = tuple(Hook(Mode(attached.mode), attached.prog_id, "?", "") for attached in programs)
        return _unread(device, hooks, error)


def _running(device: Device, programs: Sequence[XdpAttachment]) -> Running:
    hooks = []
    for place, attached in enumerate(programs):
        try:
            with bpf.prog_by_id(attached.prog_id) as program:
                info = bpf.prog_info(program)
                hooks.append(Hook(Mode(attached.mode), info.id, info.name, info.tag))
                if len(hooks) == 1:
                    maps = bpf.prog_map_ids(program)
                    # The manifest counts before the name: one of our components may be named like a
                    # dispatcher.
                    carrier = _carrier(maps)
                    dispatcher = _dispatcher(program, info, maps) if carrier is None else None
        except (bpf.BpfError, XdpChainError) as error:
            unread = Hook(Mode(attached.mode), attached.prog_id, "?", "")
            return _unread(device, (*hooks, unread)[: place + 1], error)
    if dispatcher is not None and len(hooks) == 1:
        return _dispatched(device, tuple(hooks), dispatcher)
    if carrier is None or len(hooks) > 1:
        return _foreign(device, tuple(hooks))
    try:
        carried = _read_manifest(carrier)
    except bpf.BpfError as error:
        return _unread(device, tuple(hooks), error)
    except XdpChainError as error:
        return Running(device, tuple(hooks), Owner.XDPTUI, note=str(error), todo=error.todo)
    try:
        chain, arrays = _in_force(carried)
    except (bpf.BpfError, XdpChainError) as error:
        note = f"its program arrays can't be read: {error}"
        linkage = carried.chain.linkage
        return Running(device, tuple(hooks), Owner.XDPTUI, linkage, note=note, shown=carried.chain)
    try:
        counting = read_counting(carried, maps, MANIFEST)
    except (bpf.BpfError, XdpChainError) as error:
        return Running(device, tuple(hooks), Owner.XDPTUI, chain.linkage, note=str(error), shown=chain)
    emptied = bool(carried.arrays) and not arrays
    return Running(
        device,
        tuple(hooks),
        Owner.XDPTUI,
        chain.linkage,
        DispatcherInfo(hooks[0].prog_id, STATIC_VERSION, bool(carried.chain.bound)),
        chain,
        counting.origin if counting is not None else None,
        replaces_prog_id=carried.replaces_prog_id,
        following=_following(maps) if maps[-1] != carrier else None,
        note=EMPTIED if emptied else "",
        todo=advise(Do.LINK_ANEW, chain.linkage, on=device.interface) if emptied else "",
        arrays=arrays,
        counting=counting,
        form=carried.form,
        form_reason=carried.form_reason,
    )


def _dispatcher(program: bpf.Fd, info: bpf.ProgInfo, maps: tuple[int, ...]) -> Recognised | None:
    if info.name != DISPATCHER:
        return None
    # Late: it reads BTF, whose import is large.
    from xdpchain.linkage.dispatcher.recognise import recognise

    return recognise(program, info, maps)


def _unread(device: Device, hooks: tuple[Hook, ...], error: OSError | XdpChainError) -> Running:
    """A program that can't be read: without CAP_SYS_ADMIN the kernel shows only its ID."""
    if isinstance(error, OSError) and error.errno in (errno.EPERM, errno.EACCES):
        lacking = tuple(privilege for privilege in missing_privileges() if privilege.name == "CAP_SYS_ADMIN")
        if lacking:
            note = "its program can't be read: CAP_SYS_ADMIN is needed, which this process lacks"
            return Running(device, hooks, Owner.UNKNOWN, note=note, todo=lacking[0].todo)
    why = os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
    return Running(device, hooks, Owner.UNKNOWN, note=f"its program can't be read: {why}")


def _in_force(carried: Manifest) -> tuple[Chain, tuple[int, ...]]:
    """The chain according to its program arrays, which may be newer than the manifest, and their map IDs.

    The kernel empties arrays whose pins were removed; then the manifest's chain is returned without arrays.
    Raises BpfError, InvalidInput.
    """
    if not carried.arrays:
        return carried.chain, ()
    programs = {slot.program: place for place, slot in enumerate(carried.chain) if slot.program is not None}
    with contextlib.ExitStack() as held:
        table = read_table([held.enter_context(bpf.map_by_id(map_id)) for map_id in carried.arrays], programs)
    return (adjusted(carried.chain, table), carried.arrays) if table is not None else (carried.chain, ())


def _dispatched(device: Device, hooks: tuple[Hook, ...], dispatcher: Recognised) -> Running:
    from xdpchain.linkage.dispatcher.reading import read_chain

    interface = device.interface
    reading = read_chain(
        dispatcher, interface, hooks[0].mode, lambda: _xdp_link(interface.ifindex, dispatcher.id)
    )
    return Running(
        device,
        (replace(hooks[0], link_id=reading.link_id), *hooks[1:]),
        reading.owner,
        Linkage.FREPLACE,
        DispatcherInfo(
            dispatcher.id, dispatcher.version, bool(dispatcher.config and dispatcher.config.devbound)
        ),
        reading.chain,
        note=reading.note,
        todo=reading.todo,
        shown=reading.shown,
        counting=reading.own_counts.counting,
        form_reason=reading.own_counts.reason,
    )


def _carrier(map_ids: tuple[int, ...]) -> int | None:
    """The ID of the manifest among a program's maps. Raises BpfError."""
    # It is bound last, so search from the end.
    for map_id in reversed(map_ids):
        with bpf.map_by_id(map_id) as fd:
            info = bpf.map_info(fd)
            if info.name == MANIFEST and info.type == bpf.MapType.ARRAY and info.max_entries == 1:
                return map_id
    return None


def _read_manifest(map_id: int) -> Manifest:
    """Decode a manifest. Raises BpfError, InvalidInput if it can't be decoded."""
    return blobs.decoded(map_id, Manifest.decode, MOST_NOTED)


def _manifest(map_ids: tuple[int, ...]) -> Manifest | None:
    """The manifest among a program's maps. Raises BpfError, InvalidInput if it can't be decoded."""
    carrier = _carrier(map_ids)
    return None if carrier is None else _read_manifest(carrier)


def _following(map_ids: tuple[int, ...]) -> Following | None:
    """Who the program records packets for: the mark that was bound after the manifest."""
    try:
        for map_id in reversed(map_ids):
            with bpf.map_by_id(map_id) as fd:
                name = bpf.map_info(fd).name
                if name == FOLLOWED[:15]:
                    from xdpchain.model.following import Following

                    following = Following.decode(blobs.read(fd, MOST_NOTED))
                    break
                if name == MANIFEST:
                    return None
        with bpf.map_by_id(following.state_map) as state:
            beat = blobs.read(state, MOST_NOTED)
    except (bpf.BpfError, InvalidInput):
        return None
    return replace(following, alive=following.lives(int.from_bytes(beat[:8], "little"), time.monotonic_ns()))


def manifest_of(program: int) -> Manifest | None:
    """The manifest of a static or tail-call chain's program. Raises InvalidInput, BpfError."""
    with bpf.prog_by_id(program) as fd:
        return _manifest(bpf.prog_map_ids(fd))


def _foreign(device: Device, hooks: tuple[Hook, ...]) -> Running:
    hook = replace(hooks[0], link_id=_xdp_link(device.interface.ifindex, hooks[0].prog_id))
    if hook.link_id is not None:
        how = f"a bpf_link (id {hook.link_id}) holds it"
        todo = advise(Do.ASK_OWNER) | advise(Do.SHOW_LINK, on=device.interface)
    else:
        how, todo = "it was attached by netlink", advise(Do.ADOPT, on=device.interface) | advise(Do.ASK_OWNER)
    note = f"it is not a dispatcher but somebody else's single program; {how}"
    return Running(device, (hook, *hooks[1:]), Owner.FOREIGN, note=note, todo=todo)


def _xdp_link(ifindex: int, prog_id: int) -> int | None:
    """The ID of the bpf_link that holds this program on this interface."""
    try:
        for link_id, info in bpf.each_link():
            if (info.type, info.prog_id, info.target) == (bpf.LINK_XDP, prog_id, ifindex):
                return link_id
    except bpf.BpfError:
        pass  # a kernel before 5.8, which has no such links
    return None


def author_of(running: Running) -> str:
    """Who made the running chain, for messages: the manifest's author, or what is known about the program."""
    hook = running.hook
    if hook is None:
        return "nothing runs there now"
    try:
        with bpf.prog_by_id(hook.prog_id) as program:
            carried = _manifest(bpf.prog_map_ids(program))
    except (bpf.BpfError, XdpChainError):
        carried = None
    author = carried.author if carried else _component_author(running)
    if author is None and running.owner in (Owner.FOREIGN, Owner.UNKNOWN):
        who = "who loaded it is not known"
    else:
        who = f"made by {author or running.owner}"
    return f"program {hook.prog_id} ({hook.name}) runs there now, {who}"


def _component_author(running: Running) -> Author | None:
    """Who loaded the newest component of our dispatcher's chain; libxdp's dispatchers record no author."""
    if running.chain is None or running.owner is not Owner.XDPTUI:
        return None
    from xdpchain.linkage.dispatcher.attached import author_of_component

    loaded = [s.component for s in running.chain.slots if s.component.id is not None]
    newest = max(loaded, key=lambda component: component.loaded_at or 0, default=None)
    return author_of_component(newest.id) if newest is not None and newest.id is not None else None
