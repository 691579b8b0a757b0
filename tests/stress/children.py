# SPDX-License-Identifier: Apache-2.0
"""Run code in a separate process without the cost of a new interpreter: forked, its result and output
returned. What a test does to the process (capabilities, uid, namespaces, a kill) ends with it.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from xdptui import cli

__all__ = ["CAPABILITIES", "Outcome", "call", "drop", "forking", "run_cli", "without_root"]

CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21, "CAP_PERFMON": 38, "CAP_BPF": 39}
NOBODY = 65534

_libc = ctypes.CDLL(None, use_errno=True)
forking = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Outcome:
    """A command's exit code and its output."""

    code: int
    out: str
    err: str


def call(body: Callable[[], Any], *, timeout: float = 60.0) -> Any:
    """What ``body`` returns, called in a child. Raises what it raises, or RuntimeError if that can't be
    transferred.
    """
    near, far = forking.Pipe(duplex=False)

    def run() -> None:
        near.close()
        try:
            answer: tuple[bool, Any] = (True, body())
        except BaseException as error:
            answer = (False, error)
        try:
            far.send(answer)
        except Exception:
            far.send((False, RuntimeError(traceback.format_exc())))

    child = forking.Process(target=run, daemon=True)
    child.start()
    far.close()
    try:
        if not near.poll(timeout):
            raise TimeoutError("the child does not answer")
        good, value = near.recv()
    except BaseException:
        child.kill()
        raise
    finally:
        near.close()
        child.join()
    if not good:
        raise value
    return value


def run_cli(*arguments: str, prepare: Callable[[], None] | None = None) -> Outcome:
    """The command line in a child, after ``prepare`` there."""

    def body() -> Outcome:
        if prepare:
            prepare()
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            for stream, file in ((sys.stdout, out), (sys.stderr, err)):
                stream.flush()
                os.dup2(file.fileno(), 1 if file is out else 2)
            sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
            sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
            code = cli.main(list(arguments))
            sys.stdout.flush()
            sys.stderr.flush()
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode())
        return Outcome(code, *texts)

    outcome = call(body)
    assert isinstance(outcome, Outcome)
    return outcome


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inherited", ctypes.c_uint32),
    )


def drop(names: Collection[str]) -> None:
    """Drop these capabilities permanently: capset(2), version 3."""
    header, data = _Header(0x20080522, 0), (_Data * 2)()
    if _libc.capget(ctypes.byref(header), data):
        raise OSError(ctypes.get_errno(), "capget")
    for name in names:
        word, bit = divmod(CAPABILITIES[name], 32)
        data[word].effective &= ~(1 << bit)
        data[word].permitted &= ~(1 << bit)
        data[word].inherited &= ~(1 << bit)
    if _libc.capset(ctypes.byref(header), data):
        raise OSError(ctypes.get_errno(), "capset")


def without_root() -> None:
    """Become nobody."""
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
