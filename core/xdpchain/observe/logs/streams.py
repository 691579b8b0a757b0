# SPDX-License-Identifier: Apache-2.0
"""What programs write to their BPF streams (bpf_stream_printk(), kernel 6.17 and later).

The kernel keeps at most 100,000 bytes for each program and stream until somebody reads them, and refuses the
program more; nobody counts what it refuses. Reading takes: of several readers each gets a part. A stream
belongs to a loaded program, so under static linkage to the whole chain.
"""

from __future__ import annotations

import contextlib
import errno
import time
from dataclasses import dataclass, field

from xdpchain.closing import Closing
from xdpchain.model.running import Running
from xdpchain.sys import bpf

from .printers import only_stream_writer, printing_programs
from .said import Output, Said

__all__ = ["Streams"]

STREAMS = {Output.STDOUT: 1, Output.STDERR: 2}
"""``enum bpf_stream_id``."""
CHUNK = 1 << 14
CHUNKS = 8
"""Bytes of a read, and reads of a stream at a time: a program that never stops printing stops nobody."""
LONGEST = 4096
"""Bytes of a line, beyond which it is cut into several."""


@dataclass(slots=True)
class _Stream:
    """A program's stream, and what it printed of a line that has not ended yet."""

    program: bpf.Fd
    output: Output
    slot: tuple[int, str] | None
    rest: bytes = b""
    listened: bool = False

    def lines(self) -> list[Said]:
        """What it printed since the last call. Raises BpfError."""
        at, printed = time.time() if self.listened else None, bytearray(self.rest)
        before = len(printed)
        for _ in range(CHUNKS):
            chunk = bpf.prog_stream_read(self.program, STREAMS[self.output], CHUNK)
            printed += chunk
            if len(chunk) < CHUNK:
                break
        self.listened = True
        ended, self.rest = _split(bytes(printed), whole=len(printed) == before)
        return [
            Said(at, None, line.decode(errors="replace"), self.slot, None, self.output)
            for line in ended
            if line
        ]


def _split(printed: bytes, *, whole: bool) -> tuple[list[bytes], bytes]:
    """Lines, none longer than `LONGEST`, and the rest that has no end yet: nothing of it where ``whole``."""
    *ended, rest = printed.split(b"\n")
    if whole or len(rest) >= LONGEST:
        ended, rest = [*ended, rest], b""
    return [line[at : at + LONGEST] for line in ended for at in range(0, len(line), LONGEST)], rest


def _sources(running: Running) -> dict[tuple[int, Output], tuple[int, str] | None]:
    """The streams there, by prog ID and which, each with its slot; None: whose line it is can't be told."""
    found = {
        (prog_id, output): owner
        for prog_id, owner in printing_programs(running).items()
        for output in STREAMS
    }
    chain = running.chain
    if running.linkage_facts.one_program and chain is not None and running.hook is not None:
        whole = running.hook.prog_id
        alone = (0, next(iter(chain)).name) if len(chain) == 1 else None
        found[whole, Output.STDERR] = alone  # the kernel writes there, too
        found[whole, Output.STDOUT] = alone or only_stream_writer(running)
    return found


@dataclass(slots=True)
class Streams(Closing):
    """Reads until closed; each line once, from whoever reads first. Programs given to ``follow`` are kept
    alive until the next call.
    """

    _streams: dict[tuple[int, Output], _Stream] = field(default_factory=dict)
    _last: list[Said] = field(default_factory=list)
    _began: bool = False
    why_not: str = ""
    """Why nothing can be read; empty: it can be, as far as is known."""

    def follow(self, running: Running, slot: int | None = None) -> None:
        """Read what an interface's programs print from now on, or those of one slot: others' lines stay for
        other readers.
        """
        found: dict[tuple[int, Output], _Stream] = {}
        for (prog_id, output), owner in () if self.why_not else _sources(running).items():
            if owner is not None and slot is not None and owner[0] != slot:
                continue
            known = self._streams.pop((prog_id, output), None)
            if known is None:
                with contextlib.suppress(bpf.BpfError):  # it is gone
                    known = _Stream(bpf.prog_by_id(prog_id), output, owner, listened=self._began)
            if known is not None:
                found[prog_id, output] = known
        self._began = True
        self._last += self._read_all()  # of programs that run no more
        self.close()
        self._streams = found

    def read(self) -> list[Said]:
        """The lines printed since the last call, in the order of each stream."""
        last, self._last = self._last, []
        return last + self._read_all()

    def _read_all(self) -> list[Said]:
        printed: list[Said] = []
        for stream in () if self.why_not else tuple(self._streams.values()):
            try:
                printed += stream.lines()
            except bpf.BpfError as error:
                self.why_not = (
                    "this kernel has no BPF streams (6.17 is needed)"
                    if error.errno == errno.EINVAL
                    else f"BPF streams can't be read: {error.strerror}"
                )
                break
        return printed

    def close(self) -> None:
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.program.close()
