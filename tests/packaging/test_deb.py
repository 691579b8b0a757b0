# SPDX-License-Identifier: Apache-2.0
"""The Debian package: its contents, and its program on this machine. `test_lives` installs it."""

from __future__ import annotations

from pathlib import Path

from tests.packaging.conftest import run
from tests.packaging.living import use
from xdpchain.testing.playground import Playground


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
        "/usr/share/doc/xdptui/contrib/ansible/roles/xdptui/tasks/main.yml",
        "/usr/share/doc/xdptui/docs/alerts.yml",
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


def test_its_program_runs(deb: Path, tmp_path: Path, samples: Path, playground: Playground) -> None:
    run("dpkg-deb", "-x", str(deb), str(tmp_path))
    program = str(tmp_path / "usr/bin/xdptui")
    assert run(program, "--version").startswith("xdptui ")
    assert "XDP_DROP" in run(program, "verdicts", str(samples / "drop.o"))
    use((program, "--netns", playground.netns), playground.ifname, str(samples))
