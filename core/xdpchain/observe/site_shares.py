# SPDX-License-Identifier: Apache-2.0
"""Which part of a slot's counts each of its verdict sites has. Pure.

Where sites are counted, their numbers are theirs. The rest of a return code's count belongs to the sites
that can decide it and have no counter: to one that is alone, or to several together, and which of them it
was is not counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from xdpchain.bytecode.sites import VerdictSite
from xdpchain.model.counts import CODES

__all__ = ["Share", "SlotReasons", "shares"]


@dataclass(frozen=True, slots=True)
class SlotReasons:
    """A slot's sites: its place in the chain, the key of its counts, its name. ``why``: why it has none."""

    index: int
    key: str
    name: str
    sites: tuple[VerdictSite, ...]
    why: str = ""


class Share(NamedTuple):
    """A part of what was counted of a return code (`counts.CODES`), and the sites (indices) that decided it:
    one; or several, of which nobody knows which; or none, for what was counted before sites were.
    """

    code: int
    sites: tuple[int, ...]


def shares(
    sites: Sequence[VerdictSite], codes: Sequence[float], counted: Mapping[tuple[int, int], float]
) -> dict[Share, float]:
    """Who has which part of what was counted by code; ``counted`` is the part of it that was counted by
    (site, code). Parts of nothing are left out.
    """
    found: dict[Share, float] = {}
    for code, amount in enumerate(codes):
        own = {site: part for (site, of), part in counted.items() if of == code}
        for site, part in own.items():
            if part:
                found[Share(code, (site,))] = part
        rest = amount - sum(own.values())
        if rest > _NOTHING:
            able = tuple(n for n, site in enumerate(sites) if n not in own and _may_be(site, code))
            found[Share(code, able)] = rest
    return found


_NOTHING = 1e-6
"""A rate that is less comes of rounding."""


def _may_be(site: VerdictSite, code: int) -> bool:
    """Whether a site may have decided a code of a row of counts."""
    return not isinstance(site.code, int) or min(site.code, CODES - 1) == code
