# SPDX-License-Identifier: Apache-2.0
"""Would a change cut a connection that the operator works over? Its packets are tried before the change.

A packet counts as lost if its verdict is no longer XDP_PASS, or if its address, port or MAC is rewritten. The
connection is alive, so if the trial loses the same packet on the running chain, the trial is wrong and
nothing is concluded from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdpchain.advice import Do, advise
from xdpchain.errors import XdpChainError
from xdpchain.frozen import frozen
from xdpchain.model.actions import Action
from xdpchain.model.chain import Chain
from xdpchain.model.link_layer import LinkLayer
from xdpchain.model.running import Running

from .packets.describe import flow
from .packets.own import OwnTraffic
from .packets.packet import Packet
from .packets.ssh import PREFIX

if TYPE_CHECKING:
    from .whatif import Outcome, Side

__all__ = ["ConnectionLost", "Judgement", "Lost", "judge", "refusal"]


class ConnectionLost(XdpChainError):
    """The change would cut the operator's own ssh connection. Nothing was changed."""

    exit_code = 8


@frozen
class Lost:
    """A packet of the operator's connection that would not arrive: its name, its verdict, and the slot that
    decides it ("" if unknown).
    """

    packet: str
    verdict: Action | int
    by: str

    @property
    def fate(self) -> str:
        """What happens to it, and in which slot."""
        name = self.verdict.xdp_name if isinstance(self.verdict, Action) else f"code {self.verdict}"
        what = "rewritten for another receiver" if self.verdict is Action.PASS else name
        return what + (f" by {self.by}" if self.by else "")


@frozen
class Judgement:
    """The effect of a change on the operator's connections. ``unchecked``: why all or part of it could not be
    tried; then ``lost`` is empty.
    """

    where: str
    lost: tuple[Lost, ...] = ()
    unchecked: str = ""

    @property
    def text(self) -> str:
        """A description of the lost packets."""
        fates: dict[str, list[str]] = {}
        for packet in self.lost:
            fates.setdefault(packet.fate, []).append(packet.packet.removeprefix(PREFIX))
        return "; ".join(f"{', '.join(names)}: {fate}" for fate, names in fates.items())


def judge(
    running: Running, candidate: Chain, *, adopts: int | None = None, own_traffic: OwnTraffic | None = None
) -> Judgement | None:
    """Try the operator's own ssh packets on a candidate; None if no connection arrives, or may arrive,
    through the interface. ``adopts`` is as for `whatif.what_if`; ``own_traffic`` was looked up for other
    interfaces of the same change. What the kernel or the linkage refuses is not raised but ``unchecked``.
    """
    where, layer = running.interface.name, running.device.layer
    try:
        own = (own_traffic or OwnTraffic()).into(running.interface)
        if not own.packets and not own.doubts:
            return None
        if not candidate.slots or candidate == running.chain:
            return Judgement(where)
        doubts = "; ".join(own.doubts)
        if candidate.bound:
            who = " and ".join(candidate.bound)
            doubts = f"{who}: a trial has no RX metadata"
        if not own.packets or candidate.bound:
            return Judgement(where, unchecked=doubts)
        from .whatif import what_if  # late: few connections arrive through an interface that is changed

        tried = what_if(running, candidate, own.packets, adopts=adopts)
    except XdpChainError as error:
        return Judgement(where, unchecked=str(error))
    if tried.new.why:
        return Judgement(where, unchecked=tried.new.why)
    lost, lost_already = [], []
    for crossing in tried.crossings:
        if crossing.new.verdict is None:
            return Judgement(where, unchecked=f"{crossing.packet.name}: {crossing.new.why}")
        if _arrives(crossing.packet, crossing.new, tried.new, layer):
            continue
        if crossing.old.verdict is not None and not _arrives(crossing.packet, crossing.old, tried.old, layer):
            lost_already.append(crossing.packet.name)
            continue
        lost.append(Lost(crossing.packet.name, crossing.new.verdict, _decider(crossing.new, tried.new)))
    if lost_already and not lost:
        why = "according to the trial, what runs now would lose them too, but it does not"
        return Judgement(where, unchecked=f"{', '.join(lost_already)}: {why}")
    return Judgement(where, tuple(lost), "" if lost else doubts)


def refusal(judgement: Judgement) -> ConnectionLost:
    """The error for a change that would or might cut the connection, with how to make it anyway."""
    if judgement.unchecked and not judgement.lost:
        return ConnectionLost(
            f"could not check whether this would cut your own ssh connection through {judgement.where}",
            judgement.unchecked,
            advise(Do.CONFIRM_OR_INSIST),
        )
    return ConnectionLost(
        f"this would cut your own ssh connection, which arrives through {judgement.where}",
        judgement.text,
        advise(Do.CONFIRM_OR_INSIST),
    )


def _arrives(packet: Packet, outcome: Outcome, side: Side, layer: LinkLayer) -> bool:
    """Whether the network stack gets the packet with its original addresses."""
    if outcome.verdict is Action.REDIRECT:
        last = _last(outcome, side)
        return last is not None and last in side.to_stack
    return outcome.verdict is Action.PASS and flow(outcome.data, layer) == flow(packet.data, layer)


def _decider(outcome: Outcome, side: Side) -> str:
    last = _last(outcome, side)
    if outcome.verdict is Action.PASS and len(outcome.slots) > 1:
        return ""  # any slot that ran may have rewritten it
    return "" if last is None else f"slot {last} ({side.slots[last]})"


def _last(outcome: Outcome, side: Side) -> int | None:
    """The last slot that ran and is not a shadow."""
    ran = [i for i, code in enumerate(outcome.slots) if code is not None and i not in side.shadow]
    return ran[-1] if ran else None
