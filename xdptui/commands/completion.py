# SPDX-License-Identifier: Apache-2.0
"""Answers for shell completion: ``xdptui --complete KIND WORD...`` prints slots or maps."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from xdpchain.errors import XdpChainError
from xdpchain.maps import map_refs
from xdpchain.model.running import Running
from xdpchain.observe.discover import survey
from xdptui.outcome import Talk, UsageError, write

__all__ = ["run"]

PLAIN: Final = re.compile(r"[A-Za-z0-9_.:@+-]+")
"""What may be offered: bash expands the words offered, and others choose these names."""


def run(arguments: Sequence[str]) -> int:
    """``arguments``: the kind, then the words of the command line so far. Having nothing to offer is not an
    error."""
    kind, *words = arguments or [""]
    if kind not in KINDS:
        raise UsageError(f"there is nothing to complete for {kind!r}", f"known kinds: {', '.join(KINDS)}")
    offers: list[str] = []
    with contextlib.suppress(XdpChainError, OSError):  # not root, or the interface went away: offer nothing
        offers += KINDS[kind](survey(Talk.of(words).netns), words)
    write("\n".join(dict.fromkeys(offer for offer in offers if PLAIN.fullmatch(offer))))
    return 0


def _slots(runnings: Sequence[Running], words: Sequence[str]) -> Iterator[str]:
    """The slots of the named interface, by name and by number."""
    for running in _named(runnings, words):
        chain = running.chain or running.shown or ()
        yield from (slot.name for slot in chain)
        yield from (str(index) for index, _ in enumerate(chain))


def _maps(runnings: Sequence[Running], words: Sequence[str]) -> Iterator[str]:
    """The maps of the slot named after the interface."""
    for running in _named(runnings, words):
        after = words[words.index(running.interface.name) + 1 :]
        for index, slot in enumerate(running.chain or running.shown or ()):
            if slot.name in after or str(index) in after:
                yield from (ref.name for ref in map_refs(running, index))


def _maps_of_slots(runnings: Sequence[Running], words: Sequence[str]) -> Iterator[str]:
    """SLOT:NAME for the named interfaces, or for all."""
    for running in list(_named(runnings, words)) or runnings:
        for index, slot in enumerate(running.chain or running.shown or ()):
            yield from (f"{slot.name}:{ref.name}" for ref in map_refs(running, index))


def _named(runnings: Sequence[Running], words: Sequence[str]) -> Iterator[Running]:
    return (running for running in runnings if running.interface.name in words)


KINDS: Final[dict[str, Callable[[Sequence[Running], Sequence[str]], Iterator[str]]]] = {
    "slots": _slots,
    "maps": _maps,
    "maps-of-slots": _maps_of_slots,
}
