# SPDX-License-Identifier: Apache-2.0
"""A BPF filesystem that others may write to: nothing of theirs misdirects root."""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.command_line import CommandLine
from xdpchain.change.confirm.pinning import discard
from xdpchain.change.stale import clean
from xdpchain.doctor.storage import examine_storage
from xdpchain.errors import Busy, KernelRefused, XdpChainError
from xdpchain.linkage.array_pins import pin_arrays, remove_array_pins, stale_array_pins
from xdpchain.linkage.map_pins import pin_map, pinned_map
from xdpchain.observe.pending_pins import read_pending, unguarded
from xdpchain.sys import bpf, bpffs
from xdpchain.sys.pinned import find_pins
from xdpchain.sys.trusted_directory import Untrusted
from xdpchain.testing.playground import Playground

Stranger = Callable[..., subprocess.CompletedProcess[str]]
Mount = Callable[[str], Path]


def load(cli: CommandLine, name: str, *words: str) -> Any:
    return cli("load", cli.interface, cli.sample(name), "--linkage", "static", *words)


def array() -> bpf.Fd:
    return bpf.map_create(bpf.MapType.ARRAY, 4, 4, 1, name="array")


def free_id() -> int:
    """An unused program id."""
    return (1 << 30) + secrets.randbelow(1 << 29)


def do(command: str) -> None:
    subprocess.run(["sh", "-ec", command], check=True)


# A mount for root alone works normally


def test_on_a_private_mount_changes_work(mounted: Mount, cli: CommandLine) -> None:
    root = mounted("mode=0700")
    assert load(cli, "drop").code == 0
    assert load(cli, "tailcalls", "--confirm", "60").code == 0
    assert cli("confirm", cli.interface).code == 0
    assert {(path.stat().st_uid, path.stat().st_mode & 0o777) for path in root.rglob("xdp*")} == {(0, 0o700)}
    assert [f.check for f in examine_storage() if f.level.value not in ("ok", "info")] == []


# A mount for everybody, as from `mount -t bpf`


def test_on_a_mount_for_everybody_changes_are_refused_with_what_mends_it(
    mounted: Mount, cli: CommandLine
) -> None:
    root = mounted("")
    assert root.stat().st_mode & 0o7777 == 0o1777
    refused = load(cli, "drop")
    assert refused.code == 3
    assert "mode 1777" in refused.err
    assert not (root / "xdp").exists()
    assert cli("status", cli.interface).code == 0
    (finding,) = (f for f in examine_storage() if f.check == "bpffs.private")
    assert (finding.level.value, finding.fix in refused.err) == ("warn", True)
    do(finding.fix)
    assert load(cli, "drop").code == 0
    assert "bpffs.private" in [f.check for f in examine_storage() if f.level.value == "ok"]


def test_what_root_made_before_is_safe_below_a_sticky_mount(
    mounted: Mount, cli: CommandLine, stranger: Stranger
) -> None:
    root = mounted("mode=0700")
    assert load(cli, "drop").code == 0
    root.chmod(0o1777)
    assert stranger(f"mv {root}/xdp {root}/mine", check=False).returncode != 0
    assert load(cli, "pass").code == 0  # needs `xdp` alone
    assert cli("status", cli.interface).code == 0
    refused = load(cli, "drop", "--confirm", "60")  # would make `xdptui`
    assert (refused.code, "xdptui" in refused.err) == (3, True)


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777])
@pytest.mark.parametrize("name", ["", "xdp"])
def test_a_directory_that_others_may_write_to_is_refused(
    mounted: Mount, cli: CommandLine, mode: int, name: str
) -> None:
    root = mounted("mode=0700")
    (root / "xdp").mkdir(mode=0o700)
    (root / name).chmod(mode)
    if (name, mode) == ("", 0o1777):
        assert load(cli, "drop").code == 0  # the case above
        return
    refused = load(cli, "drop")
    if (name, mode) == ("xdp", 0o1777):
        # A static chain needs only the lock, which nobody can take away.
        assert refused.code == 0
        with pytest.raises(Untrusted):
            bpffs.make_dispatch_dir(1, 2)
        return
    assert refused.code == 3
    assert f"{mode:04o}" in refused.err
    assert cli("status", cli.interface).code == 0
    assert cli("clean").code == 3
    found = [f for f in examine_storage() if f.check == "bpffs.private"]
    for finding in found:
        do(finding.fix)
    assert load(cli, "drop").code == 0


