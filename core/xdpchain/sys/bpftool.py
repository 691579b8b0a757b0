# SPDX-License-Identifier: Apache-2.0
"""Run bpftool as a subprocess. For diagnosis only: each call takes a millisecond or more."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

from xdpchain.decoding import decode
from xdpchain.errors import InvalidInput, KernelRefused, Unsupported

__all__ = ["ask", "text"]

TIMEOUT = 10.0
MOST = 16 << 20
"""Largest output in characters."""
PLACES = "/usr/sbin:/sbin:/usr/local/sbin:/usr/bin:/bin"


def ask(*arguments: str) -> Any:
    """The decoded output of ``bpftool -j ARGUMENTS``. Raises Unsupported without bpftool, KernelRefused."""
    output = _run("-j", *arguments)
    what = f"the output of bpftool {' '.join(arguments)}"
    try:
        return decode(output, what, most=MOST)
    except InvalidInput as error:
        raise KernelRefused(error.what, error.why, detail=output[:2000]) from None


def text(*arguments: str) -> str:
    """The output of ``bpftool ARGUMENTS``. Raises Unsupported without bpftool, KernelRefused."""
    return _run(*arguments)


def _run(*arguments: str) -> str:
    program = shutil.which("bpftool") or shutil.which("bpftool", path=PLACES)
    if program is None:
        raise Unsupported("bpftool is not installed", todo="Install it (Debian: apt install bpftool)")
    try:
        done = subprocess.run(
            [program, *arguments], capture_output=True, text=True, timeout=TIMEOUT, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KernelRefused(f"bpftool {' '.join(arguments)} failed", str(error)) from error
    if done.returncode:
        words = (done.stderr or done.stdout).strip()
        raise KernelRefused(f"bpftool {' '.join(arguments)} failed", words.splitlines()[0] if words else "")
    return done.stdout
