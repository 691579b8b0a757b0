# SPDX-License-Identifier: Apache-2.0
"""The lab's own machinery, as far as it can be tested without booting."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import stat
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from vmlab import (
    archive,
    cache,
    emulator,
    guest,
    image,
    initramfs,
    kernels,
    packages,
    report,
    run_command,
    xdp_tools,
)
from vmlab.errors import LabError

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # Nothing boots here, so it may be missing.
    monkeypatch.setattr(initramfs, "busybox", lambda: b"")


needs_apt = pytest.mark.skipif(not shutil.which("apt-get"), reason="there is no apt-get here")


# -- names and words --


def test_all_stands_for_every_kernel_and_none_is_named_twice() -> None:
    assert kernels.names_of(["6.12", "all", "suite:forky"]) == [
        "6.12",
        "5.10",
        "6.1",
        "newest",
        "suite:forky",
    ]


def test_a_word_that_names_no_kernel_is_refused_with_those_there_are() -> None:
    with pytest.raises(LabError, match=r"no kernel '6\.2': there are 5\.10, 6\.1"):
        kernels.names_of(["6.2"])


@pytest.mark.parametrize(
    ("words", "divided"),
    [
        (["6.1"], ([], ["6.1"], [])),
        (["6.1 6.12", "-k", "chain"], ([], ["6.1", "6.12"], ["-k", "chain"])),
        (["6.1", "--", "6.12"], ([], ["6.1"], ["6.12"])),
        (["--out", "x", "all", "-x"], (["--out", "x"], ["all"], ["-x"])),
        (["-k", "chain"], ([], [], ["-k", "chain"])),
        (["6.1", f"{__file__}::test_a"], ([], ["6.1"], [f"{__file__}::test_a"])),
        ([], ([], [], [])),
    ],
)
def test_kernels_end_where_arguments_for_pytest_begin(
    words: list[str], divided: tuple[list[str], ...]
) -> None:
    assert run_command.split(words) == divided


@pytest.mark.parametrize("words", [["6.2", "-x"], ["6.1", "6.2"]])
def test_a_mistyped_kernel_is_not_taken_for_a_test(words: list[str]) -> None:
    with pytest.raises(LabError, match=r"no kernel '6\.2'"):
        run_command.split(words)


def test_a_guest_spares_itself_what_the_selection_does_not_use() -> None:
    selection = run_command._Selection(by_name=False, tests=1, files=["tests/a.py"], idle_plugins=["syrupy"])
    assert selection.arguments(["-x"]) == ["-p", "no:syrupy", "-x", "tests/a.py"]
    assert selection.arguments(["--snapshot-details"]) == ["--snapshot-details", "tests/a.py"]


def test_guests_share_the_files_of_tests(tmp_path: Path) -> None:
    """Each test runs in exactly one of them; a guest that is too late for any runs none, which is
    no failure.
    """
    for name in ("a/test_one", "b/test_two", "b/test_three", "c/test_four"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.py").write_text("def test_a(): pass\ndef test_b(): pass\n")
    claims = tmp_path / "claims"
    claims.mkdir()
    (claims / "a-test_one.py").mkdir()
    (claims / "b-test_two.py").mkdir()
    environment = {**os.environ, "XDPTUI_LAB_CLAIMS": str(claims), "PYTHONPATH": str(HERE)}
    tallies = []
    for _ in range(2):
        command = [sys.executable, "-m", "pytest", "-q", "-p", "vmlab.claims", "--junitxml=results.xml", "."]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode in (0, 5), done.stdout
        tallies.append(report.read(tmp_path / "results.xml"))
    assert tallies == [report.Tally(4, 0, 0, 0), report.Tally(0, 0, 0, 0)]
    assert (claims / "c-test_four.py").is_dir()


@pytest.mark.parametrize(
    ("codes", "ran", "verdict"),
    [
        ([0], 1, (True, "")),
        ([0, 0], 1, (True, "")),
        ([0, 5], 1, (True, "")),
        ([0, 1], 1, (False, "pytest ended with 1: ")),
        ([0, 0], 0, (False, "no test ran: ")),
    ],
)
def test_all_guests_must_end_well_and_a_test_must_run(
    codes: list[int], ran: int, verdict: tuple[bool, str]
) -> None:
    endings = [run_command._Ending(code, report.Tally(ran, 0, 0, 0), "") for code in codes]
    good, words = run_command._verdict(endings)
    assert (good, words.rstrip(" |")) == (verdict[0], verdict[1].rstrip())


# -- the initramfs --


def test_an_archive_unpacks_to_what_went_in(tmp_path: Path) -> None:
    content = bytes(range(256)) * 3
    files = {
        "folder": (stat.S_IFDIR | 0o755, b""),
        "folder/odd": (stat.S_IFREG | 0o644, content[:-1]),
        "run": (stat.S_IFREG | 0o755, b"#!/bin/sh\n"),
        "empty": (stat.S_IFREG | 0o600, b""),
    }
    if not (found := shutil.which("cpio") or shutil.which("busybox")):
        pytest.skip("there is neither cpio nor busybox here to unpack it with")
    unpack = [found] if found.endswith("cpio") else [found, "cpio"]
    subprocess.run(
        [*unpack, "-i", "-d", "-m"],
        input=initramfs.cpio(files),
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    for path, (mode, expected) in files.items():
        there = tmp_path / path
        assert there.lstat().st_mode == mode
        if stat.S_ISREG(mode):
            assert there.read_bytes() == expected


def test_modules_load_after_what_they_need() -> None:
    dependencies = "a/ninep-virtio.ko.xz: a/ninep.ko.xz a/virtio.ko.xz\na/ninep.ko.xz: a/net.ko.xz\n"
    dependencies += "a/virtio.ko.xz:\na/net.ko.xz:\n"
    order = initramfs.load_order(dependencies, "kernel/fs/overlay.ko\n", ["ninep", "ninep_virtio", "overlay"])
    assert order == [f"a/{name}.ko.xz" for name in ("net", "ninep", "virtio", "ninep-virtio")]


def test_a_module_that_the_kernel_lacks_is_named() -> None:
    with pytest.raises(LabError, match="no module overlay"):
        initramfs.load_order("", "", ["overlay"])


def test_a_command_reaches_the_guest_word_by_word(tmp_path: Path) -> None:
    words = ["printf", r"[%s]\n", "two words", "a'b\"c", "$HOME", "", "*", "line\nbreak"]
    environment = {"GREETING": "it's; rm -rf /", "PATH": os.environ["PATH"]}
    script = initramfs.command_script(
        ["sh", "-c", 'pwd; echo "$GREETING"; "$@"', "sh", *words], environment, tmp_path
    )
    printed = subprocess.run(["sh"], input=script, capture_output=True, text=True, check=True).stdout
    assert printed == f"{tmp_path}\n{environment['GREETING']}\n" + "".join(
        f"[{word}]\n" for word in words[2:]
    )


# -- the kernel's image --


def bzimage(packed: bytes) -> bytes:
    setup = bytearray(5 * 512)
    setup[0x1F1] = 4
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", setup, 0x248, 100, len(packed))
    return bytes(setup) + b"\xcc" * 100 + packed + b"\xcc" * 50


def test_the_kernel_is_found_in_its_image() -> None:
    elf = b"\x7fELF" + bytes(range(200)) * 50
    packed = subprocess.run(["xz", "-c"], input=elf, capture_output=True, check=True).stdout
    assert image.plain_kernel(bzimage(packed + struct.pack("<I", len(elf)))) == elf


@pytest.mark.parametrize(
    "odd", [b"", b"MZ" * 700, bzimage(b"unknown packing"), bzimage(b"\xfd7zXZ\x00cut off")]
)
def test_an_image_of_another_kind_is_left_as_it_is(odd: bytes) -> None:
    assert image.plain_kernel(odd) is None


# -- the cache --


def test_an_item_counts_only_when_it_is_complete() -> None:
    item = cache.Item("thing")
    item.clear()
    (item.tree / "file").touch()
    assert item.description() is None
    item.publish({"version": "1"})
    assert item.description() == {"version": "1"}
    item.clear()
    assert item.description() is None
    assert not list(item.tree.iterdir())


def test_unpacked_tools_are_used_with_their_own_dispatcher() -> None:
    item = cache.Item("xdp-tools-sid")
    item.clear()
    for path in ("usr/sbin/xdp-loader", "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"):
        (item.tree / path).parent.mkdir(parents=True)
        (item.tree / path).touch()
    item.publish({"version": "1.6.3-1"})
    tools = xdp_tools.fetch("sid")
    assert tools.version == "1.6.3-1"
    assert tools.environment == {
        "XDPTUI_XDP_TOOLS": str(item.tree),
        "LIBXDP_OBJECT_PATH": str(item.tree / "usr/lib/x86_64-linux-gnu/bpf"),
    }


def test_a_damaged_description_is_none(tmp_path: Path) -> None:
    item = cache.Item("thing")
    item.clear()
    for damage in ("", "{", "[]"):
        (item.folder / "complete.json").write_text(damage)
        assert item.description() is None


def test_two_processes_do_not_fetch_the_same(capfd: pytest.CaptureFixture[str]) -> None:
    lock = cache.root() / "thing.lock"
    code = "import sys, time; sys.path.insert(0, sys.argv[1])\nfrom vmlab import cache\n"
    code += "with cache.Item('thing').lock('it tries'):\n print('has it', flush=True); time.sleep(60)"
    other = subprocess.Popen([sys.executable, "-c", code, HERE], stdout=subprocess.PIPE, text=True)
    assert other.stdout
    try:
        assert other.stdout.readline() == "has it\n"
        second = subprocess.Popen([sys.executable, "-c", code, HERE], stdout=subprocess.PIPE, text=True)
        assert second.stdout
        try:
            time.sleep(0.5)
            other.kill()  # a lock does not outlive its holder
            assert second.stdout.readline() == "has it\n"
        finally:
            second.kill()
            second.communicate()
    finally:
        other.kill()
        other.communicate()
    assert lock.exists()
    assert "waiting for another process: it tries" in capfd.readouterr().err


# -- the archive --


@needs_apt
def test_an_archive_that_is_not_to_be_had_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Nothing listens on port 9 of the loopback interface.
    monkeypatch.setenv("XDPTUI_DEBIAN_MIRROR", "http://127.0.0.1:9/debian/")
    monkeypatch.setattr(archive, "_KEYRINGS", (tmp_path,))
    with pytest.raises(LabError, match=r"(?s)no kernel of suite forky to be had: .*127\.0\.0\.1"):
        kernels.fetch("suite:forky")
    assert kernels._cached("suite:forky", "forky") is None


@needs_apt
def test_the_mirror_is_the_one_of_apts_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("XDPTUI_DEBIAN_MIRROR", raising=False)
    sources = tmp_path / "sources.list"
    configuration = tmp_path / "apt.conf"
    configuration.write_text(f'Dir::Etc::sourcelist "{sources}"; Dir::Etc::sourceparts "{tmp_path}/none";\n')
    monkeypatch.setenv("APT_CONFIG", str(configuration))
    sources.write_text(
        "deb http://127.0.0.1/other-security now main\ndeb http://127.0.0.1/own/debian/ now main\n"
    )
    assert archive.mirror() == "http://127.0.0.1/own/debian"
    sources.write_text("")
    with pytest.raises(LabError, match="name no Debian archive"):
        archive.mirror()


# -- system packages --


def test_a_missing_package_is_named_to_who_can_not_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "_NEEDED", (("kmod", lambda: False), ("xz-utils", lambda: True)))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert packages.missing() == ["kmod"]
    with pytest.raises(LabError, match="missing: kmod\\nInstall"):
        packages.require()


# -- results --


def test_results_are_added_up(tmp_path: Path) -> None:
    results = tmp_path / "junit.xml"
    suite = '<testsuite tests="{}" failures="{}" errors="{}" skipped="{}"/>'
    results.write_text(f"<testsuites>{suite.format(5, 1, 1, 1)}{suite.format(3, 0, 0, 3)}</testsuites>")
    tally = report.read(results)
    assert tally == report.Tally(passed=2, failed=1, errors=1, skipped=4)
    assert tally.ran == 4
    assert str(tally) == "1 failed, 1 errors, 2 passed, 4 skipped"


def test_results_that_are_missing_or_cut_off_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no test results"):
        report.read(tmp_path / "missing.xml")
    (tmp_path / "cut.xml").write_text("<testsuites><testsuite")
    with pytest.raises(LabError, match="no test results"):
        report.read(tmp_path / "cut.xml")


# -- guests that fail: the emulator is a script that fails in the way to be tested --


@pytest.fixture
def kernel(tmp_path: Path) -> kernels.Kernel:
    modules = tmp_path / "modules" / "1.2.3"
    modules.mkdir(parents=True)
    names = ("virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay")
    (modules / "modules.dep").write_text("")
    (modules / "modules.builtin").write_text("".join(f"kernel/{name}.ko\n" for name in names))
    return kernels.Kernel("6.1", "bookworm", "1.2.3", tmp_path / "vmlinux", tmp_path / "modules")


def fake_emulator(folder: Path, behaviour: str) -> emulator.Emulator:
    """A program that gets QEMU's options; `$status`, `$console`, `$output` are the files behind its ports."""
    script = folder / "qemu"
    script.write_text(
        "#!/bin/bash\n"
        "for word; do case $word in *id=*,path=*)\n"
        '    w=${word#*id=}; printf -v "${w%%,*}" %s "${w#*path=}";;\n'
        "esac; done\n"
        f"echo boot >>{shlex.quote(str(folder / 'boots'))}\n{behaviour}\n"
    )
    script.chmod(0o755)
    return emulator.Emulator(script, major=10)


