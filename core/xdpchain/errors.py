# SPDX-License-Identifier: Apache-2.0
"""The errors that the engine raises, in one tree.

Every error says what failed, why, and what to do; ``detail`` keeps the kernel's own message (extended ack,
the verifier's last lines). Each class is a case that callers may want to handle differently; ``exit_code`` is
what the command line returns for it.
"""

from __future__ import annotations

from collections.abc import Callable

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
    """What failed (``what``), why (``why``), what to do (``todo``: text, or a kind of advice that the user
    interfaces put into words; or a function that finds that out when somebody asks), and the kernel's own
    message (``detail``).
    """

    exit_code = 1

    def __init__(
        self, what: str, why: str = "", todo: str | Advice | Callable[[], str] = "", *, detail: str = ""
    ) -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self._todo = todo
        self.detail = detail

    @property
    def todo(self) -> str | Advice:
        """What to do."""
        return self._todo() if callable(self._todo) else self._todo

    @todo.setter
    def todo(self, todo: str | Advice) -> None:
        self._todo = todo

    def __str__(self) -> str:
        """What failed and why, and what to do if that is text: the user interfaces put advice into words."""
        text, todo = f"{self.what}: {self.why}" if self.why else self.what, self.todo
        return f"{text}. {todo}" if todo and isinstance(todo, str) else text

    def __reduce__(self) -> tuple[object, ...]:
        return (_revive, (type(self), self.what, self.why, self.todo, self.detail))


def _revive(kind: type[XdpChainError], what: str, why: str, todo: str | Advice, detail: str) -> XdpChainError:
    return kind(what, why, todo, detail=detail)


class KernelRefused(XdpChainError):
    """The kernel refused something that should have worked (the verifier, a resource limit, a driver)."""


class PermissionDenied(XdpChainError):
    """A capability is missing, or the kernel's policy forbids the operation. Nothing was changed."""

    exit_code = 3


class Busy(XdpChainError):
    """Another editor holds the lock, or the hook is taken. Nothing was changed."""

    exit_code = 4


class Cancelled(XdpChainError):
    """The caller cancelled the change before the swap. Nothing was changed."""

    exit_code = 4


class RaceLost(XdpChainError):
    """What runs is not what the edit was made from: somebody else changed the chain. This edit changed
    nothing.
    """

    exit_code = 4


class NotOurs(XdpChainError):
    """The program on the hook belongs to somebody else. It was left alone."""

    exit_code = 4


class NotFound(XdpChainError):
    """An interface, namespace, slot, program or file that does not exist (any more)."""

    exit_code = 5


class Unsupported(XdpChainError):
    """The kernel, driver or linkage does not support what was requested."""

    exit_code = 6


class LinkRefused(Unsupported):
    """This component can't be linked this way; ``todo`` names a linkage that can."""


class InvalidInput(XdpChainError):
    """An invalid file or argument."""

    exit_code = 7
