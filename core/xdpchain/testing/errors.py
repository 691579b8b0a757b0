# SPDX-License-Identifier: Apache-2.0
"""What can go wrong in a playground, as a branch of the engine's tree of errors."""

from __future__ import annotations

from xdpchain.errors import XdpChainError

__all__ = ["PlaygroundError"]


class PlaygroundError(XdpChainError):
    """The playground could not be made, or packets did not arrive in it."""
