# SPDX-License-Identifier: Apache-2.0
"""What the other tests rely on in a guest of the kernel lab."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(
        os.environ.get("XDPTUI_LAB") != "1", reason="checks the kernel lab's guest, and this is none"
    ),
]

BPFFS = Path("/sys/fs/bpf")
OBJECTS = next(iter(Path("/usr/lib").glob("*/bpf/xdpfilt_alw_all.o")), Path("missing")).parent
PROG_TYPE_TRACING, PROG_TYPE_EXT = 26, 28


def sh(*command: str | Path) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
    return result.stdout


def programs() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(sh("bpftool", "-j", "prog", "show"))
    return found


@pytest.fixture
def veth() -> Iterator[str]:
    """One end of a veth pair whose other end is up too."""
    unique = uuid.uuid4().hex[:6]
    near, far = f"lab{unique}a", f"lab{unique}b"
    sh("ip", "link", "add", near, "type", "veth", "peer", "name", far)
    try:
        sh("ip", "link", "set", near, "up")
        sh("ip", "link", "set", far, "up")
        yield near
    finally:
        sh("ip", "link", "delete", near)


def test_it_runs_the_kernel_that_was_asked_for() -> None:
    name = os.environ["XDPTUI_LAB_KERNEL"]
    if name[0].isdigit():
        assert platform.release().startswith(f"{name}.")
    else:
        assert platform.release() != ""


@pytest.mark.parametrize("kind", [PROG_TYPE_TRACING, PROG_TYPE_EXT])
def test_the_kernel_takes_the_program_types_that_a_hardened_one_refuses(kind: int) -> None:
    probe = ctypes.CDLL("libbpf.so.1").libbpf_probe_bpf_prog_type
    probe.argtypes, probe.restype = [ctypes.c_int, ctypes.c_void_p], ctypes.c_int
    assert probe(kind, None) == 1


def test_two_programs_run_on_one_interface_by_freplace(veth: str) -> None:
    for name in ("xdpfilt_alw_all.o", "xdpfilt_dny_all.o"):
        sh("xdp-loader", "load", "--mode", "native", veth, OBJECTS / name)
    status = sh("xdp-loader", "status", veth)
    assert "xdp_dispatcher" in status
    components = [line for line in status.splitlines() if line.lstrip().startswith("=>")]
    assert len(components) == 2, status
    ids = {int(word) for line in components for word in line.split() if word.isdigit()}
    extensions = {program["id"] for program in programs() if program["type"] == "ext"}
    assert len(ids & extensions) == 2, status

    sh("xdp-loader", "unload", veth, "--all")
    deadline = time.monotonic() + 30  # the kernel frees programs after a grace period
    while (left := ids & {program["id"] for program in programs()}) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left


def test_maps_can_be_pinned() -> None:
    pin = BPFFS / f"lab-{uuid.uuid4().hex}"
    sh(
        "bpftool",
        "map",
        "create",
        pin,
        "type",
        "array",
        "key",
        "4",
        "value",
        "4",
        "entries",
        "1",
        "name",
        "lab",
    )
    assert json.loads(sh("bpftool", "-j", "map", "show", "pinned", pin))["name"] == "lab"
    pin.unlink()


def test_network_namespaces_and_modules_are_to_be_had() -> None:
    name = f"lab-{uuid.uuid4().hex[:8]}"
    sh("ip", "netns", "add", name)
    try:
        sh("ip", "-n", name, "link", "set", "lo", "up")
        sh("ip", "netns", "exec", name, "ping", "-c", "1", "-W", "5", "127.0.0.1")
        sh("ip", "-n", name, "link", "add", "bond7", "type", "bond")
        sh("tc", "-n", name, "qdisc", "add", "dev", "lo", "clsact")
    finally:
        sh("ip", "netns", "delete", name)


def test_loopback_is_up() -> None:
    assert "UP" in json.loads(sh("ip", "-j", "link", "show", "lo"))[0]["flags"]


def test_events_can_be_traced() -> None:
    assert "xdp:xdp_exception" in Path("/sys/kernel/tracing/available_events").read_text().split()


@pytest.mark.parametrize("folder", ["/run", "/tmp", "/var/tmp", "/etc", str(Path(__file__).parent)])
def test_everything_is_writable_and_stays_in_the_guest(folder: str) -> None:
    file = Path(folder) / f"lab-{uuid.uuid4().hex}"
    file.write_text("gone with the guest")
    file.unlink()
    assert os.statvfs(folder).f_flag & os.ST_RDONLY == 0
    mounted = sh("findmnt", "--noheadings", "--output", "FSTYPE", "--target", folder).split()[-1]
    assert mounted in ("overlay", "tmpfs")


def test_the_output_folder_is_shared() -> None:
    folder = Path(os.environ["XDPTUI_LAB_OUT"])
    assert sh("findmnt", "--noheadings", "--output", "FSTYPE", "--target", folder).split() == ["9p"]
    file = folder / "written-in-the-guest"
    file.write_text(platform.release())
    assert file.read_text() == platform.release()
