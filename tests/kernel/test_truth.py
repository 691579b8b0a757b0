# SPDX-License-Identifier: Apache-2.0
"""No false statements: about what can't be read, whose a dispatcher is, why a load was refused, and on a
machine without /sys.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.chains import chain_of, change, look_at
from tests.kernel.command_line import COMMAND, CommandLine
from tests.kernel.doctoring import diagnosed
from tests.kernel.test_tailcall import INCLUDE
from tests.objects.compile import compile_text
from xdpchain.advice import Do
from xdpchain.doctor import Level
from xdpchain.linkage.dispatcher.config import DispatcherConfig, SlotConfig
from xdpchain.linkage.dispatcher.emit import function_ids, load_dispatcher
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.running import Owner
from xdpchain.model.slot import Slot
from xdpchain.objects.components import load_component
from xdpchain.sys import bpf, bpffs, netns
from xdpchain.sys.cpus import possible_cpus
from xdpchain.sys.libbpf import Object
from xdpchain.sys.netlink import Netlink
from xdpchain.testing.playground import Playground
from xdptui.words.advice import worded

ROOT = Path(__file__).parents[2]
BPF_XDP = 37


def built(tmp_path: Path, program: str, before: str = "") -> str:
    source = f"#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n{before}\n{program}\n"
    path = tmp_path / f"built{len(os.listdir(tmp_path))}.o"
    path.write_bytes(compile_text(source + 'char _license[] SEC("license") = "GPL";\n', *INCLUDE))
    return str(path)


# What can't be read


def restricted(playground: Playground, *words: str) -> Any:
    """The command line as root without CAP_SYS_ADMIN, in the namespace."""
    command = [
        "nsenter",
        f"--net=/run/netns/{playground.netns}",
        "setpriv",
        "--bounding-set=-sys_admin",
        "--",
    ]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'core'}:{ROOT}"}
    return subprocess.run([*command, *COMMAND, *words], capture_output=True, text=True, env=environment)


@pytest.mark.parametrize("linkage", [Linkage.STATIC, Linkage.TAILCALL])
def test_without_cap_sys_admin_our_chain_is_unknown(
    playground: Playground, samples: Path, linkage: Linkage
) -> None:
    change(playground, chain_of(samples, "firewall", "monitor", linkage=linkage))
    (found,) = json.loads(restricted(playground, "status", playground.ifname, "--json").stdout)["interfaces"]
    assert (found["owner"], found["editable"], found["slots"]) == ("unknown", False, [])
    assert "CAP_SYS_ADMIN" in found["note"]
    assert "CAP_SYS_ADMIN" in found["todo"], "it is root already: sudo would not help"
    assert "sudo" not in found["todo"]
    examined = json.loads(restricted(playground, "doctor", playground.ifname, "--json").stdout)["findings"]
    about = [one for one in examined if one["check"] == "interface.program"]
    assert [one["level"] for one in about] == ["warn"]
    for one in examined:
        if one["interface"]:
            assert not any(word in one["fix"] for word in ("xdp off", "xdpdrv off", "detach", "unload"))
    for words in (
        ("load", playground.ifname, str(samples / "pass.o")),
        ("unload", playground.ifname, "--all"),
    ):
        assert restricted(playground, *words).returncode == 3
    assert len(look_at(playground).chain or ()) == 2


@pytest.mark.parametrize("linkage", [Linkage.STATIC, Linkage.TAILCALL])
def test_a_component_called_like_a_dispatcher(
    playground: Playground, tmp_path: Path, samples: Path, linkage: Linkage
) -> None:
    """The manifest takes precedence over the name."""
    path = built(tmp_path, 'SEC("xdp") int xdp_dispatcher(struct xdp_md *c) { return XDP_PASS; }')
    chain = (
        Chain(linkage=linkage)
        .add(Slot.of(load_component(path), 1))
        .add(Slot.of(load_component(str(samples / "monitor.o")), 2))
    )
    running = change(playground, chain)
    assert (running.owner, running.linkage, len(running.chain or ())) == (Owner.XDPTUI, linkage, 2)
    assert look_at(playground).identity == running.identity
    assert change(playground, Chain(linkage=linkage)).hooks == ()


def test_a_single_program_called_like_a_dispatcher(
    playground: Playground, tmp_path: Path, cli: CommandLine
) -> None:
    """It has none of a dispatcher's functions, so it is somebody else's program, which may be adopted."""
    path = Path(built(tmp_path, 'SEC("xdp") int xdp_dispatcher(struct xdp_md *c) { return XDP_PASS; }'))
    with Object(path.read_bytes()) as opened, Netlink(playground.netns) as netlink:
        opened.load()
        netlink.attach_xdp(playground.ifindex, next(opened.programs()).fd, "native", None)
    running = look_at(playground)
    assert (running.owner, running.linkage, running.dispatcher) == (Owner.FOREIGN, None, None)
    assert "not a dispatcher" in running.note
    cli.ok("adopt", playground.ifname, str(path), "--linkage", "static", "--no-confirm", "--even-if-ssh-dies")
    assert [slot.name for slot in look_at(playground).chain or ()] == ["xdp_dispatcher"]


# Whose a dispatcher is


@contextmanager
def dispatcher_by_link(playground: Playground, count: int, *, fifty: bool) -> Iterator[bpf.Fd]:
    """A dispatcher attached by bpf_link, held by this process: like bpfman's, with priority 50 in all ten
    slots, or another tool's.
    """
    block = bytearray(DispatcherConfig(2, tuple(SlotConfig(4, 10 + i) for i in range(count))).encode())
    if fifty:
        for at in range(44, 84, 4):
            block[at : at + 4] = (50).to_bytes(4, "little")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DispatcherConfig, "encode", lambda self: bytes(block))
        dispatcher = load_dispatcher(DispatcherConfig(2, ()))
    with dispatcher:
        link = netns.run(playground.netns, lambda: bpf.link_create(dispatcher, playground.ifindex, BPF_XDP))
        with link:
            yield dispatcher


@pytest.mark.parametrize("count", range(1, 11))
def test_bpfmans_chains_without_their_pins(playground: Playground, count: int) -> None:
    with dispatcher_by_link(playground, count, fifty=True):
        running = look_at(playground)
        assert (running.owner, running.editable) == (Owner.BPFMAN, False)
        assert running.hook is not None
        assert running.hook.link_id is not None
        finding = diagnosed(playground, "interface.program")
    assert finding.level is Level.WARN
    assert "bpfman's chain" in finding.what
    assert f"bpf_link {running.hook.link_id}" in finding.what
    assert " off" not in worded(finding.fix)


def test_a_dispatcher_that_a_link_holds_has_an_owner(playground: Playground, cli: CommandLine) -> None:
    """That its pins are nowhere in sight does not make it abandoned."""
    pin = bpffs.find() / f"xdptui-test-{os.getpid()}"
    with dispatcher_by_link(playground, 2, fifty=False):
        running = look_at(playground)
        assert (running.owner, running.editable) == (Owner.XDPTUI, False), "it bears our mark"
        assert "so it has an owner" in running.note
        (link,) = {hook.link_id for hook in running.hooks}
        assert link is not None
        finding = diagnosed(playground, "interface.program")
        told = f"{finding.what} {worded(finding.fix)} {cli.ok('status').out}"
        assert "can't be edited" in finding.what
        assert not any(word in told for word in (" off", "detach", "--all"))
        with bpf.link_by_id(link) as held:
            bpf.obj_pin(held, str(pin))
        try:
            assert f"pinned at {pin}" in diagnosed(playground, "interface.program").what
        finally:
            pin.unlink()


def test_a_dispatcher_behind_which_nothing_runs_may_go(playground: Playground) -> None:
    """Attached by netlink, no component: only then is the command to remove it shown, and it works."""
    from tests.kernel.doctoring import heed
    from xdpchain.sys.netlink import Netlink

    config = DispatcherConfig(2, (SlotConfig(4, 10), SlotConfig(4, 20)))
    with load_dispatcher(config) as dispatcher, Netlink(playground.netns) as netlink:
        netlink.attach_xdp(playground.ifindex, dispatcher, "native", None)
    running = look_at(playground)
    assert not isinstance(running.todo, str)
    assert running.todo.do is Do.DETACH_IDLE
    heed(diagnosed(playground, "interface.program"))
    assert look_at(playground).hooks == ()


@pytest.mark.vm
@pytest.mark.parametrize("place", ["prog0", "xdp_dispatcher"])
def test_a_single_component_in_either_place(playground: Playground, samples: Path, place: str) -> None:
    """bpfman puts a single program into the first stub, libxdp in place of the main function."""
    from xdpchain.sys.libbpf import Object

    with (
        dispatcher_by_link(playground, 1, fifty=True) as dispatcher,
        Object((samples / "firewall.o").read_bytes(), "firewall") as opened,
    ):
        (program,) = opened.programs()
        program.as_freplace(dispatcher, place)
        opened.load()
        types = function_ids(dispatcher)[place]
        with bpf.Fd(os.dup(program.fd)) as fd, bpf.link_create(fd, dispatcher, target_btf_id=types):
            running = look_at(playground)
    assert running.owner is Owner.BPFMAN
    assert [slot.name for slot in running.shown or ()] == ["xdp_firewall"]


# Why a load was refused


def test_libbpfs_first_reason_is_the_error(cli: CommandLine, tmp_path: Path) -> None:
    extern = built(
        tmp_path,
        'SEC("xdp") int one(struct xdp_md *c) { return nowhere_to_be_found(c); }',
        "extern int nowhere_to_be_found(struct xdp_md *c) __ksym;",
    )
    refused = cli("load", cli.interface, extern)
    assert "extern (func ksym) 'nowhere_to_be_found': not found" in refused.err
    assert "No such file" not in refused.err
    assert "libbpf: libbpf" not in refused.err
    sizeless = built(
        tmp_path,
        'SEC("xdp") int one(struct xdp_md *c) { int k = 0; return bpf_map_lookup_elem(&none, &k) ? 1 : 2; }',
        "struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 0); __type(key, int);"
        '__type(value, int); } none SEC(".maps");',
    )
    refused = cli("load", cli.interface, sizeless)
    assert "map 'none': failed to create: Invalid argument" in refused.err
    assert "--map-entries none=N" in refused.err


def test_a_pinned_map_of_another_shape(cli: CommandLine, tmp_path: Path) -> None:
    body = (
        'SEC("xdp") int {0}(struct xdp_md *c) {{ int k = 0; return bpf_map_lookup_elem(&kept, &k) ? 1 : 2; }}'
    )
    shape = (
        "struct {{ __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, {}); __type(key, int);"
        '__type(value, int); __uint(pinning, LIBBPF_PIN_BY_NAME); }} kept SEC(".maps");'
    )
    pins = bpffs.find() / f"xdptui-test-{os.getpid()}"
    pins.mkdir(mode=0o700)
    try:
        cli.ok("load", cli.interface, built(tmp_path, body.format("one"), shape.format(8)), "-p", str(pins))
        other = built(tmp_path, body.format("two"), shape.format(16))
        refused = cli("load", cli.interface, other, "-p", str(pins))
        assert f"{pins}/kept has a different shape: entries 8 → 16" in refused.err
        assert f"(-p DIR), or remove the pin if nobody needs that map (`rm {pins}/kept`)" in refused.err
        elsewhere = pins / "elsewhere"
        elsewhere.mkdir(mode=0o700)
        cli.ok("load", cli.interface, other, "-p", str(elsewhere))
    finally:
        for path in sorted(pins.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        pins.rmdir()


def test_an_option_given_twice(cli: CommandLine) -> None:
    """Of two priorities, the last would silently win."""
    refused = cli("load", cli.interface, cli.sample("pass"), cli.sample("drop"), "-P", "10", "-P", "20")
    assert (refused.code, "-P is given more than once" in refused.err) == (64, True)
    cli.ok("load", cli.interface, cli.sample("pass"), cli.sample("drop"), "-P", "10")


# A machine without /sys


def test_without_sys(playground: Playground, samples: Path) -> None:
    """As in a container: what works without it works, what doesn't says what is missing."""

    def alone(*words: str) -> Any:
        wrap = ["unshare", "--mount", "sh", "-c", 'umount -l /sys && exec "$@"', "sh"]
        environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'core'}:{ROOT}"}
        environment = {name: value for name, value in environment.items() if not name.startswith("LIBXDP")}
        command = [*wrap, *COMMAND, *words, "--netns", playground.netns]
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    name = playground.ifname
    assert alone("load", name, str(samples / "firewall.o"), str(samples / "monitor.o")).returncode == 0
    assert alone("set", name, "0", "-P", "3").returncode == 0
    for words in (("status",), ("doctor", name), ("watch", "--count", "1"), ("maps", name), ("log", name)):
        assert alone(*words).returncode in (0, 1), words
    events = alone("events", "--count", "1")
    assert events.returncode == 6
    assert "/sys is not mounted" in events.stderr
    assert alone("undo", name).returncode == 0
    assert alone("unload", name, "--all").returncode == 0


