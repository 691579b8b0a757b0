# SPDX-License-Identifier: Apache-2.0
"""What runs on an interface <-> JSON, for recordings. Pure.

The words are those of ``status --json``; the chain itself is written as its manifest. Left out is what means
nothing elsewhere or later: object files' bytes, changes that wait to be confirmed, who follows packets.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Final

from xdpchain.model.chain import Chain, Interface, Linkage, Mode
from xdpchain.model.link_layer import ARPHRD_ETHER
from xdpchain.model.manifest import Author, Manifest
from xdpchain.model.running import Device, DispatcherInfo, Hook, Owner, Running

__all__ = ["running_in", "running_out"]

NOBODY: Final = Author("", 0, "", 0.0)

Document = dict[str, Any]


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
        and {"id": running.dispatcher.id, "version": running.dispatcher.version},
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


def running_in(document: Document) -> Running:
    """Read what `running_out` wrote. Raises ValueError, KeyError, TypeError, AttributeError, InvalidInput."""
    device, dispatcher = document["device"], document["dispatcher"]
    where = Interface(str(document["name"]), int(document["ifindex"]), _text(document["netns"]))
    features = device["features"]
    return Running(
        Device(
            where,
            bool(device["up"]),
            str(device["operstate"]),
            int(device["mtu"]),
            _text(device["driver"]),
            None if features is None else frozenset(str(one) for one in features),
            (int(device["rx"]["packets"]), int(device["rx"]["bytes"])),
            (int(device["tx"]["packets"]), int(device["tx"]["bytes"])),
            _text(device["address"]),
            int(device.get("arphrd", ARPHRD_ETHER)),
            _text(device.get("kind")),
        ),
        tuple(
            Hook(Mode(one["mode"]), int(one["id"]), str(one["name"]), str(one["tag"]), _number(one["link"]))
            for one in document["programs"]
        ),
        None if document["owner"] is None else Owner(document["owner"]),
        None if document["linkage"] is None else Linkage(document["linkage"]),
        dispatcher and DispatcherInfo(int(dispatcher["id"]), int(dispatcher["version"])),
        _chain_in(document["chain"]),
        _number(document["counters_map"]),
        str(document["note"]),
        _chain_in(document["shown"]),
        replaces_prog_id=_number(document.get("stands_for")),
        arrays=tuple(int(one) for one in document.get("arrays", ())),
    )


def _chain_out(chain: Chain | None) -> Document | None:
    if chain is None:
        return None
    manifest: Document = json.loads(Manifest(chain, NOBODY).encode())
    del manifest["author"]
    # What a manifest leaves to the kernel to say.
    return {**manifest, "counters": chain.counters, "version": chain.dispatcher_version}


def _chain_in(document: Document | None) -> Chain | None:
    if document is None:
        return None
    author = {"user": "", "pid": 0, "command": "", "at": 0.0}
    manifest = {**document, "author": author, "counters": None}
    chain = Manifest.decode(json.dumps(manifest).encode()).chain
    return replace(
        chain, counters=bool(document["counters"]), dispatcher_version=_number(document.get("version"))
    )


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _number(value: Any) -> int | None:
    return None if value is None else int(value)
