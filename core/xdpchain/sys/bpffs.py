# SPDX-License-Identifier: Apache-2.0
"""The BPF filesystem, as libxdp's protocol uses it: which mount, the lock, and the pins of each dispatcher.

Everything lives in ``<bpffs>/xdp``: a directory ``dispatch-<ifindex>-<program id>`` for each dispatcher, with
the pins of its slots, and the directory itself is what editors lock. LIBXDP_BPFFS names the mount to use,
LIBXDP_BPFFS_AUTOMOUNT=1 allows to mount it. What lies below is reached through `TrustedDirectory` only.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import shlex
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from xdpchain.advice import Do, advise
from xdpchain.errors import Busy, KernelRefused, NotOurs, PermissionDenied, Unsupported, XdpChainError

from .mount_lifetime import made_here
from .trusted_directory import TrustedDirectory, Untrusted

__all__ = [
    "BpffsMissing",
    "DispatchDir",
    "directory_of",
    "dispatch_dir",
    "dispatch_dirs",
    "distrusted",
    "find",
    "is_bpffs",
    "lock",
    "make_dispatch_dir",
    "mount",
    "mount_command",
    "mounts",
    "open_below",
    "open_dispatch_dir",
    "pins",
    "remove_dispatch_dir",
]

DEFAULT_MOUNT = Path("/sys/fs/bpf")
FALLBACK_LOCK = Path("/run/xdp")  # what libxdp locks where there is no bpffs
SUBDIRECTORY = "xdp"
BPF_FS_MAGIC = 0xCAFE4A11  # linux/magic.h

_DISPATCH_DIR = re.compile(r"dispatch-([1-9][0-9]*)-([1-9][0-9]*)")
DISPATCH_DIR = "dispatch-{}-{}"  # ifindex, prog id
_SLOT_PIN = re.compile(r"prog[0-9]-(?:link|prog)")  # ten slots
_RETRY_S = (0.005, 0.05)  # how long to wait between two tries for the lock: at first, and at most
_REMOVALS = 8  # how often the lock's directory may be removed just when it was made

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
_libc.mount.restype = ctypes.c_int
_libc.statfs.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
_libc.statfs.restype = ctypes.c_int


class BpffsMissing(Unsupported):
    """There is no BPF filesystem where it should be."""


class DispatchDir(NamedTuple):
    """The pins of one dispatcher. Its ifindex counts in the network namespace where it was loaded."""

    path: Path
    ifindex: int
    prog_id: int


def is_bpffs(path: Path) -> bool:
    """Whether the path is a directory in a BPF filesystem: statfs(2). Asked dozens of times in a change, so
    it does not read a list of mounts, which is long on machines with many containers.
    """
    found = ctypes.create_string_buffer(256)  # struct statfs, which begins with f_type
    if _libc.statfs(os.fsencode(path), found) != 0:
        return False
    kind: int = ctypes.c_long.from_buffer(found).value
    return kind & 0xFFFFFFFF == BPF_FS_MAGIC and path.is_dir()


def find() -> Path:
    """The BPF filesystem to use: LIBXDP_BPFFS, or else /sys/fs/bpf.

    Raises BpffsMissing when it is not mounted, PermissionDenied where that can't be told; with
    LIBXDP_BPFFS_AUTOMOUNT=1 it is mounted then, which raises what mount() does.
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
    """Why changes may be refused: who else may write to the BPF filesystem, or to its directories ``names``.

    Raises BpffsMissing, PermissionDenied.
    """
    found: dict[str, Untrusted] = {}
    for checked in ((), *((name,) for name in names)):
        try:
            with open_below(*checked) as directory:
                directory.check_private()
        except FileNotFoundError:
            continue
        except Untrusted as refused:
            found[refused.what] = refused
        except OSError as error:
            raise _refused(f"Can't look at {find().joinpath(*checked)}", error) from error
    return tuple(found.values())


def mount_command(path: Path | None = None) -> str:
    """What mounts it for root alone; without the mode, anybody could make directories in it."""
    return f"mount -t bpf -o mode=0700 bpf {shlex.quote(os.fspath(path or _wanted()))}"


def mounts() -> tuple[Path, ...]:
    """Where BPF filesystems are mounted in this mount namespace, in the order of mounting."""
    return tuple(dict.fromkeys(Path(place) for _, place in _bpf_mounts()))


@contextmanager
def open_below(*names: str, make: bool = False) -> Iterator[TrustedDirectory]:
    """The directory ``<bpffs>/<name>/...``, checked at each step; made, where ``make`` says so.

    Raises BpffsMissing, Untrusted, PermissionDenied, and FileNotFoundError without ``make``.
    """
    with _open(find(), names, make=make) as directory:
        yield directory


