# SPDX-License-Identifier: Apache-2.0
"""A QEMU that is good enough: this machine's, or one unpacked into the cache.

Version 9 fixed two things in emulation that BPF guests depend on (see `Emulator.accelerator`). If the
installed one is older or missing, a newer one from the same Debian release (or its backports) is unpacked
beside it: installing it could pull in a newer libbpf, and the tests would run with that.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from vmlab.archive import Archive, codename, unpack
from vmlab.cache import Item
from vmlab.errors import LabError

__all__ = ["Emulator", "find"]

_BINARY = "qemu-system-x86_64"
_PACKAGE = "qemu-system-x86"
_GOOD = 9
_BINARY_VARIABLE = "XDPTUI_QEMU"


@dataclass(frozen=True, slots=True)
class Emulator:
    """A QEMU for x86-64: its binary, its major version, and what the binary needs to find its files."""

    binary: Path
    major: int
    environment: dict[str, str] = field(default_factory=dict)
    firmware: tuple[Path, ...] = ()

    def accelerator(self, *, kvm: bool) -> list[str]:
        """QEMU's options for how the guest's instructions are run.

        Before version 9, emulation fails when one CPU patches code that another runs, which attaching BPF
        programs does; there both CPUs take turns in one thread. CMPXCHG16B is wrong in 7.2; kernels work
        without it, except for allocations in any context (kmalloc_nolock), and so for BPF streams. Five-level
        paging only costs time.
        """
        if kvm:
            return ["-accel", "kvm", "-cpu", "host"]
        if self.major >= _GOOD:
            return ["-accel", "tcg,thread=multi", "-cpu", "max,-la57"]
        return ["-accel", "tcg,thread=single", "-cpu", "max,-cx16,-la57"]


def _major(binary: Path, environment: dict[str, str]) -> int | None:
    """The version of a QEMU, or None if it does not run."""
    try:
        printed = subprocess.run(
            [binary, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env={**os.environ, **environment},
            check=False,
        ).stdout
    except OSError:
        return None
    found = re.search(r"version (\d+)\.", printed)
    return int(found[1]) if found else None


def _installed() -> Emulator | None:
    binary = shutil.which(_BINARY)
    major = _major(Path(binary), {}) if binary else None
    return Emulator(Path(binary), major) if binary and major else None


def _item(suite: str) -> Item:
    return Item(f"qemu-{suite}")


def _cached(suite: str) -> Emulator | None:
    item = _item(suite)
    if item.description() is None:
        return None
    libraries = [item.tree / part for part in ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu")]
    environment = {"LD_LIBRARY_PATH": ":".join(str(path) for path in libraries)}
    binary = item.tree / "usr/bin" / _BINARY
    # Also None if a library that existed when it was unpacked has since left this machine.
    major = _major(binary, environment)
    firmware = tuple(item.tree / "usr/share" / part for part in ("qemu", "seabios"))
    return Emulator(binary, major, environment, firmware) if major else None


def _fetch(suite: str) -> Emulator:
    item = _item(suite)
    with item.lock("it fetches QEMU"):
        if cached := _cached(suite):
            return cached
        print("fetching QEMU ...", end=" ", file=sys.stderr, flush=True)
        started = time.monotonic()
        try:
            archive = Archive.of([suite, f"{suite}-backports"], item.folder / "apt", beside_installed=True)
            version = archive.version(_PACKAGE) or ""
            source = suite
            if not (found := re.match(r"(?:\d+:)?(\d+)\.", version)) or int(found[1]) < _GOOD:
                source = f"{suite}-backports"
                version = archive.version(_PACKAGE, source) or ""
            packages = archive.download(_PACKAGE, source)
            item.clear()
            unpack(packages, item.tree)
            item.publish({"version": version})
            shutil.rmtree(item.folder / "apt")
            emulator = _cached(suite)
            if emulator is None:
                item.clear()
                raise LabError(f"{_PACKAGE} {version} does not run here")
        except (LabError, OSError) as error:
            print("failed", file=sys.stderr)
            raise LabError(f"no QEMU of {suite} or its backports to be had: {error}") from error
        print(f"{version}, {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        return emulator


def find() -> Emulator:
    """The QEMU to use; fetches one if this machine's is missing or old.

    `XDPTUI_QEMU` names another binary. Raises LabError if there is none at all.
    """
    if chosen := os.environ.get(_BINARY_VARIABLE):
        major = _major(Path(chosen), {})
        if major is None:
            raise LabError(f"{_BINARY_VARIABLE} names {chosen}, which does not run as QEMU")
        return Emulator(Path(chosen), major)
    installed = _installed()
    if installed and installed.major >= _GOOD:
        return installed
    suite = codename()
    if suite is None:
        if installed:
            return installed
        raise LabError(f"there is no {_BINARY} here. Install QEMU's system emulation for x86.")
    try:
        return _cached(suite) or _fetch(suite)
    except LabError as error:
        if installed:
            print(f"using the installed QEMU {installed.major}: {error}", file=sys.stderr)
            return installed
        raise LabError(
            f"{error}\nInstall {_PACKAGE}, or put a QEMU's path into {_BINARY_VARIABLE}."
        ) from error
