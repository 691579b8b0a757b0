# SPDX-License-Identifier: Apache-2.0
"""Write files: whole or not at all, with a mode that umask can't loosen, and never through other users'
links.

This runs as root and writes where it is told, even in directories where anyone may create names. A link is
followed only if it belongs to root or to this user. A file appears under its name by rename or link, complete
and synced to disk (but see `synced_together`). What a killed process leaves behind (``.writing-…``) is
removed by the next write there.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterator
from contextvars import ContextVar

from xdpchain.file_trust import check_owner

__all__ = ["create", "put", "reach", "read", "replace", "synced_together"]

FILE_MODE, FOLDER_MODE = 0o644, 0o755
MOST_LINKS = 40
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_WRITING = ".writing-"
_LEFT = re.compile(r"\.writing-[0-9a-f]{16}")
MOST_WAITING = 32
"""Files that may wait to be synced: each holds a descriptor."""


def replace(path: str, data: bytes, *, mode: int = FILE_MODE, folder_mode: int = FOLDER_MODE) -> None:
    """Create or replace a file; a replaced one keeps its mode, and missing directories are created. Anything
    that is not a regular file (a terminal, a pipe) gets the data. Raises OSError.
    """
    with _place(path, folder_mode) as (folder, name):
        try:
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            found = None
        if found is not None and not stat.S_ISREG(found.st_mode):
            _pour(folder, name, found, data, path)
            return
        keep = None if found is None else stat.S_IMODE(found.st_mode) & 0o777
        with _written(folder, data, mode, keep) as made:
            os.rename(made, name, src_dir_fd=folder, dst_dir_fd=folder)


def put(path: str, data: bytes, *, mode: int = FILE_MODE, folder_mode: int = FOLDER_MODE) -> None:
    """Create a file that does not exist yet. Raises FileExistsError, OSError."""
    with _place(path, folder_mode) as (folder, name), _written(folder, data, mode, None) as made:
        os.link(made, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)


def create(path: str, *, overwrite: bool = False, special: bool = False, mode: int = FILE_MODE) -> int:
    """A descriptor of a new, empty file in an existing directory, to be written incrementally. If the name
    exists, even as a link, it is unlinked with ``overwrite``; otherwise FileExistsError is raised.
    ``special``: accept a terminal or pipe, and a link to one. Raises OSError.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_APPEND | os.O_CLOEXEC
    with _place(path, None, last=special) as (folder, name):
        if special:
            with contextlib.suppress(FileNotFoundError):
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if not stat.S_ISREG(found.st_mode):
                    return _special(folder, name, found, path)
        if overwrite:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder)
        return os.open(name, flags, mode, dir_fd=folder)


def read(path: str | os.PathLike[str], most: int) -> bytes:
    """The bytes of a regular file of at most ``most`` bytes; never waits for anything else. Raises
    OSError.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        found = os.fstat(fd)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", os.fspath(path))
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it has more than {most} bytes", os.fspath(path))
    return data


def reach(path: str) -> int:
    """An O_PATH descriptor of what a path leads to, through no other user's link. Raises OSError."""
    with _place(path, None) as (folder, name):
        follow = 0 if _is_kernels(folder) else os.O_NOFOLLOW
        return os.open(name, os.O_PATH | os.O_CLOEXEC | follow, dir_fd=folder)


@contextlib.contextmanager
def synced_together() -> Iterator[list[OSError]]:
    """Within this, files appear under their names before they are synced, which is done for dozens of them
    together, and for the rest at the end: a disk takes milliseconds each time, almost however many there are.
    If power fails before, they may be empty. Gives a list, which at the end has the errors of syncing.
    """
    waiting = _Waiting()
    token = _WAITING.set(waiting)
    try:
        yield waiting.failed
    finally:
        _WAITING.reset(token)
        waiting.sync()


class _Waiting:
    """Files that are not synced yet."""

    def __init__(self) -> None:
        self._files: list[int] = []
        self.failed: list[OSError] = []

    def add(self, fd: int) -> None:
        self._files.append(os.dup(fd))
        # Begins to write it, so that syncing finds them all under way, and the first commits what all need.
        with contextlib.suppress(OSError):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        if len(self._files) == MOST_WAITING:
            self.sync()

    def sync(self) -> None:
        while self._files:
            fd = self._files.pop(0)
            try:
                os.fsync(fd)
            except OSError as error:
                self.failed.append(error)
            finally:
                os.close(fd)


