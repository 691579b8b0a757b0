# SPDX-License-Identifier: Apache-2.0
"""What runs on an interface <-> JSON, for recordings. Pure.

The format is that of ``status --json``, with the chain as its manifest. Omitted is what is meaningless
elsewhere or later: object files' bytes, pending changes, packet followers.
"""

from __future__ import annotations

import json
from dataclasses import replace
from enum import StrEnum
from typing import Any, Final, TypeVar

from xdpchain.decoding import ID, Fields
from xdpchain.model.chain import MAX_SLOTS, Chain, Linkage
from xdpchain.model.interface import Interface, Mode
from xdpchain.model.link_layer import ARPHRD_ETHER
from xdpchain.model.manifest import Author, Manifest, chain_in
from xdpchain.model.running import Device, DispatcherInfo, Hook, Owner, Running

__all__ = ["running_in", "running_out"]

NOBODY: Final = Author("", 0, "", 0.0)

MOST_PROGRAMS: Final = 3
"""Most hooks of an interface: one per mode."""

Document = dict[str, Any]
_Word = TypeVar("_Word", bound=StrEnum)


def running_out(running: Running) -> Document:
    """One interface and what runs on it."""
    device, where = running.device, running.interface
    return {
        "name": where.name,
        "ifindex": where.ifindex,
        "netns": where.netns,
        "owner": running.owner and running.owner.value,
        "linkage": running.linkage and running.linkage.value,
        "dispatcher": running.dispatcher
        and {
            "id": running.dispatcher.id,
            "version": running.dispatcher.version,
            "bound": running.dispatcher.bound,
        },
        "note": running.note,
        "programs": [
            {"mode": h.mode.value, "id": h.prog_id, "name": h.name, "tag": h.tag, "link": h.link_id}
            for h in running.hooks
        ],
        "device": {
            "up": device.up,
            "operstate": device.operstate,
            "mtu": device.mtu,
            "driver": device.driver,
            "features": None if device.features is None else sorted(device.features),
            "address": device.address,
            "arphrd": device.arphrd,
            "kind": device.kind,
            "rx": {"packets": device.rx[0], "bytes": device.rx[1]},
            "tx": {"packets": device.tx[0], "bytes": device.tx[1]},
        },
        "counters_map": running.counters_map,
        "arrays": list(running.arrays),
        "stands_for": running.replaces_prog_id,
        "chain": _chain_out(running.chain),
        "shown": _chain_out(running.shown),
    }


def running_in(value: Any) -> Running:
    """Read what `running_out` wrote. Raises InvalidInput."""
    document = Fields(value, "what ran")
    dispatcher = document.fields_or_none("dispatcher")
    where = Interface(
        document.text("name"), document.integer("ifindex", most=ID), document.text_or_none("netns")
    )
    return Running(
        _device_in(document.fields("device"), where),
        tuple(map(_hook_in, document.objects("programs", most=MOST_PROGRAMS))),
        _word(document, "owner", Owner),
        _word(document, "linkage", Linkage),
        None if dispatcher is None else _dispatcher_in(dispatcher),
        _chain_in(document.fields_or_none("chain")),
        document.integer_or_none("counters_map", most=ID),
        document.text("note", most=1 << 16),
        _chain_in(document.fields_or_none("shown")),
        replaces_prog_id=document.integer_or_none("stands_for", most=ID),
        arrays=document.integers("arrays", most=MAX_SLOTS, greatest=ID, default=()),
    )


def _dispatcher_in(document: Fields) -> DispatcherInfo:
    return DispatcherInfo(
        document.integer("id", most=ID),
        document.integer("version", most=ID),
        document.flag("bound", default=False),  # not in recordings of earlier versions
    )


def _device_in(document: Fields, where: Interface) -> Device:
    rx, tx = document.fields("rx"), document.fields("tx")
    features = frozenset(document.texts("features", most=64)) if "features" in document else None
    return Device(
        where,
        document.flag("up"),
        document.text("operstate"),
        document.integer("mtu", most=ID),
        document.text_or_none("driver"),
        features,
        (rx.integer("packets"), rx.integer("bytes")),
        (tx.integer("packets"), tx.integer("bytes")),
        document.text_or_none("address"),
        document.integer("arphrd", most=0xFFFF) if "arphrd" in document else ARPHRD_ETHER,
        document.text_or_none("kind"),
    )


def _hook_in(document: Fields) -> Hook:
    mode = _word(document, "mode", Mode)
    if mode is None:
        document.refuse("mode", "is missing")
    return Hook(
        mode,
        document.integer("id", most=ID),
        document.text("name"),
        document.text("tag"),
        document.integer_or_none("link", most=ID),
    )


def _word(document: Fields, name: str, kind: type[_Word]) -> _Word | None:
    word = document.text_or_none(name)
    try:
        return None if word is None else kind(word)
    except ValueError:
        document.refuse(name, "has an unknown word")


def _chain_out(chain: Chain | None) -> Document | None:
    if chain is None:
        return None
    manifest: Document = json.loads(Manifest(chain, NOBODY).encode())
    del manifest["author"]
    # Facts that the manifest leaves to the kernel.
    return {**manifest, "counters": chain.counters, "version": chain.dispatcher_version}


def _chain_in(document: Fields | None) -> Chain | None:
    if document is None:
        return None
    chain = chain_in(document, counters=document.flag("counters"))
    return replace(chain, dispatcher_version=document.integer_or_none("version", most=ID))
