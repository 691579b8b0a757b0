# SPDX-License-Identifier: Apache-2.0
"""The BPF filesystem, as libxdp's protocol uses it: which mount, the lock, and the pins of each dispatcher.

Everything lives in ``<bpffs>/xdp``: a directory ``dispatch-<ifindex>-<program id>`` for each dispatcher, with
the pins of its slots, and the directory itself is what editors lock. LIBXDP_BPFFS names the mount to use,
LIBXDP_BPFFS_AUTOMOUNT=1 allows to mount it.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from xdpchain.errors import Busy, KernelRefused, NotOurs, PermissionDenied, Unsupported, XdpChainError

from .mount_lifetime import made_here

__all__ = [
    "BpffsMissing",
    "DispatchDir",
    "dispatch_dirs",
    "find",
    "is_bpffs",
    "lock",
    "make_dispatch_dir",
    "mount",
    "mounts",
    "pins",
    "remove_dispatch_dir",
]

DEFAULT_MOUNT = Path("/sys/fs/bpf")
FALLBACK_LOCK = Path("/run/xdp")  # what libxdp locks where there is no bpffs
SUBDIRECTORY = "xdp"

_DISPATCH_DIR = re.compile(r"dispatch-([1-9][0-9]*)-([1-9][0-9]*)")
_SLOT_PIN = re.compile(r"prog[0-9]-(?:link|prog)")  # ten slots
_RETRY_S = (0.005, 0.05)  # how long to wait between two tries for the lock: at first, and at most

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
_libc.mount.restype = ctypes.c_int


class BpffsMissing(Unsupported):
    """There is no BPF filesystem where it should be."""


@dataclass(frozen=True, slots=True, order=True)
class DispatchDir:
    """The pins of one dispatcher. Its ifindex counts in the network namespace where it was loaded."""

    path: Path
    ifindex: int
    prog_id: int


def is_bpffs(path: Path) -> bool:
    """Whether the path is a directory in a BPF filesystem."""
    try:
        found = path.stat()
    except OSError:
        return False
    device = f"{os.major(found.st_dev)}:{os.minor(found.st_dev)}"
    return stat.S_ISDIR(found.st_mode) and any(device == one for one, _ in _bpf_mounts())


def find() -> Path:
    """The BPF filesystem to use: LIBXDP_BPFFS, or else /sys/fs/bpf.

    Raises BpffsMissing when it is not mounted; with LIBXDP_BPFFS_AUTOMOUNT=1 it is mounted then, which raises
    what mount() does.
    """
    path = _wanted()
    if is_bpffs(path):
        return path
    if os.environ.get("LIBXDP_BPFFS_AUTOMOUNT") == "1":
        return mount()
    raise _missing(path)


def mounts() -> tuple[Path, ...]:
    """Where BPF filesystems are mounted in this mount namespace, in the order of mounting."""
    return tuple(dict.fromkeys(Path(place) for _, place in _bpf_mounts()))


def mount() -> Path:
    """Mount the BPF filesystem where find() looks for it, unless it is there; return the path.

    It stays mounted, as pins must. In a mount namespace of its own (`ip netns exec` makes one) it goes away
    with that. Raises PermissionDenied (it takes CAP_SYS_ADMIN) and KernelRefused.
    """
    path = _wanted()
    if is_bpffs(path):
        return path
    if _libc.mount(b"bpf", os.fsencode(path), b"bpf", 0, b"mode=0700") != 0:
        code = ctypes.get_errno()
        what, detail = f"Can't mount a BPF filesystem on {path}", _words(OSError(code, os.strerror(code)))
        if code in (errno.EPERM, errno.EACCES):
            raise _denied(what, OSError(code, os.strerror(code)))
        if code == errno.ENODEV:
            raise Unsupported(what, "this kernel has none (CONFIG_BPF_SYSCALL)", detail=detail)
        todo = "Make the directory, or mount sysfs first" if code == errno.ENOENT else "`dmesg` may say more"
        raise KernelRefused(what, os.strerror(code), todo, detail=detail)
    made_here(path)
    return path


@contextmanager
def lock(timeout: float | None = 10.0) -> Iterator[Path]:
    """Hold the lock that every editor of XDP chains takes, for the whole of a change; yield the locked
    directory.

    libxdp's protocol: an exclusive flock on ``<bpffs>/xdp``, or on /run/xdp where there is no BPF filesystem.
    The kernel drops it when the process ends, however it ends. Two threads of this process exclude each other
    as well, so don't nest it. Waits at most ``timeout`` seconds (None: for ever).

    Raises Busy (naming the holder as far as it can be known) and PermissionDenied.
    """
    path = _lock_directory()
    fd = _locked(path, None if timeout is None else time.monotonic() + timeout)
    try:
        yield path
    finally:
        os.close(fd)


def dispatch_dirs() -> tuple[DispatchDir, ...]:
    """The pin directories of all dispatchers, whoever made them, sorted. Other entries are ignored.

    Raises BpffsMissing and PermissionDenied.
    """
    directory = find() / SUBDIRECTORY
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return ()
    except PermissionError as error:
        raise _denied(f"Can't list {directory}", error) from error
    matches = (_DISPATCH_DIR.fullmatch(name) for name in names)
    return tuple(
        sorted(DispatchDir(directory / match[0], int(match[1]), int(match[2])) for match in matches if match)
    )


def make_dispatch_dir(ifindex: int, prog_id: int) -> DispatchDir:
    """Make the (empty) pin directory of a new dispatcher. Take the lock first.

    Raises NotOurs when there is one already: a dispatcher of the same id that is gone left it behind.
    """
    parent = find() / SUBDIRECTORY
    made = DispatchDir(parent / f"dispatch-{ifindex}-{prog_id}", ifindex, prog_id)
    try:
        parent.mkdir(mode=0o700, exist_ok=True)
        made.path.mkdir(mode=0o700)
    except FileExistsError as error:
        raise NotOurs(
            f"Can't make {made.path}",
            "an earlier dispatcher of the same program id left its pins there",
            "`xdptui clean` removes pins of dispatchers that don't run any more",
            detail=_words(error),
        ) from error
    except OSError as error:
        raise _refused(f"Can't make {made.path}", error) from error
    return made


def pins(directory: DispatchDir) -> tuple[str, ...]:
    """The names in a pin directory, sorted; empty if it is gone. Raises PermissionDenied."""
    try:
        return tuple(sorted(os.listdir(directory.path)))
    except FileNotFoundError:
        return ()
    except PermissionError as error:
        raise _denied(f"Can't list {directory.path}", error) from error


def remove_dispatch_dir(directory: DispatchDir) -> tuple[str, ...]:
    """Remove a dispatcher's pins and their directory; return the names that were unlinked. Take the lock
    first.

    Only the pins of slots are unlinked (progN-link, progN-prog), never a directory, nothing through a
    symbolic link, and nothing outside of ``<bpffs>/xdp``. A directory that is gone is fine. Killed in
    between, it leaves fewer pins, and the same call removes the rest.

    Raises NotOurs, before anything is removed, when something else is in there; PermissionDenied;
    KernelRefused.
    """
    what = f"Can't remove {directory.path}"
    parent, name = find() / SUBDIRECTORY, directory.path.name
    if directory.path.parent != parent or not _DISPATCH_DIR.fullmatch(name):
        raise NotOurs(what, f"it is no dispatcher's pin directory in {parent}")
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    names: tuple[str, ...] = ()
    try:
        parent_fd = os.open(parent, flags)
    except FileNotFoundError:
        return names
    except OSError as error:
        raise _refused(what, error) from error
    try:
        fd = os.open(name, flags, dir_fd=parent_fd)
        try:
            names = _slot_pins(what, fd, parent_fd)
            for one in names:
                _unlink(one, fd)
        finally:
            os.close(fd)
        os.rmdir(name, dir_fd=parent_fd)
    except FileNotFoundError:  # somebody else removed it
        pass
    except OSError as error:
        raise _refused(what, error) from error
    finally:
        os.close(parent_fd)
    return names


def _slot_pins(what: str, fd: int, parent_fd: int) -> tuple[str, ...]:
    names = tuple(sorted(os.listdir(fd)))
    strange = [name for name in names if not (_SLOT_PIN.fullmatch(name) and _is_pin(name, fd))]
    if os.fstat(fd).st_dev != os.fstat(parent_fd).st_dev:
        raise NotOurs(what, "another filesystem is mounted there", "Unmount it first")
    if strange:
        raise NotOurs(
            what,
            f"it holds what no dispatcher puts there: {', '.join(strange)}",
            "Find out whose it is, and remove it by hand",
        )
    return names


def _is_pin(name: str, directory_fd: int) -> bool:
    try:
        return stat.S_ISREG(os.stat(name, dir_fd=directory_fd, follow_symlinks=False).st_mode)
    except FileNotFoundError:  # gone by now: no obstacle
        return True


def _unlink(name: str, directory_fd: int) -> None:
    try:
        os.unlink(name, dir_fd=directory_fd)
    except FileNotFoundError:  # somebody else was faster
        pass


def _wanted() -> Path:
    return Path(os.environ.get("LIBXDP_BPFFS") or DEFAULT_MOUNT)


def _missing(path: Path) -> BpffsMissing:
    others = sorted({mounted for _, mounted in _bpf_mounts()})
    todo = f"Mount it (`mount -t bpf bpf {path}`), or run xdptui with --mount-bpffs"
    if others:
        todo += f"; or name the mount to use in LIBXDP_BPFFS (there is {', '.join(others)})"
    return BpffsMissing(f"No BPF filesystem on {path}", "it is not mounted in this mount namespace", todo)


def _bpf_mounts() -> list[tuple[str, str]]:
    """(major:minor, mount point) of all BPF filesystems in the mount namespace: proc_pid_mountinfo(5)."""
    found = []
    for line in Path("/proc/thread-self/mountinfo").read_text(errors="surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        if after.startswith("bpf "):
            fields = before.split(" ")
            found.append((fields[2], re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])))
    return found


def _lock_directory() -> Path:
    try:
        path = find() / SUBDIRECTORY
    except BpffsMissing:
        path = FALLBACK_LOCK
    return path


def _locked(path: Path, deadline: float | None) -> int:
    pause, longest = _RETRY_S
    while True:
        fd = _open_lock(path)
        try:
            while not _try_lock(fd, wait=deadline is None):
                left = (deadline or 0) - time.monotonic()
                if left <= 0:
                    raise _busy(path, fd)
                time.sleep(min(pause, left))
                pause = min(pause * 2, longest)
            if _same(fd, path):
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # removed, and perhaps made anew, while we waited: others lock the new one


def _open_lock(path: Path) -> int:
    while True:
        try:
            path.mkdir(mode=0o700, exist_ok=True)
            return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            if not path.parent.is_dir():  # else it was removed between the two calls
                raise _refused(f"Can't lock {path}", error) from error
        except OSError as error:
            raise _refused(f"Can't lock {path}", error) from error


def _try_lock(fd: int, *, wait: bool) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _same(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _busy(path: Path, fd: int) -> Busy:
    holder = _holder(os.fstat(fd))
    if holder is None:
        who = "another program"
    elif holder == os.getpid():
        who = "another task of this program"
    else:
        who = f"{_command(holder)} (pid {holder})"
    return Busy(
        "XDP chains can't be changed now",
        f"{who} is editing them",
        "Try again when it is done",
        detail=f"flock on {path} is held",
    )


def _holder(locked: os.stat_result) -> int | None:
    """Who holds a flock on the inode, by proc_locks(5); None if it can't be seen from here."""
    inode = f"{os.major(locked.st_dev):02x}:{os.minor(locked.st_dev):02x}:{locked.st_ino}"
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if len(fields) > 5 and fields[1] == "FLOCK" and fields[5] == inode and int(fields[4]) > 0:
            return int(fields[4])
    return None


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return "another program"


def _refused(what: str, error: OSError) -> XdpChainError:
    if error.errno in (errno.EPERM, errno.EACCES):
        return _denied(what, error)
    return KernelRefused(what, error.strerror or str(error), detail=_words(error))


def _denied(what: str, error: OSError) -> PermissionDenied:
    return PermissionDenied(
        what, "only root may work in the BPF filesystem", "Run it as root (sudo)", detail=_words(error)
    )


def _words(error: OSError) -> str:
    return f"{errno.errorcode.get(error.errno or 0, '?')}: {error.strerror}"
