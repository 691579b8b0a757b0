# SPDX-License-Identifier: Apache-2.0
"""What the kernel starts with: busybox, the modules needed to reach the host's files, two scripts, and the
command.
"""

from __future__ import annotations

import gzip
import shlex
import stat
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from vmlab.errors import LabError
from vmlab.kernels import Kernel

__all__ = ["build", "command_script", "cpio", "load_order"]

_MODULES = ("virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay")
_FOLDERS = ("bin", "dev", "host", "lab", "layer", "modules", "proc", "root", "sys")
_BUSYBOX = Path("/bin/busybox")
_HERE = Path(__file__).parent


def cpio(files: Mapping[str, tuple[int, bytes]]) -> bytes:
    """An archive in the format "newc" (the kernel's
    Documentation/driver-api/early-userspace/buffer-format.rst).

    `files`: path -> mode with file type, content; a folder comes before what is in it.
    """
    out = bytearray()
    for inode, (path, (mode, content)) in enumerate({**files, "TRAILER!!!": (0, b"")}.items(), start=1):
        name = path.encode() + b"\0"
        links = 2 if stat.S_ISDIR(mode) else 1
        fields = (inode, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(name), 0)
        out += b"070701" + b"".join(b"%08X" % field for field in fields) + name
        out += b"\0" * (-len(out) % 4)
        out += content
        out += b"\0" * (-len(out) % 4)
    return bytes(out)


def _module_name(path: str) -> str:
    return Path(path).name.split(".ko", 1)[0].replace("-", "_")


def load_order(dependencies: str, built_in: str, wanted: Sequence[str]) -> list[str]:
    """Which modules to insert, in an order in which each finds what it needs.

    `dependencies`, `built_in`: the text of modules.dep and modules.builtin. Returns paths below the modules'
    folder. Raises LabError for a module that the kernel lacks.
    """
    index: dict[str, tuple[str, list[str]]] = {}
    for line in dependencies.splitlines():
        path, _, rest = line.partition(":")
        index[_module_name(path)] = (path, rest.split())
    there = {_module_name(line) for line in built_in.splitlines()}
    order: list[str] = []
    for name in wanted:
        if found := index.get(name):
            path, needs = found
            # modules.dep lists what to load first last.
            order.extend(item for item in (*reversed(needs), path) if item not in order)
        elif name not in there:
            raise LabError(f"the kernel has no module {name}")
    return order


def _plain(module: Path) -> bytes:
    """A module's content; busybox's insmod accepts no compressed ones."""
    content = module.read_bytes()
    if module.suffix == ".gz":
        return gzip.decompress(content)
    if module.suffix in (".xz", ".zst"):
        program = {".xz": "xz", ".zst": "zstd"}[module.suffix]
        try:
            return subprocess.run([program, "-dc"], input=content, capture_output=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError) as error:
            raise LabError(f"{program} can't unpack {module}: {error}") from error
    return content


def busybox() -> bytes:
    """The shell that needs no libraries. Raises LabError if it is missing or not static."""
    try:
        content = _BUSYBOX.read_bytes()
    except OSError as error:
        raise LabError(f"{_BUSYBOX} is missing. Install the package busybox-static.") from error
    if b"/ld-linux" in content[:4096]:
        raise LabError(f"{_BUSYBOX} needs libraries. Install busybox-static in its place.")
    return content


def command_script(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> str:
    """A shell script that runs `command` in `folder`, with the variables of `environment` set."""
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())
    return f"{exports}cd {shlex.quote(str(folder))} || exit 125\nexec {shlex.join(command)}\n"


def build(kernel: Kernel, command: str, settings: Mapping[str, str], before: str = "") -> bytes:
    """The initramfs for one guest: `command` is the script it runs, `settings` what stage2.sh reads, `before`
    the script that it runs before systemd.
    """
    directory = stat.S_IFDIR | 0o755
    plain, executable = stat.S_IFREG | 0o644, stat.S_IFREG | 0o755
    files: dict[str, tuple[int, bytes]] = dict.fromkeys(_FOLDERS, (directory, b""))
    files["bin/busybox"] = (executable, busybox())
    files["init"] = (executable, (_HERE / "init.sh").read_bytes())
    files["lab/stage2"] = (executable, (_HERE / "stage2.sh").read_bytes())
    files["lab/command"] = (plain, command.encode())
    files["lab/before"] = (plain, before.encode())
    lines = (f"{name}={shlex.quote(value)}\n" for name, value in settings.items())
    files["lab/settings"] = (plain, "".join(lines).encode())
    dependencies = (kernel.modules / "modules.dep").read_text()
    built_in = (kernel.modules / "modules.builtin").read_text()
    order = load_order(dependencies, built_in, _MODULES)
    for path in order:
        files[f"modules/{_module_name(path)}"] = (plain, _plain(kernel.modules / path))
    files["modules/order"] = (plain, "".join(f"{_module_name(path)}\n" for path in order).encode())
    return cpio(files)
