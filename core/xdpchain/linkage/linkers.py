# SPDX-License-Identifier: Apache-2.0
"""The linker of each linkage."""

from __future__ import annotations

from collections.abc import Callable

from xdpchain.model.linkage import Linkage

from . import Linker
from .static import StaticLinker
from .tailcall import TailcallLinker

__all__ = ["CLONING_LINKERS", "LINKERS"]

CLONING_LINKERS: dict[Linkage, type[StaticLinker] | type[TailcallLinker]] = {
    Linkage.STATIC: StaticLinker,
    Linkage.TAILCALL: TailcallLinker,
}
"""Those that can link over copies of all maps, and in place of a program that does the same."""


def _freplace() -> Linker:
    from .freplace import FreplaceLinker  # late: other linkages need not import it

    return FreplaceLinker()


LINKERS: dict[Linkage, Callable[[], Linker]] = {**CLONING_LINKERS, Linkage.FREPLACE: _freplace}
