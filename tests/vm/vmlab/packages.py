# SPDX-License-Identifier: Apache-2.0
"""The system packages that the lab needs on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from vmlab.errors import LabError

__all__ = ["missing", "require"]

_SEARCH = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"


def _command(name: str) -> Callable[[], bool]:
    return lambda: shutil.which(name, path=_SEARCH) is not None


def _static_busybox() -> bool:
    try:
        return b"/ld-linux" not in Path("/bin/busybox").read_bytes()[:4096]
    except OSError:
        return False


def _keyring() -> bool:
    return any(Path("/usr/share/keyrings").glob("debian-archive-keyring.*"))


# QEMU is not among them: the lab unpacks one if the machine has none (see vmlab.emulator).
_NEEDED: tuple[tuple[str, Callable[[], bool]], ...] = (
    ("busybox-static", _static_busybox),
    ("debian-archive-keyring", _keyring),
    ("iproute2", _command("ip")),
    ("kmod", _command("depmod")),
    ("util-linux", _command("setpriv")),
    ("xz-utils", _command("xz")),
)


def missing() -> list[str]:
    """Names of the required Debian packages that are missing."""
    return [package for package, is_there in _NEEDED if not is_there()]


def require() -> None:
    """Installs what is missing. Raises LabError, naming the packages, if that fails."""
    lacking = missing()
    if not lacking:
        return
    names = " ".join(lacking)
    if os.geteuid() != 0:
        raise LabError(
            f"missing: {names}\nInstall them:  sudo apt-get install --no-install-recommends {names}"
        )
    if shutil.which("apt-get") is None:
        raise LabError(
            f"missing (their Debian names): {names}\nInstall them with this system's package manager."
        )
    print(f"installing {names}", file=sys.stderr, flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = [
        "apt-get",
        "--quiet=2",
        "--yes",
        "--no-install-recommends",
        "-o",
        "DPkg::Lock::Timeout=300",
        "install",
    ]
    for command in (["apt-get", "--quiet=2", "update"], [*install, *lacking]):
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise LabError(f"can't install {names}: {(result.stderr or result.stdout).strip()}")
    if still := missing():
        raise LabError(f"installed, but still not usable: {' '.join(still)}")
