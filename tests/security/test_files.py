# SPDX-License-Identifier: Apache-2.0
"""Files that root writes where others may create names: complete, with a mode, never through
others' links.
"""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kernel.command_line import CommandLine
from tests.security.conftest import STRANGER
from xdpchain import files
from xdpchain.editing import one_by_one
from xdpchain.errors import NotFound, PermissionDenied
from xdpchain.objects.object_path import find_object
from xdpchain.spec.files import write_file
from xdpchain.sys import netns

Stranger = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def shared(place: Path) -> Path:
    """A directory like /tmp."""
    folder = place / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    return folder


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_without_a_umask_nothing_is_loose(place: Path, no_umask: None) -> None:
    target = place / "a" / "b" / "file"
    files.replace(str(target), b"1")
    files.put(str(place / "put"), b"2")
    os.close(files.create(str(place / "created")))
    assert {mode(place / "put"), mode(place / "created"), mode(target)} == {0o644}
    assert {mode(place / "a"), mode(target.parent)} == {0o755}
    target.chmod(0o600)
    files.replace(str(target), b"3")
    assert (mode(target), target.read_bytes()) == (0o600, b"3")
    os.umask(0o077)
    files.put(str(place / "private"), b"")
    assert mode(place / "private") == 0o600


def test_all_that_is_written_by_root_without_a_umask(
    place: Path, no_umask: None, monkeypatch: pytest.MonkeyPatch, cli: CommandLine
) -> None:
    monkeypatch.setenv("XDPTUI_STATE", str(place / "state"))
    assert cli.load("drop")
    (place / "out").mkdir(0o755)
    assert (
        cli(
            "save", cli.interface, "-o", str(place / "out" / "s.toml"), "--objects", str(place / "objects")
        ).code
        == 0
    )
    assert cli("record", str(place / "r"), "--duration", "0.3", "--interval", "0.1").code == 0
    loose = [path for path in place.rglob("*") if path.lstat().st_mode & 0o022]
    assert loose == []
    private = [path for path in (place / "state").rglob("*") if path.stat().st_mode & 0o077]
    assert private == []


@pytest.mark.parametrize("kind", ["link to a file", "link to nothing", "linked folder", "FIFO"])
def test_nothing_of_others_is_written_through(
    place: Path, shared: Path, stranger: Stranger, kind: str
) -> None:
    victim = place / "victim"
    victim.mkdir()
    (victim / "f.o").write_text("precious")
    target = shared / "f.o"
    stranger(
        {
            "link to a file": f"ln -s {victim}/f.o {target}",
            "link to nothing": f"ln -s {victim}/new {target}",
            "linked folder": f"ln -s {victim} {shared}/folder",
            "FIFO": f"mkfifo -m 0666 {target}",
        }[kind]
    )
    if kind == "linked folder":
        target = shared / "folder" / "f.o"
    begun = time.monotonic()
    with pytest.raises(PermissionDenied, match="uid 65534"):
        write_file(str(target), b"overwritten")
    with pytest.raises(OSError, match=r"uid 65534|exists"):
        files.create(str(target), special=True)
    assert time.monotonic() - begun < 5
    assert (victim / "f.o").read_text() == "precious"
    assert os.listdir(victim) == ["f.o"]


def test_save_objects_through_links_of_others(
    place: Path, shared: Path, stranger: Stranger, cli: CommandLine
) -> None:
    victim = place / "victim"
    victim.mkdir()
    stranger(f"ln -s {victim} {shared}/objects")
    cli.load("drop")
    refused = cli("save", cli.interface, "-o", "-", "--objects", str(shared / "objects"))
    assert refused.code == 3
    assert os.listdir(victim) == []
    (victim / "drop.o").write_text("precious")
    stranger(f"mkdir {shared}/folder; ln -s {victim}/drop.o {shared}/folder/drop.o")
    cli("save", cli.interface, "-o", "-", "--objects", str(shared / "folder"))
    assert (victim / "drop.o").read_text() == "precious"


