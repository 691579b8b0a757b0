# SPDX-License-Identifier: Apache-2.0
"""The doctor on running programs: whose they are, and what is wrong with a libxdp chain."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.kernel.chains import chain_of, change, look_at
from tests.kernel.command_line import CommandLine
from tests.kernel.doctoring import RETURN_PASS, diagnosed, do
from tests.kernel.loaders import attach_pinned, pinned_program
from xdpchain.doctor import Level, Topic, examine
from xdpchain.linkage.dispatcher.installed import installed_version
from xdpchain.model.chain import Chain, Linkage
from xdpchain.sys import bpf, bpffs, netns
from xdpchain.sys.netlink import Netlink
from xdpchain.testing.playground import Playground
from xdptui.words.advice import worded

ROOT = Path(__file__).parents[2]
BPF_XDP = 37

HOLD = """
import os, sys
from xdpchain.sys import bpf, netns
from xdpchain.sys.netlink import Netlink
space, ifindex, how = sys.argv[1], int(sys.argv[2]), sys.argv[3]
program = bpf.prog_load(6, bytes.fromhex("b7000000020000009500000000000000"), name="theirs")
if how == "netlink":
    with Netlink(space) as netlink:
        netlink.attach_xdp(ifindex, program, "native", None)
else:
    link = netns.run(space, lambda: bpf.link_create(program, ifindex, 37))
print("ready", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def somebody(playground: Playground, how: str) -> Iterator[subprocess.Popen[str]]:
    """A process that attaches its own program to the interface, and holds it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "core")}
    words = [playground.netns, str(playground.ifindex), how]
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, *words],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        yield child
    finally:
        child.communicate()


# Somebody else's program


def test_a_program_of_another_process_attached_by_netlink(playground: Playground) -> None:
    with somebody(playground, "netlink") as child:
        finding = diagnosed(playground, "interface.program")
        assert finding.level is Level.WARN
        assert re.search(rf"\(theirs\) is not ours: it is held by \S+ \(pid {child.pid}\)", finding.what)
        assert "attached by netlink" in finding.what
        assert f"`systemctl status {child.pid}`" in worded(finding.fix)
        assert " off" not in worded(finding.fix), "it runs: nobody is told to detach it"


def test_adopting_it_is_the_fix(cli: CommandLine, samples: Path, redo: Callable[[str], None]) -> None:
    with pinned_program(samples / "firewall.o") as pin:
        attach_pinned(cli.playground, pin)
        finding = diagnosed(cli.playground, "interface.program")
        (command,) = re.findall(r"`(.*?)`", worded(finding.fix))
        redo(command.replace("OBJ", f"{samples / 'firewall.o'} --no-confirm"))
    assert diagnosed(cli.playground, "interface.program").level is Level.OK
    assert [slot.name for slot in look_at(cli.playground).chain or ()] == ["xdp_firewall"]


def test_a_program_that_a_link_holds(playground: Playground) -> None:
    with somebody(playground, "link") as child:
        finding = diagnosed(playground, "interface.program")
        assert f"(pid {child.pid})" in finding.what
        assert re.search(r"held by bpf_link \d+\)$", finding.what)
        assert f"systemctl status {child.pid}" in worded(finding.fix)
    assert diagnosed(playground, "interface.program").level is Level.OK, "the link went with the process"


def test_a_link_that_only_a_pin_holds(playground: Playground) -> None:
    pin = bpffs.find() / f"xdptui-test-{os.getpid()}-{secrets.token_hex(4)}"
    with bpf.prog_load(bpf.ProgType.XDP, RETURN_PASS, name="theirs") as program:
        link = netns.run(playground.netns, lambda: bpf.link_create(program, playground.ifindex, BPF_XDP))
        with link:
            bpf.obj_pin(link, str(pin))
    try:
        finding = diagnosed(playground, "interface.program")
        assert f"pinned at {pin}" in finding.what
        assert "Find its owner" in worded(finding.fix)
        assert "rm " not in worded(finding.fix), "it runs: nobody is told to remove what holds it"
    finally:
        pin.unlink()


def test_a_known_product_is_called_by_its_name(playground: Playground) -> None:
    with (
        bpf.prog_load(bpf.ProgType.XDP, RETURN_PASS, name="cil_xdp_entry") as program,
        Netlink(playground.netns) as netlink,
    ):
        netlink.attach_xdp(playground.ifindex, program, "native", None)
        finding = diagnosed(playground, "interface.program")
        assert "Cilium's" in finding.what
        assert "Helm" in worded(finding.fix)


# In the lab, where functions can be replaced


def freplace(samples: Path, version: int | None = None) -> Chain:
    chain = chain_of(samples, "firewall", "pass", linkage=Linkage.FREPLACE)
    return replace(chain, dispatcher_version=version)


@pytest.mark.vm
def test_a_kernel_that_takes_everything(root: None) -> None:
    levels = {f.check: f.level for f in examine() if f.topic is Topic.KERNEL}
    assert {levels[f"kernel.{name}"] for name in ("freplace", "fexit", "trampolines")} == {Level.OK}


@pytest.mark.vm
def test_a_dispatcher_that_the_installed_libxdp_does_not_speak(
    cli: CommandLine, samples: Path, redo: Callable[[str], None]
) -> None:
    installed = installed_version()
    if installed not in (2, 3):
        pytest.skip(f"the installed libxdp uses {installed}")
    change(cli.playground, freplace(samples, installed))
    assert diagnosed(cli.playground, "interface.libxdp").level is Level.OK
    change(cli.playground, Chain(linkage=Linkage.FREPLACE))
    change(cli.playground, freplace(samples, 5 - installed))
    finding = diagnosed(cli.playground, "interface.libxdp")
    assert finding.level is (Level.ERROR if installed == 2 else Level.WARN)
    redo(finding.fix)
    assert diagnosed(cli.playground, "interface.libxdp").level is Level.OK


@pytest.fixture
def redo(cli: CommandLine) -> Callable[[str], None]:
    """Follow a finding's recommendation, if it is one of our own commands."""

    def call(command: str) -> None:
        program, *words = shlex.split(command)
        assert program == "xdptui"
        assert words[-2:] == ["--netns", cli.playground.netns]
        result = cli(*words[:-2])
        assert result.code == 0, result.err

    return call


@pytest.mark.vm
def test_a_dispatcher_that_lost_its_pins(playground: Playground, samples: Path) -> None:
    change(playground, freplace(samples))
    assert diagnosed(playground, "interface.program").level is Level.OK
    for directory in bpffs.dispatch_dirs():
        if directory.ifindex == playground.ifindex:
            bpffs.remove_dispatch_dir(directory)
    finding = diagnosed(playground, "interface.program")
    assert (finding.level, "pins are gone" in finding.what) == (Level.ERROR, True)
    (command,) = re.findall(r"`(.*?)`", worded(finding.fix))
    assert f"link set dev {playground.ifname} xdpdrv off" in command
    do(command)
    assert diagnosed(playground, "interface.program").level is Level.OK
