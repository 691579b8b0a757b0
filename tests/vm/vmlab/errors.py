# SPDX-License-Identifier: Apache-2.0
"""The lab's one error, and how its programs end."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import FrameType

__all__ = ["LAB_FAILED", "LabError", "main"]

LAB_FAILED = 125
"""Exit code of a program that could not do its job, distinct from any exit code of what it ran."""


class LabError(Exception):
    """Something the lab needs is not available. The text says what, why, and what to do."""


class _Stopped(Exception):
    """A signal asked the program to end; unwinding stops QEMU and removes temporary files."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


def _stop(signum: int, _frame: FrameType | None) -> None:
    raise _Stopped(signum)


def main(program: Callable[[list[str]], int]) -> int:
    """Runs `program` with the command line's arguments and turns its errors into text and an exit code."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, _stop)
    try:
        return program(sys.argv[1:])
    except LabError as error:
        print(f"kernel lab: {error}", file=sys.stderr)
        return LAB_FAILED
    except _Stopped as stopped:
        return 128 + stopped.signum
    except BrokenPipeError:
        # The reader of our output is gone; the interpreter must not try to flush it again.
        sys.stdout = None
        return 128 + signal.SIGPIPE
