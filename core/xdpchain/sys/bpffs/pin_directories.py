# SPDX-License-Identifier: Apache-2.0
"""The pins of each dispatcher: a directory ``dispatch-<ifindex>-<program id>``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from xdpchain.advice import Do, advise
from xdpchain.errors import NotOurs
from xdpchain.sys.trusted_directory import TrustedDirectory

from .mounting import SUBDIRECTORY, find, in_words, open_below, refused

__all__ = [
    "DispatchDir",
    "dispatch_dir",
    "dispatch_dirs",
    "make_dispatch_dir",
    "open_dispatch_dir",
    "pins",
    "remove_dispatch_dir",
]

_DISPATCH_DIR = re.compile(r"dispatch-([1-9][0-9]*)-([1-9][0-9]*)")
DISPATCH_DIR = "dispatch-{}-{}"  # ifindex, prog id
_SLOT_PIN = re.compile(r"prog[0-9]-(?:link|prog)")  # ten slots


class DispatchDir(NamedTuple):
    """The pins of a dispatcher. Its ifindex belongs to the network namespace where it was loaded."""

    path: Path
    ifindex: int
    prog_id: int


def dispatch_dirs(ifindex: int | None = None) -> tuple[DispatchDir, ...]:
    """The pin directories of all dispatchers, or those of one ifindex, from any tool, sorted. Other entries
    are ignored.

    Raises BpffsMissing and PermissionDenied.
    """
    try:
        with open_below(SUBDIRECTORY) as directory:
            path, names = directory.path, directory.names()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise refused(f"Can't list {find() / SUBDIRECTORY}", error) from error
    if ifindex is not None:
        names = tuple(name for name in names if name.startswith(DISPATCH_DIR.format(ifindex, "")))
    matches = map(_DISPATCH_DIR.fullmatch, names)
    return tuple(
        sorted(DispatchDir(path / match[0], int(match[1]), int(match[2])) for match in matches if match)
    )


def dispatch_dir(ifindex: int, prog_id: int) -> DispatchDir:
    """The directory for a dispatcher's pins, existing or not. Raises BpffsMissing."""
    path = find() / SUBDIRECTORY / DISPATCH_DIR.format(ifindex, prog_id)
    return DispatchDir(path, ifindex, prog_id)


def open_dispatch_dir(directory: DispatchDir, *, make: bool = False) -> TrustedDirectory:
    """Open a dispatcher's pin directory, as `open_below`."""
    return open_below(SUBDIRECTORY, directory.path.name, make=make)


def make_dispatch_dir(ifindex: int, prog_id: int) -> DispatchDir:
    """Create an empty pin directory for a new dispatcher. Take the lock first.

    Raises NotOurs if it already exists, left by a former dispatcher with the same ID.
    """
    made = dispatch_dir(ifindex, prog_id)
    try:
        with open_below(SUBDIRECTORY, make=True) as parent:
            parent.make_child(made.path.name, exist_ok=False).close()
    except FileExistsError as error:
        raise NotOurs(
            f"Can't make {made.path}",
            "an earlier dispatcher with the same program id left its pins there",
            advise(Do.CLEAN),
            detail=in_words(error),
        ) from error
    except OSError as error:
        raise refused(f"Can't make {made.path}", error) from error
    return made


def pins(directory: DispatchDir) -> tuple[str, ...]:
    """The names in a pin directory, sorted; empty if it is gone. Raises PermissionDenied, Untrusted."""
    try:
        with open_dispatch_dir(directory) as opened:
            return opened.names()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise refused(f"Can't list {directory.path}", error) from error


def remove_dispatch_dir(directory: DispatchDir) -> tuple[str, ...]:
    """Remove a dispatcher's pins and their directory. Returns the names that were unlinked. Take the lock
    first.

    Only slots' pins (progN-link, progN-prog) are unlinked: no directories, nothing through a symbolic link or
    outside ``<bpffs>/xdp``. A missing directory is not an error. If killed in between, the same call removes
    the rest.

    Raises NotOurs, before anything is removed, if it contains anything else; Untrusted, PermissionDenied,
    KernelRefused.
    """
    what = f"Can't remove {directory.path}"
    path, name = find() / SUBDIRECTORY, directory.path.name
    if directory.path.parent != path or not _DISPATCH_DIR.fullmatch(name):
        raise NotOurs(what, f"it is not a dispatcher's pin directory in {path}")
    names: tuple[str, ...] = ()
    try:
        with open_below(SUBDIRECTORY) as parent:
            with parent.child(name) as opened:
                names = _slot_pins(what, opened)
                for pin in names:
                    opened.unlink(pin)
            parent.rmdir(name)
    except FileNotFoundError:  # already removed
        pass
    except OSError as error:
        raise refused(what, error) from error
    return names


def _slot_pins(what: str, directory: TrustedDirectory) -> tuple[str, ...]:
    names = directory.names()
    strange = [name for name in names if not (_SLOT_PIN.fullmatch(name) and directory.holds_file(name))]
    if strange:
        raise NotOurs(
            what,
            f"it contains files that are not a dispatcher's: {', '.join(strange)}",
            "Find out whose they are, and remove them by hand",
        )
    return names
