# SPDX-License-Identifier: Apache-2.0
"""A change under way, and what registers to be called before and after it."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from xdpchain.model.running import Running

from .plan import Plan

__all__ = ["ChangeHook", "ChangeUnderWay"]


class ChangeUnderWay(NamedTuple):
    """A change under way. ``now`` is what runs before it; ``confirm``: seconds in which it must be confirmed
    (None: it is final). ``pending``: a rollback may restore ``now``.
    """

    plan: Plan
    now: Running
    confirm: float | None
    pending: bool


class ChangeHook(Protocol):
    """Called before and after one change, under its lock."""

    def before(self, change: ChangeUnderWay) -> Running | None:
        """Called before anything is built. Returns what runs now if this changed it. An error ends the change
        with nothing done.
        """

    def after(self, change: ChangeUnderWay, after: Running) -> str:
        """Called when ``after`` runs. Returns a message if something went wrong; never fails the change."""