@contextmanager
def directory_of(path: Path, *, make: bool = False) -> Iterator[TrustedDirectory]:
    """The directory that a pin's path names, in whichever BPF filesystem it lies; as `open_below`."""
    directory = Path(os.path.normpath(path)).parent
    roots = [root for root in (_wanted(), *reversed(mounts())) if directory.is_relative_to(root)]
    root = next((root for root in roots if is_bpffs(root)), None)
    if root is None:
        raise _missing(directory)
    with _open(root, directory.relative_to(root).parts, make=make) as opened:
        yield opened


@contextmanager
def _open(root: Path, names: Iterable[str], *, make: bool) -> Iterator[TrustedDirectory]:
    with ExitStack() as held:
        try:
            directory = held.enter_context(TrustedDirectory.open(root))
            for name in names:
                step = directory.make_child(name) if make else directory.child(name)
                directory = held.enter_context(step)
        except PermissionError as error:
            raise _denied(f"Can't open {root.joinpath(*names)}", error) from error
        yield directory


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

    Raises Busy (naming the holder as far as it can be known), PermissionDenied, and Untrusted where others
    may make or change that directory.
    """
    parent, name = _lock_place()
    deadline = None if timeout is None else time.monotonic() + timeout
    try:
        with TrustedDirectory.open(parent) as above:
            fd = _locked(above, name, deadline)
    except OSError as error:
        raise _refused(f"Can't lock {parent / name}", error) from error
    try:
        yield parent / name
    finally:
        os.close(fd)


def dispatch_dirs() -> tuple[DispatchDir, ...]:
    """The pin directories of all dispatchers, whoever made them, sorted. Other entries are ignored.

    Raises BpffsMissing and PermissionDenied.
    """
    try:
        with open_below(SUBDIRECTORY) as directory:
            path, names = directory.path, directory.names()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise _refused(f"Can't list {find() / SUBDIRECTORY}", error) from error
    matches = (_DISPATCH_DIR.fullmatch(name) for name in names)
    return tuple(
        sorted(DispatchDir(path / match[0], int(match[1]), int(match[2])) for match in matches if match)
    )


def dispatch_dir(ifindex: int, prog_id: int) -> DispatchDir:
    """Where the pins of a dispatcher are, or would be. Raises BpffsMissing."""
    path = find() / SUBDIRECTORY / DISPATCH_DIR.format(ifindex, prog_id)
    return DispatchDir(path, ifindex, prog_id)


@contextmanager
def open_dispatch_dir(directory: DispatchDir, *, make: bool = False) -> Iterator[TrustedDirectory]:
    """The pin directory of a dispatcher, as `open_below` opens it."""
    with open_below(SUBDIRECTORY, directory.path.name, make=make) as opened:
        yield opened


def make_dispatch_dir(ifindex: int, prog_id: int) -> DispatchDir:
    """Make the (empty) pin directory of a new dispatcher. Take the lock first.

    Raises NotOurs when there is one already: a dispatcher of the same id that is gone left it behind.
    """
    made = dispatch_dir(ifindex, prog_id)
    try:
        with open_below(SUBDIRECTORY, make=True) as parent:
            parent.make_child(made.path.name, exist_ok=False).close()
    except FileExistsError as error:
        raise NotOurs(
            f"Can't make {made.path}",
            "an earlier dispatcher of the same program id left its pins there",
            advise(Do.CLEAN),
            detail=_words(error),
        ) from error
    except OSError as error:
        raise _refused(f"Can't make {made.path}", error) from error
    return made


def pins(directory: DispatchDir) -> tuple[str, ...]:
    """The names in a pin directory, sorted; empty if it is gone. Raises PermissionDenied, Untrusted."""
    try:
        with open_dispatch_dir(directory) as opened:
            return opened.names()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise _refused(f"Can't list {directory.path}", error) from error


def remove_dispatch_dir(directory: DispatchDir) -> tuple[str, ...]:
    """Remove a dispatcher's pins and their directory; return the names that were unlinked. Take the lock
    first.

    Only the pins of slots are unlinked (progN-link, progN-prog), never a directory, nothing through a
    symbolic link, and nothing outside of ``<bpffs>/xdp``. A directory that is gone is fine. Killed in
    between, it leaves fewer pins, and the same call removes the rest.

    Raises NotOurs, before anything is removed, when something else is in there; Untrusted, PermissionDenied;
    KernelRefused.
    """
    what = f"Can't remove {directory.path}"
    path, name = find() / SUBDIRECTORY, directory.path.name
    if directory.path.parent != path or not _DISPATCH_DIR.fullmatch(name):
        raise NotOurs(what, f"it is no dispatcher's pin directory in {path}")
    names: tuple[str, ...] = ()
    try:
        with open_below(SUBDIRECTORY) as parent:
            with parent.child(name) as opened:
                names = _slot_pins(what, opened)
                for pin in names:
                    opened.unlink(pin)
            parent.rmdir(name)
    except FileNotFoundError:  # somebody else removed it
        pass
    except OSError as error:
        raise _refused(what, error) from error
    return names


def _slot_pins(what: str, directory: TrustedDirectory) -> tuple[str, ...]:
    names = directory.names()
    strange = [name for name in names if not (_SLOT_PIN.fullmatch(name) and directory.holds_file(name))]
    if strange:
        raise NotOurs(
            what,
            f"it holds what no dispatcher puts there: {', '.join(strange)}",
            "Find out whose it is, and remove it by hand",
        )
    return names


def _wanted() -> Path:
    return Path(os.environ.get("LIBXDP_BPFFS") or DEFAULT_MOUNT)


def _missing(path: Path) -> BpffsMissing:
    others = sorted({mounted for _, mounted in _bpf_mounts()})
    todo = f"Mount it (`{mount_command(path)}`), or run xdptui with --mount-bpffs"
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


def _lock_place() -> tuple[Path, str]:
    try:
        return find(), SUBDIRECTORY
    except BpffsMissing:
        return FALLBACK_LOCK.parent, FALLBACK_LOCK.name


def _locked(parent: TrustedDirectory, name: str, deadline: float | None) -> int:
    pause, longest = _RETRY_S
    while True:
        with _made(parent, name) as directory:
            fd = directory.descriptor()
            try:
                while not _try_lock(fd, wait=deadline is None):
                    left = (deadline or 0) - time.monotonic()
                    if left <= 0:
                        raise _busy(directory.path, fd)
                    time.sleep(min(pause, left))
                    pause = min(pause * 2, longest)
                if directory.is_at(parent):
                    return fd
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)  # removed, and perhaps made anew, while we waited: others lock the new one


def _made(parent: TrustedDirectory, name: str) -> TrustedDirectory:
    for _ in range(_REMOVALS):
        try:
            return parent.make_child(name)
        except FileNotFoundError:  # removed between its two steps
            continue
    return parent.make_child(name)


def _try_lock(fd: int, *, wait: bool) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _busy(path: Path, fd: int) -> Busy:
    locked = os.fstat(fd)
    holder = _holder(locked)
    todo = "Try again when it is done"
    if holder is None:
        who = "another program"
    elif holder == os.getpid():
        who = "another task of this program"
    else:
        who, is_root = _process(holder)
        if not is_root and locked.st_mode & 0o077:
            todo += f"; `chmod 0700 {shlex.quote(os.fspath(path))}` keeps other users from holding the lock"
    return Busy(
        "XDP chains can't be changed now", f"{who} is editing them", todo, detail=f"flock on {path} is held"
    )


def _holder(locked: os.stat_result) -> int | None:
    """Who holds a flock on the inode, by proc_locks(5); None if it can't be seen from here."""
    inode = f"{os.major(locked.st_dev):02x}:{os.minor(locked.st_dev):02x}:{locked.st_ino}"
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if len(fields) > 5 and fields[1] == "FLOCK" and fields[5] == inode and int(fields[4]) > 0:
            return int(fields[4])
    return None


