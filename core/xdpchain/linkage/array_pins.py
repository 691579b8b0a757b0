# SPDX-License-Identifier: Apache-2.0
"""Pins that keep the program arrays of a chain's components filled.

The kernel empties a program array once user space holds no reference to it, whatever programs still use it
(bpf_map_release_uref). A component with tail calls therefore needs its arrays pinned for as long as its chain
lives: in ``<bpffs>/xdptui/<prog id>/<map id>``, under the program that uses them, which is the dispatcher in
static linkage and the component in freplace. Program IDs are system-wide and never reused, so a directory is
stale if and only if its program is gone. In freplace a component that is off is kept the same way, under the
prog ID of its stand-in (`dispatcher.stand_in`).
"""

from __future__ import annotations

import contextlib
import errno
import random
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
    """Pin ``arrays`` (by map ID) for the program with ID ``program``. Raises BpffsMissing, Untrusted,
    KernelRefused.
    """
    if not arrays:
        return
    # Without pins the kernel would empty them, and the tail calls would fail.
    require_lasting(bpffs.find(), "program arrays", "use --linkage static, for programs without tail calls")
    try:
        with bpffs.open_below(DIRECTORY, str(program), make=True) as directory:
            for map_id, fd in arrays.items():
                directory.pin(str(map_id), fd)
    except OSError as error:
        where = bpffs.find() / DIRECTORY / str(program)
        raise bpf.refusal(error, f"program arrays can't be pinned in {where}") from error


def remove_array_pins(program: int) -> None:
    """Remove a program's pins, if it has any, once no packet can be running through it any more."""
    name = str(program)
    try:
        with bpffs.open_below(DIRECTORY) as parent:
            with parent.child(name) as directory:
                pins = [pin for pin in directory.names() if _is_id(pin)]
                if pins and bpf.prog_lives(program):
                    # A packet that arrived before the swap would find the arrays empty.
                    wait_for_packets()
                for pin in pins:
                    directory.unlink(pin)
            parent.rmdir(name)
    except (bpffs.BpffsMissing, Untrusted, FileNotFoundError):
        pass
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR):  # not ours
            raise


def stale_array_pins(most: int | None = None) -> tuple[Path, ...]:
    """Directories whose program is gone: left by a killed process, or created by another tool. ``most``:
    examine only so many, chosen at random.
    """
    try:
        with bpffs.open_below(DIRECTORY) as directory:
            path, names = directory.path, directory.names()
    except (XdpChainError, FileNotFoundError, NotADirectoryError, PermissionError):
        return ()
    programs = [name for name in names if _is_id(name)]
    if most is not None and len(programs) > most:
        programs = random.sample(programs, most)
    return tuple(path / name for name in programs if not bpf.prog_lives(int(name)))


def components_in(directories: Iterable[bpffs.DispatchDir]) -> set[int]:
    """The prog IDs of the components pinned there, as programs or by a link."""
    found = set()
    for dispatcher in directories:
        gone = contextlib.suppress(FileNotFoundError, NotADirectoryError, Untrusted)
        with gone, bpffs.open_dispatch_dir(dispatcher) as directory:
            for name in directory.names():
                with contextlib.suppress(bpf.BpfError, Untrusted), directory.get(name) as fd:
                    found.add(bpf.prog_info(fd).id if name.endswith("-prog") else bpf.link_info(fd).prog_id)
    return found


def release_arrays(components: Iterable[int]) -> None:
    """Remove the pins of those components that no longer hang on any dispatcher of any interface."""
    # Not left to `stale_array_pins`: the kernel frees a component some time after its last pin is gone.
    suspects = set(components)
    if suspects:
        placed = components_in(bpffs.dispatch_dirs())
        for gone in suspects - placed - _kept_by(placed):
            remove_array_pins(gone)


def pinned_for(chain: Chain) -> set[int]:
    """The prog IDs under which a freplace chain has pins here: components with program arrays, and
    stand-ins.
    """
    arrays = {slot.id for slot in chain if slot.component.callees and slot.id}
    return arrays | {slot.program for slot in chain if slot.off and slot.program}


def _kept_by(programs: Iterable[int]) -> set[int]:
    """What is pinned under these prog IDs; mistaking a map ID for a prog ID only delays a removal."""
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
