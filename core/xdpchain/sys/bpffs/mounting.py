# SPDX-License-Identifier: Apache-2.0
"""The BPF filesystem in use, and directories in it, accessed only through `TrustedDirectory`."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from pathlib import Path

from xdpchain.advice import Do, advise
from xdpchain.errors import KernelRefused, PermissionDenied, Unsupported, XdpChainError
from xdpchain.sys.mount_lifetime import made_here
from xdpchain.sys.trusted_directory import TrustedDirectory, Untrusted

__all__ = [
    "SUBDIRECTORY",
    "BpffsMissing",
    "directory_of",
    "distrusted",
    "find",
    "in_words",
    "is_bpffs",
    "kept_open",
    "lock_place",
    "mount",
    "mount_command",
    "mounts",
    "open_below",
    "refused",
]

DEFAULT_MOUNT = Path("/sys/fs/bpf")
FALLBACK_LOCK = Path("/run/xdp")  # what libxdp locks without a BPF filesystem
SUBDIRECTORY = "xdp"
BPF_FS_MAGIC = 0xCAFE4A11  # linux/magic.h


_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
_libc.mount.restype = ctypes.c_int
_libc.statfs.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
_libc.statfs.restype = ctypes.c_int


_Statfs = ctypes.c_char * 256  # struct statfs, which begins with f_type


class BpffsMissing(Unsupported):
    """There is no BPF filesystem where it should be."""


def is_bpffs(path: Path) -> bool:
    """Whether the path is a directory in a BPF filesystem, by statfs(2). It is called dozens of times per
    change, so it does not read the list of mounts, which is long on machines with many containers.
    """
    found = _Statfs()
    if _libc.statfs(os.fsencode(path), found) != 0:
        return False
    kind: int = ctypes.c_long.from_buffer(found).value
    return kind & 0xFFFFFFFF == BPF_FS_MAGIC and os.path.isdir(path)


def find() -> Path:
    """The BPF filesystem to use: LIBXDP_BPFFS, or else /sys/fs/bpf.

    Raises BpffsMissing if it is not mounted, PermissionDenied if that can't be determined. With
    LIBXDP_BPFFS_AUTOMOUNT=1 it is mounted if missing, which raises what mount() raises.
    """
    path = _wanted()
    if is_bpffs(path):
        return path
    if os.environ.get("LIBXDP_BPFFS_AUTOMOUNT") == "1":
        return mount()
    try:
        path.stat()
    except PermissionError as error:
        raise _denied(f"Can't look at {path}", error) from error
    except OSError:
        pass
    raise _missing(path)


def distrusted(*names: str) -> tuple[Untrusted, ...]:
    """Why changes may be refused: others can write to the BPF filesystem or its directories ``names``.

    Raises BpffsMissing, PermissionDenied.
    """
    found: dict[str, Untrusted] = {}
    for checked in ((), *((name,) for name in names)):
        try:
            with open_below(*checked) as directory:
                directory.check_private()
        except FileNotFoundError:
            continue
        except Untrusted as untrusted:
            found[untrusted.what] = untrusted
        except OSError as error:
            raise refused(f"Can't look at {find().joinpath(*checked)}", error) from error
    return tuple(found.values())


def mount_command(path: Path | None = None) -> str:
    """The command that mounts it for root only; by default anyone can create directories in it."""
    return f"mount -t bpf -o mode=0700 bpf {shlex.quote(os.fspath(path or _wanted()))}"


def mounts() -> tuple[Path, ...]:
    """The mount points of BPF filesystems in this mount namespace, in mount order."""
    return tuple(dict.fromkeys(Path(place) for _, place in _bpf_mounts()))


def open_below(*names: str, make: bool = False) -> TrustedDirectory:
    """Open the directory ``<bpffs>/<name>/...``, checked at each step, and created with ``make``.

    Raises BpffsMissing, Untrusted, PermissionDenied, and FileNotFoundError without ``make``.
    """
    held = _HELD.get()
    if held is not None and names:
        return _below(held, names, make=make)
    return _open(find(), names, make=make)


@contextmanager
def kept_open(root: TrustedDirectory) -> Iterator[None]:
    """Within this, `open_below` starts at this directory, the BPF filesystem's, which was checked when it was
    opened: a change opens something below it a dozen times.
    """
    token = _HELD.set(root)
    try:
        yield
    finally:
        _HELD.reset(token)


_HELD: ContextVar[TrustedDirectory | None] = ContextVar("root", default=None)


def directory_of(path: Path, *, make: bool = False) -> TrustedDirectory:
    """Open the directory of a pin's path, in any BPF filesystem; as `open_below`."""
    directory = Path(os.path.normpath(path)).parent
    roots = [root for root in (_wanted(), *reversed(mounts())) if directory.is_relative_to(root)]
    root = next((root for root in roots if is_bpffs(root)), None)
    if root is None:
        raise _missing(directory)
    return _open(root, directory.relative_to(root).parts, make=make)