def _process(pid: int) -> tuple[str, bool]:
    """A process in words, and whether it is root's; a process names itself as it likes."""
    try:
        name = Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
        uid = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return f"another program (pid {pid})", True
    name = "".join(letter if letter.isprintable() else "?" for letter in name)
    return f"{name} (pid {pid})" if uid == 0 else f"{name} (pid {pid}, uid {uid})", uid == 0


def _refused(what: str, error: OSError) -> XdpChainError:
    if error.errno in (errno.EPERM, errno.EACCES):
        return _denied(what, error)
    if error.errno == errno.ENOTDIR and (place := Path(*_lock_place())).is_symlink():
        return KernelRefused(
            what,
            "it is a link, which is not followed; iproute2 makes one when it loads an object",
            f"Remove the link, not what it leads to: `rm {shlex.quote(os.fspath(place))}`",
            detail=f"it leads to {place.readlink()}",
        )
    return KernelRefused(what, error.strerror or str(error), detail=_words(error))


def _denied(what: str, error: OSError) -> PermissionDenied:
    return PermissionDenied(
        what,
        "only root may work in the BPF filesystem",
        advise(Do.GET_PERMISSION, "CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"),
        detail=_words(error),
    )


def _words(error: OSError) -> str:
    return f"{errno.errorcode.get(error.errno or 0, '?')}: {error.strerror}"
