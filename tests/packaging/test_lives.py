# SPDX-License-Identifier: Apache-2.0
"""Installed, used and removed in clean Debians: the package, the wheel with pipx, and the single file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.packaging.conftest import ROOT, run
from tests.packaging.living import Tree, clean_debian, mounted, serve, use
from xdpchain.testing.playground import Playground

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

SPEC = """\
[[interface]]
name = "{interface}"
[[interface.slot]]
object = "/tmp/samples/firewall.o"
"""
PIPX = ("env", "PIP_NO_INDEX=1", "PIP_FIND_LINKS=/tmp/wheels", "pipx")
"""Without a network: from wheels copied there."""


@pytest.fixture(scope="session")
def debian(root: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Tree]]:
    made: dict[str, Tree] = {}

    def of(suite: str) -> Tree:
        if suite not in made:
            pipx = ("pipx",) if suite != "forky" else ()
            made[suite] = clean_debian(suite, tmp_path_factory.mktemp("debian") / suite, *pipx)
        return made[suite]

    yield of
    for tree in made.values():
        run("rm", "-rf", "--one-file-system", str(tree.root))


@pytest.fixture
def tree(
    suite: str,
    debian: Callable[[str], Tree],
    own_bpffs: Path,
    samples: Path,
    playground: Playground,
    tmp_path: Path,
) -> Iterator[Tree]:
    """With the samples and a spec in /tmp."""
    spec = tmp_path / "spec.toml"
    spec.write_text(SPEC.format(interface=playground.ifname))
    with mounted(debian(suite), own_bpffs) as there:
        there.bring(samples, spec)
        yield there


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the wheel needs, and what pipx itself fetches."""
    folder = tmp_path_factory.mktemp("brought") / "wheels"
    download = (
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--dest",
        str(folder),
        "--only-binary=:all:",
    )
    run(*download, "--no-deps", "--require-hashes", "-r", str(ROOT / "constraints.txt"))
    run(*download, "--no-deps", "pip", "setuptools", "wheel")
    return folder


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_the_package(tree: Tree, deb: Path, playground: Playground) -> None:
    """Installed, used, upgraded, removed: nothing of it is left."""
    before = files(tree.root)
    tree.bring(deb)
    tree("dpkg", "--install", f"/tmp/{deb.name}")
    assert tree("xdptui", "--version").startswith("xdptui ")
    assert list((tree.root / "usr/lib/xdptui/xdptui").glob("__pycache__/*.pyc"))
    program = (*tree.inside(playground.netns), "xdptui")
    use(program, playground.ifname, "/tmp/samples")
    serve(program, playground.ifname, "/tmp/spec.toml")
    tree("dpkg", "--install", f"/tmp/{deb.name}")
    tree("dpkg", "--purge", "xdptui")
    assert files(tree.root) - before == set()


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_the_wheel_by_pipx(tree: Tree, wheel: Path, wheels: Path, playground: Playground) -> None:
    tree.bring(wheel, wheels)
    tree(*PIPX, "install", f"/tmp/{wheel.name}")
    program = (*tree.inside(playground.netns), "/root/.local/bin/xdptui")
    assert run(*program, "--version").startswith("xdptui ")
    use(program, playground.ifname, "/tmp/samples")
    serve(program, playground.ifname, "/tmp/spec.toml")
    tree(*PIPX, "uninstall", "xdptui")
    assert not (tree.root / "root/.local/bin/xdptui").exists()


@pytest.mark.parametrize("suite", ["bookworm", "trixie", "forky"])
def test_the_one_file(tree: Tree, pyz: Path, playground: Playground) -> None:
    """With each Debian's own Python."""
    python = {"bookworm": "3.11", "trixie": "3.13", "forky": "3.14"}
    assert f" {python[tree.root.name]}." in tree("python3", "--version")
    tree.bring(pyz)
    program = (*tree.inside(playground.netns), "python3", f"/tmp/{pyz.name}")
    use(program, playground.ifname, "/tmp/samples")
    serve(program, playground.ifname, "/tmp/spec.toml")


def files(root: Path) -> set[str]:
    """Everything a package might leave: excludes dpkg's own records and what we copied in."""
    but = ("(", "-path", "./tmp", "-o", "-path", "./var", ")", "-prune")
    return set(run("find", ".", "-xdev", *but, "-o", "-print", cwd=root).splitlines())
