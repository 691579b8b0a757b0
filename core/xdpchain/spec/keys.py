# SPDX-License-Identifier: Apache-2.0
"""The keys of a spec file: which attribute each stands for, and its value <-> its TOML form. Pure.

The tables are the format: a key added here (and to `values`) is read and written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from xdpchain.frozen import frozen
from xdpchain.maps.text import assignment
from xdpchain.model.actions import Action, ActionSet
from xdpchain.model.chain import Linkage
from xdpchain.model.component import MOST_ENTRIES
from xdpchain.model.interface import WantedMode
from xdpchain.model.labels import Labels, checked_labels
from xdpchain.model.map_entries import MapEntry, by_map
from xdpchain.model.policy import Answer, Policy
from xdpchain.model.routes import OTHER, route_name
from xdpchain.model.runconfig import RunConfig
from xdpchain.netns_spelling import netns_spelling

__all__ = ["INTERFACE_KEYS", "SLOTS", "SLOT_KEYS", "Key"]

SLOTS = "slot"
"""The key of an interface's slots, which are tables of their own."""

AUTO = "auto"
ANY = route_name(None)


def _same(value: Any) -> Any:
    return value


@frozen
class Key:
    """``read`` turns the TOML value into the attribute's, and raises ValueError, whose text says what is
    allowed; ``write`` does the reverse.
    """

    attribute: str
    read: Callable[[Any], Any]
    write: Callable[[Any], Any] = _same


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("needs text in quotes")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("must be a whole number")
    return value


def _priority(value: Any) -> int:
    return RunConfig(priority=_number(value)).priority