@pytest.mark.parametrize("what", ["mkdir -m 0777 {}", "mkdir -m 0700 {}", "ln -s /etc {}", "ln -s {}x {}"])
def test_a_name_that_was_taken_early(mounted: Mount, cli: CommandLine, stranger: Stranger, what: str) -> None:
    root = mounted("")
    stranger(what.format(root / "xdp", root / "xdp"))
    before = sorted(os.listdir("/etc"))
    begun = time.monotonic()
    refused = load(cli, "drop")
    assert time.monotonic() - begun < 5
    assert refused.code in (1, 3)
    assert "xdp" in refused.err
    assert cli("status", cli.interface).code == 0
    assert cli("clean").code in (1, 3)
    assert sorted(os.listdir("/etc")) == before
    if what.startswith("mkdir"):
        for finding in [f for f in examine_storage() if f.check == "bpffs.private"]:
            do(finding.fix)
        assert load(cli, "drop").code == 0


# Links to what must be kept


@pytest.fixture
def victim(place: Path) -> Path:
    """A directory of root's whose files are named like pins."""
    folder = place / "victim"
    folder.mkdir(mode=0o755)
    for name in ("1", "22", "prog0-prog", "prog0-link", "record", "decision", "counters", "row1-prog5"):
        (folder / name).write_text("precious")
    return folder


def test_no_link_makes_root_remove_files_elsewhere(
    mounted: Mount, cli: CommandLine, stranger: Stranger, victim: Path
) -> None:
    """All names from which anything is removed, made by a stranger before root comes."""
    root = mounted("")
    number, inode = free_id(), os.stat("/proc/self/ns/net").st_ino
    stranger(
        f"cd {root}; mkdir -m 0755 xdp xdptui xdptui/armed xdptui/settled xdptui-trace\n"
        f"ln -s {victim} xdptui/{number}\n"
        f"ln -s {victim} xdptui/armed/{inode}-1; ln -s {victim} xdptui/armed/making-{inode}-1\n"
        f"ln -s {victim}/record xdptui/settled/{inode}-1\n"
        f"ln -s {victim} xdptui-trace/1-{inode}; ln -s {victim} xdp/dispatch-1-{number}\n"
        f"mkdir -m 0755 xdptui/{number + 1} xdp/dispatch-1-{number + 1}\n"
        f"ln -s {victim}/1 xdptui/{number + 1}/1\n"
        f"ln -s {victim}/prog0-prog xdp/dispatch-1-{number + 1}/prog0-prog\n"
    )
    before = {path.name: path.read_text() for path in victim.iterdir()}
    for command in (("clean",), ("clean", "--force"), ("trace", cli.interface, "off")):
        assert cli(*command).code != 0
    remove_array_pins(number)
    remove_array_pins(number + 1)
    discard(root / "xdptui/armed" / f"{inode}-1")
    for dispatcher in (number, number + 1):
        with pytest.raises(Untrusted):
            bpffs.remove_dispatch_dir(bpffs.dispatch_dir(1, dispatcher))
    assert (stale_array_pins(), unguarded(), read_pending(inode)) == ((), (), ((), {}))
    assert {path.name: path.read_text() for path in victim.iterdir()} == before


def test_links_within_roots_own_directories_are_not_followed(
    mounted: Mount, stranger: Stranger, victim: Path
) -> None:
    """The same links, left while the directories were open to others."""
    root = mounted("mode=0700")
    number = free_id()
    for name in ("xdp", "xdptui", "xdptui/armed", f"xdptui/{number + 1}"):
        (root / name).mkdir(mode=0o700)
    (root / "xdptui" / str(number)).symlink_to(victim)
    (root / "xdptui" / str(number + 1) / "1").symlink_to(victim / "1")
    (root / "xdptui/armed/4026531840-1").symlink_to(victim)
    (root / "xdp" / f"dispatch-1-{number}").symlink_to(victim)
    before = {path.name: path.read_text() for path in victim.iterdir()}
    clean(force=True)
    for array_dir in (number, number + 1):
        remove_array_pins(array_dir)
    assert unguarded() == ()
    discard(root / "xdptui/armed/4026531840-1")
    with pytest.raises(KernelRefused):
        bpffs.remove_dispatch_dir(bpffs.dispatch_dir(1, number))
    assert {path.name: path.read_text() for path in victim.iterdir()} == before