def test_cpus_are_counted_without_sys(root: None) -> None:
    assert bpf.cpus_in_a_value() == possible_cpus()


def test_the_peer_is_named_whose_mtu_is_too_large(playground: Playground, cli: CommandLine) -> None:
    peer, space = playground.peer_ifname, playground.peer_netns
    subprocess.run(["ip", "-n", space, "link", "set", peer, "mtu", "9000"], check=True)
    refused = cli("load", cli.interface, cli.sample("pass"))
    assert refused.code == 6
    assert f"its peer {peer} in namespace {space} has MTU 9000" in refused.err
    assert f"`ip -n {space} link set dev {peer} mtu 3498`" in refused.err
    assert "-m generic" in refused.err
    cli.ok("load", cli.interface, cli.sample("pass"), "-m", "generic")


def test_a_tun_that_nobody_has_open(playground: Playground) -> None:
    subprocess.run(["ip", "-n", playground.netns, "tuntap", "add", "tun0", "mode", "tun"], check=True)
    done = subprocess.run(
        [*COMMAND, "doctor", "tun0", "--json", "--netns", playground.netns],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'core'}:{ROOT}"},
    )  # fmt: skip
    found = [
        finding for finding in json.loads(done.stdout)["findings"] if finding["check"] == "interface.queues"
    ]
    assert all("0 receive queues" not in one["what"] and "ethtool" not in one["fix"] for one in found)