def _actions(value: Any) -> ActionSet:
    if isinstance(value, str):
        return ActionSet.parse(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ActionSet.parse(value)
    raise ValueError('must be a list of actions, such as ["XDP_PASS", "XDP_DROP"]')


def _routes(value: Any) -> tuple[tuple[Action | None, str], ...]:
    if not isinstance(value, dict) or not all(isinstance(item, str) and item for item in value.values()):
        raise ValueError('must be a table of return codes and slots, such as { XDP_DROP = "logger" }')
    found = {None if code == ANY else Action.parse(code): str(target) for code, target in value.items()}
    if len(found) < len(value):
        raise ValueError("names a return code twice")
    return tuple(sorted(found.items(), key=lambda route: OTHER if route[0] is None else route[0]))


def _policy(value: Any) -> Policy:
    if not isinstance(value, dict) or not {"may"} <= value.keys() <= {"may", "otherwise"}:
        raise ValueError('must be a table such as { may = ["XDP_PASS"], otherwise = "pass" }')
    answers = [answer.value for answer in Answer]
    otherwise = value.get("otherwise", Answer.AS_IS.value)
    if otherwise not in answers:
        raise ValueError(f"needs an `otherwise` that is one of: {', '.join(answers)}")
    may = _actions(value["may"])
    if not may:
        raise ValueError("needs at least one action in `may`")
    return Policy(may, Answer(otherwise))


def _policy_out(policy: Policy) -> dict[str, Any]:
    return {"may": list(policy.may.names()), "otherwise": policy.otherwise.value}


def _globals(value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, dict) or not all(isinstance(item, str | int) for item in value.values()):
        raise ValueError("must be a table of variables, each a number or text, such as { limit = 100 }")
    words = {name: str(item).lower() if isinstance(item, bool) else str(item) for name, item in value.items()}
    return tuple(sorted(words.items()))


def _labels(value: Any) -> Labels:
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise ValueError('must be a table of keys and texts, such as { team = "edge" }')
    return checked_labels(value)


def _map_entries(value: Any) -> tuple[tuple[str, int], ...]:
    if not isinstance(value, dict):
        raise ValueError("must be a table of maps and their numbers of entries, such as { senders = 65536 }")
    return tuple(sorted((name, _entries(entries)) for name, entries in value.items()))


def _entries(value: Any) -> int:
    if not 1 <= _number(value) <= MOST_ENTRIES:
        raise ValueError(f"must give a map 1 to {MOST_ENTRIES} entries")
    return int(value)


def _use_maps(value: Any) -> tuple[tuple[str, str, str], ...]:
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise ValueError(_USE_MAPS)
    found = [(name, *str(owner).rpartition(":")[::2]) for name, owner in value.items()]
    if not all(all(parts) for parts in found):
        raise ValueError(_USE_MAPS)
    return tuple(sorted(found))


_USE_MAPS = 'must be a table of maps and their owners, such as { blocked = "xdp_firewall:denied" }'


def _entries_in(value: Any) -> tuple[MapEntry, ...]:
    what = 'must be [[interface.slot.map]] tables of a name and entries, such as ["10.0.0.1=1"]'
    if not isinstance(value, list):
        raise ValueError(what)
    found: dict[tuple[str, str], MapEntry] = {}
    for table in value:
        if not isinstance(table, dict) or table.keys() != {"name", "entries"}:
            raise ValueError(what)
        name, entries = _text(table["name"]), table["entries"]
        if (
            not isinstance(entries, list)
            or not entries
            or not all(isinstance(entry, str) for entry in entries)
        ):
            raise ValueError(what)
        for text in entries:
            key, given = assignment(text)
            if (name, key) in found:
                raise ValueError(f"sets {key} of {name} twice")
            found[name, key] = MapEntry(name, key, given)
    return tuple(found.values())


def _entries_out(entries: tuple[MapEntry, ...]) -> list[dict[str, Any]]:
    return [
        {"name": name, "entries": [f"{map_entry.key}={map_entry.value}" for map_entry in some]}
        for name, some in by_map(entries).items()
    ]


def _globals_out(values: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    return {name: int(text) if re.fullmatch("0|[1-9][0-9]{0,17}", text) else text for name, text in values}


def _hex(digits: int, what: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        text = _text(value).lower()
        if not re.fullmatch(f"[0-9a-f]{{{digits}}}", text):
            raise ValueError(f"must be {what}: {digits} hexadecimal digits")
        return text

    return read


def _names(value: Any) -> tuple[str, ...]:
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list) or not given:
        raise ValueError('must be the name of an interface, a glob such as "eth*", or a list of these')
    names = tuple(_text(item) for item in given)
    for name in names:
        if len(name.encode()) > 64 or "/" in name or any(c.isspace() for c in name):
            raise ValueError(f"must be interface names, and {name!r} is not one")
    if len(set(names)) < len(names):
        raise ValueError("names an interface twice")
    return names


def _netns(value: Any) -> str:
    return netns_spelling(_text(value))


def _one_or_more(names: tuple[str, ...]) -> str | list[str]:
    return names[0] if len(names) == 1 else list(names)


def _linkage(value: Any) -> Linkage | None:
    words = [AUTO, *(linkage.value for linkage in Linkage)]
    if value not in words:
        raise ValueError(f"must be one of: {', '.join(words)}")
    return None if value == AUTO else Linkage(value)


def _mode(value: Any) -> WantedMode:
    if value not in [wanted_mode.value for wanted_mode in WantedMode]:
        raise ValueError("must be native, generic or best")
    return WantedMode(value)


def _version(value: Any) -> int:
    if _number(value) not in (2, 3):
        raise ValueError("must be 2 or 3")
    return int(value)


def _value(choice: Linkage | WantedMode) -> str:
    return choice.value


INTERFACE_KEYS: Mapping[str, Key] = {
    "name": Key("names", _names, _one_or_more),
    "netns": Key("netns", _netns),
    "linkage": Key("linkage", _linkage, _value),
    "dispatcher_version": Key("dispatcher_version", _version),
    "mode": Key("mode", _mode, _value),
    "counters": Key("counters", _flag),
    "share_maps": Key("share_maps", _flag),
}

SLOT_KEYS: Mapping[str, Key] = {
    "object": Key("object", _text),
    "sha256": Key("sha256", _hex(64, "the object file's SHA-256")),
    "program": Key("program", _text),
    "section": Key("section", _text),
    "tag": Key("tag", _hex(16, "a program's tag")),
    "priority": Key("priority", _priority),
    "actions": Key("actions", _actions, lambda actions: list(actions.names())),
    "routes": Key("routes", _routes, lambda routes: {route_name(code): to for code, to in routes}),
    "shadow": Key("shadow", _flag),
    "off": Key("off", _flag),
    "labels": Key("labels", _labels, dict),
    "policy": Key("policy", _policy, _policy_out),
    "name": Key("given_name", _text),
    "instance": Key("instance", _text),
    "globals": Key("globals", _globals, _globals_out),
    "map_entries": Key("map_entries", _map_entries, dict),
    "use_maps": Key(
        "use_maps", _use_maps, lambda uses: {name: f"{slot}:{theirs}" for name, slot, theirs in uses}
    ),
    "pin_path": Key("pin_path", _text),
    "map": Key("entries", _entries_in, _entries_out),
}
