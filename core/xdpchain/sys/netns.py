# SPDX-License-Identifier: Apache-2.0
"""Network namespaces: named ones from ``ip netns`` (bind mounts of nsfs inodes in /run/netns), paths, and
those of processes (`netns_spelling`).

The name ``None`` always means the calling thread's own namespace.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TypeVar

from xdpchain import files
from xdpchain.advice import Advice, Do, advise
from xdpchain.errors import KernelRefused, NotFound, PermissionDenied
from xdpchain.netns_spelling import RUN_DIR as _RUN_DIR
from xdpchain.netns_spelling import is_name, netns_path

__all__ = [
    "NetnsError",
    "inode",
    "inode_at",
    "name_of",
    "names",
    "opened",
    "reopened",
    "run",
    "run_apart",
    "run_at",
]

RUN_DIR = Path(_RUN_DIR)
OWN = Path("/proc/thread-self/ns/net")  # not /proc/self: that is the main thread's, and threads may differ
CLONE_NEWNET = 0x40000000
NS_GET_NSTYPE = 0xB703  # ioctl_ns(2), kernel 4.11 on

_libc = ctypes.CDLL(None, use_errno=True)
_libc.setns.argtypes = [ctypes.c_int, ctypes.c_int]
_libc.setns.restype = ctypes.c_int
_libc.unshare.argtypes = [ctypes.c_int]
_libc.unshare.restype = ctypes.c_int

T = TypeVar("T")


class NetnsError(NotFound):
    """There is no usable network namespace with that name, at that path, or of that process."""


def names() -> tuple[str, ...]:
    """The named network namespaces, sorted, without leftover plain files in /run/netns."""
    try:
        entries = sorted(os.listdir(RUN_DIR))
    except FileNotFoundError:  # the first `ip netns add` creates the directory
        return ()
    except PermissionError as error:
        raise _denied(f"Can't list {RUN_DIR}", error) from error
    return tuple(name for name in entries if _inode_of(RUN_DIR / name) is not None)


@contextmanager
def opened(name: str | None) -> Iterator[int]:
    """A descriptor for the namespace, closed on exit. It keeps the namespace alive while open.

    Raises NetnsError (no such name, or no namespace behind it) and PermissionDenied.
    """
    fd = _open(name)
    try:
        yield fd
    finally:
        os.close(fd)


def inode(name: str | None = None) -> int:
    """The inode number of the namespace, which identifies it whatever its name."""
    with opened(name) as fd:
        return os.fstat(fd).st_ino


def inode_at(name: str) -> int | None:
    """The inode number of a named namespace if it can be seen without opening anything, else None: enough to
    tell whether the name stands for a namespace that is held open.
    """
    path = netns_path(name)
    return None if path is None else _inode_of(path)


def name_of(inode_number: int) -> str | None:
    """The (alphabetically first) name of the namespace with this inode number; None if unnamed. A name that
    it has had is kept as long as it still has that one.
    """
    global _named
    known = _named.get(inode_number)
    if known is None or _inode_of(RUN_DIR / known) != inode_number:
        _named = named = {
            found: name for name in reversed(names()) if (found := _inode_of(RUN_DIR / name)) is not None
        }
        known = named.get(inode_number)
    return known


_named: dict[int, str] = {}


def run(name: str | None, call: Callable[[], T]) -> T:
    """Run ``call`` inside the namespace and return its result, or raise its exception.

    A thread stays in the namespace it has entered, so each call gets a new thread that is never reused. With
    ``None`` the call runs in the calling thread. Raises NetnsError and PermissionDenied (entering takes
    CAP_SYS_ADMIN).
    """
    if name is None:
        return call()

    def enter() -> None:
        # Opened in this thread, so that an interrupted caller can't close it before setns.
        with opened(name) as fd:
            _enter(fd, name)

    return _in_thread(enter, call, name)


def run_at(path: str | os.PathLike[str], call: Callable[[], T]) -> T:
    """As `run`, in the namespace at a path such as ``/proc/1/ns/net``. Raises OSError (no such path),
    NetnsError, PermissionDenied.
    """

    def enter() -> None:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _enter(fd, os.fspath(path))
        finally:
            os.close(fd)

    return _in_thread(enter, call, "path")


def run_apart(call: Callable[[], T]) -> T:
    """As `run`, in a namespace created for this call and gone afterwards; its loopback device is down. For
    trials that must affect nobody. Raises PermissionDenied, KernelRefused.
    """

    def leave() -> None:
        if _libc.unshare(CLONE_NEWNET) == 0:
            return
        code = ctypes.get_errno()
        error = OSError(code, os.strerror(code))
        if code == errno.EPERM:
            raise _denied("Can't create a network namespace", error)
        raise KernelRefused("Can't create a network namespace", os.strerror(code), detail=str(error))

    return _in_thread(leave, call, "apart")


def _in_thread(enter: Callable[[], None], call: Callable[[], T], name: str) -> T:
    results: list[T] = []
    errors: list[BaseException] = []
    done = threading.Event()

    def body() -> None:
        try:
            enter()
            results.append(call())
        except BaseException as error:
            errors.append(error)
        finally:
            done.set()

    thread = threading.Thread(target=body, name=f"netns-{name}", daemon=True)
    thread.start()
    done.wait()  # ctrl-C ends it, and then a call that may take long is not waited for
    thread.join()
    if errors:
        try:
            raise errors.pop()
        finally:
            del call, enter  # the traceback holds this frame
    return results.pop()


def reopened(place: int) -> int:
    """A descriptor for the network namespace that an O_PATH descriptor refers to.

    The file may have changed since it was found: descriptor numbers are reused, and `ip netns` leaves a plain
    file for a moment before it mounts and after it unmounts. So it is checked before it is opened, since
    opening may block (a pipe) or have effects (a device). Raises FileNotFoundError if it is not a network
    namespace, OSError.
    """
    if os.fstat(place).st_dev != _nsfs():
        raise FileNotFoundError(errno.ENOENT, "there is no namespace")
    fd = os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if fcntl.ioctl(fd, NS_GET_NSTYPE) != CLONE_NEWNET:
            raise FileNotFoundError(errno.ENOENT, "that is another kind of namespace")
    except BaseException:
        os.close(fd)
        raise
    return fd


def _open(name: str | None) -> int:
    if name is None:
        return os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
    path = netns_path(name)
    if path is None:
        why = "that is not a name in /run/netns, a path that begins with /, or pid:N"
        raise NetnsError(f"No network namespace {name!r}", why, _known())
    try:
        place = files.reach(path)
    except PermissionError as error:
        raise _unreachable(name, error) from error
    except (FileNotFoundError, NotADirectoryError, ProcessLookupError) as error:
        gone = "it does not exist (any more)" if is_name(name) else f"{path} does not exist (any more)"
        raise NetnsError(f"No network namespace {name!r}", gone, _known()) from error
    except OSError as error:
        raise NetnsError(
            f"Can't open network namespace {name!r}", error.strerror or str(error), _known()
        ) from error
    try:
        return reopened(place)
    except FileNotFoundError as error:
        if not is_name(name):
            raise NetnsError(f"No network namespace {name!r}", error.strerror or "", _known()) from error
        raise NetnsError(
            f"No network namespace {name!r}",
            f"{path} is a plain file: the namespace is gone or mounted elsewhere",
            advise(Do.REMOVE_NETNS_FILE, name),
        ) from error
    except OSError as error:
        raise _unreachable(name, error) from error
    finally:
        os.close(place)


def _unreachable(name: str, error: OSError) -> PermissionDenied:
    what = f"Can't open network namespace {name!r}"
    if is_name(name):
        return _denied(what, error)
    why = error.strerror or str(error)
    if why == os.strerror(errno.EACCES):  # ptrace(2), "ptrace access mode checking"
        why = "CAP_SYS_PTRACE is needed for another user's process, and this process lacks it"
    return PermissionDenied(what, why, detail=str(error))


def _enter(fd: int, name: str) -> None:
    if _libc.setns(fd, CLONE_NEWNET) == 0:
        return
    code = ctypes.get_errno()
    error = OSError(code, os.strerror(code))
    if code == errno.EPERM:
        raise _denied(f"Can't enter network namespace {name!r}", error)
    raise NetnsError(f"Can't enter network namespace {name!r}", error.strerror or "", _known())


def _denied(what: str, error: OSError) -> PermissionDenied:
    return PermissionDenied(
        what,
        "CAP_SYS_ADMIN is needed, which this process lacks",
        advise(Do.GET_PERMISSION, "CAP_SYS_ADMIN"),
        detail=f"{errno.errorcode.get(error.errno or 0, '?')}: {error.strerror}",
    )


def _known() -> str | Advice:
    try:
        there = names()
    except PermissionDenied:
        return advise(Do.LIST_NETNS)
    return f"Existing namespaces: {', '.join(there)}" if there else "There are no named namespaces"


@cache
def _nsfs() -> int:
    """The device number of the kernel's own filesystem of namespaces, mounted once for all."""
    return OWN.stat().st_dev


def _inode_of(path: str | os.PathLike[str]) -> int | None:
    """The inode number of the namespace at a path; None if none is there."""
    try:
        found = os.stat(path)
    except OSError:  # deleted meanwhile, or not readable: unusable either way
        return None
    return found.st_ino if found.st_dev == _nsfs() else None
