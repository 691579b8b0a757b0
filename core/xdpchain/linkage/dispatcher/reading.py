# SPDX-License-Identifier: Apache-2.0
"""A recognised dispatcher as a chain: whose it is, its slots, and why it can't be edited where it can't."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xdpchain.errors import PermissionDenied
from xdpchain.model.chain import Chain, Linkage, Mode, Slot
from xdpchain.model.running import Owner
from xdpchain.sys import bpf, bpffs

from .attached import PinsMissing, replaces_main, slots_by_links, slots_by_pins
from .config import EVERY_CODE, DispatcherConfig
from .emit import beyond_pass, function_ids
from .installed import EMITTED
from .recognise import Recognised

__all__ = ["Reading", "read_chain"]

BPFMAN_PINS = Path("/run/bpfman/fs/xdp")


@dataclass(frozen=True, slots=True)
class Reading:
    """``chain`` is None where it can't be edited: then ``note`` says why, and ``shown`` is what is known. The
    note of a chain that can be edited says what is wrong with it.
    """

    owner: Owner
    chain: Chain | None = None
    shown: Chain | None = None
    note: str = ""


def read_chain(found: Recognised, ifname: str, ifindex: int, mode: Mode) -> Reading:
    """What hangs on the dispatcher that runs on this interface. Raises BpfError when it went away."""
    owner = Owner.XDPTUI if found.ours else Owner.LIBXDP
    config = found.config
    if config is None:
        note = f"it is a dispatcher, but {found.trouble}: only the tool that made it can change it"
        return Reading(owner, note=note)

    with bpf.prog_by_id(found.id) as program:
        functions = function_ids(program)
    alone = replaces_main(ifindex, found.id, config, functions, ours=found.ours)

    def chain_of(slots: Sequence[Slot]) -> Chain:
        bare = alone and len(slots) == 1 and beyond_pass(config.slots[0])
        return Chain(tuple(slots), Linkage.FREPLACE, mode, dispatcher_version=found.version, bare=bare)

    def only_shown(slots: Sequence[Slot] | None, note: str) -> Reading:
        return Reading(owner, None, chain_of(slots or ()), note)

    def linked() -> tuple[Slot, ...] | None:
        with contextlib.suppress(bpf.BpfError):
            return slots_by_links(found.id, config, functions, shades=not alone)
        return None

    try:
        slots, unlinked = slots_by_pins(ifindex, found.id, config, shades=not alone)
    except (bpffs.BpffsMissing, PermissionDenied) as error:
        return only_shown(linked(), f"its components' pins can't be read. {error}")
    except OSError as error:
        note = f"its components' pins can't be read: {os.strerror(error.errno or 0)}"
        return only_shown(linked(), note)
    except PinsMissing:
        there = linked()
        if found.bpfman or any(BPFMAN_PINS.glob(f"dispatcher_*_{ifindex}_*")):
            owner = Owner.BPFMAN
            return only_shown(there, "bpfman made and manages this chain: change it with bpfman")
        return only_shown(there, _without_pins(ifname, there, len(config.slots)))
    if found.version not in EMITTED:
        note = (
            f"its dispatcher is of version {found.version}, of libxdp before 1.3: it is shown, not edited. "
            f"Unload it (`xdp-loader unload {ifname} --all`) and load the chain again to edit it here"
        )
        return only_shown(slots, note)
    if config.devbound:
        note = "its programs are bound to the device: change it with the tool that made it"
        return only_shown(slots, note)
    chain = chain_of(slots)
    notes = (_unlinked(slots, unlinked), _unshaded(slots, config) or _bare(chain))
    return Reading(owner, chain, note="; ".join(filter(None, notes)))


def _bare(chain: Chain) -> str:
    if not chain.bare:
        return ""
    return (
        f"{chain.slots[0].name} has taken the dispatcher's place, as libxdp has it with a single program: "
        "its code is the verdict, whatever its actions. Any change made here puts it behind the dispatcher"
    )


def _unlinked(slots: Sequence[Slot], unlinked: frozenset[int]) -> str:
    if not unlinked:
        return ""
    names = ", ".join(slots[index].name for index in sorted(unlinked))
    return f"the pinned link of {names} is gone, so it does not run: any change of the chain attaches it anew"


def _unshaded(slots: Sequence[Slot], config: DispatcherConfig) -> str:
    """A component that was in shadow, until libxdp removed all the others."""
    placed = zip(slots, config.slots, strict=True)
    names = [slot.name for slot, one in placed if one.actions == EVERY_CODE and not slot.shadow]
    if not names:
        return ""
    return (
        f"{names[0]} was in shadow, but another tool left it alone in the chain, where its verdict counts: "
        "`xdptui set IF 0 --shadow` puts it back"
    )


def _without_pins(ifname: str, linked: Sequence[Slot] | None, count: int) -> str:
    if linked is None:
        still = f"this kernel does not tell which of its {count} components still run"
    elif linked:
        still = f"{len(linked)} of its {count} components still run"
    else:
        still = "none of its components runs any more"
    return (
        f"it is a dispatcher whose pins are gone, and {still}. "
        f"Remove it (`xdp-loader unload {ifname} --all`, or `ip link set dev {ifname} xdp off`) "
        "and load the chain again"
    )
