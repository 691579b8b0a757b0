# SPDX-License-Identifier: Apache-2.0
"""Which xdptui this is: its version, and the commit it was built from or that is checked out.

Does not run git: it may not be installed, and as root it refuses a checkout that belongs to somebody else.
setup.py loads this file by path, so it imports nothing of ours.
"""

from __future__ import annotations

import pkgutil
import re
from pathlib import Path

__all__ = ["COMMIT", "checked_out", "version"]

COMMIT = "commit.txt"
"""In builds, beside this file: the commit's full hash. Not in a checkout."""

_HASH = re.compile(r"[0-9a-f]{40,64}\Z")


def version() -> str:
    """For people: "0.1.0 (abc1234)", or without the commit if that is unknown."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        release = installed("xdptui")
    except PackageNotFoundError:
        release = "not installed"
    commit = _built_from() or checked_out(Path(__file__).parents[1])
    return f"{release} ({commit[:7]})" if commit else release


def checked_out(root: Path) -> str:
    """The commit checked out in ``root``, as a full hash; empty if it is no checkout or unreadable."""
    try:
        git = root / ".git"
        if git.is_file():  # a separate worktree, or a submodule
            git = root / git.read_text().removeprefix("gitdir:").strip()
        head = (git / "HEAD").read_text().strip()
        if head.startswith("ref:"):
            head = _resolved(git, head.removeprefix("ref:").strip())
    except (OSError, ValueError):
        return ""
    return head if _HASH.match(head) else ""


def _built_from() -> str:
    try:
        found = pkgutil.get_data("xdptui", COMMIT) or b""
    except OSError:
        return ""
    text = found.decode("ascii", "replace").strip()
    return text if _HASH.match(text) else ""


def _resolved(git: Path, ref: str) -> str:
    """What a branch points to: from its own file, or from the packed refs."""
    shared = git
    if (git / "commondir").is_file():
        shared = git / (git / "commondir").read_text().strip()
    for folder in (git, shared):
        if (folder / ref).is_file():
            return (folder / ref).read_text().strip()
    for line in (shared / "packed-refs").read_text().splitlines():
        commit, _, name = line.partition(" ")
        if name == ref:
            return commit
    return ""
