# SPDX-License-Identifier: Apache-2.0
"""Parse argument values. Each function raises InvalidInput, which says what would be valid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from xdpchain.errors import InvalidInput, NotFound, Unsupported
from xdpchain.frozen import frozen
from xdpchain.model.actions import Action, ActionSet
from xdpchain.model.chain import Chain
from xdpchain.model.interface import WantedMode
from xdpchain.model.labels import has_labels, labels_text, parse_labels
from xdpchain.model.policy import Policy, parse_policy
from xdpchain.model.runconfig import MAX_PRIORITY, RunConfig
from xdpchain.model.running import Running
from xdptui.outcome import UsageError

__all__ = [
    "UseMap",
    "Which",
    "actions",
    "amount",
    "map_entries",
    "matching",
    "mode",
    "number",
    "place",
    "policy",
    "priority",
    "routed",
    "seconds",
    "shared",
    "slot",
    "with_labels",
]

UNSPECIFIED = "unspecified"
MODES = {wanted_mode.value: wanted_mode for wanted_mode in WantedMode} | {
    "drv": WantedMode.NATIVE,
    "skb": WantedMode.GENERIC,
}
OFFLOADED = ("hw", "offload")


def number(text: str, what: str, hint: str = "") -> int:
    """A whole number, 0 or more; ``hint`` says what to give instead."""
    if not text.isascii() or not text.isdecimal() or len(text) > 20:
        raise InvalidInput(f"{text!r} is not a valid {what}", "expected a whole number, 0 or more", hint)
    return int(text)


def map_entries(given: Sequence[str] | None) -> dict[str, int]:
    """``NAME=N``, each map at most once."""
    entries: dict[str, int] = {}
    for text in given or ():
        name, equals, count = text.partition("=")
        if not (name and equals):
            raise InvalidInput(f"--map-entries {text!r} can't be read", "write NAME=N, such as senders=65536")
        if name in entries:
            raise InvalidInput(f"map {name} is given two sizes")
        entries[name] = amount(count, "number of map entries")
    return entries


class UseMap(NamedTuple):
    """``SLOT:THEIRS=OURS``: use the map ``theirs`` of a slot (number or name) instead of our own ``ours``."""

    slot: str
    theirs: str
    ours: str

    @classmethod
    def parse(cls, text: str) -> UseMap:
        owner, equals, ours = text.partition("=")
        slot, colon, theirs = owner.rpartition(":")
        if not (equals and colon and slot and theirs and ours):
            raise InvalidInput(
                f"--use-map {text!r} can't be read",
                "write SLOT:NAME=NAME, such as xdp_firewall:denied=blocked",
            )
        return cls(slot, theirs, ours)


def shared(chain: Chain, keys: Sequence[str], uses: Sequence[tuple[str, UseMap]]) -> Chain:
    """The chain in which those of the slots ``keys`` that have such a map use its owner's map; the owner's
    key comes with each use. Raises NotFound if none of them has the map, InvalidInput.
    """
    for owner, use in uses:
        takers = [
            key
            for key in keys
            if key != owner and use.ours in chain.slots[chain.position(key)].component.uses
        ]
        for key in takers or keys[:1]:  # if none has it, the first slot's error lists its maps
            chain = chain.share(chain.position(key), use.ours, chain.position(owner), use.theirs)
    return chain


def amount(text: str, what: str) -> int:
    """A whole number, 1 or more."""
    value = number(text, what)
    if not value:
        raise InvalidInput(f"{text!r} is not a valid {what}", "it must be at least 1")
    return value


def seconds(text: str, what: str, least: float) -> float:
    """A time in seconds, from ``least`` to one day."""
    try:
        value = float(text)
    except ValueError:
        raise InvalidInput(f"{text!r} is not a valid {what}", "expected a number of seconds") from None
    if not least <= value <= 86400:
        raise InvalidInput(f"{text!r} is not a valid {what}", f"the range is {least:g} s to a day")
    return value


def priority(text: str | None) -> int | None:
    """A run priority."""
    if text is None:
        return None
    value = number(text, "run priority", f"Give a number from 0 to {MAX_PRIORITY}; lower runs first")
    return RunConfig(priority=value).priority


def actions(text: str | None) -> ActionSet | None:
    """Chain call actions."""
    return None if text is None else ActionSet.parse(text)


def policy(may: str | None, otherwise: str | None) -> Policy | None:
    """A policy; None if none was given or it is removed."""
    if may is None:
        if otherwise is not None:
            raise UsageError("--otherwise needs --may", todo="Add --may ACTIONS")
        return None
    return parse_policy(may, otherwise)


def mode(text: str | None) -> tuple[WantedMode | None, str]:
    """The requested mode (None if none was), and a remark. Raises Unsupported for offload."""
    if text is None:
        return None, ""
    word = text.lower()
    if word == UNSPECIFIED:
        return (
            None,
            "mode 'unspecified' means native here; generic is used only if you ask for it (-m generic)",
        )
    if word in OFFLOADED:
        raise Unsupported(
            "a chain can't run offloaded to the card",
            "cards run single programs without the calls that a chain consists of",
            "Use -m native: the driver runs the chain",
        )
    if word not in MODES:
        raise InvalidInput(f"{text!r} is not a mode", todo="The modes are native, generic (skb) and best")
    return MODES[word], ""


def slot(chain: Chain | None, text: str, where: object) -> int:
    """The slot's index, given its number or its component's name. Raises NotFound, InvalidInput."""
    if chain is None or not chain.slots:
        raise NotFound(f"{where} has no slot {text}", "no chain runs there", "`xdptui load` loads one")
    listed = ", ".join(f"{i} {slot.name}" for i, slot in enumerate(chain))
    if text.isascii() and text.isdecimal():
        if len(text) <= 2 and int(text) < len(chain):
            return int(text)
        raise NotFound(f"{where} has no slot {text}", f"its slots are {listed}")
    found = [i for i, slot in enumerate(chain) if slot.name == text]
    if len(found) > 1:
        numbers = ", ".join(map(str, found))
        raise InvalidInput(
            f"{text!r} matches {len(found)} slots on {where}",
            f"slots {numbers} run it",
            "Give the slot's number",
        )
    if not found:
        raise NotFound(f"{where} has no slot {text!r}", f"its slots are {listed}")
    return found[0]


def matching(chain: Chain | None, given: Sequence[str], where: object) -> list[int]:
    """The slots that have all of these labels. Raises InvalidInput, NotFound."""
    wanted = _selector(given)
    found = [i for i, slot in enumerate(chain or ()) if has_labels(slot.labels, wanted)]
    if not found:
        listed = "; ".join(f"{slot.name}: {labels_text(slot.labels) or 'none'}" for slot in chain or ())
        what = labels_text(tuple(wanted.items()))
        raise NotFound(f"{where} has no slot with {what}", f"the labels there are: {listed or 'none'}")
    return found


@frozen
class Which:
    """Which slots are meant: SLOT, or ``--where`` instead. Raises UsageError if both or neither are given."""

    slot: str | None
    labels: Sequence[str]

    def __post_init__(self) -> None:
        if (self.slot is None) != (not self.labels):
            return
        why = "say which slot" if self.slot is None else "SLOT and --where exclude each other"
        raise UsageError(why, todo="Give a slot's number or name, or `--where KEY=VALUE` instead")

    @property
    def numbered(self) -> bool:
        """Whether it means a different slot once slots have moved."""
        return self.slot is not None and self.slot.isdecimal()

    def among(self, chain: Chain | None, where: object) -> list[int]:
        """The indices of the slots, at least one. Raises NotFound, InvalidInput."""
        return matching(chain, self.labels, where) if self.slot is None else [slot(chain, self.slot, where)]

    def single(self, chain: Chain | None, where: object) -> int:
        """The index of the one slot. Raises NotFound, and InvalidInput if several have the labels."""
        found = self.among(chain, where)
        if len(found) > 1:
            listed = ", ".join(
                f"{index} {slot.name}" for index, slot in enumerate(chain or ()) if index in found
            )
            raise InvalidInput(
                f"{labels_text(tuple(_selector(self.labels).items()))} matches {len(found)} slots on {where}",
                f"they are {listed}; expected one",
                "Add another label, or give the slot's number",
            )
        return found[0]


def with_labels(runnings: Sequence[Running], given: Sequence[str]) -> tuple[Running, ...]:
    """The interfaces that have a slot with all of these labels. Raises InvalidInput."""
    wanted = _selector(given)
    return tuple(
        running
        for running in runnings
        if not wanted or any(has_labels(slot.labels, wanted) for slot in running.chain or running.shown or ())
    )


def _selector(given: Sequence[str]) -> dict[str, str]:
    """``--where``: the labels a slot must have. Raises InvalidInput."""
    wanted = parse_labels(given)
    for key, value in wanted.items():
        if not value:
            raise InvalidInput(
                f"--where {key}= selects nothing", "a label has a value", f"--where {key}=VALUE"
            )
    return wanted


def place(text: str) -> int:
    """A position in a chain, which may lie beyond its last slot."""
    return number(text, "slot number", "Slots are counted from 0")


def routed(chain: Chain, index: int, routes: Mapping[Action | None, str], where: object) -> Chain:
    """The chain in which the return codes of the slot at ``index`` lead where the words say: to a slot, to
    the ``next`` one, or nowhere (``return``). Raises NotFound, InvalidInput.
    """
    for code, word in routes.items():
        target = None
        if word == "next" and code is None:
            if index + 1 == len(chain):
                raise InvalidInput("*:next leads nowhere", "no slot follows", "Use *:return")
            target = chain.slots[index + 1].key
        elif word not in ("next", "return"):
            target = chain.slots[slot(chain, word, where)].key
        chain = chain.route(index, code, target)
        if code is not None and target is None and (code in chain.slots[index].actions) != (word == "next"):
            chain = chain.retune(index, actions=chain.slots[index].actions.toggle(code))
    return chain
