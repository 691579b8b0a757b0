# SPDX-License-Identifier: Apache-2.0
"""The BPF filesystem on a real kernel: mounts, libxdp's lock, dispatchers' pins."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from xdpchain.bytecode.instructions import LET_PASS as PASS
from xdpchain.errors import Busy, KernelRefused, NotOurs, PermissionDenied
from xdpchain.sys import bpf, bpffs
from xdpchain.sys.bpffs import mounting
from xdptui.words.advice import worded

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting and BPF take root")

CORE = Path(bpffs.__file__).parents[3]


@pytest.fixture
def unmounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where a BPF filesystem should be, by LIBXDP_BPFFS, but is not yet; unmounted at the end."""
    place = tmp_path / "bpf fs"  # mountinfo escapes the space
    place.mkdir()
    monkeypatch.setenv("LIBXDP_BPFFS", str(place))
    monkeypatch.delenv("LIBXDP_BPFFS_AUTOMOUNT", raising=False)
    monkeypatch.setattr(mounting, "FALLBACK_LOCK", tmp_path / "fallback")
    yield place
    while bpffs.is_bpffs(place):
        subprocess.run(["umount", place], check=True)


@pytest.fixture
def root(unmounted: Path) -> Path:
    return bpffs.mount()


# Mounts


def test_a_missing_mount_is_said_with_what_to_do(unmounted: Path) -> None:
    assert not bpffs.is_bpffs(unmounted)
    for ask in (bpffs.find, bpffs.dispatch_dirs):
        with pytest.raises(bpffs.BpffsMissing) as caught:
            ask()
        assert str(unmounted) in caught.value.what
        assert f"ount it (`mount -t bpf -o mode=0700 bpf '{unmounted}'" in caught.value.todo
        assert "--mount-bpffs" in caught.value.todo


