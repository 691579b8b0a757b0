# SPDX-License-Identifier: Apache-2.0
"""The doctor on the real kernel: it finds what is wrong, and its recommendations help."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import secrets
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import why_no_freplace
from tests.kernel.chains import chain_of, change, look_at
from tests.kernel.command_line import COMMAND, CommandLine
from tests.kernel.doctoring import RETURN_PASS, commands_of, diagnosed, do, heed, one
from xdpchain.change.stale import clean
from xdpchain.doctor import Level, Topic, examine
from xdpchain.errors import NotFound
from xdpchain.model.interface import Mode
from xdpchain.sys import bpf, bpffs, netns
from xdpchain.sys.netlink import HookBusy, MtuTooLarge, Netlink
from xdpchain.testing.playground import Playground

ROOT = Path(__file__).parents[2]


def has(playground: Playground, check: str) -> bool:
    found = examine(playground.netns, playground.ifname)
    return any(f.check == check and f.level is not Level.OK for f in found)


# The machine


def libbpf_knows(what: str, *numbers: int) -> bool:
    """The same question, answered by libbpf's own probes."""
    probe = getattr(ctypes.CDLL("libbpf.so.1"), f"libbpf_probe_bpf_{what}")
    probe.argtypes = [ctypes.c_int] * len(numbers) + [ctypes.c_void_p]
    return bool(probe(*numbers, None) == 1)


def test_what_the_kernel_can_do_agrees_with_other_judges(root: None) -> None:
    found = examine()
    levels = {f.check: f.level for f in found if f.topic is Topic.KERNEL}
    assert (levels["kernel.freplace"] is Level.OK) == (why_no_freplace() is None)
    assert (levels["kernel.loop"] is Level.OK) == libbpf_knows("helper", 6, 181)
    assert (levels["kernel.raw-tracepoint"] is Level.OK) == libbpf_knows("prog_type", 17)
    assert levels["kernel.xdp"] is Level.OK
    assert (levels["kernel.test-run"], levels["kernel.swap"]) == (Level.OK, Level.OK)
    jit = Path("/proc/sys/net/core/bpf_jit_enable").read_text().strip()
    assert (levels["kernel.jit"] is Level.OK) == (jit != "0")
    assert all(f.why for f in found if f.level is not Level.OK), "it says why each finding matters"
    assert all(f.fix for f in found if f.level in (Level.WARN, Level.ERROR)), "and what to do"


