# SPDX-License-Identifier: Apache-2.0
"""Compile BPF C for a test."""

from __future__ import annotations

import atexit
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

__all__ = ["EVERYTHING", "SECOND", "asking_object", "compile_file", "compile_text", "object_file"]

EVERYTHING = Path(__file__).with_name("everything.bpf.c")
SECOND = Path(__file__).with_name("second.bpf.c")


@functools.cache
def compile_text(source: str, *flags: str, target: str = "bpf") -> bytes:
    """The object file that clang makes from the source text."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "out.o")
        command = ["clang", "-O2", "-g", "-mcpu=v2", "-target", target, *flags, "-c", "-x", "c", "-"]
        subprocess.run([*command, "-o", str(output)], input=source.encode(), check=True)
        return output.read_bytes()


def compile_file(path: Path, *flags: str, target: str = "bpf") -> bytes:
    """The object file that clang makes from the file."""
    return compile_text(path.read_text(), *flags, target=target)


@functools.cache
def object_file(name: str, *flags: str) -> Path:
    """A file with the object that clang makes from ``name.bpf.c`` here, until the tests end."""
    path = Path(tempfile.mkdtemp(prefix="xdptui-test-"), f"{name}.o")
    atexit.register(shutil.rmtree, path.parent)
    path.write_bytes(compile_file(EVERYTHING.with_name(f"{name}.bpf.c"), *flags))
    return path


def asking_object(folder: Path) -> Path | None:
    """An object in the folder with a program that reads RX metadata; None if this kernel does not support
    that."""
    if b"bpf_xdp_metadata_rx_hash" not in Path("/sys/kernel/btf/vmlinux").read_bytes():
        return None
    headers = [f"-I{one}" for one in Path("/usr/include").glob("*-linux-gnu")]
    path = folder / "asking.o"
    path.write_bytes(compile_file(Path(__file__).with_name("asking.bpf.c"), *headers))
    return path
