# SPDX-License-Identifier: Apache-2.0
"""Pins that keep the program arrays of a chain's components filled.

The kernel empties a program array when user space lets go of it, whatever programs still use it
(bpf_map_release_uref), so a component with tail calls needs its arrays pinned for as long as its chain
lives: in ``<bpffs>/xdptui/<prog id>/<map id>``, by the program that uses them, which is the dispatcher under
static linkage and the component under freplace. Program ids are the whole system's and none is used twice,
so a directory whose program is gone is stale, and nothing else is.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from xdpchain.sys import bpf, bpffs
from xdpchain.sys.grace import wait_for_packets
from xdpchain.sys.mount_lifetime import require_lasting

__all__ = ["components_in", "pin_arrays", "release_arrays", "remove_array_pins", "stale_array_pins"]

DIRECTORY = "xdptui"


def _root() -> Path:
    return bpffs.find() / DIRECTORY


def pin_arrays(program: int, arrays: Mapping[int, bpf.Fd]) -> None:
    """Pin ``arrays`` (by map id) for the program with id ``program``. Raises BpffsMissing,
    KernelRefused.
    """
    if not arrays:
        return
    # Without pins the kernel would empty them: what follows a tail call would not run any more.
    require_lasting(bpffs.find(), "program arrays", "use --linkage static, for programs without tail calls")
    directory = _root() / str(program)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for number, fd in arrays.items():
            bpf.obj_pin(fd, str(directory / str(number)))
    except OSError as error:
        raise bpf.refusal(error, f"program arrays can't be pinned in {directory}") from error


def remove_array_pins(program: int) -> None:
    """Remove the pins of one program, if it has any, when no packet is on its way through it any more."""
    try:
        directory = _root() / str(program)
        names = [name for name in os.listdir(directory) if _is_id(name)]
        if names and _lives(program):
            # A packet that came in before the swap would find the arrays empty.
            wait_for_packets()
        for name in names:
            (directory / name).unlink(missing_ok=True)
        directory.rmdir()
    except (bpffs.BpffsMissing, FileNotFoundError):
        pass
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:  # somebody else put something there: it is theirs
            raise


def stale_array_pins() -> tuple[Path, ...]:
    """Directories whose program is gone: left by a process that was killed, or by a foreign hand."""
    try:
        names = os.listdir(_root())
    except (bpffs.BpffsMissing, FileNotFoundError, PermissionError):
        return ()
    return tuple(_root() / name for name in sorted(names) if _is_id(name) and not _lives(int(name)))


def components_in(directories: Iterable[bpffs.DispatchDir]) -> set[int]:
    """The prog ids of the components that are pinned there, by themselves or by a link."""
    found = set()
    for directory in directories:
        for name in bpffs.pins(directory):
            with contextlib.suppress(bpf.BpfError), bpf.obj_get(os.fspath(directory.path / name)) as fd:
                found.add(bpf.prog_info(fd).id if name.endswith("-prog") else bpf.link_info(fd).prog_id)
    return found


def release_arrays(components: Iterable[int]) -> None:
    """Remove the pins of those components that hang on no dispatcher any more, of any interface."""
    # Not left to `stale_array_pins`: the kernel lets go of a component some time after its last pin went.
    suspects = set(components)
    if suspects:
        for gone in suspects - components_in(bpffs.dispatch_dirs()):
            remove_array_pins(gone)


def _is_id(name: str) -> bool:
    return name.isascii() and name.isdecimal()


def _lives(program: int) -> bool:
    try:
        bpf.prog_by_id(program).close()
    except bpf.BpfError as error:
        return error.errno != errno.ENOENT
    return True
