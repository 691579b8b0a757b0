# SPDX-License-Identifier: Apache-2.0
"""Pins that keep the program arrays of a chain's components filled.

The kernel empties a program array when user space lets go of it, whatever programs still use it
(bpf_map_release_uref), so a component with tail calls needs its arrays pinned for as long as its chain
lives: in ``<bpffs>/xdptui/<prog id>/<map id>``, by the program that uses them, which is the dispatcher under
static linkage and the component under freplace. Program ids are the whole system's and none is used twice,
so a directory whose program is gone is stale, and nothing else is. A component that is off under freplace is
kept in the same way, by the prog id of its stand-in (`dispatcher.stand_in`).
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterable, Mapping
from pathlib import Path

from xdpchain.errors import XdpChainError
from xdpchain.model.chain import Chain
from xdpchain.sys import bpf, bpffs
from xdpchain.sys.grace import wait_for_packets
from xdpchain.sys.mount_lifetime import require_lasting
from xdpchain.sys.trusted_directory import Untrusted

__all__ = [
    "components_in",
    "pin_arrays",
    "pinned_for",
    "release_arrays",
    "remove_array_pins",
    "stale_array_pins",
]

DIRECTORY = "xdptui"


def pin_arrays(program: int, arrays: Mapping[int, bpf.Fd]) -> None:
    """Pin ``arrays`` (by map id) for the program with id ``program``. Raises BpffsMissing, Untrusted,
    KernelRefused.
    """
    if not arrays:
        return
    # Without pins the kernel would empty them: what follows a tail call would not run any more.
    require_lasting(bpffs.find(), "program arrays", "use --linkage static, for programs without tail calls")
    try:
        with bpffs.open_below(DIRECTORY, str(program), make=True) as directory:
            for map_id, fd in arrays.items():
                directory.pin(str(map_id), fd)
    except OSError as error:
        where = bpffs.find() / DIRECTORY / str(program)
        raise bpf.refusal(error, f"program arrays can't be pinned in {where}") from error


def remove_array_pins(program: int) -> None:
    """Remove the pins of one program, if it has any, when no packet is on its way through it any more."""
    name = str(program)
    try:
        with bpffs.open_below(DIRECTORY) as parent:
            with parent.child(name) as directory:
                pins = [pin for pin in directory.names() if _is_id(pin)]
                if pins and bpf.prog_lives(program):
                    # A packet that came in before the swap would find the arrays empty.
                    wait_for_packets()
                for pin in pins:
                    directory.unlink(pin)
            parent.rmdir(name)
    except (bpffs.BpffsMissing, Untrusted, FileNotFoundError):
        pass
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR):  # somebody else's: it is theirs
            raise


def stale_array_pins() -> tuple[Path, ...]:
    """Directories whose program is gone: left by a process that was killed, or by a foreign hand."""
    try:
        with bpffs.open_below(DIRECTORY) as directory:
            path, names = directory.path, directory.names()
    except (XdpChainError, FileNotFoundError, NotADirectoryError, PermissionError):
        return ()
    return tuple(path / name for name in names if _is_id(name) and not bpf.prog_lives(int(name)))


def components_in(directories: Iterable[bpffs.DispatchDir]) -> set[int]:
    """The prog ids of the components that are pinned there, by themselves or by a link."""
    found = set()
    for dispatcher in directories:
        gone = contextlib.suppress(FileNotFoundError, NotADirectoryError, Untrusted)
        with gone, bpffs.open_dispatch_dir(dispatcher) as directory:
            for name in directory.names():
                with contextlib.suppress(bpf.BpfError, Untrusted), directory.get(name) as fd:
                    found.add(bpf.prog_info(fd).id if name.endswith("-prog") else bpf.link_info(fd).prog_id)
    return found


def release_arrays(components: Iterable[int]) -> None:
    """Remove the pins of those components that hang on no dispatcher any more, of any interface."""
    # Not left to `stale_array_pins`: the kernel lets go of a component some time after its last pin went.
    suspects = set(components)
    if suspects:
        placed = components_in(bpffs.dispatch_dirs())
        for gone in suspects - placed - _kept_by(placed):
            remove_array_pins(gone)


def pinned_for(chain: Chain) -> set[int]:
    """The prog ids by which a freplace chain has pins here: components with program arrays, and stand-ins."""
    arrays = {slot.id for slot in chain if slot.component.callees and slot.id}
    return arrays | {slot.program for slot in chain if slot.off and slot.program}


def _kept_by(programs: Iterable[int]) -> set[int]:
    """What is pinned by these prog ids; a map's id among them only puts a removal off."""
    found: set[int] = set()
    for program in programs:
        with (
            contextlib.suppress(XdpChainError, OSError),
            bpffs.open_below(DIRECTORY, str(program)) as directory,
        ):
            found.update(int(name) for name in directory.names() if _is_id(name))
    return found


def _is_id(name: str) -> bool:
    return name.isascii() and name.isdecimal() and len(name) <= 10
