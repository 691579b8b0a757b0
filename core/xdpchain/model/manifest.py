# SPDX-License-Identifier: Apache-2.0
"""The manifest of a static or tail-call chain <-> JSON: everything that a new process needs to rebuild the
chain. Pure.

It is stored in a frozen array map bound to the dispatcher, and disappears with it. Maps are referred to by
ID; the dispatcher holds all of them, so the IDs stay valid as long as the manifest can be read.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import Any

from xdpchain.decoding import ID, Fields, fields
from xdpchain.errors import InvalidInput
from xdpchain.frozen import frozen

from .actions import ALL_ACTIONS, Action, ActionSet
from .chain import DISPATCHER_SLOTS, MAX_SLOTS, Chain, Linkage
from .component import Component, GlobalValue, MapRef, ObjectRef, SharedMap
from .interface import Mode
from .labels import Labels, checked_labels
from .policy import Answer, Policy
from .routes import CODES, Route
from .runconfig import MAX_PRIORITY, RunConfig
from .slot import Slot

__all__ = ["FORMAT", "MOST_ROW", "Author", "Manifest", "author_in", "author_out", "chain_in", "labels_in"]

WHAT = "the chain's manifest"
MANY = 4096
"""Most names, maps or values of a component; real objects have dozens."""

MOST_ROW = 2 * MAX_SLOTS
"""The largest number of a slot (`Slot.row`): enough for two entirely different chains."""
OLD_MOST_ROW = 20
"""That of versions with ten slots in every linkage."""

MOST_REASON = 4000
"""Most characters of a reason: a verifier message and a source line."""

FORMAT = 1
EXTENDED = 2
"""The format of a chain with routes, shadows or policies, so that versions without support for these do not
misread it.
"""

PLAIN = "plain"
"""The form of an EXT component without counters. Without a reason: as requested."""

COUNTED = 3
"""The format of a chain with described counters (`counting`); before, they were rows of one map that was
passed on.
"""

SWITCHED = 4
"""The format of a chain with slots that are off, with or without described counters."""

LONG = 5
"""The format of a chain with more than ten slots, or with numbers of slots that only such chains give."""
FORMATS = (FORMAT, EXTENDED, COUNTED, SWITCHED, LONG)


@frozen
class Author:
    """Who created a chain: user name, PID, command line, and time (seconds since 1970)."""

    user: str
    pid: int
    command: str
    at: float

    def __str__(self) -> str:
        return f"{self.user}, pid {self.pid} ({self.command})"


@frozen
class Manifest:
    """A chain as stored with its dispatcher. ``replaces_prog_id``: the ID of an equivalent program that this
    one replaced (None: it is a new state). ``arrays``: map IDs of a tail-call chain's program arrays, one per
    slot; their contents determine what the chain does and may be newer than the manifest. ``counters_map``:
    ID of the map that the chain counts in; ``counts_map``: that of the description of its counters
    (`counting.Counting`), None if they are rows of ``counters_map``. ``form``: how a static chain's
    components were linked into its program; ``form_reason``: why not in a cheaper form.
    """

    chain: Chain
    author: Author
    counters_map: int | None = None
    replaces_prog_id: int | None = None
    arrays: tuple[int, ...] = ()
    counts_map: int | None = None
    form: str = ""
    form_reason: str = ""

    def document(self) -> dict[str, Any]:
        """The JSON document."""
        document: dict[str, Any] = {
            "format": self._format(),
            "linkage": self.chain.linkage.value,
            "mode": self.chain.mode.value,
            "counters": self.counters_map,
            "author": author_out(self.author),
            "slots": [_slot_out(slot) for slot in self.chain.slots],
        }
        if self.replaces_prog_id is not None:
            document["stands_for"] = self.replaces_prog_id
        if self.arrays:
            document["arrays"] = self.arrays
        if self.counts_map is not None:
            document["counts"] = self.counts_map
        if self.form:
            document |= {"form": self.form, "form_reason": self.form_reason[:MOST_REASON]}
        return document

    def encode(self) -> bytes:
        return json.dumps(self.document(), separators=(",", ":")).encode()

    @property
    def stored(self) -> Manifest:
        """As `decode` reads it from what `encode` wrote."""
        chain = self.chain
        slots = tuple(replace(slot, entries=()) if slot.entries else slot for slot in chain)
        chain = Chain(slots, chain.linkage, chain.mode, self.counters_map is not None)
        reason = self.form_reason[:MOST_REASON] if self.form else ""
        return replace(self, chain=chain, form=str(self.form), form_reason=reason)

    def _format(self) -> int:
        rows = (slot.row or 0 for slot in self.chain)
        if len(self.chain) > DISPATCHER_SLOTS or max(rows, default=0) > OLD_MOST_ROW:
            return LONG
        if any(slot.off for slot in self.chain):
            return SWITCHED
        if self.counts_map is not None:
            return COUNTED
        return EXTENDED if any(s.routes or s.shadow or s.policy for s in self.chain) else FORMAT

    @classmethod
    def decode(cls, data: bytes) -> Manifest:
        """Read what `encode` wrote, padding stripped. Raises InvalidInput."""
        document = fields(data.rstrip(b"\0"), WHAT)
        chain = chain_in(document, counters=document.value("counters") is not None)
        return cls(
            chain,
            author_in(document.fields("author")),
            document.integer_or_none("counters", most=ID),
            document.integer_or_none("stands_for", most=ID),
            document.integers("arrays", most=MAX_SLOTS, greatest=ID, default=()),
            document.integer_or_none("counts", most=ID),
            document.text("form", default=""),
            document.text("form_reason", default=""),
        )


def author_out(author: Author) -> dict[str, Any]:
    return {"user": author.user, "pid": author.pid, "command": author.command, "at": author.at}


def author_in(document: Fields) -> Author:
    """Raises InvalidInput."""
    return Author(
        document.text("user"),
        document.integer("pid", most=ID),
        document.text("command", most=1 << 16),
        document.number("at"),
    )


def chain_in(document: Fields, *, counters: bool) -> Chain:
    """The chain in a manifest or a document that contains one. Raises InvalidInput."""
    version = document.integer("format")
    if version not in FORMATS:
        raise InvalidInput(
            f"{WHAT} can't be read",
            f"it has format {version}, this reads up to {FORMATS[-1]}",
            "Use the xdptui version that made the chain, or a newer one",
        )
    slots = tuple(_slot_in(slot) for slot in document.objects("slots", most=MAX_SLOTS))
    linkage, mode = document.text("linkage"), document.text("mode")
    try:
        return Chain(slots, Linkage(linkage), Mode(mode), counters)
    except ValueError as error:
        raise InvalidInput(f"{WHAT} can't be read", str(error)) from None


def _config_out(config: RunConfig) -> dict[str, Any]:
    return {"priority": config.priority, "actions": config.actions.names()}


def _config_in(document: Fields) -> RunConfig:
    return RunConfig(
        document.integer("priority", most=MAX_PRIORITY),
        ActionSet.parse(document.texts("actions", most=len(ALL_ACTIONS))),
    )


def _global_out(value: GlobalValue) -> list[Any]:
    return [value.name, value.section, value.offset, value.data.hex(), value.text]


def _global_in(value: Any) -> GlobalValue:
    match value:
        case [str(name), str(section), int(offset), str(data), str(text)] if 0 <= offset <= ID:
            with contextlib.suppress(ValueError):
                return GlobalValue(name, section, offset, bytes.fromhex(data), text)
    raise InvalidInput(f"{WHAT} can't be read", "a global variable's value is invalid")


def _slot_out(slot: Slot) -> dict[str, Any]:
    component = slot.component
    source = component.object
    return {
        "key": slot.key,
        "row": slot.row,
        "shadow": slot.shadow,
        **({"off": True} if slot.off else {}),
        **({"labels": dict(slot.labels)} if slot.labels else {}),
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
        **(
            {"globals": [_global_out(variable) for variable in component.globals]}
            if component.globals
            else {}
        ),
        **({"map_entries": dict(component.map_entries)} if component.map_entries else {}),
        **({"shares": component.shares} if component.shares else {}),
        **({"bound": True} if component.bound else {}),
        "object": source
        and {"sha256": source.sha256, "size": source.size, "path": source.path, "map": source.map_id},
    }


def _slot_in(document: Fields) -> Slot:
    source = document.fields_or_none("object")
    maps = document.fields("maps")
    component = Component(
        name=document.text("name"),
        section=document.text("section"),
        declared=_config_in(document.fields("declared")),
        frags=document.flag("frags"),
        licence=document.text("licence"),
        callees=document.texts("callees", most=MANY),
        uses=document.texts("uses", most=MANY),
        pin_root=document.text_or_none("pin_root"),
        instance=document.text("instance"),
        id=document.integer_or_none("id", most=ID),
        tag=document.text_or_none("tag"),
        loaded_at=document.integer_or_none("loaded_at"),
        instructions=document.integer_or_none("instructions"),
        maps=tuple(MapRef(name, maps.integer(name, most=ID)) for name in maps),
        unit_map=document.integer_or_none("unit", most=ID),
        globals=tuple(_global_in(value) for value in document.list("globals", most=MANY, default=())),
        map_entries=_entries_in(document.fields_or_none("map_entries")),
        shares=tuple(_share_in(value) for value in document.list("shares", most=MANY, default=())),
        bound=document.flag("bound", default=False),
        object=None if source is None else _object_in(source),
    )
    policy = document.fields_or_none("policy")
    return Slot(
        component,
        _config_in(document),
        document.text("key"),
        document.integer_or_none("row", most=MOST_ROW),
        tuple(_route_in(value) for value in document.list("routes", most=CODES, default=())),
        document.flag("shadow", default=False),  # absent in manifests of earlier versions
        None if policy is None else _policy_in(policy),
        document.integer_or_none("program", most=ID),
        document.flag("off", default=False),
        labels=labels_in(document.fields_or_none("labels")),
    )


def labels_in(document: Fields | None) -> Labels:
    """Raises InvalidInput."""
    return checked_labels({key: document.text(key) for key in document}) if document else ()


def _entries_in(document: Fields | None) -> tuple[tuple[str, int], ...]:
    return tuple((name, document.integer(name, most=ID)) for name in document) if document else ()


def _share_in(value: Any) -> SharedMap:
    match value:
        case [str(name), str(slot), str(theirs)]:
            return SharedMap(name, slot, theirs)
    raise InvalidInput(f"{WHAT} can't be read", "a shared map has no owner")


def _object_in(document: Fields) -> ObjectRef:
    return ObjectRef(
        document.text("sha256", most=64),
        document.integer("size"),
        document.text_or_none("path"),
        document.integer_or_none("map", most=ID),
    )


def _route_in(value: Any) -> Route:
    match value:
        case [None, str(target)]:
            return Route(None, target)
        case [int(code), str(target)] if 0 <= code < len(ALL_ACTIONS):
            return Route(Action(code), target)
    raise InvalidInput(f"{WHAT} can't be read", "a route leads from no return code, or nowhere")


def _policy_in(document: Fields) -> Policy:
    may = ActionSet.parse(document.texts("may", most=len(ALL_ACTIONS)))
    otherwise = document.value("otherwise")
    try:
        return Policy(may, Answer(otherwise))
    except ValueError as error:
        raise InvalidInput(f"{WHAT} can't be read", str(error)) from None
