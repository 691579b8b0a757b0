# SPDX-License-Identifier: Apache-2.0
"""Compile BPF C for a test."""

from __future__ import annotations

import functools
import subprocess
import tempfile
from pathlib import Path

__all__ = ["EVERYTHING", "SECOND", "compile_file", "compile_text"]

EVERYTHING = Path(__file__).with_name("everything.bpf.c")
SECOND = Path(__file__).with_name("second.bpf.c")


@functools.cache
def compile_text(source: str, *flags: str, target: str = "bpf") -> bytes:
    """The object file that clang makes of the source text."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "out.o")
        command = ["clang", "-O2", "-g", "-mcpu=v2", "-target", target, *flags, "-c", "-x", "c", "-"]
        subprocess.run([*command, "-o", str(output)], input=source.encode(), check=True)
        return output.read_bytes()


def compile_file(path: Path, *flags: str, target: str = "bpf") -> bytes:
    """The object file that clang makes of the file's text."""
    return compile_text(path.read_text(), *flags, target=target)
