# SPDX-License-Identifier: Apache-2.0
"""A state that an interface was in, as the journal and plans that return to it know it."""

from __future__ import annotations

from xdpchain.frozen import frozen
from xdpchain.model.chain import Chain

__all__ = ["Moment"]


@frozen
class Moment:
    """A state: ``program`` is the program ID on the hook (None: empty) in the boot with ID ``boot``;
    ``chain`` is None if nothing ran or it could not be read.
    """

    program: int | None
    boot: str
    chain: Chain | None = None

    def same(self, other: Moment) -> bool:
        """Whether both are the same state; an empty hook is the same in any boot."""
        if self.program is None or other.program is None:
            return self.program == other.program
        if self.chain is not None and other.chain is not None and self.chain.turns != other.chain.turns:
            return False
        return (self.program, self.boot) == (other.program, other.boot)
