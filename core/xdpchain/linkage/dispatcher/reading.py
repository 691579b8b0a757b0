# SPDX-License-Identifier: Apache-2.0
"""A recognised dispatcher as a chain: its owner, its slots, and, if it can't be edited, why not."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import field, replace
from pathlib import Path

from xdpchain.advice import Advice, Do, advise
from xdpchain.errors import InvalidInput, PermissionDenied
from xdpchain.frozen import frozen
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.interface import Interface, Mode
from xdpchain.model.running import Owner
from xdpchain.model.slot import Slot
from xdpchain.sys import bpf, bpffs

from .attached import OwnCounts, PinsMissing, own_counts, replaces_main, slots_by_links, slots_by_pins
from .config import EVERY_CODE, DispatcherConfig
from .emit import beyond_pass, function_ids
from .installed import EMITTED, emitted_version
from .recognise import Recognised

__all__ = ["DispatcherReading", "read_chain"]

BPFMAN_PINS = (Path("/run/bpfman/fs/xdp"), Path("/sys/fs/bpf/bpfman/xdp"))
"""Where bpfman's Rust and Go versions pin their dispatchers and links."""


@frozen
class DispatcherReading:
    """``chain`` is None if it can't be edited: ``note`` then says why, ``todo`` what helps, ``shown`` is what
    is known, and ``link_id`` the bpf_link that holds the dispatcher. For an editable chain ``note`` says what
    is wrong with it.
    """

    owner: Owner
    chain: Chain | None = None
    shown: Chain | None = None
    note: str = ""
    todo: str | Advice = ""
    link_id: int | None = None
    own_counts: OwnCounts = field(default_factory=OwnCounts)


def read_chain(
    found: Recognised, where: Interface, mode: Mode, find_link: Callable[[], int | None]
) -> DispatcherReading:
    """What is behind the dispatcher that runs ``where``; ``find_link`` looks for the bpf_link that holds it,
    and is called only if the chain can't be edited. Raises BpfError if the dispatcher is gone.
    """
    ifindex = where.ifindex
    owner = Owner.XDPTUI if found.ours else Owner.LIBXDP
    config = found.config
    if config is None:
        note = f"it is a dispatcher, but {found.trouble}: only the tool that made it can change it"
        owner = owner if found.ours else Owner.UNKNOWN
        return DispatcherReading(owner, note=note, todo=advise(Do.FIND_OWNER), link_id=find_link())

    with bpf.prog_by_id(found.id) as program:
        functions = function_ids(program)
    alone = replaces_main(ifindex, found.id, config, functions, ours=found.ours)

    def chain_of(slots: Sequence[Slot]) -> Chain:
        bare = alone and len(slots) == 1 and beyond_pass(config.slots[0])
        version = found.version if found.version in EMITTED else emitted_version()
        return Chain(tuple(slots), Linkage.FREPLACE, mode, dispatcher_version=version, bare=bare)

    def only_shown(slots: Sequence[Slot] | None, note: str, todo: str | Advice = "") -> DispatcherReading:
        return DispatcherReading(owner, None, chain_of(slots or ()), note, todo, find_link())

    def linked() -> tuple[Slot, ...] | None:
        with contextlib.suppress(bpf.BpfError):
            return slots_by_links(found.id, config, functions, shades=not alone)
        return None

    try:
        slots, unlinked = slots_by_pins(ifindex, found.id, config, shades=not alone)
        counts = own_counts(slots)
    except InvalidInput as error:
        return only_shown(linked(), str(error), error.todo)
    except (bpffs.BpffsMissing, PermissionDenied) as error:
        note = f"its components' pins can't be read. {error.what}: {error.why}"
        return only_shown(linked(), note, error.todo)
    except OSError as error:
        note = f"its components' pins can't be read: {os.strerror(error.errno or 0)}"
        return only_shown(linked(), note)
    except PinsMissing:
        there, link = linked(), find_link()
        if _is_bpfmans(found, ifindex, link):
            owner = Owner.BPFMAN
            note = "bpfman made this chain and manages it: change it with bpfman"
            return only_shown(there, note, advise(Do.ASK_OWNER))
        if link is not None:  # libxdp and we attach by netlink
            owner = owner if found.ours else Owner.UNKNOWN
            note = (
                f"a bpf_link (id {link}) holds its dispatcher, so it has an owner: change it with that tool"
            )
            return only_shown(there, note, advise(Do.FIND_OWNER))
        note, idle = _without_pins(there, len(config.slots))
        todo = advise(Do.DETACH_IDLE, mode.value, on=where) if idle else advise(Do.FIND_OWNER)
        return only_shown(there, note, todo)
    chain, unshaded = replace(chain_of(slots), counters=counts.wanted), _unshaded(slots, config)
    notes = (_old(found.version), _unlinked(slots, unlinked), unshaded or _bare(chain))
    back = advise(Do.SHADOW_AGAIN, 0, on=where) if unshaded else ""
    return DispatcherReading(owner, chain, note="; ".join(filter(None, notes)), todo=back, own_counts=counts)


def _is_bpfmans(found: Recognised, ifindex: int, link: int | None) -> bool:
    """By the priorities in unused slots; if all are used, by all priorities and a bpf_link, which libxdp does
    not use; or by bpfman's pins, if they are visible.
    """
    if found.bpfman or (found.priorities_50 and link is not None):
        return True
    return any(
        any(place.glob(f"dispatcher_*_{ifindex}_{what}")) for place in BPFMAN_PINS for what in ("*", "link")
    )


def _old(version: int) -> str:
    if version in EMITTED:
        return ""
    return (
        f"its dispatcher has version {version} (libxdp before 1.3): any change made here moves "
        f"it to version {emitted_version()} in one step, and that libxdp can no longer edit it"
    )


def _bare(chain: Chain) -> str:
    if not chain.bare:
        return ""
    return (
        f"{chain.slots[0].name} has taken the dispatcher's place, as libxdp does with a single program: "
        "its code is the verdict, whatever its actions. Any change made here puts it behind the dispatcher"
    )


def _unlinked(slots: Sequence[Slot], unlinked: frozenset[int]) -> str:
    if not unlinked:
        return ""
    names = ", ".join(slots[index].name for index in sorted(unlinked))
    return f"the pinned link of {names} is gone, so it does not run: any change to the chain reattaches it"


def _unshaded(slots: Sequence[Slot], config: DispatcherConfig) -> str:
    """The note for a component that was in shadow until libxdp removed all the others; else ""."""
    placed = zip(slots, config.slots, strict=True)
    former = next((slot for slot, set_to in placed if set_to.actions == EVERY_CODE and not slot.shadow), None)
    if former is None:
        return ""
    note = (
        f"{former.name} was in shadow, but another tool left it as the only program in the chain, so "
        f"its verdict counts"
    )
    answers = former.policy is not None and former.policy.otherwise.action is not None
    return note + ", and what its policy forbids is only reported" * answers


def _without_pins(linked: Sequence[Slot] | None, count: int) -> tuple[str, bool]:
    """What is known about it, and whether nothing runs behind it."""
    if linked is None:
        still = f"this kernel does not report which of its {count} components still run"
    elif linked:
        still = f"{len(linked)} of its {count} components still run"
    else:
        still = "none of its components is still running"
    return f"it is a dispatcher whose pins are gone, and {still}", linked is not None and not linked
