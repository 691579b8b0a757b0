# SPDX-License-Identifier: Apache-2.0
"""Trial runs: packets through a chain that is not attached (BPF_PROG_TEST_RUN).

Tail-call chains are linked as such, all others statically, which behaves the same. The trial works on copies
of all maps, so the state and counters of a running chain do not change. A trial can't show where a redirect
ends (the verdict is XDP_REDIRECT; nothing is sent) or what a NIC writes to a packet's metadata.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

from xdpchain.bytecode.sites import VerdictSite, only_site
from xdpchain.errors import InvalidInput
from xdpchain.frozen import frozen
from xdpchain.linkage.linkable_slots import Part, shown_sites
from xdpchain.linkage.linkers import CLONING_LINKERS
from xdpchain.maps.filling import Filling
from xdpchain.model.actions import Action
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.counts import CounterReader, SiteCounts, SlotCounts
from xdpchain.model.interface import Interface
from xdpchain.model.manifest import Author
from xdpchain.model.paths import as_it_behaves
from xdpchain.model.running import Device, Running
from xdpchain.objects.verdicts import sites_of_linkable
from xdpchain.observe.counters import DispatcherCounters
from xdpchain.sys import bpf
from xdpchain.sys.clones import MapTooLarge

from .packets.packet import SHORTEST

__all__ = ["MapTooLarge", "Trial", "TrialReport", "TrialRow", "run_trial"]

NOWHERE = Running(Device(Interface("", 0), False, "", 0, None, None))


@frozen
class TrialRow:
    """One packet's result: each slot's return code (None: it did not run), the verdict (an int if it is not
    an action), the packet afterwards, the mean time of a run in ns, and for each slot the deciding site
    (index into `Trial.sites`; None: unknown, or it did not run).
    """

    frame: bytes
    slots: tuple[Action | int | None, ...]
    verdict: Action | int
    frame_out: bytes
    ns: int
    sites: tuple[int | None, ...] = ()


@frozen
class TrialReport:
    """The results of all packets, in their order."""

    rows: tuple[TrialRow, ...]


class Trial:
    """A chain linked on copies of its maps, for running packets one after another. The copies keep their
    state from packet to packet.
    """

    def __init__(self, chain: Chain) -> None:
        """Raises InvalidInput for an empty chain, and the errors of linking and loading."""
        if not chain.slots:
            raise InvalidInput("an empty chain can't be tried")
        self.chain = chain = as_it_behaves(chain)
        linkage = chain.linkage if chain.linkage.facts.tried else Linkage.STATIC
        linker = CLONING_LINKERS[linkage](cloning=True)
        candidate = replace(chain, linkage=linkage, counters=True)
        trial_author = Author("", 0, "trial", 0.0)
        with contextlib.ExitStack() as held:
            built = linker.build(candidate, NOWHERE, trial_author)
            held.callback(built.close)
            self.parts: Sequence[Part] = built.parts
            _fill(built.chain, candidate, built.parts)
            assert built.counting is not None
            self._reader: CounterReader = held.enter_context(DispatcherCounters(built.counting, built.chain))
            self._counted = self._reader.read()
            self._program = built.program
            self.sites = tuple(sites_of_linkable(part.unit) for part in built.parts)
            self._held = held.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()

    def run(self, frame: bytes, *, repeat: int = 1, ingress: int = 0) -> TrialRow:
        """Run one packet of at least 14 bytes, and again ``repeat`` times for its timing. ``ingress`` is the
        ifindex, in this thread's network namespace, on which it appears to arrive (see `bpf.prog_test_run`).

        Raises InvalidInput for a frame that is too short, KernelRefused, PermissionDenied.
        """
        if len(frame) < SHORTEST:
            raise InvalidInput(f"a frame of {len(frame)} bytes can't be tried", f"the minimum is {SHORTEST}")
        try:
            run = bpf.prog_test_run(self._program, frame, ingress=ingress)
            before, after = self._counted, self._reader.read()
            self._counted = after
            if repeat > 1:
                ns = bpf.prog_test_run(self._program, frame, repeat, ingress).ns
                self._counted = self._reader.read()
            else:
                ns = run.ns
        except bpf.BpfError as error:
            raise bpf.refusal(error, "the trial can't be run") from error
        slots = tuple(_returned(after.slots[s.key].since(before.slots[s.key])) for s in self.chain.slots)
        sites = tuple(
            _decided(before.sites.get(slot.key, {}), after.sites.get(slot.key, {}), known, code)
            for slot, known, code in zip(self.chain.slots, self.sites, slots, strict=True)
        )
        return TrialRow(frame, slots, _action(run.code), run.data, ns, sites)

    def shown_sites(self) -> tuple[tuple[VerdictSite, ...], ...]:
        """The sites, with the calls that lead to inlined ones where the objects tell."""
        return tuple(
            shown_sites(part.unit, sites, part.slot.component)
            for part, sites in zip(self.parts, self.sites, strict=True)
        )

    def timed(self, frame: bytes, repeat: int) -> bpf.TestRun:
        """Run a packet ``repeat`` times only for its mean time. Each run gets the packet as the previous one
        left it.
        """
        try:
            test_run = bpf.prog_test_run(self._program, frame, repeat)
        except bpf.BpfError as error:
            raise bpf.refusal(error, "the trial can't be run") from error
        self._counted = self._reader.read()
        return test_run


def _fill(chain: Chain, candidate: Chain, parts: Sequence[Part]) -> None:
    """Write the candidate's map entries to the copies."""
    if not any(slot.entries for slot in candidate):
        return
    copies = {part.slot.key: {name: bpf.map_info(fd).id for name, fd in part.maps.items()} for part in parts}
    with Filling() as filling:
        filling.write(chain, candidate, copies=copies)


def run_trial(chain: Chain, frames: Sequence[bytes], *, repeat: int = 1) -> TrialReport:
    """Run ``frames`` (Ethernet, at least 14 bytes each) through ``chain``, each ``repeat`` times for its
    timing. Raises what `Trial` raises.
    """
    with Trial(chain) as trial:
        return TrialReport(tuple(trial.run(frame, repeat=repeat) for frame in frames))


def _returned(counts: SlotCounts) -> Action | int | None:
    return next((_action(code) for code, packets in enumerate(counts.packets) if packets), None)


def _decided(
    before: SiteCounts, after: SiteCounts, sites: Sequence[VerdictSite], code: Action | int | None
) -> int | None:
    if code is None:
        return None
    counted = (site for (site, _), counts in after.items() if counts != before[site, _])
    return next(counted, None) if after else only_site(sites, code)


def _action(code: int) -> Action | int:
    return Action(code) if code in Action.__members__.values() else code
