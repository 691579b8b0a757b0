# SPDX-License-Identifier: Apache-2.0
"""Where object files are: the contents of a directory, and completions of a partial path."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from glob import glob
from itertools import islice

from xdpchain.frozen import frozen

__all__ = [
    "Entry",
    "begun_anew",
    "complete",
    "completion",
    "contents",
    "listing",
    "matching",
    "split",
    "usual_places",
]

OBJECTS = (".o",)
"""Suffixes of object files."""

MOST = 500
"""Entries shown of one directory; typing narrows them."""


@frozen
class Entry:
    """A directory or an object file; ``path`` is absolute, ``size`` in bytes, ``changed`` in seconds since
    1970 (None: unknown).
    """

    path: str
    directory: bool
    size: int | None = None
    changed: float | None = None

    @property
    def label(self) -> str:
        name = os.path.basename(self.path.rstrip("/")) or "/"
        return f"{name}/" if self.directory else name


def usual_places() -> tuple[str, ...]:
    """The directories that exist among those where distributions install BPF objects."""
    found = (
        glob("/usr/lib/*/bpf") + glob("/usr/lib/bpf") + glob("/usr/lib64/bpf") + glob("/usr/local/lib/bpf")
    )
    return tuple(sorted(path for path in found if os.path.isdir(path)))


def split(text: str) -> tuple[str, str]:
    """The directory (absolute, ``~`` expanded) and the start of a name in a typed path."""
    path = os.path.expanduser(text.strip())
    directory, name = os.path.split(path)
    if name in (".", ".."):
        directory, name = path, ""
    return os.path.abspath(directory or os.curdir), name


def contents(directory: str, ends: tuple[str, ...] = OBJECTS) -> tuple[Entry, ...]:
    """Directories, then files ending with one of ``ends``, hidden ones included; empty if unreadable."""
    directories: list[Entry] = []
    files: list[Entry] = []
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if _is_directory(entry):
                    directories.append(Entry(entry.path, True))
                elif entry.name.endswith(ends):
                    files.append(_file(entry))
    except OSError:
        return ()
    return (*sorted(directories, key=lambda e: e.path), *sorted(files, key=lambda e: e.path))


def matching(found: Iterable[Entry], begin: str) -> tuple[Entry, ...]:
    """Those whose names begin so, hidden ones only if that was typed."""
    kept = (e for e in found if e.label.startswith(begin) and (begin or not e.label.startswith(".")))
    return tuple(islice(kept, MOST))


def listing(text: str, ends: tuple[str, ...] = OBJECTS) -> tuple[Entry, ...]:
    """What completes the typed text."""
    directory, begin = split(text)
    return matching(contents(directory, ends), begin)


def _file(entry: os.DirEntry[str]) -> Entry:
    try:
        known = entry.stat()
    except OSError:  # a dangling link
        return Entry(entry.path, False)
    return Entry(entry.path, False, known.st_size, known.st_mtime)


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def begun_anew(text: str) -> str:
    """What is meant if an absolute path, or one from ``~``, was typed or pasted behind a directory."""
    return max(
        (text[text.rfind(mark) + 1 :] for mark in ("//", "/~/") if mark in text), key=len, default=text
    )


def complete(text: str, ends: tuple[str, ...] = OBJECTS) -> str | None:
    """The typed path completed with its first match, None if there is none or nothing to add."""
    return completion(text, listing(text, ends))


def completion(text: str, found: Sequence[Entry]) -> str | None:
    """The same, with the matches that were ``found``."""
    _, begin = split(text)
    if not begin or not found:
        return None
    rest = found[0].label[len(begin) :]
    return text + rest if rest else None
