# SPDX-License-Identifier: Apache-2.0
"""Count every system call of a process and its descendants, in the kernel (tests/objects/syscalls.bpf.c)."""

from __future__ import annotations

import os
import signal
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.objects.compile import compile_file
from xdpchain.closing import Closing
from xdpchain.sys import bpf
from xdpchain.sys.bpf.call import Command
from xdpchain.sys.libbpf import Object

__all__ = ["SyscallCounter"]

SOURCE = Path(__file__).parents[1] / "objects/syscalls.bpf.c"
KIND = struct.Struct("=II")


class SyscallCounter(Closing):
    """Runs commands and counts their system calls, until closed."""

    def __init__(self) -> None:
        headers = [f"-I{one}" for one in Path("/usr/include").glob("*-linux-gnu")]
        with ExitStack() as held:
            opened = held.enter_context(Object(compile_file(SOURCE, *headers), "syscalls"))
            opened.load()
            maps = {bpf_map.name: held.enter_context(bpf.Fd(os.dup(bpf_map.fd))) for bpf_map in opened.maps()}
            self._watched, self._made = maps["watched"], maps["made"]
            for program in opened.programs():
                held.enter_context(bpf.trace_attach(program.fd, program.section.partition("/")[2]))
            self._held = held.pop_all()

    def of(self, command: Sequence[str], environ: Mapping[str, str]) -> tuple[Counter[str], int]:
        """The calls of the command's processes by name or number, from its execve(2) on, and its exit code.
        Its output is discarded.
        """
        _empty(self._made, KIND.size)
        with open(os.devnull, "r+b") as nothing:
            if not (child := os.fork()):
                try:
                    for fd in (0, 1, 2):
                        os.dup2(nothing.fileno(), fd)
                    os.kill(os.getpid(), signal.SIGSTOP)
                    os.execve(command[0], list(command), dict(environ))
                finally:
                    os._exit(127)
        os.waitpid(child, os.WUNTRACED)
        process = struct.pack("=I", child)
        bpf.map_update(self._watched, process, process)
        os.kill(child, signal.SIGCONT)
        _, status = os.waitpid(child, 0)
        _empty(self._watched, len(process))
        made: Counter[str] = Counter()
        for key in bpf.map_keys(self._made, KIND.size):
            number, bpf_command = KIND.unpack(key)
            name = f"bpf {Command(bpf_command - 1).name}" if bpf_command else f"system call {number}"
            made[name] += int.from_bytes(bpf.map_lookup(self._made, key, 8), "little")
        return made, os.waitstatus_to_exitcode(status)

    def close(self) -> None:
        self._held.close()


def _empty(entries: bpf.Fd, key_size: int) -> None:
    for key in list(bpf.map_keys(entries, key_size)):
        bpf.map_delete(entries, key)