_WAITING: ContextVar[_Waiting | None] = ContextVar("waiting", default=None)


def _sync(fd: int) -> None:
    waiting = _WAITING.get()
    if waiting is None:
        os.fsync(fd)
    else:
        waiting.add(fd)


@contextlib.contextmanager
def _place(path: str, folder_mode: int | None, *, last: bool = True) -> Iterator[tuple[int, str]]:
    """The directory that a path leads to, opened, and the last name. With ``last``, links are followed to the
    end, so the name is then not a link (unless one of the kernel's own, in /proc). With a mode, missing
    directories are created.
    """
    here = os.open("/" if path.startswith("/") else ".", _FOLDER & ~os.O_NOFOLLOW)
    try:
        rest, links = [part for part in path.split("/") if part], 0
        if not rest:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        while True:
            name = rest.pop(0)
            if not rest and not last:
                yield here, name
                return
            found = _found(name, here, path)
            if isinstance(found, str) and not _is_kernels(here):
                links += 1
                if links > MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                rest[:0] = [part for part in found.split("/") if part] or ["."]
                if found.startswith("/"):
                    here = _moved(here, os.open("/", _FOLDER))
                continue
            if not rest:
                if isinstance(found, int):
                    os.close(found)
                yield here, name
                return
            if isinstance(found, str):
                found = os.open(name, _FOLDER & ~os.O_NOFOLLOW, dir_fd=here)
            here = _moved(here, _made(name, here, folder_mode) if found is None else found)
    finally:
        os.close(here)


def _made(name: str, parent: int, folder_mode: int | None) -> int:
    if folder_mode is not None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, folder_mode, dir_fd=parent)
    return os.open(name, _FOLDER, dir_fd=parent)


def _moved(old: int, new: int) -> int:
    os.close(old)
    return new


def _found(name: str, folder: int, path: str) -> int | str | None:
    """An O_PATH descriptor of what has this name, or where it leads if it is a link; None if there is
    nothing. Raises PermissionError for another user's link.
    """
    try:
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return None
    link = True
    try:
        found = os.fstat(fd)
        link = stat.S_ISLNK(found.st_mode)
        if not link:
            return fd
        check_owner(found, f"it leads through a link of uid {found.st_uid}", path)
        return os.readlink("", dir_fd=fd)
    finally:
        if link:
            os.close(fd)


def _is_kernels(folder: int) -> bool:
    """Whether the links in there are the kernel's, whose text leads nowhere (/proc/self/fd/1)."""
    try:
        proc = os.stat("/proc")
    except OSError:
        return False
    return os.fstat(folder).st_dev == proc.st_dev


def _special(folder: int, name: str, found: os.stat_result, path: str) -> int:
    """A descriptor of a terminal, a pipe, or what /proc/self/fd names."""
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    check_owner(found, f"it belongs to uid {found.st_uid}", path)
    follow = 0 if stat.S_ISLNK(found.st_mode) else os.O_NOFOLLOW
    # Non-blocking: opening a FIFO without a reader would wait.
    fd = os.open(name, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | follow, dir_fd=folder)
    os.set_blocking(fd, True)
    return fd


def _pour(folder: int, name: str, found: os.stat_result, data: bytes, path: str) -> None:
    with open(_special(folder, name, found, path), "wb") as file:
        file.write(data)


@contextlib.contextmanager
def _written(folder: int, data: bytes, mode: int, keep: int | None) -> Iterator[str]:
    """The name of a complete file in ``folder``, which is removed at the end unless it was renamed."""
    _sweep(folder)
    fd, name = _new(folder, mode)
    try:
        if keep is not None:
            os.fchmod(fd, keep)
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        _sync(fd)
        yield name
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)
        os.close(fd)


def _new(folder: int, mode: int) -> tuple[int, str]:
    """A new file, locked to tell others that it is in use."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        name = _WRITING + os.urandom(8).hex()
        fd = os.open(name, flags, mode, dir_fd=folder)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(fd).st_nlink:
                return fd, name
        os.close(fd)  # taken for a leftover before it was locked


def _sweep(folder: int) -> None:
    """Remove what killed processes left there; nothing of other users, nothing that is being written."""
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/self/fd/{folder}"):
            if _LEFT.fullmatch(name):
                with contextlib.suppress(OSError):
                    _remove_leftover(folder, name)


def _remove_leftover(folder: int, name: str) -> None:
    fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        found = os.fstat(fd)
        if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid():
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(name, dir_fd=folder)
    finally:
        os.close(fd)
