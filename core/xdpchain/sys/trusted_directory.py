# SPDX-License-Identifier: Apache-2.0
"""Directories that only root and this user can write to, held by descriptor.

Everything that root trusts, pins or removes below a BPF filesystem goes through here. Each directory is
opened by name in its parent, without following links, and its owner and mode are checked on the descriptor.
So what was checked is what is used, even if names change meanwhile.

A directory with the sticky bit (mode 1777, the default of `mount -t bpf`) can be trusted for what root
already keeps there, since nobody else can rename or remove it. Nothing new is created in it: another user may
have taken the name first.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
from pathlib import Path
from typing import Self

from xdpchain.closing import Closing
from xdpchain.errors import InvalidInput, NotOurs, PermissionDenied
from xdpchain.file_trust import is_ours, others_write

from . import bpf

__all__ = ["TrustedDirectory", "Untrusted"]

_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_MODE = 0o700


class Untrusted(PermissionDenied):
    """Others can write to a directory, or own something in it. Nothing was changed.

    ``command`` fixes it; ``todo`` is the sentence with it.
    """

    command = ""


class TrustedDirectory(Closing):
    """One directory; ``path`` is only for messages. Use it in ``with``, or close it.

    Operations raise OSError as the system calls do. Those that change something raise Untrusted if others can
    write to it, and NotOurs if another filesystem is mounted on it.
    """

    __slots__ = ("_fd", "_found", "_mounted_over", "_shared", "path")

    def __init__(self, fd: int, path: Path, parent: TrustedDirectory | None = None) -> None:
        """Takes ownership of ``fd`` (an O_PATH descriptor). Raises Untrusted."""
        self._fd = fd
        self.path = path
        try:
            self._found = found = os.fstat(fd)
            self._shared = others_write(found)
            self._mounted_over = parent is not None and found.st_dev != parent._found.st_dev
            if not is_ours(found):
                raise _of_another(path, found, parent)
            if others_write(found, sticky=True):
                raise _writable(path, found)
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a directory by a path that the operator chose: links in the path are followed.

        Its ancestors on the same filesystem are checked too: anyone who can write to one of them can replace
        the directory. Raises Untrusted, OSError.
        """
        fd = os.open(path, _FLAGS)
        try:
            _check_above(fd, path)
        except BaseException:
            os.close(fd)
            raise
        return cls(fd, path)

    def child(self, name: str) -> Self:
        """Open a subdirectory. Raises Untrusted, FileNotFoundError, and NotADirectoryError for anything else,
        including links.
        """
        fd = os.open(_plain(name), _FLAGS | os.O_NOFOLLOW, dir_fd=self._fd)
        return type(self)(fd, self.path / name, self)

    def make_child(self, name: str, *, exist_ok: bool = True) -> Self:
        """As `child`, created (mode 0700) if missing. Raises FileExistsError without ``exist_ok``."""
        if exist_ok:
            try:
                return self.child(name)
            except FileNotFoundError:
                pass
        self._check_private(name)
        try:
            os.mkdir(_plain(name), _MODE, dir_fd=self._fd)
        except FileExistsError:
            if not exist_ok:
                raise
        return self.child(name)

    def check_private(self) -> None:
        """Raise Untrusted if others can create files in it, even with the sticky bit."""
        if self._shared:
            raise _writable(self.path, os.fstat(self._fd))

    def names(self) -> tuple[str, ...]:
        """The names in it, sorted."""
        return tuple(sorted(os.listdir(f"/proc/self/fd/{self._fd}")))

    def descriptor(self) -> int:
        """A new descriptor for flock(2); the caller closes it."""
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._fd)

    def is_at(self, parent: TrustedDirectory) -> bool:
        """Whether its name in ``parent`` still refers to it."""
        try:
            there = os.stat(self.path.name, dir_fd=parent._fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(self._found, there)

    def holds_file(self, name: str) -> bool:
        """Whether it contains a regular file of this name (not a directory or link)."""
        try:
            found = os.stat(_plain(name), dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return stat.S_ISREG(found.st_mode)

    def get(self, name: str) -> bpf.Fd:
        """Open a pinned BPF object. Raises Untrusted for another user's pin, BpfError."""
        try:
            fd = os.open(_plain(name), os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._fd)
        except OSError as error:
            raise bpf.BpfError(error.errno or errno.EIO, bpf.Command.OBJ_GET) from None
        try:
            found = os.fstat(fd)
            if stat.S_ISLNK(found.st_mode):
                raise bpf.BpfError(errno.ELOOP, bpf.Command.OBJ_GET)
            if not is_ours(found):
                raise _of_another(self.path / name, found, self)
            # By descriptor: BPF_OBJ_GET follows links, even with BPF_F_PATH_FD (kernel 6.5).
            return bpf.obj_get(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)

    def pin(self, name: str, fd: bpf.Fd) -> None:
        """Pin an object. Raises BpfError (EEXIST) if the name is taken, even by a link."""
        self._check_private(name)
        # BPF_OBJ_PIN creates the last component and does not follow a link there. This way to name the
        # directory works on every kernel; BPF_F_PATH_FD needs 6.5.
        bpf.obj_pin(fd, f"/proc/self/fd/{self._fd}/{_plain(name)}")

    def unlink(self, name: str) -> None:
        """Remove a pin or a symbolic link; no error if missing. Raises IsADirectoryError."""
        self._check_same_filesystem()
        try:
            os.unlink(_plain(name), dir_fd=self._fd)
        except FileNotFoundError:
            pass

    def rmdir(self, name: str) -> None:
        """Remove an empty directory."""
        self._check_same_filesystem()
        os.rmdir(_plain(name), dir_fd=self._fd)

    def rename(self, old: str, new: str) -> None:
        """Rename within this directory."""
        self._check_private(new)
        os.rename(_plain(old), _plain(new), src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _check_same_filesystem(self) -> None:
        if self._mounted_over:
            what, todo = f"Can't change {self.path}", f"`umount {_quoted(self.path)}`"
            raise NotOurs(what, "another filesystem is mounted there", todo)

    def _check_private(self, name: str) -> None:
        self._check_same_filesystem()
        if self._shared:
            raise _writable(self.path, os.fstat(self._fd), name)


def _check_above(fd: int, path: Path) -> None:
    below = os.fstat(fd)
    here = os.open("..", _FLAGS, dir_fd=fd)
    try:
        while True:
            found = os.fstat(here)
            if found.st_dev != below.st_dev or os.path.samestat(found, below):
                return
            path = path.parent
            if not is_ours(found):
                raise _of_another(path, found, None)
            if others_write(found, sticky=True):
                raise _writable(path, found)
            below, upper = found, os.open("..", _FLAGS, dir_fd=here)
            os.close(here)
            here = upper
    finally:
        os.close(here)


def _plain(name: str) -> str:
    """The name, if it is a single path component. Raises InvalidInput."""
    if not name or "/" in name or "\0" in name or name in (".", ".."):
        raise InvalidInput(f"{name!r} is not a valid file name")
    return name


def _writable(path: Path, found: os.stat_result, name: str = "") -> Untrusted:
    command = f"chmod 0700 {_quoted(path)}"
    todo = f"Run `{command}`"
    if os.path.ismount(path):
        todo += ", and mount it with `-o mode=0700` in future"
    what = f"Can't make {path / name}" if name else f"Can't trust {path}"
    why = f"others can write to {path if name else 'it'} (mode {stat.S_IMODE(found.st_mode):04o})"
    return _untrusted(what, why, todo, command)


def _of_another(path: Path, found: os.stat_result, parent: TrustedDirectory | None) -> Untrusted:
    command = f"chown 0:0 {_quoted(path)} && chmod 0700 {_quoted(path)}"
    if parent is not None:
        # Names on a BPF filesystem have no dots.
        command = f"mv -T {_quoted(path)} {_quoted(path)}-of-uid-{found.st_uid}"
        if parent._shared:
            command = f"chmod 0700 {_quoted(parent.path)} && {command}"
    why = f"it belongs to UID {found.st_uid}, who may have put anything there"
    return _untrusted(f"Can't trust {path}", why, f"Run `{command}`", command)


def _untrusted(what: str, why: str, todo: str, command: str) -> Untrusted:
    error = Untrusted(what, why, todo)
    error.command = command
    return error


def _quoted(path: Path) -> str:
    return shlex.quote(os.fspath(path))
