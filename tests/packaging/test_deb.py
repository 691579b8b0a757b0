# SPDX-License-Identifier: Apache-2.0
"""The Debian package: what is in it; and, where hours are spent, its life in a clean Debian."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.packaging.conftest import make
from xdpchain.testing.playground import Playground

SUITE = "bookworm"
SOURCES = ("/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list")
"""Where this machine's apt finds Debian: the first that exists."""


@pytest.fixture(scope="session")
def deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deb")
    make("deb", folder)
    [file] = folder.glob("xdptui_*_all.deb")
    return file


def run(*words: str, cwd: Path | None = None) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=900, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_control_file_says_what_it_needs(deb: Path) -> None:
    def field(name: str) -> str:
        return run("dpkg-deb", "-f", str(deb), name).strip()

    assert field("Package") == "xdptui"
    assert field("Version") == deb.name.split("_")[1]
    assert field("Architecture") == "all"
    assert field("Depends") == "python3 (>= 3.11), libbpf1"
    assert field("Recommends").split(", ")[0] == "bpftool"
    assert int(field("Installed-Size")) > 5000


def test_everything_is_where_debian_looks_for_it(deb: Path) -> None:
    listed = [line.split(maxsplit=5) for line in run("dpkg-deb", "-c", str(deb)).splitlines()]
    modes = {words[5].removeprefix("."): words[0] for words in listed}
    for name in (
        "/usr/bin/xdptui",
        "/usr/lib/systemd/system/xdptui.service",
        "/usr/lib/systemd/system/xdptui-export.service",
        "/usr/lib/xdptui/xdpchain/bpf_objects/dispatcher_v2.o",
        "/usr/lib/xdptui/xdptui/theme.tcss",
        "/usr/share/bash-completion/completions/xdptui",
        "/usr/share/doc/xdptui/changelog.gz",
        "/usr/share/doc/xdptui/copyright",
        "/usr/share/doc/xdptui/docs/safety.md",
        "/usr/share/fish/vendor_completions.d/xdptui.fish",
        "/usr/share/man/man8/xdptui.8.gz",
        "/usr/share/zsh/vendor-completions/_xdptui",
    ):
        assert name in modes
    assert {words[1] for words in listed} == {"root/root"}
    assert [name for name, mode in modes.items() if mode[0] == "-" and "x" in mode] == ["/usr/bin/xdptui"]
    assert not [name for name, mode in modes.items() if "w" in mode[4:] or mode[0] not in "-d"]
    assert not [name for name in modes if name.endswith((".so", ".pyc")) or "setuptools" in name]


def test_the_licence_of_every_package_in_it_is_named(deb: Path, tmp_path: Path) -> None:
    run("dpkg-deb", "-x", str(deb), str(tmp_path))
    copyright = (tmp_path / "usr/share/doc/xdptui/copyright").read_text()
    for folder in (tmp_path / "usr/lib/xdptui").glob("*.dist-info"):
        assert f"/{folder.name}/" in copyright


def test_its_sums_are_those_of_its_files(deb: Path, tmp_path: Path) -> None:
    run("dpkg-deb", "-R", str(deb), str(tmp_path))
    run("md5sum", "--check", "--quiet", "DEBIAN/md5sums", cwd=tmp_path)
    for script in ("postinst", "prerm", "postrm"):
        run("sh", "-n", str(tmp_path / "DEBIAN" / script))


def test_its_program_runs(deb: Path, tmp_path: Path, samples: Path) -> None:
    run("dpkg-deb", "-x", str(deb), str(tmp_path))
    program = str(tmp_path / "usr/bin/xdptui")
    assert run(program, "--version").startswith("xdptui ")
    assert "XDP_DROP" in run(program, "verdicts", str(samples / "drop.o"))


class Tree:
    """A clean Debian in a folder, with the kernel's filesystems in it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __call__(self, *words: str, netns: str = "") -> str:
        before: Sequence[str] = ("nsenter", f"--net=/run/netns/{netns}") if netns else ()
        return run(*before, "chroot", str(self.root), "env", "LIBXDP_BPFFS=/sys/fs/bpf", *words)


@pytest.fixture
def tree(own_bpffs: Path, tmp_path: Path) -> Iterator[Tree]:
    folder = tmp_path / "tree"
    sources = next(file for file in SOURCES if os.path.exists(file))
    options = ("--mode=root", "--variant=minbase", "--include=python3,libbpf1")
    run("mmdebstrap", *options, SUITE, str(folder), sources)
    with ExitStack() as stack:
        for path, how in (
            ("proc", ("-t", "proc", "proc")),
            ("sys", ("-t", "sysfs", "sysfs")),
            ("sys/fs/bpf", ("--bind", str(own_bpffs))),
        ):
            run("mount", *how, str(folder / path))
            stack.callback(run, "umount", str(folder / path))
        yield Tree(folder)
    run("rm", "-rf", "--one-file-system", str(folder))


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_it_lives_in_a_clean_debian(tree: Tree, deb: Path, samples: Path, playground: Playground) -> None:
    """Installed, used, upgraded, removed: and nothing of it is left."""

    def status() -> Any:
        told = tree("xdptui", "status", playground.ifname, "--json", netns=playground.netns)
        return json.loads(told)["interfaces"][0]

    before = files(tree.root)
    for file in (deb, samples / "firewall.o"):
        run("cp", str(file), str(tree.root / "tmp"))
    tree("dpkg", "--install", f"/tmp/{deb.name}")
    assert tree("xdptui", "--version").startswith("xdptui ")
    assert list((tree.root / "usr/lib/xdptui/xdptui").glob("__pycache__/*.pyc"))

    tree("xdptui", "load", playground.ifname, "/tmp/firewall.o", netns=playground.netns)
    assert [slot["name"] for slot in status()["slots"]] == ["xdp_firewall"]
    tree("xdptui", "unload", playground.ifname, "--all", "--confirm", "3", netns=playground.netns)
    assert status()["programs"] == []
    end = time.monotonic() + 30
    while status()["armed"] and time.monotonic() < end:
        time.sleep(0.3)
    assert [slot["name"] for slot in status()["slots"]] == ["xdp_firewall"]
    tree("xdptui", "unload", playground.ifname, "--all", netns=playground.netns)

    tree("dpkg", "--install", f"/tmp/{deb.name}")
    tree("dpkg", "--purge", "xdptui")
    assert files(tree.root) - before == set()


def files(root: Path) -> set[str]:
    """All that a package might leave: not what dpkg writes down, and not what we brought."""
    found = run(
        "find",
        ".",
        "-xdev",
        "(",
        "-path",
        "./tmp",
        "-o",
        "-path",
        "./var",
        ")",
        "-prune",
        "-o",
        "-print",
        cwd=root,
    )
    return set(found.splitlines())
