# SPDX-License-Identifier: Apache-2.0
"""The time of a whole chain, from the kernel's BPF statistics (kernel 5.8 and later, commit d46edd671a14).

While the descriptor is held, the kernel reads its clock before and after every run of every BPF program on
the machine. It counts runs that it starts itself: an XDP program on its hook with everything that it calls,
so the whole chain in every linkage. Components of freplace and tail-call chains have no separate statistics.
"""

from __future__ import annotations

import contextlib
import time

from xdpchain.bytecode.instructions import LET_PASS
from xdpchain.closing import Closing
from xdpchain.errors import NotFound
from xdpchain.frozen import frozen
from xdpchain.model.running import Running
from xdpchain.sys import bpf

__all__ = ["LookingCost", "RunTime", "RunTimes", "hold_statistics", "runs_of"]

PACKET = bytes(64)
ROUNDS, REPEAT = 3, 50_000
WHAT = "the kernel's BPF statistics are not available"
NEEDS = "They need kernel 5.8 and CAP_SYS_ADMIN (root has it)"


@frozen
class LookingCost:
    """The cost of measuring, determined on this machine with an empty program: ``extra_ns`` is added to every
    run of every BPF program meanwhile, and ``clock_ns`` of it are included in the kernel's figures.
    """

    extra_ns: int
    clock_ns: int


@frozen
class RunTime:
    """Packets (``runs``) and their time in ns, since the start and since the last reading."""

    seconds: float
    runs: int
    ns: int
    last_seconds: float
    last_runs: int
    last_ns: int

    @property
    def mean_ns(self) -> float | None:
        """Mean time per packet since the last reading; None without packets."""
        return self.last_ns / self.last_runs if self.last_runs else None

    @property
    def rate(self) -> float:
        """Packets per second since the last reading."""
        return self.last_runs / self.last_seconds if self.last_seconds > 0 else 0.0

    @property
    def share(self) -> float:
        """The share of one CPU's time since the last reading."""
        return self.last_ns / (self.last_seconds * 1e9) if self.last_seconds > 0 else 0.0


def hold_statistics() -> bpf.Fd:
    """Turn the kernel's statistics on until the descriptor closes. Raises PermissionDenied, Unsupported."""
    try:
        return bpf.enable_statistics()
    except bpf.BpfError as error:
        raise bpf.refusal(error, WHAT, NEEDS) from error


def runs_of(prog_id: int) -> tuple[int, int] | None:
    """Runs of a program while statistics were on, and their time in ns; None if it is gone."""
    try:
        with bpf.prog_by_id(prog_id) as program:
            return _counted(program)
    except bpf.BpfError:
        return None


class RunTimes(Closing):
    """Keeps the statistics on until closed. Not thread-safe."""

    def __init__(self, running: Running) -> None:
        """Start now; measuring the cost takes about 100 ms. Raises NotFound (no program, or it is gone),
        PermissionDenied, Unsupported.
        """
        if running.hook is None:
            raise _nothing(running)
        with contextlib.ExitStack() as held:
            try:
                self.cost = _begin(held)
            except bpf.BpfError as error:
                raise bpf.refusal(error, WHAT, NEEDS) from error
            self._program: bpf.Fd | None = None
            self._prog_id = 0
            self._before, self._start = (0, 0), (0, 0)
            self._runs = self._ns = 0
            self.follow(running)
            held.callback(self._let_go)
            self._held = held.pop_all()
        self._begun = self._at = time.monotonic()

    def follow(self, running: Running) -> None:
        """Switch to the program that runs there now, if it changed. Raises NotFound."""
        hook = running.hook
        if hook is None:
            raise _nothing(running)
        if hook.prog_id == self._prog_id:
            return
        try:
            program = bpf.prog_by_id(hook.prog_id)
        except bpf.BpfError as error:
            raise bpf.refusal(error, f"program {hook.prog_id} is gone", "Look again") from error
        self._gather()
        self._let_go()
        self._program, self._prog_id = program, hook.prog_id
        self._before = _counted(program)

    def read(self) -> RunTime:
        """The time that packets took until now."""
        earlier = self._start
        self._gather()
        now = time.monotonic()
        self._start = (self._runs, self._ns)
        elapsed, self._at = now - self._at, now
        runs, ns = self._runs - earlier[0], self._ns - earlier[1]
        return RunTime(now - self._begun, self._runs, self._ns, elapsed, runs, ns)

    def _gather(self) -> None:
        if self._program is not None:
            counted = _counted(self._program)
            self._runs += counted[0] - self._before[0]
            self._ns += counted[1] - self._before[1]
            self._before = counted

    def _let_go(self) -> None:
        program, self._program = self._program, None
        if program is not None:
            program.close()

    def close(self) -> None:
        self._held.close()


def _nothing(running: Running) -> NotFound:
    return NotFound(f"There is no chain to time on {running.interface}", "no XDP program runs there")


def _begin(held: contextlib.ExitStack) -> LookingCost:
    """Turn the statistics on and measure their cost. Raises BpfError."""
    with bpf.prog_load(bpf.ProgType.XDP, LET_PASS, name="xdptui_empty") as empty:
        plain = _fastest(empty)
        held.enter_context(bpf.enable_statistics())
        timed = _fastest(empty)
        info = bpf.prog_info(empty)
    clock = round(info.run_time_ns / info.run_count) if info.run_count else 0
    return LookingCost(max(0, timed - plain), clock)


def _counted(program: bpf.Fd) -> tuple[int, int]:
    info = bpf.prog_info(program)
    return info.run_count, info.run_time_ns


def _fastest(program: bpf.Fd) -> int:
    """Nanoseconds per run, in the least disturbed round."""
    return min(bpf.prog_test_run(program, PACKET, REPEAT).ns for _ in range(ROUNDS))
