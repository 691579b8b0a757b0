# SPDX-License-Identifier: Apache-2.0
"""The manifest of a static or tail-call chain <-> JSON: all that a fresh process needs to rebuild the
chain. Pure.

It lies in a frozen array map that is bound to the dispatcher, and vanishes with it. Maps are named by id;
the dispatcher holds every one of them, so the ids stay valid for as long as the manifest can be read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xdpchain.errors import InvalidInput

from .actions import Action, ActionSet
from .chain import Chain, Component, GlobalValue, Linkage, MapRef, Mode, ObjectRef, Slot
from .policy import Answer, Policy
from .routes import Route
from .runconfig import RunConfig

__all__ = ["FORMAT", "Author", "Manifest"]

FORMAT = 1
EXTENDED = 2
"""The format of a chain with routes, shadow or policies: who knows nothing of them must not take it for one
without.
"""


@dataclass(frozen=True, slots=True)
class Author:
    """Who made a chain: user name, pid, command line, and when (seconds since 1970)."""

    user: str
    pid: int
    command: str
    at: float

    def __str__(self) -> str:
        return f"{self.user}, pid {self.pid} ({self.command})"


@dataclass(frozen=True, slots=True)
class Manifest:
    """A chain as its dispatcher carries it. ``replaces_prog_id``: the id of the program whose place this one
    took, and which did the same (None: it is a state of its own). ``arrays`` are the map ids of a tail-call
    chain's program arrays, one a slot: what they hold is what the chain does, and may be newer than what
    this says.
    """

    chain: Chain
    author: Author
    counters_map: int | None = None
    replaces_prog_id: int | None = None
    arrays: tuple[int, ...] = ()

    def encode(self) -> bytes:
        document: dict[str, Any] = {
            "format": EXTENDED if any(s.routes or s.shadow or s.policy for s in self.chain) else FORMAT,
            "linkage": self.chain.linkage.value,
            "mode": self.chain.mode.value,
            "counters": self.counters_map,
            "author": {
                "user": self.author.user,
                "pid": self.author.pid,
                "command": self.author.command,
                "at": self.author.at,
            },
            "slots": [_slot_out(slot) for slot in self.chain.slots],
        }
        if self.replaces_prog_id is not None:
            document["stands_for"] = self.replaces_prog_id
        if self.arrays:
            document["arrays"] = self.arrays
        return json.dumps(document, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes) -> Manifest:
        """Read what `encode` wrote, padding stripped. Raises InvalidInput."""
        try:
            document = json.loads(data.rstrip(b"\0"))
            if document["format"] not in (FORMAT, EXTENDED):
                raise InvalidInput(
                    "the chain's manifest can't be read",
                    f"it has format {document['format']}, this reads up to {EXTENDED}",
                    "Use the xdptui that made the chain, or a newer one",
                )  # fmt: skip
            chain = Chain(
                tuple(_slot_in(slot) for slot in document["slots"]),
                Linkage(document["linkage"]),
                Mode(document["mode"]),
                document["counters"] is not None,
            )
            author = Author(**document["author"])
            arrays = tuple(int(number) for number in document.get("arrays", ()))
            return cls(chain, author, document["counters"], document.get("stands_for"), arrays)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidInput("the chain's manifest can't be read", repr(error)) from None


def _config_out(config: RunConfig) -> dict[str, Any]:
    return {"priority": config.priority, "actions": config.actions.names()}


def _config_in(document: Mapping[str, Any]) -> RunConfig:
    return RunConfig(document["priority"], ActionSet.parse(document["actions"]))


def _global_out(one: GlobalValue) -> list[Any]:
    return [one.name, one.section, one.offset, one.data.hex(), one.text]


def _global_in(document: list[Any]) -> GlobalValue:
    name, section, offset, data, text = document
    return GlobalValue(str(name), str(section), int(offset), bytes.fromhex(data), str(text))


def _slot_out(slot: Slot) -> dict[str, Any]:
    component = slot.component
    source = component.object
    return {
        "key": slot.key,
        "row": slot.row,
        "shadow": slot.shadow,
        **_config_out(slot.config),
        **({"routes": [[route.code, route.target] for route in slot.routes]} if slot.routes else {}),
        **(
            {"policy": {"may": slot.policy.may.names(), "otherwise": slot.policy.otherwise}}
            if slot.policy
            else {}
        ),
        **({"program": slot.program} if slot.program is not None else {}),
        "name": component.name,
        "section": component.section,
        "declared": _config_out(component.declared),
        "frags": component.frags,
        "licence": component.licence,
        "callees": component.callees,
        "uses": component.uses,
        "pin_root": component.pin_root,
        "instance": component.instance,
        "id": component.id,
        "tag": component.tag,
        "loaded_at": component.loaded_at,
        "instructions": component.instructions,
        "maps": {ref.name: ref.id for ref in component.maps},
        "unit": component.unit_map,
        **({"globals": [_global_out(one) for one in component.globals]} if component.globals else {}),
        **({"map_entries": dict(component.map_entries)} if component.map_entries else {}),
        "object": source
        and {"sha256": source.sha256, "size": source.size, "path": source.path, "map": source.map_id},
    }


def _slot_in(document: Mapping[str, Any]) -> Slot:
    source = document["object"]
    component = Component(
        name=document["name"],
        section=document["section"],
        declared=_config_in(document["declared"]),
        frags=document["frags"],
        licence=document["licence"],
        callees=tuple(document["callees"]),
        uses=tuple(document["uses"]),
        pin_root=document["pin_root"],
        instance=document["instance"],
        id=document["id"],
        tag=document["tag"],
        loaded_at=document["loaded_at"],
        instructions=document["instructions"],
        maps=tuple(MapRef(name, number) for name, number in document["maps"].items()),
        unit_map=document["unit"],
        globals=tuple(_global_in(one) for one in document.get("globals", ())),
        map_entries=tuple(document.get("map_entries", {}).items()),
        object=source and ObjectRef(source["sha256"], source["size"], source["path"], source["map"]),
    )
    routes = tuple(
        Route(None if code is None else Action(code), str(target))
        for code, target in document.get("routes", ())
    )
    shadow = bool(document.get("shadow", False))  # manifests of earlier versions know no shadow
    policy = document.get("policy")
    return Slot(
        component,
        _config_in(document),
        document["key"],
        document["row"],
        routes,
        shadow,
        policy and Policy(ActionSet.parse(policy["may"]), Answer(policy["otherwise"])),
        document.get("program"),
    )
