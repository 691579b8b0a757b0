# SPDX-License-Identifier: Apache-2.0
"""What else is attached to an interface: made by tc and by hand, and shown by `status`."""

from __future__ import annotations

import ctypes
import errno
import mmap
import socket
import struct
import subprocess
from collections.abc import Iterator

import pytest

from tests.kernel.chains import look_at
from tests.kernel.command_line import CommandLine
from xdpchain.errors import Unsupported
from xdpchain.observe.beside import Companion, beside
from xdpchain.sys import bpf, netns
from xdpchain.sys.bpf.call import bpf_call
from xdpchain.testing.playground import Playground

AF_XDP, SOL_XDP = 44, 283
SCHED_CLS, PROG_ATTACH = 3, 8
TCX_PASS = bytes.fromhex("b7000000000000009500000000000000")


def tc(playground: Playground, *words: str) -> None:
    done = subprocess.run(
        ("ip", "netns", "exec", playground.netns, "tc", *words), capture_output=True, text=True, check=False
    )
    if "not found" in done.stderr:
        pytest.skip(f"tc {' '.join(words)}: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr


def found(playground: Playground, what: str) -> list[Companion]:
    seen = beside(look_at(playground))
    return [companion for companion in seen.found if companion.what == what]


def test_nothing_is_said_to_be_nothing_only_where_all_was_seen(
    cli: CommandLine, playground: Playground
) -> None:
    seen = beside(look_at(playground))
    assert seen.found == ()
    for line in seen.unseen:  # on older kernels, and then it says which kernel has it
        assert "this kernel has no" in line, line
    (entry,) = cli.ok("status", cli.interface).json["interfaces"]
    assert entry["beside"] == {"found": [], "unseen": list(seen.unseen)}
    (entry,) = (
        interface for interface in cli.ok("status").json["interfaces"] if interface["name"] == cli.interface
    )
    assert "beside" not in entry, "it is not asked for where many interfaces are listed"


def test_what_fails_otherwise_is_said_as_well(
    playground: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_netns: str | None) -> list[Companion]:
        raise OSError(errno.EINVAL, "refused")

    monkeypatch.setattr("xdpchain.observe.beside.list_xdp_sockets", fail)
    assert "AF_XDP sockets: Invalid argument" in beside(look_at(playground)).unseen


def test_a_reason_names_its_subject_once(playground: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_netns: str | None) -> list[Companion]:
        raise Unsupported("can't list AF_XDP sockets", "this kernel has no xsk_diag")

    monkeypatch.setattr("xdpchain.observe.beside.list_xdp_sockets", fail)
    assert "AF_XDP sockets: this kernel has no xsk_diag" in beside(look_at(playground)).unseen


def test_filters_of_clsact(cli: CommandLine, playground: Playground) -> None:
    dev = ("dev", playground.ifname)
    tc(playground, "qdisc", "add", *dev, "clsact")
    every = ("u32", "match", "u32", "0", "0")
    tc(playground, "filter", "add", *dev, "ingress", "pref", "7", *every, "flowid", "1:1")
    tc(playground, "filter", "add", *dev, "egress", "pref", "9", "bpf", "bytecode", "1,6 0 0 0,")
    filters = [(companion.at, companion.name, companion.text) for companion in found(playground, "tc filter")]
    assert {one for one in filters if one[0] == "ingress"} == {("ingress", "u32", "priority 7")}
    assert [one for one in filters if one[0] == "egress"] == [("egress", "bpf", "priority 9")]
    shown = cli("status", cli.interface, "-v").out
    assert "tc filter, ingress: u32, priority 7" in shown
    assert "tc filter" not in cli("status", cli.interface).out


def test_programs_of_tcx(playground: Playground) -> None:
    ifindex = playground.links[0].ifindex
    with bpf.prog_load(SCHED_CLS, TCX_PASS, name="beside_xdp") as program:
        attr = struct.pack("=IIII", ifindex, program.fileno(), bpf.AttachType.TCX_INGRESS, 0)
        try:
            netns.run(playground.netns, lambda: bpf_call(PROG_ATTACH, attr))  # type: ignore[arg-type]
        except bpf.BpfError as error:
            if error.errno != errno.EINVAL:
                raise
            assert any(line.startswith("tcx: this kernel") for line in beside(look_at(playground)).unseen)
            pytest.skip("this kernel has no tcx")
        number = bpf.prog_info(program).id
        assert found(playground, "tcx program") == [Companion("tcx program", "ingress", "beside_xdp", number)]


@pytest.fixture
def xdp_socket(playground: Playground) -> Iterator[int]:
    """An AF_XDP socket on queue 0, copying; its inode."""
    area = mmap.mmap(-1, 64 * 4096)
    start = ctypes.addressof(ctypes.c_char.from_buffer(area))
    try:
        made = netns.run(playground.netns, lambda: socket.socket(AF_XDP, socket.SOCK_RAW))
    except OSError as error:
        pytest.skip(f"this kernel has no AF_XDP ({error.strerror})")
    with made:
        made.setsockopt(SOL_XDP, 4, struct.pack("=QQIIII", start, 64 * 4096, 4096, 0, 0, 0))
        for ring in (5, 6, 2):
            made.setsockopt(SOL_XDP, ring, 64)
        address = struct.pack("=HHIII", AF_XDP, 0, playground.links[0].ifindex, 0, 0)
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.bind(made.fileno(), address, len(address)) == 0, ctypes.get_errno()
        yield int(made.fileno())


def test_sockets_of_af_xdp(playground: Playground, xdp_socket: int) -> None:
    seen = beside(look_at(playground))
    if any(line.startswith("AF_XDP sockets") for line in seen.unseen):
        pytest.skip(seen.unseen[0])
    (companion,) = (companion for companion in seen.found if companion.what == "AF_XDP socket")
    assert (companion.at, companion.text) == ("queue 0", "copies")
    assert "pid" in companion.name
