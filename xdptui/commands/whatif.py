# SPDX-License-Identifier: Apache-2.0
"""What a change would do to packets: the matrix for `--what-if`, and the check of our own ssh connection that
precedes every change.
"""

from __future__ import annotations

from argparse import Namespace
from functools import reduce
from typing import TYPE_CHECKING, Protocol

from xdpchain.frozen import frozen
from xdpchain.model.chain import Chain
from xdpchain.model.running import Running
from xdpchain.trial.packets.own import OwnTraffic
from xdpchain.trial.ssh_guard import Judgement, judge, refusal
from xdptui.outcome import Talk

if TYPE_CHECKING:
    from xdpchain.trial.packets.sources import Supply
    from xdpchain.trial.whatif import WhatIf

__all__ = ["Attempt", "Tried", "guard", "trying"]


@frozen
class Tried:
    """The results of trying a candidate: the matrix, if requested, with remarks on its packets; and the fate
    of our own connection, if it arrives here.
    """

    matrix: WhatIf | None = None
    notes: tuple[str, ...] = ()
    own: Judgement | None = None


class Attempt(Protocol):
    """Tries a candidate against what runs, and may refuse it. ``adopts`` is as for `plan.make_plan`."""

    def __call__(self, running: Running, candidate: Chain, adopts: int | None = None) -> Tried: ...


def trying(options: Namespace, talk: Talk, *, only_plan: bool, own_traffic: OwnTraffic) -> Attempt:
    """How to try a candidate before applying it, according to the arguments. Packets are read once, when the
    first candidate is tried; one ``own_traffic`` serves all interfaces of a command.

    Raises ConnectionLost, and what `supply_of` and `what_if` raise.
    """
    supplies: list[Supply] = []

    def attempt(running: Running, candidate: Chain, adopts: int | None = None) -> Tried:
        own = judge(running, candidate, adopts=adopts, own_traffic=own_traffic)
        waits, anyway = options.confirm is not None, options.even_if_ssh_dies
        if own is not None:
            guard(own, talk, waits=waits, anyway=anyway, only_plan=only_plan)
        if options.what_if is None:
            return Tried(own=own)
        from xdpchain.trial.whatif import what_if

        if not supplies:
            from xdpchain.follow.sample import supply_of
            from xdpchain.trial.packets.sources import BUILTIN, Supply

            named = [packets for group in options.what_if for packets in group] or [BUILTIN]
            supplies.append(reduce(Supply.plus, (supply_of(packets, running) for packets in named)))
        matrix = what_if(running, candidate, supplies[0].packets, adopts=adopts, call_lines=True)
        return Tried(matrix, supplies[0].notes, own)

    return attempt


def guard(found: Judgement, talk: Talk, *, waits: bool, anyway: bool, only_plan: bool = False) -> None:
    """Refuse a change that would cut our own ssh connection, or might, unless the change rolls back by itself
    (``waits``) or was forced (``anyway``). Raises ConnectionLost.
    """
    if found.lost or found.unchecked:
        error = refusal(found)
        if not (waits or anyway or only_plan):
            raise error
        talk.warn(f"{error.what}: {error.why}")
    elif not (waits or only_plan):
        advice = "--confirm 60 rolls back a change that cuts it"
        talk.warn(f"your own connection arrives through {found.where}; {advice}")
