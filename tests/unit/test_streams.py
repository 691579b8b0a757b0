# SPDX-License-Identifier: Apache-2.0
"""What is read from a BPF stream: hostile, endless, cut anywhere."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdpchain.observe.logs import Output, Said
from xdpchain.observe.logs import streams as module
from xdpchain.sys import bpf
from xdptui.words.log_words import said_text


class _Kernel:
    """Hands out bytes as the kernel does: at most as many as are asked for, each once."""

    def __init__(self, printed: bytes = b"") -> None:
        self.printed = printed

    def read(self, program: bpf.Fd, stream: int, size: int) -> bytes:
        found, self.printed = self.printed[:size], self.printed[size:]
        return found


def stream(monkeypatch: pytest.MonkeyPatch, read: Callable[[bpf.Fd, int, int], bytes]) -> module._Stream:
    monkeypatch.setattr(module.bpf, "prog_stream_read", read)
    return module._Stream(bpf.Fd(os.open("/dev/null", os.O_RDONLY)), Output.STDOUT, None)


@given(st.lists(st.text("ab\n", max_size=9)))
def test_lines_come_whole_however_they_are_cut(pieces: list[str]) -> None:
    kernel, found = _Kernel(), []
    with pytest.MonkeyPatch.context() as patch:
        printing = stream(patch, kernel.read)
        for piece in pieces:
            if piece:  # nothing new: what has no end is shown as it is
                kernel.printed = piece.encode()
                found += printing.lines()
        found += printing.lines()
        printing.program.close()
    assert [said.text for said in found] == [line for line in "".join(pieces).split("\n") if line]


def test_a_program_that_never_stops_printing(monkeypatch: pytest.MonkeyPatch) -> None:
    printing = stream(monkeypatch, lambda _program, _stream, size: b"x" * size)
    for _ in range(3):
        found = printing.lines()
        assert sum(len(said.text) for said in found) <= module.CHUNK * module.CHUNKS
        assert all(len(said.text) <= module.LONGEST for said in found)
        assert len(printing.rest) < module.LONGEST
    printing.program.close()


def test_what_is_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    printing = stream(monkeypatch, _Kernel(bytes(range(256)) + b"\n").read)
    shown = [said_text(said) for said in printing.lines()]
    assert len(shown) == 2
    assert all(line.isprintable() for line in shown)
    printing.program.close()


def test_an_error_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    count = itertools.count()

    def read(program: bpf.Fd, stream: int, size: int) -> bytes:
        next(count)
        raise bpf.BpfError(errno.EINVAL, bpf.Command.PROG_STREAM_READ_BY_FD)

    printing = stream(monkeypatch, read)
    with module.Streams(_streams={(1, Output.STDOUT): printing}) as streams:
        assert streams.read() == streams.read() == []
        assert streams.why_not == "this kernel has no BPF streams (6.17 is needed)"
    assert next(count) == 1


def test_the_time_of_what_was_printed_before() -> None:
    said = Said(None, None, "text", (0, "first"), None, Output.STDERR)
    assert said_text(said) == "earlier       stderr  first  text"
