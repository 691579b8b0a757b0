# SPDX-License-Identifier: Apache-2.0
"""Errors of a playground, as a branch of the engine's error tree."""

from __future__ import annotations

from xdpchain.errors import XdpChainError

__all__ = ["PlaygroundError"]


class PlaygroundError(XdpChainError):
    """The playground could not be created, or packets did not arrive in it."""
