# SPDX-License-Identifier: Apache-2.0
"""Which linkage a chain gets, and why."""

from __future__ import annotations

from xdpchain.errors import Unsupported
from xdpchain.linkage.probe import default_linkage, probe_freplace, probe_tailcall
from xdpchain.model.chain import Linkage
from xdpchain.model.running import Running

__all__ = ["choose"]


def choose(asked: str, running: Running, *, anew: bool = False) -> tuple[Linkage, str]:
    """The linkage for ``asked`` (a linkage, or ``auto``), and the reason in words.

    ``auto`` keeps that of the chain that runs, unless the choice is to be made ``anew``. Raises Unsupported
    for one that does not work here.
    """
    if asked == "auto":
        if running.chain is not None and not anew:
            return running.chain.linkage, "as the chain that runs"
        return default_linkage()
    linkage = Linkage(asked)
    if linkage is Linkage.FREPLACE and running.linkage is not Linkage.FREPLACE:
        probed = probe_freplace()
        if not probed.works:
            raise Unsupported(
                "freplace linkage does not work here",
                probed.reason,
                "Use --linkage static, which needs nothing of the kind",
                detail=probed.detail,
            )
    if linkage is Linkage.TAILCALL and running.linkage is not Linkage.TAILCALL:
        tail = probe_tailcall()
        if not tail.works:
            raise Unsupported("tailcall linkage does not work here", tail.reason, "Use --linkage static")
    return linkage, "asked for"
