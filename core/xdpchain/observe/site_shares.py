# SPDX-License-Identifier: Apache-2.0
"""Each verdict site's share of a slot's counts. Pure.

Counted sites have their own numbers. The rest of a return code's count belongs to the sites that can decide
it and have no counter: to a single one, or to several together without a breakdown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from xdpchain.bytecode.sites import VerdictSite
from xdpchain.frozen import frozen
from xdpchain.model.counts import CODES

__all__ = ["Share", "SlotReasons", "shares"]


@frozen
class SlotReasons:
    """A slot's sites, with its index in the chain, counts key and name. ``why``: why it has none."""

    index: int
    key: str
    name: str
    sites: tuple[VerdictSite, ...]
    why: str = ""


class Share(NamedTuple):
    """A share of a return code's count (`counts.CODES`), and the sites (indexes) that decided it: one;
    several, if it is unknown which; or none, if the program has no sites for this code.
    """

    code: int
    sites: tuple[int, ...]


def shares(
    sites: Sequence[VerdictSite], codes: Sequence[float], counted: Mapping[tuple[int, int], float]
) -> dict[Share, float]:
    """Split counts by code into shares; ``counted`` is the part that was counted by (site, code). Zero shares
    are omitted.
    """
    split: dict[Share, float] = {}
    for code, amount in enumerate(codes):
        own = {site: part for (site, of), part in counted.items() if of == code}
        for site, part in own.items():
            if part:
                split[Share(code, (site,))] = part
        rest = amount - sum(own.values())
        if rest > _NOTHING:
            able = [index for index, site in enumerate(sites) if _may_be(site, code)]
            # If all of them have counters by now, it was counted by code before an edit changed that.
            share = Share(code, tuple(index for index in able if index not in own) or tuple(able))
            split[share] = split.get(share, 0.0) + rest
    return split


_NOTHING = 1e-6
"""Smaller rates are rounding errors."""


def _may_be(site: VerdictSite, code: int) -> bool:
    """Whether a site may have decided this code of a row of counts."""
    return not isinstance(site.code, int) or min(site.code, CODES - 1) == code