def boots(folder: Path) -> int:
    return (folder / "boots").read_text().count("boot")


def test_output_and_exit_code_come_from_the_guest(
    kernel: kernels.Kernel, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    qemu = fake_emulator(
        tmp_path, 'echo started >"$status"; echo "from the guest" >"$output"; echo exit 3 >>"$status"'
    )
    outcome = guest.Guest(kernel, qemu).run(["true"])
    assert outcome.exit_code == 3
    assert capfd.readouterr().out == "from the guest\n"
    assert boots(tmp_path) == 1


def test_a_guest_that_never_reached_its_command_boots_again(
    kernel: kernels.Kernel, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    second = 'if [ $(wc -l <"${0%/*}/boots") = 2 ]; then printf "started\\nexit 0\\n" >"$status"; fi'
    qemu = fake_emulator(tmp_path, f'echo "Kernel panic" >"$console"; {second}')
    assert guest.Guest(kernel, qemu).run(["true"]).exit_code == 0
    assert boots(tmp_path) == 2
    said = capfd.readouterr().err
    assert "Kernel panic" in said
    assert "booting again" in said


def test_a_guest_that_never_gets_there_is_given_up(kernel: kernels.Kernel, tmp_path: Path) -> None:
    qemu = fake_emulator(tmp_path, 'echo "Kernel panic" >"$console"')
    with pytest.raises(LabError, match=r"(?s)died before it reached the command.*Kernel panic"):
        guest.Guest(kernel, qemu).run(["true"])
    assert boots(tmp_path) == 3


def test_a_guest_that_died_during_the_command_does_not_run_it_again(
    kernel: kernels.Kernel, tmp_path: Path
) -> None:
    qemu = fake_emulator(tmp_path, 'echo started >"$status"; echo "Oops: 0000" >"$console"')
    with pytest.raises(LabError, match=r"(?s)died while the command ran.*Oops: 0000"):
        guest.Guest(kernel, qemu).run(["true"])
    assert boots(tmp_path) == 1


def test_a_guest_that_hangs_is_ended(kernel: kernels.Kernel, tmp_path: Path) -> None:
    qemu = fake_emulator(
        tmp_path, 'echo $$ >"${0%/*}/pid"; echo started >"$status"; echo working >"$console"; exec sleep 60'
    )
    with pytest.raises(LabError, match=r"(?s)ran out of its 1 s.*working"):
        guest.Guest(kernel, qemu, timeout=1.0).run(["true"])
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


def test_a_guest_that_hangs_before_its_command_boots_again(kernel: kernels.Kernel, tmp_path: Path) -> None:
    qemu = fake_emulator(tmp_path, 'echo booting >"$console"; exec sleep 60')
    with pytest.raises(LabError, match="did not reach the command"):
        guest.Guest(kernel, qemu, boot_timeout=0.3).run(["true"])
    assert boots(tmp_path) == 3


def test_a_guest_that_hangs_ends_with_the_others(kernel: kernels.Kernel, tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    hanging = fake_emulator(
        tmp_path / "good", 'echo $$ >"${0%/*}/pid"; echo started >"$status"; exec sleep 60'
    )
    refusing = fake_emulator(tmp_path, "sleep 1; echo 'invalid option' >&2; exit 1")
    guests = [guest.Guest(kernel, refusing), guest.Guest(kernel, hanging)]
    begun = time.monotonic()
    with pytest.raises(LabError, match="does not start"):
        run_command._run_all(guests, Path(sys.executable), tmp_path, [])
    assert time.monotonic() - begun < 30
    assert not Path(f"/proc/{(tmp_path / 'good' / 'pid').read_text().strip()}").exists()


def test_an_emulator_that_refuses_to_start_is_not_asked_again(kernel: kernels.Kernel, tmp_path: Path) -> None:
    qemu = fake_emulator(tmp_path, "echo 'invalid option' >&2; exit 1")
    with pytest.raises(LabError, match=r"does not start.*invalid option"):
        guest.Guest(kernel, qemu).run(["true"])
    assert boots(tmp_path) == 1


def test_no_emulator_outlives_a_lab_that_was_killed(kernel: kernels.Kernel, tmp_path: Path) -> None:
    qemu = fake_emulator(
        tmp_path, 'echo $$ >"${0%/*}/pid.new"; mv "${0%/*}/pid.new" "${0%/*}/pid"; exec sleep 60'
    )
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path, PosixPath\n"
        "from vmlab.kernels import Kernel\n"
        "from vmlab.emulator import Emulator\n"
        "from vmlab.guest import Guest\n"
        "from vmlab import initramfs; initramfs.busybox = lambda: b''\n"
        f"Guest({kernel!r}, {qemu!r}).run(['true'])"
    )
    # What the killed one leaves behind is removed with the test's own files.
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    lab = subprocess.Popen([sys.executable, "-c", code, HERE], stdout=subprocess.PIPE, env=environment)
    try:
        pid_file = tmp_path / "pid"
        deadline = time.monotonic() + 60
        while not pid_file.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process = Path(f"/proc/{pid_file.read_text().strip()}")
        assert process.exists()
        lab.send_signal(signal.SIGKILL)
        lab.wait()
        while process.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not process.exists()
    finally:
        lab.kill()
        lab.communicate()
