# SPDX-License-Identifier: Apache-2.0
"""Listen to the kernel's XDP tracepoints on behalf of a viewer: readings as names and text."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from xdpchain.advice import Advice
from xdpchain.closing import Closing
from xdpchain.model.actions import Action
from xdpchain.model.running import Running
from xdptui.words.advice import worded
from xdptui.words.packet_events import Happened, PacketEvents, Told

if TYPE_CHECKING:
    from xdpchain.observe.tracepoints import Event, Row, Sample
    from xdpchain.observe.violations import Violation, ViolationReader

__all__ = ["Listening"]

KEPT = 1000
"""Events remembered."""
LEAST = 1e-3
"""Minimum seconds between two readings for a rate."""


class Listening(Closing):
    """Owns a listener, and turns its events into what is shown. For one thread at a time."""

    def __init__(self, netns: str | None, ifindex: int | None = None) -> None:
        """Listen for one interface of a namespace, or for all. Raises what `tracepoints.listen` does."""
        from xdpchain.observe.tracepoints import Names, Sample, Transmitted, listen

        self._ifindex = ifindex
        self._maps: frozenset[int] = frozenset()
        self._recent: deque[Happened] = deque(maxlen=KEPT)
        self._late: list[Happened] = []
        self._breaches: dict[int, tuple[ViolationReader, Running]] = {}
        with contextlib.ExitStack() as held:
            self._names = Names(netns)
            self._transmitted = Transmitted(netns)
            held.callback(self._transmitted.close)
            self._listener = held.enter_context(listen(netns=self._names.home))
            self._held = held.pop_all()
        self._begun = time.monotonic()
        self._last = Sample(self._begun)

    def follow(self, runnings: Iterable[Running]) -> None:
        """Set the running programs: losses in their cpumaps are attributed to them."""
        from xdpchain.observe.tracepoints import cpumaps_used

        found = tuple(runnings)
        self._maps |= cpumaps_used(found)
        for running in found:
            self._watch(running)

    def _watch(self, running: Running) -> None:
        """Listen for violations of the chain's policies, if it has any; restart if the chain changes."""
        from xdpchain.errors import XdpChainError
        from xdpchain.observe.violations import open_violations

        ifindex = running.interface.ifindex
        known = self._breaches.get(ifindex)
        if known is not None:
            reader, before = known
            if before.identity == running.identity:
                return
            self._late += self._breached(before, reader.read())
            reader.close()
            del self._breaches[ifindex]
        with contextlib.suppress(XdpChainError):  # the chain went away, and its reports with it
            opened = open_violations(running)
            if opened is not None:
                self._breaches[ifindex] = (opened, running)

    def read(self) -> PacketEvents:
        """What happened so far. Raises what the engine raises."""
        every = self._listener.read()
        sample = every.about(
            self._names.home, None if self._ifindex is None else (self._ifindex,), self._maps
        )
        before, self._last = self._last, sample
        happened, self._late = self._late, []
        happened += [self._happened(event) for event in sample.events]
        for reader, running in self._breaches.values():
            happened += self._breached(running, reader.read())
        self._recent.extend(sorted(happened, key=lambda event: event.at))
        sent = self._transmitted.read()
        rows = tuple(self._told(row, before, sample.at, sent) for row in sample.rows)
        return PacketEvents(
            at=time.time(),
            seconds=sample.at - self._begun,
            lost=tuple(sorted((row for row in rows if row.lost), key=lambda row: -row.lost)),
            sent=tuple(sorted((row for row in rows if row.sent), key=lambda row: -row.sent)),
            events=tuple(self._recent),
            fresh=min(KEPT, len(happened)),
            untold=sample.untold,
            unplaced=sum(sample.unplaced.values()),
            missed=sample.missed,
        )

    def _told(self, row: Row, before: Sample, at: float, sent: Mapping[int, int]) -> Told:
        from xdpchain.observe.tracepoints import TracepointTally, reason

        place, names = row.place, self._names
        why = reason(place) if row.tally.lost else None
        earlier = next((row.tally for row in before.rows if row.place == place), TracepointTally())
        since, seconds = row.tally.since(earlier), max(at - before.at, LEAST)
        return Told(
            tracepoint=place.kind.tracepoint,
            interface=names.device(row),
            ifindex=place.ifindex or None,
            target=names.target(row),
            target_ifindex=place.target or None,
            via=names.via(row),
            program=place.prog or None,
            program_name=names.program(place.prog) if place.prog else "",
            name=why.name if why else "",
            words=why.words if why else "",
            todo=_todo(why.todo, names.target_interface(row)) if why else "",
            source=why.source if why else "",
            times=row.tally.times,
            sent=row.tally.sent,
            lost=row.tally.lost,
            sent_rate=since.sent / seconds,
            lost_rate=since.lost / seconds,
            target_sent=sent.get(place.target) if place.target_netns == names.home else None,
        )

    def _happened(self, event: Event) -> Happened:
        from xdpchain.observe.tracepoints import reason

        row = event.row
        return Happened(
            at=event.at + time.time() - time.monotonic(),
            interface=self._names.device(row),
            target=self._names.target(row),
            via=self._names.via(row),
            name=reason(row.place).name,
            words=reason(row.place).words,
            lost=row.tally.lost,
        )

    def _breached(self, running: Running, found: Iterable[Violation]) -> list[Happened]:
        """What slots returned against their policies."""
        from xdpchain.trial.packets.describe import describe

        policies = {slot.key: slot.policy for slot in running.chain or ()}
        told = []
        for violation in found:
            policy = policies.get(violation.slot)
            what = describe(violation.head, running.device.layer)
            code = violation.code.xdp_name if isinstance(violation.code, Action) else f"code {violation.code}"
            allowed = f", which may return {policy.may}" if policy else ""
            told.append(
                Happened(
                    at=violation.at + time.time() - time.monotonic(),
                    interface=running.interface.name,
                    target="",
                    via=violation.name,
                    name=code,
                    words=f"forbidden to {violation.name or 'a removed slot'}{allowed}: {what}",
                    lost=1,
                    head=violation.head.hex(),
                )
            )
        return told

    def close(self) -> None:
        for reader, _ in self._breaches.values():
            reader.close()
        self._held.close()


def _todo(todo: str | Advice, target: tuple[str, str | None] | None) -> str:
    if isinstance(todo, Advice) and target is not None:
        todo = replace(todo, interface=target[0], netns=target[1])
    return worded(todo)