def _open(root: Path, names: Sequence[str], *, make: bool) -> TrustedDirectory:
    try:
        opened = TrustedDirectory.open(root)
    except PermissionError as error:
        raise _denied(f"Can't open {root.joinpath(*names)}", error) from error
    if not names:
        return opened
    with opened:
        return _below(opened, names, make=make)


def _below(root: TrustedDirectory, names: Sequence[str], *, make: bool) -> TrustedDirectory:
    directory = root
    try:
        for name in names:
            above = directory
            try:
                directory = above.make_child(name) if make else above.child(name)
            finally:
                if above is not root:
                    above.close()
    except PermissionError as error:
        raise _denied(f"Can't open {root.path.joinpath(*names)}", error) from error
    return directory


def mount() -> Path:
    """Mount the BPF filesystem where find() looks for it unless it is mounted, and return the path.

    It stays mounted, since pins must persist, but disappears with a private mount namespace (such as that of
    `ip netns exec`). Raises PermissionDenied (this takes CAP_SYS_ADMIN) and KernelRefused.
    """
    path = _wanted()
    if is_bpffs(path):
        return path
    if _libc.mount(b"bpf", os.fsencode(path), b"bpf", 0, b"mode=0700") != 0:
        code = ctypes.get_errno()
        what, detail = f"Can't mount a BPF filesystem on {path}", in_words(OSError(code, os.strerror(code)))
        if code in (errno.EPERM, errno.EACCES):
            raise _denied(what, OSError(code, os.strerror(code)))
        if code == errno.ENODEV:
            raise Unsupported(what, "this kernel does not support it (CONFIG_BPF_SYSCALL)", detail=detail)
        todo = (
            "Create the directory, or mount sysfs first" if code == errno.ENOENT else "`dmesg` may say more"
        )
        raise KernelRefused(what, os.strerror(code), todo, detail=detail)
    made_here(path)
    return path


def _wanted() -> Path:
    chosen = os.environ.get("LIBXDP_BPFFS")
    return Path(chosen) if chosen else DEFAULT_MOUNT


def _missing(path: Path) -> BpffsMissing:
    # Most callers go on without it, a dozen times for each interface.
    what, why = f"No BPF filesystem on {path}", "it is not mounted in this mount namespace"
    return BpffsMissing(what, why, partial(_how_to_get, path))


def _how_to_get(path: Path) -> str:
    others: list[str] = []
    with suppress(OSError):  # an error is being told: it must not become another one
        others = sorted({mounted for _, mounted in _bpf_mounts()})
    todo = f"Mount it (`{mount_command(path)}`), or run xdptui with --mount-bpffs"
    if others:
        todo += f"; or name the mount to use in LIBXDP_BPFFS (there is {', '.join(others)})"
    if _is_private():
        rest = todo[0].lower() + todo[1:]
        return f"If this is `ip netns exec`, run xdptui outside, with --netns NAME; otherwise {rest}"
    return todo


def _is_private() -> bool:
    """Whether our mount namespace is not the machine's, as far as that can be seen: what is mounted in it
    ends with it.
    """
    try:
        return os.readlink("/proc/self/ns/mnt") != os.readlink("/proc/1/ns/mnt")
    except OSError:
        return False


def _bpf_mounts() -> list[tuple[str, str]]:
    """(major:minor, mount point) of all BPF filesystems in the mount namespace: proc_pid_mountinfo(5)."""
    found = []
    for line in Path("/proc/thread-self/mountinfo").read_text(errors="surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        if after.startswith("bpf "):
            fields = before.split(" ")
            found.append((fields[2], re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])))
    return found


def lock_place() -> tuple[Path, str]:
    """The directory that is locked for a change, as its parent and name."""
    try:
        return find(), SUBDIRECTORY
    except BpffsMissing:
        return FALLBACK_LOCK.parent, FALLBACK_LOCK.name


def refused(what: str, error: OSError) -> XdpChainError:
    """The engine's error for a failed operation in the BPF filesystem."""
    if error.errno in (errno.EPERM, errno.EACCES):
        return _denied(what, error)
    if error.errno == errno.ENOTDIR and (place := Path(*lock_place())).is_symlink():
        return KernelRefused(
            what,
            "it is a link, and links are not followed; iproute2 creates one when it loads an object",
            f"Remove the link, not its target: `rm {shlex.quote(os.fspath(place))}`",
            detail=f"it points to {place.readlink()}",
        )
    return KernelRefused(what, error.strerror or str(error), detail=in_words(error))


def _denied(what: str, error: OSError) -> PermissionDenied:
    return PermissionDenied(
        what,
        "only root may use the BPF filesystem",
        advise(Do.GET_PERMISSION, "CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"),
        detail=in_words(error),
    )


def in_words(error: OSError) -> str:
    """The error's name and meaning."""
    return f"{errno.errorcode.get(error.errno or 0, '?')}: {error.strerror}"
