# SPDX-License-Identifier: Apache-2.0
"""The linkages: ways to turn a chain's slots into one program. Each builds a new chain next to the running
one and attaches nothing.
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
    """A complete new chain, not attached: closing it frees everything, unless it was attached or pinned."""

    @property
    def program(self) -> Fd:
        """The dispatcher, ready to be attached to the hook."""

    @property
    def chain(self) -> Chain:
        """The chain with what the kernel assigned: IDs, tags, maps, counter rows."""

    def pin(self) -> None:
        """Make the pins that let the chain outlive this process; the last step before the swap."""

    def unpin(self) -> None:
        """Remove what `pin` made, after a failed swap."""

    def close(self) -> None:
        """Release the descriptors. The kernel keeps what is attached or pinned."""


class Linker(Protocol):
    """One linkage."""

    def build(self, candidate: Chain, running: Running, author: Author) -> Built:
        """Load and link ``candidate``, carrying over what ``running`` holds. Raises XdpChainError, and then
        leaves nothing behind.
        """

    def retire(self, running: Running) -> None:
        """Remove what a swapped-out chain of this linkage left outside its programs (pins)."""
