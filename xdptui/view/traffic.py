# SPDX-License-Identifier: Apache-2.0
"""What the waterfall shows of a reading, and its caption. Pure."""

from __future__ import annotations

from xdpchain.model.chain import Chain
from xdptui.view.session import Session, Shown, running_chain
from xdptui.view.waterfall import Flow, flow
from xdptui.words.numbers import short
from xdptui.words.rates import Reading

__all__ = ["caption", "numbered", "traffic"]


def traffic(session: Session, reading: Reading | None) -> Flow | None:
    """What happens to the packets of the selected interface; None if not (yet) known."""
    if reading is None or session.running is None:
        return None
    chain = running_chain(session.running) or Chain()
    if session.shown in (Shown.PACKETS, Shown.BYTES):
        return flow(chain, reading.totals, reading.verdict_totals) if reading.verdict_totals else None
    if reading.verdict_rates is None:
        return None
    return flow(chain, reading.rates, reading.verdict_rates)


def numbered(session: Session) -> bool:
    """Whether the running slots have the same numbers in the chain shown."""
    places = {slot.key: i for i, slot in enumerate(session.chain)}
    running = running_chain(session.running) or Chain()
    return all(places.get(slot.key, i) == i for i, slot in enumerate(running))


def caption(session: Session, cost: int | None, lost: int | None) -> str:
    """``cost`` is what counting adds per packet, in ns; ``lost`` packets were just lost."""
    what = "packets in total" if session.shown in (Shown.PACKETS, Shown.BYTES) else "packets/s"
    if session.changes:
        what += " of what runs"
    if lost:
        return f"! {short(lost)} lost, x: why · {what}"
    if cost is not None:
        return f"counting adds {cost} ns per packet · {what}"
    return what
