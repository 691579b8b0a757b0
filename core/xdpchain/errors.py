# SPDX-License-Identifier: Apache-2.0
"""The one tree of errors that the engine raises.

Every error says what failed, why, and what to do; ``detail`` keeps the kernel's own words (extended ack,
the verifier's last lines). A class stands for one thing that a caller may want to handle differently; its
``exit_code`` is what the command line returns for it.
"""

from __future__ import annotations

from .advice import Advice

__all__ = [
    "Busy",
    "Cancelled",
    "InvalidInput",
    "KernelRefused",
    "LinkRefused",
    "NotFound",
    "NotOurs",
    "PermissionDenied",
    "RaceLost",
    "Unsupported",
    "XdpChainError",
]


class XdpChainError(Exception):
    """What failed (``what``), why (``why``), what to do (``todo``: words, or the kind of advice, which the
    faces put into words), and the kernel's own words (``detail``).
    """

    exit_code = 1

    def __init__(self, what: str, why: str = "", todo: str | Advice = "", *, detail: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.todo = todo
        self.detail = detail

    def __str__(self) -> str:
        """What failed and why, and what to do where that is words: advice gets its own from the faces."""
        text = f"{self.what}: {self.why}" if self.why else self.what
        return f"{text}. {self.todo}" if self.todo and isinstance(self.todo, str) else text

    def __reduce__(self) -> tuple[object, ...]:
        return (_revive, (type(self), self.what, self.why, self.todo, self.detail))


def _revive(kind: type[XdpChainError], what: str, why: str, todo: str | Advice, detail: str) -> XdpChainError:
    return kind(what, why, todo, detail=detail)


class KernelRefused(XdpChainError):
    """The kernel said no to something that should have worked (the verifier, a resource limit, a driver)."""


class PermissionDenied(XdpChainError):
    """A capability is missing, or the kernel's policy forbids the operation. Nothing was changed."""

    exit_code = 3


class Busy(XdpChainError):
    """Another editor holds the lock, or the hook is taken. Nothing was changed."""

    exit_code = 4


class Cancelled(XdpChainError):
    """The caller called it off before the swap. Nothing was changed."""

    exit_code = 4


class RaceLost(XdpChainError):
    """What runs is not what the edit was made from: somebody changed the chain. Nothing was changed by us."""

    exit_code = 4


class NotOurs(XdpChainError):
    """The program on the hook belongs to somebody else. It was left alone."""

    exit_code = 4


class NotFound(XdpChainError):
    """An interface, namespace, slot, program or file that does not exist (any more)."""

    exit_code = 5


class Unsupported(XdpChainError):
    """The kernel, driver or linkage lacks something that was asked for."""

    exit_code = 6


class LinkRefused(Unsupported):
    """This component can't be linked in this way; ``todo`` names the linkage that can."""


class InvalidInput(XdpChainError):
    """A file or an argument that can't be what it should be."""

    exit_code = 7
