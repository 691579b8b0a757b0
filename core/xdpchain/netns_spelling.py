# SPDX-License-Identifier: Apache-2.0
"""How a network namespace is written, and the path to it. Pure.

A name is one in /run/netns, as `ip netns` uses them. Anything that begins with a slash is a path to a
namespace (/proc/PID/ns/net, or where one is mounted, such as /run/docker/netns/ID); ``pid:N`` is that of a
process.
"""

from __future__ import annotations

import re

__all__ = ["RUN_DIR", "is_name", "netns_path", "netns_spelling"]

RUN_DIR = "/run/netns"
_PROCESS = re.compile(r"pid:([1-9][0-9]{0,9})")


def netns_spelling(text: str) -> str:
    """The shortest way to write ``text``. Raises ValueError, whose text says what is allowed."""
    for folder in (RUN_DIR, "/var/run/netns"):
        name = text.removeprefix(folder + "/")
        if name != text and _is_file_name(name) and is_name(name):
            return name
    if netns_path(text) is None:
        raise ValueError("must be a name in /run/netns, a path that begins with /, or pid:N")
    return text


def netns_path(spelling: str) -> str | None:
    """The path to the namespace; None if ``spelling`` is not valid."""
    process = _PROCESS.fullmatch(spelling)
    if process:
        return f"/proc/{process[1]}/ns/net"
    if spelling.startswith("/") and "\0" not in spelling:
        return spelling
    return f"{RUN_DIR}/{spelling}" if _is_file_name(spelling) else None


def is_name(spelling: str) -> bool:
    """Whether it is a name for `ip netns`, not a path or process."""
    return not spelling.startswith("/") and not _PROCESS.fullmatch(spelling)


def _is_file_name(text: str) -> bool:
    return bool(text) and "/" not in text and "\0" not in text and text not in (".", "..")