def test_it_leaves_nothing_behind(playground: Playground) -> None:
    def probes() -> set[int]:
        found = set()
        for prog_id in bpf.ids(bpf.Command.PROG_GET_NEXT_ID):
            with contextlib.suppress(bpf.BpfError), bpf.prog_by_id(prog_id) as program:
                if bpf.prog_info(program).name == "xdptui_probe":
                    found.add(prog_id)
        return found

    def descriptors() -> list[str]:
        return sorted(os.listdir("/proc/self/fd"))

    def left() -> tuple[set[int], set[str]]:
        return probes() - probes_before, set(netns.names()) - namespaces

    # Another check's probes may still be there, and go meanwhile: only new ones count.
    probes_before, namespaces, open_before = probes(), set(netns.names()), descriptors()
    hook = look_at(playground).identity
    examine(playground.netns, playground.ifname)
    assert descriptors() == open_before
    deadline = (
        time.monotonic() + 30
    )  # the kernel frees a namespace, and what is attached in it, at its leisure
    while any(left()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left() == (set(), set())
    assert look_at(playground).identity == hook


def test_an_interface_that_is_not_there(playground: Playground) -> None:
    with pytest.raises(NotFound):
        examine(playground.netns, "nosuch")
    with pytest.raises(NotFound):
        examine("no-such-namespace")


def test_without_permissions_it_says_which_are_missing(root: None) -> None:
    drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    done = in_process("doctor", "lo", "--json", wrap=drop)
    assert (done.returncode, done.stderr) == (1, "")
    found = json.loads(done.stdout)["findings"]
    missing = [f["what"].split()[0] for f in found if f["topic"] == "permissions"]
    assert missing == ["CAP_SYS_ADMIN", "CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"]
    assert all(f["level"] == "error" and "sudo" in f["fix"] for f in found if f["topic"] == "permissions")
    kernel = [f for f in found if f["topic"] == "kernel"]
    assert [(f["check"], f["level"]) for f in kernel] == [("kernel.xdp", "info")], "not called missing"


def test_without_one_permission_it_tries_the_rest(root: None) -> None:
    drop = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"]
    found = json.loads(in_process("doctor", "lo", "--json", wrap=drop).stdout)["findings"]
    levels = {f["check"]: f["level"] for f in found}
    assert levels["permissions"] == "error"
    assert "CAP_NET_ADMIN" in next(f["what"] for f in found if f["check"] == "permissions")
    assert levels["kernel.swap"] in ("info", "ok"), "what is not permitted is not called missing"
    assert levels["kernel.bind-map"] in ("info", "ok")


def in_process(*words: str, wrap: list[str], env: dict[str, str] | None = None) -> Any:
    """The command line in a separate process, under another command."""
    environment = {**(env or os.environ), "PYTHONPATH": f"{ROOT / 'core'}:{ROOT}"}
    return subprocess.run([*wrap, *COMMAND, *words], capture_output=True, text=True, env=environment)


def test_without_a_bpf_filesystem(root: None) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LIBXDP")}

    def alone(before: str) -> dict[str, Any]:
        empty = f'mount -t tmpfs tmpfs /sys/fs/bpf && {before} && exec "$@"'
        wrap = ["unshare", "--mount", "sh", "-c", empty, "sh"]
        done = in_process("doctor", "lo", "--json", wrap=wrap, env=environment)
        findings = json.loads(done.stdout)["findings"]
        found: dict[str, Any] = next(f for f in findings if f["check"] == "bpffs.mounted")
        return found

    missing = alone("true")
    assert (missing["level"], "/sys/fs/bpf" in missing["what"]) == ("warn", True)
    assert alone(missing["fix"])["level"] == "ok"


def test_a_bpf_filesystem_that_may_not_be_written_to(
    root: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["mount", "-t", "bpf", "-o", "ro", "bpf", str(tmp_path)], check=True)
    try:
        monkeypatch.setenv("LIBXDP_BPFFS", str(tmp_path))
        finding = one(examine(None, "lo"), "bpffs.writable")
        assert finding.level is Level.ERROR
        heed(finding)
        assert one(examine(None, "lo"), "bpffs.writable").level is Level.OK
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_stale_pins_are_named(playground: Playground) -> None:
    with bpffs.lock():
        made = bpffs.make_dispatch_dir(playground.ifindex, (1 << 30) + secrets.randbelow(1 << 29))
    try:
        found = [f for f in examine(playground.netns, playground.ifname) if f.check == "bpffs.stale-pins"]
        (finding,) = (f for f in found if made.path.name in f.what)
        assert (finding.level, finding.fix) == (Level.WARN, "xdptui clean")
        clean(ifindex=playground.ifindex)
        again = [f.what for f in examine(playground.netns, playground.ifname)]
        assert not any(made.path.name in what for what in again)
    finally:
        with contextlib.suppress(FileNotFoundError):
            made.path.rmdir()


# The interface


def ethtool(playground: Playground, *words: str) -> str:
    command = ["nsenter", f"--net=/run/netns/{playground.netns}", "ethtool", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_offloads_and_queues_are_those_that_ethtool_shows(playground: Playground) -> None:
    with Netlink(playground.netns) as netlink:
        ours = {o.name: (o.on, o.fixed) for o in netlink.offloads(playground.ifindex)}
        queues = netlink.channels(playground.ifindex)
        assert netlink.offloads(1) != (), "loopback has offloads, and no driver"
        assert netlink.channels(1) is None
        with pytest.raises(NotFound):
            netlink.offloads(12345)
    lines = re.findall(
        r"^\s*([\w-]+): (on|off)( \[fixed\])?", ethtool(playground, "-k", playground.ifname), re.M
    )
    words = {"rx-lro": "large-receive-offload", "rx-gro": "generic-receive-offload", "rx-vlan-hw-parse":
             "rx-vlan-offload", "rx-checksum": "rx-checksumming"}  # fmt: skip
    theirs = {name: (state == "on", bool(fixed)) for name, state, fixed in lines}
    compared = [name for name in ours if words.get(name, name) in theirs]
    assert len(compared) > 20
    assert {n: ours[n] for n in compared} == {n: theirs[words.get(n, n)] for n in compared}
    listed = [
        int(n) for n in re.findall(r"^(?:RX|TX):\s+(\d+)", ethtool(playground, "-l", playground.ifname), re.M)
    ]
    assert queues is not None
    assert [queues.max_rx, queues.max_tx, queues.rx, queues.tx] == listed


def test_queues_for_the_other_processors(playground: Playground) -> None:
    finding = diagnosed(playground, "interface.queues")
    if finding.level is Level.OK:
        pytest.skip(f"nothing to say with {os.cpu_count()} CPU")
    for command in commands_of(finding):
        do(command)
    assert diagnosed(playground, "interface.queues").level is Level.OK


def test_jumbo_frames_want_a_chain_that_takes_fragments(samples: Path) -> None:
    with Playground(mtu=9000) as playground:
        assert diagnosed(playground, "interface.mtu").level is Level.INFO
        change(playground, chain_of(samples, "frags"))
        fine = diagnosed(playground, "interface.mtu")
        assert (fine.level, "the whole chain has it" in fine.what) == (Level.OK, True)
    with Playground() as playground:
        change(playground, chain_of(samples, "frags", "pass"))
        assert diagnosed(playground, "interface.mtu").level is Level.OK
        do(f"ip -n {playground.netns} link set dev {playground.ifname} mtu 9000")
        finding = diagnosed(playground, "interface.mtu")
        assert (finding.level, "xdp_pass" in finding.what) == (Level.WARN, True), finding
        heed(finding)
        assert diagnosed(playground, "interface.mtu").level is Level.OK


def test_the_other_end_of_a_veth_in_the_same_namespace(playground: Playground, samples: Path) -> None:
    do(f"ip -n {playground.netns} link add vz0 mtu 9000 type veth peer name vz1 mtu 9000")
    found = examine(playground.netns, "vz0")
    finding = one(found, "interface.peer-mtu")
    assert "vz1 has MTU 9000" in finding.what
    with (
        bpf.prog_load(bpf.ProgType.XDP, RETURN_PASS, name="single") as program,
        Netlink(playground.netns) as netlink,
    ):
        ifindex = netlink.link("vz0").ifindex
        with pytest.raises(MtuTooLarge):
            netlink.attach_xdp(ifindex, program, "native", None)
        heed(finding)
        netlink.attach_xdp(ifindex, program, "native", None)
    target = one(examine(playground.netns, "vz1"), "interface.program")
    assert target.level is Level.OK


def test_a_veth_takes_redirects_once_its_peer_has_a_program() -> None:
    with Playground() as alone:
        assert has(alone, "interface.redirect-target")
    with Playground(peer_takes_xdp=True) as ready:
        assert not has(ready, "interface.redirect-target")


def test_generic_mode_where_native_would_do(playground: Playground, samples: Path) -> None:
    change(playground, chain_of(samples, "pass", mode=Mode.GENERIC))
    assert "veth has native XDP" in diagnosed(playground, "interface.mode").what


def test_a_program_on_a_device_above(playground: Playground) -> None:
    ip = f"ip -n {playground.netns} link"
    do(f"{ip} add link {playground.ifname} name above type macvlan")
    found = examine(playground.netns, playground.ifname)
    assert "above (macvlan) is on top of it" in one(found, "interface.uppers").what
    lower = one(examine(playground.netns, "above"), "interface.native")
    assert playground.ifname in lower.what
    with (
        bpf.prog_load(bpf.ProgType.XDP, RETURN_PASS, name="upper") as program,
        Netlink(playground.netns) as netlink,
    ):
        netlink.attach_xdp(netlink.link("above").ifindex, program, "generic", None)
        assert diagnosed(playground, "interface.upper-program").level is Level.ERROR
        with pytest.raises(HookBusy):
            netlink.attach_xdp(playground.ifindex, program, "native", None)


def test_an_interface_that_is_down_and_has_a_program(playground: Playground, samples: Path) -> None:
    change(playground, chain_of(samples, "pass"))
    do(f"ip -n {playground.netns} link set {playground.ifname} down")
    finding = diagnosed(playground, "interface.down")
    assert finding.level is Level.WARN
    assert "sees no packets" in finding.what


def made_port(playground: Playground, kind: str) -> None:
    ip = f"ip -n {playground.netns} link"
    do(f"{ip} add master0 type {kind}")
    do(f"{ip} set {playground.ifname} down")
    do(f"{ip} set {playground.ifname} master master0")


def test_a_port_of_a_bridge(playground: Playground) -> None:
    made_port(playground, "bridge")
    assert "port of master0 (bridge)" in diagnosed(playground, "interface.bridge").what


@pytest.mark.vm  # not for its program types: the lab's kernels have bonds, others may not
def test_a_port_of_a_bond(playground: Playground) -> None:
    made_port(playground, "bond")
    finding = diagnosed(playground, "interface.bond")
    assert "port of master0 (bond)" in finding.what
    ports = one(examine(playground.netns, "master0"), "interface.bond-ports")
    assert playground.ifname in ports.what
    with (
        bpf.prog_load(bpf.ProgType.XDP, RETURN_PASS, name="bonded") as program,
        Netlink(playground.netns) as netlink,
    ):
        netlink.attach_xdp(netlink.link("master0").ifindex, program, "native", None)
        assert diagnosed(playground, "interface.upper-program").level is Level.ERROR


# The command


def test_the_command(cli: CommandLine) -> None:
    result = cli("doctor", cli.interface, "--json")
    found = result.json["findings"]
    assert {f["topic"] for f in found} >= {"kernel", "settings", "interface", "tools"}
    assert {f["interface"] for f in found} == {None, cli.interface}
    assert result.json["counts"]["error"] == sum(f["level"] == "error" for f in found)
    assert result.code == (1 if result.json["counts"]["error"] else 0)
    text = cli("doctor", cli.interface).out
    assert f"\ninterface {cli.interface}:\n" in text
    everything = cli("doctor", "--json").json["findings"]
    assert "lo" not in {f["interface"] for f in everything}
    assert cli("doctor", "nosuch").code == 5


def test_an_error_is_in_the_exit_code(cli: CommandLine) -> None:
    do(f"ip -n {cli.playground.netns} link add link {cli.interface} name above type macvlan")
    with (
        bpf.prog_load(bpf.ProgType.XDP, RETURN_PASS, name="upper") as program,
        Netlink(cli.playground.netns) as netlink,
    ):
        netlink.attach_xdp(netlink.link("above").ifindex, program, "generic", None)
        assert cli("doctor", cli.interface).code == 1
