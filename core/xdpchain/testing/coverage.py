# SPDX-License-Identifier: Apache-2.0
"""Which verdict sites of a program packets reach, for tests of programs (BPF_PROG_TEST_RUN).

covered = cover("firewall.o", [packet, ...])
assert covered.verdicts == [Action.DROP, ...]
assert not covered.missed, covered
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from xdpchain.bytecode.sites import VerdictSite
from xdpchain.frozen import frozen
from xdpchain.model.actions import ALL_ACTIONS, Action
from xdpchain.objects.components import load_component
from xdpchain.trial.reached import Ran, SiteTrial

__all__ = ["Covered", "cover"]


@frozen
class Covered:
    """A program's name, its sites, and the verdict for each packet."""

    program: str
    sites: tuple[VerdictSite, ...]
    ran: tuple[Ran, ...]

    @property
    def verdicts(self) -> list[Action | int]:
        """For each packet; an int is a code that is not an action."""
        return [Action(verdict.code) if verdict.code in ALL_ACTIONS else verdict.code for verdict in self.ran]

    @property
    def missed(self) -> tuple[VerdictSite, ...]:
        """The sites that no packet reached."""
        reached = {verdict.site for verdict in self.ran}
        return tuple(site for index, site in enumerate(self.sites) if index not in reached)

    def __str__(self) -> str:
        """``xdp_firewall: reached 14 of 19 places, never: PASS firewall.bpf.c:12, ...``"""
        count = f"{self.program}: reached {len(self.sites) - len(self.missed)} of {len(self.sites)} places"
        where = (f"{site.word} {site.place}" for site in self.missed)
        return f"{count}, never: {', '.join(where)}" if self.missed else count


def cover(path: str | os.PathLike[str], packets: Sequence[bytes], *, name: str | None = None) -> Covered:
    """Send packets through a program of an object file, one after the other; the maps start empty, and
    changes to them persist from packet to packet. ``name`` is needed if the file has several programs. Raises
    InvalidInput, NotFound, KernelRefused, PermissionDenied, Unsupported.
    """
    component = load_component(os.fspath(path), name=name)
    with SiteTrial(component) as trial:
        return Covered(component.name, trial.sites, tuple(map(trial.run, packets)))
