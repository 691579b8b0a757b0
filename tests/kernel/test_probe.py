# SPDX-License-Identifier: Apache-2.0
"""How the default linkage is chosen: by trying, with a reason as text; and which version of libxdp's protocol
is emitted.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import why_no_freplace
from xdpchain.errors import KernelRefused
from xdpchain.linkage import probe
from xdpchain.linkage.dispatcher import installed
from xdpchain.model.chain import Linkage
from xdpchain.sys import bpf, bpffs, shipped


@pytest.fixture(autouse=True)
def anew(root: None) -> Iterator[None]:
    """Nothing is remembered from other tests, or for them."""
    probe.probe_freplace.cache_clear()
    installed.installed_version.cache_clear()
    yield
    probe.probe_freplace.cache_clear()
    installed.installed_version.cache_clear()


def test_it_is_what_this_kernel_does() -> None:
    reason = why_no_freplace()
    tried = probe.probe_freplace()
    assert tried.works is (reason is None), tried.reason
    if reason is not None:
        assert probe.default_linkage() == (Linkage.STATIC, tried.reason)
        assert "EXT" in tried.reason


def test_it_leaves_nothing() -> None:
    def programs() -> set[int]:
        return {
            prog_id
            for prog_id in bpf.ids(bpf.Command.PROG_GET_NEXT_ID)
            if _name(prog_id) in ("xdptui_probe", "xdp_dispatcher")
        }

    before = programs()
    probe.probe_freplace()
    assert programs() <= before


def _name(number: int) -> str:
    try:
        with bpf.prog_by_id(number) as program:
            return bpf.prog_info(program).name
    except bpf.BpfError:
        return ""


@pytest.mark.parametrize(
    ("number", "word"),
    [
        (errno.EPERM, "blocks EXT programs"),
        (524, "trampolines"),
        (errno.EINVAL, "what freplace needs"),
        (errno.ENOMEM, "ENOMEM"),
    ],
)
def test_reasons(monkeypatch: pytest.MonkeyPatch, number: int, word: str) -> None:
    def refuse(*_: object) -> None:
        raise bpf.BpfError(number, bpf.Command.PROG_LOAD, "")

    monkeypatch.setattr(probe, "_replace", refuse)
    linkage, reason = probe.default_linkage()
    assert linkage is Linkage.STATIC
    assert word in reason


def test_a_kernel_without_types(monkeypatch: pytest.MonkeyPatch) -> None:
    info = bpf.prog_info
    monkeypatch.setattr(bpf, "prog_info", lambda fd: info(fd)._replace(btf_id=0))
    assert "BTF" in probe.default_linkage()[1]


def test_not_even_a_dispatcher(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise KernelRefused("the dispatcher can't be loaded", "no memory")

    monkeypatch.setattr(probe, "load_dispatcher", refuse)
    assert "not even the dispatcher can be loaded: no memory" in probe.default_linkage()[1]


def test_without_a_bpffs_it_is_static(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(probe, "probe_freplace", lambda: probe.LinkageProbe(True, "it works"))
    monkeypatch.setenv("LIBXDP_BPFFS", str(tmp_path))
    linkage, reason = probe.default_linkage()
    assert linkage is Linkage.STATIC
    assert "--mount-bpffs" in reason
    monkeypatch.setattr(bpffs, "find", lambda: tmp_path)
    assert probe.default_linkage() == (Linkage.FREPLACE, "it works")
    monkeypatch.setenv("LIBXDP_SKIP_DISPATCHER", "1")
    linkage, why = probe.default_linkage()
    assert (linkage, "LIBXDP_SKIP_DISPATCHER" in why) == (Linkage.STATIC, True)


@pytest.mark.parametrize(("version", "emitted"), [(2, 2), (3, 3)])
def test_the_version_of_the_installed_libxdp(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: int, emitted: int
) -> None:
    """Read from libxdp's own dispatcher; here ours of that version is installed in its place."""
    (tmp_path / installed.OBJECT).write_bytes(shipped.read(f"dispatcher_v{version}"))
    monkeypatch.setenv("LIBXDP_OBJECT_PATH", str(tmp_path))
    assert installed.installed_version() == version
    assert installed.emitted_version() == emitted


def test_without_a_libxdp_or_with_an_old_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(installed, "_folders", lambda: iter([tmp_path]))
    assert (installed.installed_version(), installed.emitted_version()) == (None, 2)
    installed.installed_version.cache_clear()
    (tmp_path / installed.OBJECT).write_bytes(b"no object file")
    assert (installed.installed_version(), installed.emitted_version()) == (None, 2)
    monkeypatch.setattr(installed, "installed_version", lambda: 1)
    assert installed.emitted_version() == 2  # we emit no version 1
