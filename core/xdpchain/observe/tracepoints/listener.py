# SPDX-License-Identifier: Apache-2.0
"""Listen to the XDP tracepoints while a listener is open (bpf/tracepoints.bpf.c).

The programs are held only by this process's descriptors: closing the listener removes them, and so does the
end of the process.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import threading
import time
from collections.abc import Iterator
from enum import Enum

from xdpchain.closing import Closing
from xdpchain.errors import PermissionDenied, Unsupported, XdpChainError
from xdpchain.observe.permissions import missing_capabilities
from xdpchain.sys import bpf, shipped
from xdpchain.sys.cpus import possible_cpus
from xdpchain.sys.libbpf import LoadFailed, Object, ObjectProgram, kernel_types_missing
from xdpchain.sys.ring import Ring

from .happenings import (
    PLACE_SIZE,
    STATE_SIZE,
    TALLY_SIZE,
    Row,
    Sample,
    decode_event,
    decode_place,
    decode_states,
    decode_tallies,
)

__all__ = ["Listener", "Scope", "listen"]

PLACES, STATES, RING = "xdptui_places", "xdptui_states", "xdptui_ring"
WHAT = "the XDP tracepoints can't be read"
OLDER = "xdp_redirect_err_6"


class Scope(Enum):
    """What to listen to. FAILURES: only tracepoints that fire on errors, which costs nothing for other
    packets. ALL: also those that fire for each bulk of packets sent or queued.
    """

    FAILURES = frozenset({"xdp_exception", "xdp_redirect_err", OLDER})
    ALL = FAILURES | {"xdp_bulk_tx", "xdp_devmap_xmit", "xdp_cpumap_enqueue", "xdp_cpumap_kthread"}


class Listener(Closing):
    """Counts what happens until closed. Use `listen`."""

    def __init__(self, scope: Scope, netns: int) -> None:
        self._lock = threading.Lock()
        self._cpus = possible_cpus()
        with contextlib.ExitStack() as held:
            with Object(shipped.read("tracepoints"), "tracepoints") as opened:
                programs = [program for program in opened.programs() if program.name in scope.value]
                for program in opened.programs():
                    program.set_autoload(program in programs)
                for bpf_map in opened.maps():
                    if bpf_map.internal:
                        bpf_map.set_initial_value(
                            struct.pack("=I", netns).ljust(len(bpf_map.initial_value()), b"\0")
                        )
                try:
                    opened.load()
                except LoadFailed as error:
                    raise _explain(error) from error
                maps = {bpf_map.name: held.enter_context(_kept(bpf_map.fd)) for bpf_map in opened.maps()}
                self._places, self._states = maps[PLACES], maps[STATES]
                self._ring = held.enter_context(Ring(maps[RING].fileno()))
                self._programs = tuple(_attach(programs, held))
            self._held = held.pop_all()
        self._closed = False

    def read(self) -> Sample:
        """Everything so far, summed over CPUs, and the events since the last reading. Takes about 0.1 ms.

        Raises ValueError after `close`.
        """
        with self._lock:
            if self._closed:
                raise ValueError("the listener is closed")
            events = tuple(map(decode_event, self._ring.drain()))
            at = time.monotonic()
            rows = tuple(self._rows())
            untold, unplaced = decode_states(bpf.map_lookup(self._states, bytes(4), STATE_SIZE * self._cpus))
            missed = sum(bpf.prog_info(program).recursion_misses for program in self._programs)
        return Sample(at, rows, events, untold, unplaced, missed)

    def _rows(self) -> Iterator[Row]:
        for key in bpf.map_keys(self._places, PLACE_SIZE):
            yield decode_tallies(
                decode_place(key), bpf.map_lookup(self._places, key, TALLY_SIZE * self._cpus)
            )

    def close(self) -> None:
        """Stop listening. May be called from any thread, repeatedly."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._held.close()


def listen(scope: Scope = Scope.ALL, netns: int = 0) -> Listener:
    """Listen from now on; takes about 20 ms. ``netns`` is the inode number of a network namespace
    (`Names.home`): report only what comes in or goes out there, and cpumaps, which belong to no namespace; 0:
    the whole machine.

    Raises PermissionDenied, Unsupported and KernelRefused, each with the kernel's reason.
    """
    return Listener(scope, netns)


def _kept(fd: int) -> bpf.Fd:
    """A duplicate of an object's descriptor."""
    return bpf.Fd(os.dup(fd))


def _attach(programs: list[ObjectProgram], held: contextlib.ExitStack) -> Iterator[bpf.Fd]:
    """Attach the programs, and yield the links."""
    done: set[str] = set()
    for program in programs:
        tracepoint = program.section.partition("/")[2]
        if tracepoint in done:
            continue
        try:
            held.enter_context(bpf.trace_attach(program.fd, tracepoint))
        except bpf.BpfError as error:
            if error.errno == errno.EINVAL and program.name != OLDER:
                continue  # it reads more arguments than this kernel's tracepoint has: the older form's turn
            if error.errno == errno.ENOENT:
                why = f"this kernel has no tracepoint {tracepoint}"
                raise Unsupported(WHAT, why, "Kernel 5.8 is needed", detail=str(error)) from error
            raise _explain(error) from error
        done.add(tracepoint)
        yield held.enter_context(_kept(program.fd))


def _explain(error: bpf.BpfError) -> XdpChainError:
    messages = error.messages if isinstance(error, LoadFailed) else ""
    words = "\n".join(part for part in (str(error), error.log.rstrip(), messages.rstrip()) if part)
    if "valid kernel BTF" in messages:
        return Unsupported(WHAT, *kernel_types_missing(), detail=words)
    if error.errno in (errno.EPERM, errno.EACCES) and (missing := missing_capabilities()):
        why = f"this process lacks {', '.join(capability.name for capability in missing)}"
        return PermissionDenied(WHAT, why, missing[0].todo, detail=words)
    if error.errno == errno.EINVAL and not error.log.strip():
        return Unsupported(
            WHAT, "this kernel is too old for ring buffers", "Kernel 5.8 is needed", detail=words
        )
    return bpf.refusal(error, WHAT, log=error.log)
