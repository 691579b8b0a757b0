# SPDX-License-Identifier: Apache-2.0
"""The linkages: ways to make one program of a chain's slots. Each builds beside what runs, and attaches
nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from xdpchain.model.chain import Chain
    from xdpchain.model.manifest import Author
    from xdpchain.model.running import Running
    from xdpchain.sys.bpf import Fd

__all__ = ["Built", "Linker"]


class Built(Protocol):
    """A whole new chain that is not attached: it vanishes when closed, unless it was."""

    @property
    def program(self) -> Fd:
        """The dispatcher, ready to be put on the hook."""

    @property
    def chain(self) -> Chain:
        """The chain with what the kernel gave: ids, tags, maps, counter rows."""

    def pin(self) -> None:
        """Make the pins that the chain needs to outlive this process; the last step before the swap."""

    def unpin(self) -> None:
        """Take back what `pin` made; for a swap that failed."""

    def close(self) -> None:
        """Release the descriptors. The kernel keeps what is attached or pinned."""


class Linker(Protocol):
    """One linkage."""

    def build(self, candidate: Chain, running: Running, author: Author) -> Built:
        """Load and link ``candidate``, handing on what ``running`` holds. Raises an XdpChainError; nothing
        is left.
        """

    def retire(self, running: Running) -> None:
        """Remove what a chain of this linkage left outside its programs (pins), after it was swapped away."""
