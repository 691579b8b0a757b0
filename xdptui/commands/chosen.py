# SPDX-License-Identifier: Apache-2.0
"""The interfaces a changing command applies to: one name, several (``eth0,eth1``), or globs (``veth*``)."""

from __future__ import annotations

from fnmatch import fnmatchcase

from xdpchain.errors import InvalidInput, NotFound
from xdpchain.model.naming import some
from xdpchain.model.pending_change import MOST_TOGETHER
from xdpchain.observe.discover import interfaces
from xdpchain.spec.values import is_glob

__all__ = ["chosen"]


def chosen(text: str, netns: str | None, most: int | None = MOST_TOGETHER) -> tuple[str, ...]:
    """Their names without duplicates, in the order given. A name that contains a comma or a star is taken
    literally if such an interface exists. Raises NotFound for a glob that matches nothing, InvalidInput.
    """
    words = text.split(",")
    if len(words) == 1 and not is_glob(text):
        return (text,)
    there = [interface.name for interface in interfaces(netns)]
    if text in there:
        return (text,)
    found: dict[str, None] = {}
    for word in words:
        if not word:
            raise InvalidInput(f"{text!r} has an empty name between commas", todo="Give eth0,eth1")
        matching = [name for name in there if fnmatchcase(name, word)] if is_glob(word) else [word]
        if not matching:
            raise NotFound(f"no interface matches {word!r}", f"existing interfaces: {some(there)}")
        found.update(dict.fromkeys(matching))
    if most is not None and len(found) > most:
        raise InvalidInput(
            f"{text!r} matches {len(found)} interfaces", f"the maximum for one change is {most}"
        )
    return tuple(found)