def test_nothing_is_pinned_through_a_link(mounted: Mount, place: Path) -> None:
    root = mounted("mode=0700")
    elsewhere = place / "elsewhere"
    elsewhere.mkdir()
    subprocess.run(["mount", "-t", "bpf", "-o", "mode=0700", "bpf", str(elsewhere)], check=True)
    try:
        (root / "xdptui").mkdir(mode=0o700)
        (root / "xdptui" / "7").symlink_to(elsewhere)
        (root / "m").symlink_to(elsewhere / "m")
        (root / "d").symlink_to(elsewhere)
        with array() as fd:
            with pytest.raises(KernelRefused):
                pin_arrays(7, {1: fd})
            pin_map(fd, str(root / "m"))  # taken for the pin of another slot
            with pytest.raises(KernelRefused):
                pin_map(fd, str(root / "d" / "m"))
            undo = pin_map(fd, str(root / "sub" / "map"))
            with pinned_map(str(root / "sub" / "map")) as again:
                assert bpf.map_info(again).id == bpf.map_info(fd).id
            undo()
            assert os.listdir(root / "sub") == []
            bpf.obj_pin(fd, str(elsewhere / "m"))
            with pytest.raises(bpf.BpfError):
                pinned_map(str(root / "m"))
        with pytest.raises(bpffs.BpffsMissing), array() as fd:
            pin_map(fd, str(place / "not-a-bpffs" / "map"))
        assert not (place / "not-a-bpffs").exists()
    finally:
        subprocess.run(["umount", str(elsewhere)], check=True)


def test_a_map_that_a_stranger_pinned_is_not_taken_over(mounted: Mount) -> None:
    root = mounted("")
    with array() as fd:
        bpf.obj_pin(fd, str(root / "shared"))
        with pinned_map(str(root / "shared")):
            pass  # root's own, protected by the sticky bit
        os.chown(root / "shared", 65534, 65534)
        with pytest.raises(Untrusted):
            pinned_map(str(root / "shared"))
        with pytest.raises(Untrusted):
            pin_map(fd, str(root / "another"))


def test_a_race_of_renames_does_not_lead_elsewhere(mounted: Mount, victim: Path) -> None:
    """While a pin directory is removed again and again, its parent is swapped for a link and back."""
    root = mounted("mode=0700")
    (root / "xdptui").mkdir(mode=0o700)
    number = free_id()
    swap = (
        "import os, sys\n"
        "a, b = sys.argv[1:]\n"
        "while True:\n"
        "    try: os.rename(a, b + 'd'); os.rename(b, a); os.rename(a, b); os.rename(b + 'd', a)\n"
        "    except OSError: pass\n"
    )
    (root / "link").symlink_to(victim)
    before = {path.name: path.read_text() for path in victim.iterdir()}
    attacker = subprocess.Popen(
        ["python3", "-c", swap, str(root / "xdptui" / str(number)), str(root / "link")]
    )
    try:
        end = time.monotonic() + 3
        with array() as fd:
            while time.monotonic() < end:
                try:
                    pin_arrays(number, {1: fd, 22: fd})
                except (XdpChainError, OSError):
                    pass
                try:
                    remove_array_pins(number)
                except OSError:
                    pass
    finally:
        attacker.kill()
        attacker.wait()
    assert {path.name: path.read_text() for path in victim.iterdir()} == before


# The lock


def test_who_holds_the_lock_is_named_and_waited_for_no_longer_than_said(
    mounted: Mount, cli: CommandLine
) -> None:
    root = mounted("mode=0755")
    (root / "xdp").mkdir(mode=0o755)
    holder = subprocess.Popen(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--",
         "flock", "--no-fork", str(root / "xdp"), "sh", "-c", "echo held; exec sleep 60"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        begun = time.monotonic()
        with pytest.raises(Busy, match=rf"sleep \(pid {holder.pid}, uid 65534\)") as caught, bpffs.lock(1.0):
            pass
        assert 1 <= time.monotonic() - begun < 3
        assert f"chmod 0700 {root}/xdp" in caught.value.todo
        assert caught.value.exit_code == 4
        assert cli("status", cli.interface).code == 0
    finally:
        holder.kill()
        holder.wait()
        assert holder.stdout is not None
        holder.stdout.close()
    (root / "xdp").chmod(0o700)
    assert load(cli, "drop").code == 0


# Looking


def test_looking_at_pins_is_bounded(mounted: Mount, stranger: Stranger, playground: Playground) -> None:
    root = mounted("")
    deep = "/".join(["d"] * 400)
    stranger(f"cd {root}; mkdir -p {deep} wide; cd wide; seq 1 6000 | xargs mkdir; ln -s / out; ln -s . loop")
    begun = time.monotonic()
    pins = find_pins()
    assert time.monotonic() - begun < 5
    assert not pins.complete
