# SPDX-License-Identifier: Apache-2.0
"""Unpacked packages, kept between runs under the user's cache directory.

One folder per item (a suite's kernel, an emulator). An item is complete when its description exists, which is
written last and atomically: a killed fetch leaves an incomplete item, and packages from which the next fetch
resumes.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from vmlab.errors import LabError

__all__ = ["Item", "locked", "root"]

_DESCRIPTION = "complete.json"


def root() -> Path:
    """The lab's cache: `xdptui-kernels` in `$XDG_CACHE_HOME`, or in `~/.cache`.

    Raises LabError if it can't be created.
    """
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    path = Path(home).expanduser().absolute() / "xdptui-kernels"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LabError(f"can't make {path}: {error.strerror}. XDG_CACHE_HOME names another place.") from error
    return path


@contextmanager
def locked(path: Path, waiting_for: str) -> Iterator[None]:
    """Holds the lock on the file or folder `path`; says what it waits for when another process holds it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | (0 if path.is_dir() else os.O_CREAT), 0o644)
    except OSError as error:
        raise LabError(f"can't open {path}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process: {waiting_for}", file=sys.stderr, flush=True)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Item:
    """A folder of the cache: `tree` with the unpacked packages, and a description of them."""

    name: str

    @property
    def folder(self) -> Path:
        return root() / self.name

    @property
    def tree(self) -> Path:
        return self.folder / "tree"

    def lock(self, waiting_for: str) -> AbstractContextManager[None]:
        """Exclusive access to this item. The lock is beside the folder, so that it outlives the folder's
        removal."""
        return locked(root() / f"{self.name}.lock", waiting_for)

    def description(self) -> dict[str, str] | None:
        """What `publish` wrote; None while the item is not complete."""
        try:
            read = json.loads((self.folder / _DESCRIPTION).read_text())
        except (OSError, ValueError):
            return None
        return read if isinstance(read, dict) else None

    def clear(self) -> None:
        """Marks the item incomplete and empties its tree. Downloaded packages stay."""
        (self.folder / _DESCRIPTION).unlink(missing_ok=True)
        if self.tree.exists():
            shutil.rmtree(self.tree)
        self.tree.mkdir(parents=True)

    def publish(self, description: dict[str, str]) -> None:
        """Marks the item complete."""
        new = self.folder / f"{_DESCRIPTION}.new"
        new.write_text(json.dumps(description, indent=2) + "\n")
        new.replace(self.folder / _DESCRIPTION)
