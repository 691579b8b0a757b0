# SPDX-License-Identifier: Apache-2.0
"""Choose a chain's linkage, and say why."""

from __future__ import annotations

from xdpchain.advice import Do, advise
from xdpchain.errors import Unsupported
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.running import Running

from .dispatcher.installed import BINDABLE, emitted_version
from .probe import default_linkage, probe_linkage

__all__ = ["chain_of", "choose"]


def chain_of(running: Running) -> Chain:
    """The chain to edit: the running one, or an empty one with the best linkage for this kernel.

    It is also empty if somebody else's program runs there; a plan made from that raises NotOurs.
    """
    return running.chain or Chain(linkage=default_linkage()[0])


def choose(
    asked: str, running: Running, *, anew: bool = False, bound: bool = False, slots: int = 0
) -> tuple[Linkage, str]:
    """The linkage for ``asked`` (a linkage, or ``auto``), and the reason in words. ``auto`` keeps the running
    chain's linkage unless ``anew`` is set. ``bound``: a component reads RX metadata, and no dispatcher
    version was requested. ``slots``: how many the chain will have. Raises Unsupported if the linkage does not
    work here.
    """
    if asked == "auto":
        if running.chain is not None and not anew:
            return running.chain.linkage, "the running chain's"
        linkage, why = default_linkage()
        if bound and linkage.facts.libxdp and emitted_version() < BINDABLE:
            version = f"dispatcher version {BINDABLE} (libxdp 1.6 or newer)"
            return (
                Linkage.STATIC,
                f"RX metadata needs {version} under freplace, and here it is {emitted_version()}",
            )
        if slots > linkage.facts.most_slots:
            return Linkage.STATIC, f"{slots} slots, and {linkage} supports {linkage.facts.most_slots}"
        return linkage, why
    linkage = Linkage(asked)
    if linkage is not running.linkage:
        probed = probe_linkage(linkage)
        if not probed.works:
            others = (other for other in (Linkage.STATIC, Linkage.TAILCALL) if other is not linkage)
            raise Unsupported(
                f"{linkage} linkage does not work here",
                probed.reason,
                advise(Do.CHOOSE_LINKAGE, *others),
                detail=probed.detail,
            )
    return linkage, "requested"
