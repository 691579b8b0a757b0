# SPDX-License-Identifier: Apache-2.0
"""Run code in a child that is killed as it enters its N-th system call, with ptrace(2).

A system call entered by a killed process is not executed, so the N-th run ends with exactly the first N - 1
calls done, whoever made them: our modules, libbpf, or the interpreter.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Call", "changes_something", "run_until", "told_to_the_kernel"]

TRACEME, SYSCALL, SETOPTIONS, GET_SYSCALL_INFO = 0, 24, 0x4200, 0x420E
TRACESYSGOOD, TRACECLONE, EXITKILL = 0x1, 0x8, 0x100000
ENTRY = 1
WALL = 0x40000000

# Calls that change what other processes can see, or the BPF objects that a process holds. All others
# (reading, memory, clocks, closing) leave the kernel as it was, so a kill there is the same as one at the
# next of these.
X86 = {
    "bpf": 321, "sendto": 44, "sendmsg": 46, "mkdir": 83, "rmdir": 84, "unlink": 87, "mkdirat": 258,
    "unlinkat": 263, "flock": 73, "rename": 82, "mount": 165, "exit_group": 231,
}  # fmt: skip
GENERIC = {
    "bpf": 280, "sendto": 206, "sendmsg": 211, "mkdirat": 34, "unlinkat": 35, "flock": 32, "mount": 40,
    "exit_group": 94,
}  # fmt: skip
NUMBERS = X86 if platform.machine() == "x86_64" else GENERIC
NAMES = {number: name for name, number in NUMBERS.items()}
# MAP_CREATE, MAP_UPDATE_ELEM, PROG_LOAD, OBJ_PIN, RAW_TRACEPOINT_OPEN, BTF_LOAD, MAP_FREEZE, LINK_CREATE,
# LINK_UPDATE, LINK_DETACH, PROG_BIND_MAP; the others look something up.
CHANGING_COMMANDS = {0, 2, 5, 6, 17, 18, 22, 28, 29, 34, 35}

# Memory, other threads: mmap, mprotect, munmap, brk, mremap, madvise, futex.
INTERNAL = {9, 10, 11, 12, 25, 28, 202} if NUMBERS is X86 else {222, 226, 215, 214, 216, 233, 98}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


@dataclass(frozen=True)
class Call:
    """A system call on entry: its name (a number if irrelevant), its first argument."""

    name: str
    first: int

    def __str__(self) -> str:
        return f"{self.name}({self.first})"


def changes_something(call: Call) -> bool:
    """Whether a kill before this call differs from a kill before the next call."""
    if call.name == "bpf":
        return call.first in CHANGING_COMMANDS
    return call.name in NUMBERS


def told_to_the_kernel(call: Call) -> bool:
    """Whether the call is not the interpreter's own, whose number depends on what it did before."""
    return not (call.name.isdecimal() and int(call.name) in INTERNAL)


def run_until(
    body: Callable[[], object], stop: int | None, counts: Callable[[Call], bool] = changes_something
) -> tuple[list[Call], int | None]:
    """Call ``body`` in a child, and kill the child at its ``stop``-th relevant call (from 0).

    Returns the relevant calls, the last one not executed, and the child's exit code, None if it was killed.
    """
    child = os.fork()
    if child == 0:
        _be_traced(body)
    calls: list[Call] = []
    try:
        os.waitpid(child, WALL)
        _ptrace(SETOPTIONS, child, TRACESYSGOOD | TRACECLONE | EXITKILL)
        _ptrace(SYSCALL, child)
        while True:
            thread, status = os.waitpid(-1, WALL)
            if os.WIFEXITED(status) or os.WIFSIGNALED(status):
                if thread == child:
                    child = 0
                    return calls, os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
                continue
            passed_on = 0
            number = os.WSTOPSIG(status)
            if number == signal.SIGTRAP | 0x80:
                call = _entered(thread)
                if call is not None and counts(call):
                    calls.append(call)
                    if len(calls) - 1 == stop:
                        os.kill(child, signal.SIGKILL)
                        continue
            elif number not in (signal.SIGTRAP, signal.SIGSTOP):
                passed_on = number
            _ptrace(SYSCALL, thread, passed_on)
    finally:
        if child:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, WALL)


def _be_traced(body: Callable[[], object]) -> None:
    code = 70
    try:
        _ptrace(TRACEME, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
        body()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _entered(thread: int) -> Call | None:
    """The call that a stopped thread is entering; None if it is leaving one."""
    info = ctypes.create_string_buffer(88)  # struct ptrace_syscall_info
    if _ptrace(GET_SYSCALL_INFO, thread, ctypes.addressof(info), 88) <= 0 or info.raw[0] != ENTRY:
        return None
    number = int.from_bytes(info.raw[24:32], "little")
    return Call(NAMES.get(number, str(number)), int.from_bytes(info.raw[32:40], "little"))


def _ptrace(request: int, thread: int, data: int = 0, address: int = 0) -> int:
    result = _libc.ptrace(request, thread, address or None, data or None)
    if result < 0 and ctypes.get_errno() != errno.ESRCH:  # a thread may end meanwhile
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(result)
