# SPDX-License-Identifier: Apache-2.0
"""One finding of the doctor. Pure."""

from __future__ import annotations

from enum import StrEnum

from xdpchain.advice import Advice, Do, advise
from xdpchain.frozen import frozen

__all__ = ["AS_ROOT", "Finding", "Level", "Topic", "error", "info", "ok", "warn"]


AS_ROOT = advise(Do.GET_PERMISSION, "CAP_SYS_ADMIN", "CAP_NET_ADMIN")


class Level(StrEnum):
    """``info``: worth knowing; ``warn``: something is degraded or limited; ``error``: something does not
    work.
    """

    OK = "ok"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"


class Topic(StrEnum):
    """What a finding is about, in reporting order."""

    PERMISSIONS = "permissions"
    KERNEL = "kernel"
    SETTINGS = "settings"
    BPFFS = "BPF filesystem"
    TOOLS = "tools"
    INTERFACE = "interface"


@frozen
class Finding:
    """``check`` is the stable name of the check (docs/doctor.md lists them all); ``what`` was found, ``why``
    it matters, and ``fix``: what to do, as a command if possible. ``interface`` is set for findings about
    one.
    """

    level: Level
    topic: Topic
    check: str
    what: str
    why: str = ""
    fix: str | Advice = ""
    interface: str | None = None


def ok(topic: Topic, check: str, what: str) -> Finding:
    return Finding(Level.OK, topic, check, what)


def info(topic: Topic, check: str, what: str, why: str = "", fix: str | Advice = "") -> Finding:
    return Finding(Level.INFO, topic, check, what, why, fix)


def warn(topic: Topic, check: str, what: str, why: str, fix: str | Advice) -> Finding:
    return Finding(Level.WARN, topic, check, what, why, fix)


def error(topic: Topic, check: str, what: str, why: str, fix: str | Advice) -> Finding:
    return Finding(Level.ERROR, topic, check, what, why, fix)