def test_ones_own_links_are_followed(place: Path) -> None:
    (place / "real").mkdir()
    (place / "link").symlink_to("real")
    (place / "real" / "file").write_text("old")
    (place / "real" / "name").symlink_to("../real/file")
    files.replace(str(place / "link" / "name"), b"new")
    assert (place / "real" / "file").read_text() == "new"
    assert (place / "real" / "name").is_symlink()
    (place / "a").symlink_to("b")
    (place / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        files.replace(str(place / "a"), b"")


def test_pipes_and_terminals_get_the_data(place: Path) -> None:
    code = "from xdpchain import files; files.replace('/dev/stdout', b'data')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b"data"
    fifo = place / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(OSError, match="No such device"):
        files.create(str(fifo), special=True)  # there is no reader, and it does not wait
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(files.create(str(fifo), special=True), "wb") as file:
        file.write(b"packet")
    assert os.read(reader, 10) == b"packet"
    os.close(reader)


def test_what_a_killed_process_left_is_swept(place: Path) -> None:
    code = (
        "import os, sys\n"
        "from xdpchain import files\n"
        "def stop(fd): print('writing', flush=True); import time; time.sleep(60)\n"
        "os.fsync = stop\n"
        f"files.replace({os.fspath(place / 'file')!r}, b'half')\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "writing\n"
    (left,) = place.iterdir()
    files.replace(str(place / "other"), b"whole")
    assert left.exists()  # somebody is using it
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    assert left.exists()
    (place / ".writing-mine").touch()  # not one of ours
    files.replace(str(place / "other"), b"whole")
    assert sorted(path.name for path in place.iterdir()) == [".writing-mine", "other"]


def test_many_files_are_there_at_once_and_synced_together(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, really = [], os.fsync

    def sync(fd: int) -> None:
        synced.append(os.fstat(fd).st_ino)
        really(fd)

    monkeypatch.setattr(os, "fsync", sync)
    many = [place / str(number) for number in range(2 * files.MOST_WAITING + 1)]
    descriptors = len(os.listdir("/proc/self/fd"))
    with files.synced_together():
        for done, path in enumerate(many):
            files.put(str(path), b"whole")
            assert path.read_bytes() == b"whole"
            assert len(synced) == (done + 1) // files.MOST_WAITING * files.MOST_WAITING
    assert synced == [path.stat().st_ino for path in many]
    assert len(os.listdir("/proc/self/fd")) == descriptors
    files.put(str(place / "alone"), b"")
    assert len(synced) == len(many) + 1, "elsewhere at once"


def test_what_is_not_synced_is_said_at_the_end(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken, really = [3, 5], os.fsync

    def sync(fd: int) -> None:
        if os.pread(fd, 9, 0) in [b"%d" % number for number in broken]:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        really(fd)

    monkeypatch.setattr(os, "fsync", sync)
    warnings: list[str] = []
    with one_by_one(warnings.append):
        for number in range(7):
            files.put(str(place / str(number)), b"%d" % number)
    assert [path.read_text() for path in sorted(place.iterdir())] == list("0123456")
    assert warnings == [
        "the changes were made, but a power failure now may cost the journal some of them: "
        "2 files could not be synced (Input/output error)"
    ]


def test_reading_waits_for_nothing_and_is_bounded(place: Path) -> None:
    os.mkfifo(place / "fifo")
    (place / "large").write_bytes(bytes(1001))
    for name, why in (("fifo", "regular"), ("large", "more than 1000"), (".", "directory")):
        with pytest.raises(OSError, match=why):
            files.read(place / name, 1000)
    with pytest.raises(OSError, match="regular"):
        files.read("/dev/zero", 1000)
    assert len(files.read(place / "large", 1001)) == 1001


def test_a_namespace_is_not_looked_for_through_a_link_of_another(shared: Path, stranger: Stranger) -> None:
    ours = f"/proc/{os.getpid()}/ns/net"
    stranger(f"ln -s {ours} {shared}/ns")
    with pytest.raises(PermissionDenied, match="link of uid"):
        netns.inode(f"{shared}/ns")
    (shared / "own").symlink_to(ours)
    assert netns.inode(f"{shared}/own") == os.stat(ours).st_ino


def test_an_object_is_found_by_name_only_where_nobody_else_could_put_it(
    place: Path, samples: Path, stranger: Stranger, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = place / "bpf"
    folder.mkdir()
    name = "xdptui-by-name.o"
    (folder / name).write_bytes((samples / "pass.o").read_bytes())
    monkeypatch.setenv("LIBXDP_OBJECT_PATH", str(folder))
    monkeypatch.chdir(place)
    assert find_object(name) == str(folder / name)
    folder.chmod(0o1777)
    with pytest.raises(PermissionDenied, match="by its bare name"):
        find_object(name)
    folder.chmod(0o755)
    os.chown(folder / name, STRANGER, STRANGER)
    with pytest.raises(PermissionDenied, match="by its bare name"):
        find_object(name)
    assert find_object(str(folder / name)) == str(folder / name)
    (place / name).write_bytes(b"")
    assert find_object(name) == name, "what lies here was meant"
    with pytest.raises(NotFound, match="no-such"):
        find_object("no-such.o")