def test_what_is_mounted_elsewhere_is_read_only_for_those_who_ask(
    unmounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each interface needs a dozen directories in it, and a container host has thousands of mounts."""
    read: list[str] = []
    monkeypatch.setattr(mounting, "_bpf_mounts", lambda: read.append("mountinfo") or [])
    with pytest.raises(bpffs.BpffsMissing) as caught:
        bpffs.open_below("xdp")
    assert (read, caught.value.what) == ([], f"No BPF filesystem on {unmounted}")
    assert "Mount it" in str(caught.value)
    assert read == ["mountinfo"]


def test_in_a_mount_namespace_of_its_own_the_way_out_is_named_first(
    unmounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = {"/proc/self/ns/mnt": "mnt:[2]", "/proc/1/ns/mnt": "mnt:[1]"}  # nobody but root may read init's
    monkeypatch.setattr("xdpchain.sys.bpffs.mounting.os.readlink", links.__getitem__)
    with pytest.raises(bpffs.BpffsMissing) as caught:
        bpffs.find()
    assert caught.value.todo.startswith("If this is `ip netns exec`, run xdptui outside, with --netns NAME;")


def test_a_mount_lasts_as_long_as_a_process_apart_from_us_has_it(tmp_path: Path) -> None:
    """Within one process, which remembers who that was."""
    code = f"""if True:
        import os, subprocess, sys, time
        from pathlib import Path
        sys.path.insert(0, {os.fspath(CORE)!r})
        from xdpchain.sys.mount_lifetime import ends_with_us, made_here
        place = Path(sys.argv[1])
        made_here(place)
        print(ends_with_us(place))
        apart = subprocess.run(
            ["sh", "-c", "setsid sleep 60 >/dev/null 2>&1 & echo $!"], capture_output=True, text=True
        )
        while os.getsid(pid := int(apart.stdout)) != pid:
            time.sleep(0.01)
        print(ends_with_us(place), ends_with_us(place))
        os.kill(pid, 9)
        while os.path.exists(f"/proc/{{pid}}/ns/mnt") and "Z" not in Path(f"/proc/{{pid}}/stat").read_text():
            time.sleep(0.01)
        print(ends_with_us(place))
    """
    own = ["unshare", "--mount", "sh", "-ec", 'mount -t bpf bpf "$4"; exec "$@"', "sh", sys.executable, "-c"]
    done = subprocess.run([*own, code, tmp_path], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["True", "False", "False", "True"], done.stderr


def test_mounts_that_are_there_are_suggested(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIBXDP_BPFFS", str(tmp_path))
    with pytest.raises(bpffs.BpffsMissing) as caught:
        bpffs.find()
    assert str(root) in caught.value.todo


def test_mounts_once(unmounted: Path) -> None:
    assert bpffs.mount() == unmounted == bpffs.find()
    assert bpffs.is_bpffs(unmounted)
    assert unmounted.stat().st_mode & 0o777 == 0o700
    device = unmounted.stat().st_dev
    assert bpffs.mount() == unmounted
    assert unmounted.stat().st_dev == device  # not a second one on top


def test_a_directory_in_a_bpffs_will_do(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "below").mkdir()
    monkeypatch.setenv("LIBXDP_BPFFS", str(root / "below"))
    assert bpffs.find() == root / "below"


def test_the_default_place(unmounted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounting, "DEFAULT_MOUNT", unmounted)
    monkeypatch.delenv("LIBXDP_BPFFS")
    with pytest.raises(bpffs.BpffsMissing):
        bpffs.find()
    assert bpffs.mount() == unmounted
    monkeypatch.setenv("LIBXDP_BPFFS", "")
    assert bpffs.find() == unmounted


def test_automount_only_when_asked_for(unmounted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIBXDP_BPFFS_AUTOMOUNT", "0")
    with pytest.raises(bpffs.BpffsMissing):
        bpffs.find()
    monkeypatch.setenv("LIBXDP_BPFFS_AUTOMOUNT", "1")
    assert bpffs.find() == unmounted
    assert bpffs.is_bpffs(unmounted)


def test_no_place_to_mount_on(unmounted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIBXDP_BPFFS", str(unmounted / "nowhere"))
    with pytest.raises(KernelRefused) as caught:
        bpffs.mount()
    assert caught.value.detail.startswith("ENOENT")


# The lock


def held_elsewhere(path: Path) -> bool:
    """Whether another program finds the lock held: flock(1)."""
    return subprocess.run(["flock", "--nonblock", path, "true"]).returncode != 0


def test_the_lock_is_a_flock_on_the_directory_that_libxdp_locks(root: Path) -> None:
    with bpffs.lock() as path:
        assert path == root / "xdp"
        assert path.stat().st_mode & 0o777 == 0o700
        assert held_elsewhere(path)
    assert not held_elsewhere(path)


def test_the_link_that_ip_makes_there_is_named_with_what_mends_it(root: Path) -> None:
    (root / "tc").mkdir()
    (root / "xdp").symlink_to(f"{root}/tc/")  # what iproute2 makes before it loads an object
    for use in (bpffs.dispatch_dirs, lambda: bpffs.lock().__enter__()):
        with pytest.raises(KernelRefused, match="links are not followed") as caught:
            use()
        command = str(caught.value.todo).split("`")[1]
        assert command == f"rm '{root}/xdp'"
    subprocess.run(command, shell=True, check=True)
    with bpffs.lock() as locked:
        assert locked == root / "xdp"
    assert (root / "tc").is_dir()


def test_without_a_bpffs_the_fallback_is_locked(unmounted: Path, tmp_path: Path) -> None:
    with bpffs.lock() as path:
        assert path == tmp_path / "fallback"
        assert path.stat().st_mode & 0o777 == 0o700
        assert held_elsewhere(path)
    assert not held_elsewhere(path)


@pytest.fixture
def other(root: Path) -> Iterator[subprocess.Popen[str]]:
    """Another program that holds the lock until killed."""
    (root / "xdp").mkdir(mode=0o700)
    program = subprocess.Popen(
        ["flock", "--no-fork", root / "xdp", "sh", "-c", "echo held; exec sleep 60"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "held\n"
    yield program
    program.kill()
    program.wait()
    program.stdout.close()


def test_busy_names_the_holder(other: subprocess.Popen[str]) -> None:
    begun = time.monotonic()
    with (
        pytest.raises(Busy, match=rf"sleep \(pid {other.pid}\) is editing them") as caught,
        bpffs.lock(timeout=0.2),
    ):
        pass
    assert 0.2 <= time.monotonic() - begun < 2
    assert caught.value.todo
    with pytest.raises(Busy), bpffs.lock(timeout=0):
        pass


@pytest.mark.parametrize("timeout", [None, 30.0])
def test_waits_until_the_holder_is_killed(other: subprocess.Popen[str], timeout: float | None) -> None:
    killer = threading.Timer(0.2, other.kill)
    killer.start()
    with bpffs.lock(timeout=timeout) as path:
        assert other.wait(5) == -9
        assert held_elsewhere(path)
    killer.join()


def test_threads_exclude_each_other(root: Path) -> None:
    inside, most = 0, 0

    def edit(_: int) -> None:
        nonlocal inside, most
        with bpffs.lock(timeout=30):
            inside += 1
            most = max(most, inside)
            time.sleep(0.01)
            inside -= 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(edit, range(12)))
    assert (inside, most) == (0, 1)
    with bpffs.lock(), pytest.raises(Busy, match="another task of this program"), bpffs.lock(timeout=0):
        pass


def test_released_and_closed_after_an_error(root: Path) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(ZeroDivisionError), bpffs.lock():
        raise ZeroDivisionError
    with bpffs.lock(timeout=0):
        pass
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_children_do_not_inherit_it(root: Path) -> None:
    with bpffs.lock():
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        with bpffs.lock(timeout=0):
            pass
    finally:
        child.kill()
        child.wait()


def test_a_directory_made_anew_while_waiting_is_locked_itself(
    other: subprocess.Popen[str], root: Path
) -> None:
    locked: list[os.stat_result] = []

    def wait() -> None:
        with bpffs.lock(timeout=30) as path:
            locked.append(path.stat())
            assert held_elsewhere(path)

    waiter = threading.Thread(target=wait)
    waiter.start()
    time.sleep(0.2)
    (root / "xdp").rmdir()
    (root / "xdp").mkdir()
    now = (root / "xdp").stat()
    other.kill()
    waiter.join(10)
    assert [one.st_ino for one in locked] == [now.st_ino]


def test_libxdp_waits_for_us(root: Path) -> None:
    """`xdp-loader clean` takes libxdp's lock, so it can't end while we hold ours."""
    loader = shutil.which("xdp-loader")
    if loader is None:
        pytest.skip("xdp-loader is not installed")
    with bpffs.lock():
        program = subprocess.Popen(
            [loader, "clean"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        time.sleep(1)
        waiting = program.poll() is None
    output, _ = program.communicate(timeout=20)
    if "lockfile" in output:
        pytest.skip(f"another xdp-loader runs: {output.strip()}")
    assert waiting, output


def test_locking_takes_permission(root: Path) -> None:
    code = """
import os, sys
from xdpchain.errors import PermissionDenied
from xdpchain.sys import bpffs
os.setresuid(65534, 65534, 65534)
try:
    with bpffs.lock(): pass
except PermissionDenied as error:
    assert error.why and error.todo and error.detail.startswith("EACCES"), vars(error)
    sys.exit(error.exit_code)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(CORE), "LIBXDP_BPFFS": str(root)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == PermissionDenied.exit_code, done.stderr


# Pins


@pytest.fixture
def pin(root: Path) -> Callable[[Path], int]:
    """Pins a new program at a path; returns its id."""

    def make(path: Path) -> int:
        with bpf.prog_load(bpf.ProgType.XDP, PASS, name="pass") as prog:
            bpf.obj_pin(prog, str(path))
            return bpf.prog_info(prog).id

    return make


def alive(number: int) -> bool:
    try:
        bpf.prog_by_id(number).close()
    except OSError:
        return False
    return True


def test_pins_of_dispatchers_are_found_and_the_rest_ignored(root: Path, pin: Callable[[Path], int]) -> None:
    assert bpffs.dispatch_dirs() == ()
    made = [bpffs.make_dispatch_dir(*numbers) for numbers in ((12, 7), (3, 40), (3, 9))]
    for name in ("dispatch-1", "dispatch-1-2-3", "dispatch-0-1", "dispatch-x-2", "other"):
        (root / "xdp" / name).mkdir()
    pin(root / "xdp" / "prog-test-link-1-99")
    assert set(bpffs.dispatch_dirs()) == set(made)
    assert made[0] == bpffs.DispatchDir(root / "xdp" / "dispatch-12-7", 12, 7)
    assert made[0].path.stat().st_mode & 0o777 == 0o700
    pin(made[0].path / "prog1-prog")
    pin(made[0].path / "prog0-prog")
    assert bpffs.pins(made[0]) == ("prog0-prog", "prog1-prog")
    assert bpffs.pins(made[1]) == ()
    assert bpffs.pins(bpffs.DispatchDir(root / "xdp" / "dispatch-8-8", 8, 8)) == ()


def test_a_directory_left_behind_is_not_taken_over(root: Path, pin: Callable[[Path], int]) -> None:
    old = bpffs.make_dispatch_dir(5, 6)
    pin(old.path / "prog0-prog")
    with pytest.raises(NotOurs) as caught:
        bpffs.make_dispatch_dir(5, 6)
    assert "xdptui clean" in worded(caught.value.todo)
    assert bpffs.pins(old) == ("prog0-prog",)


def test_removing_frees_the_programs(root: Path, pin: Callable[[Path], int]) -> None:
    gone, stays = bpffs.make_dispatch_dir(2, 30), bpffs.make_dispatch_dir(2, 31)
    programs = [pin(gone.path / f"prog{slot}-prog") for slot in range(10)]
    kept = pin(stays.path / "prog0-prog")
    assert all(alive(number) for number in programs)
    assert bpffs.remove_dispatch_dir(gone) == tuple(f"prog{slot}-prog" for slot in range(10))
    deadline = time.monotonic() + 5  # the kernel frees programs a little later
    while any(alive(number) for number in programs):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert alive(kept)
    assert bpffs.dispatch_dirs() == (stays,)
    assert bpffs.remove_dispatch_dir(gone) == ()  # again: harmless


@pytest.mark.parametrize("strange", ["prog10-prog", "prog0-progs", "prog-prog", "keep", "prog0-prog/"])
def test_what_no_dispatcher_puts_there_stops_it_before_it_begins(
    root: Path, pin: Callable[[Path], int], strange: str
) -> None:
    directory = bpffs.make_dispatch_dir(2, 32)
    number = pin(directory.path / "prog1-prog")
    name = strange.rstrip("/")
    if name != strange:
        (directory.path / name).mkdir()
    else:
        pin(directory.path / name)
    with pytest.raises(NotOurs, match=name):
        bpffs.remove_dispatch_dir(directory)
    assert bpffs.pins(directory) == tuple(sorted(("prog1-prog", name)))
    assert alive(number)


def test_nothing_is_removed_through_a_symbolic_link(root: Path, pin: Callable[[Path], int]) -> None:
    elsewhere = root / "elsewhere"
    elsewhere.mkdir()
    pin(elsewhere / "prog0-prog")
    (root / "xdp").mkdir()
    (root / "xdp" / "dispatch-4-4").symlink_to(elsewhere)
    (directory,) = bpffs.dispatch_dirs()
    with pytest.raises(KernelRefused):
        bpffs.remove_dispatch_dir(directory)
    assert os.listdir(elsewhere) == ["prog0-prog"]


def test_nothing_is_removed_elsewhere(root: Path, tmp_path: Path) -> None:
    (root / "dispatch-1-2").mkdir()
    (tmp_path / "dispatch-1-2").mkdir()
    (root / "xdp").mkdir()
    (root / "xdp" / "other").mkdir()
    for path in (
        root / "dispatch-1-2",
        tmp_path / "dispatch-1-2",
        root / "xdp" / "other",
        root / "xdp" / "..",
    ):
        with pytest.raises(NotOurs):
            bpffs.remove_dispatch_dir(bpffs.DispatchDir(path, 1, 2))
        assert path.is_dir()


def test_nothing_is_removed_from_a_filesystem_mounted_on_top(root: Path) -> None:
    directory = bpffs.make_dispatch_dir(6, 6)
    subprocess.run(["mount", "-t", "tmpfs", "none", directory.path], check=True)
    try:
        (directory.path / "prog0-prog").touch()
        with pytest.raises(NotOurs, match="another filesystem"):
            bpffs.remove_dispatch_dir(directory)
        assert bpffs.pins(directory) == ("prog0-prog",)
    finally:
        subprocess.run(["umount", directory.path], check=True)


def test_no_descriptor_is_left_open(root: Path) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(5):
        directory = bpffs.make_dispatch_dir(6, 7)
        (directory.path / "strange").mkdir()
        with pytest.raises(NotOurs):
            bpffs.remove_dispatch_dir(directory)
        (directory.path / "strange").rmdir()
        bpffs.remove_dispatch_dir(directory)
        bpffs.remove_dispatch_dir(directory)
    assert sorted(os.listdir("/proc/self/fd")) == before
