# SPDX-License-Identifier: Apache-2.0
"""Programs that packets meet behind the one on the hook: in a root program's array, in devmaps and cpumaps;
and a program held by a bpf_link, shown with its owner and detached.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import struct
from collections.abc import Iterator
from pathlib import Path

from tests.kernel.command_line import CommandLine
from tests.kernel.mishaps import map_of, redirecting
from tests.kernel.tracing import settled
from tests.objects.compile import compile_text
from xdpchain.model.actions import Action
from xdpchain.observe.discover import look
from xdpchain.observe.tracepoints import Tracepoint, listen
from xdpchain.sys import bpf, bpffs, netns
from xdpchain.sys.libbpf import Object
from xdpchain.sys.netlink import Netlink
from xdpchain.testing.frames import scripted

DEVMAP, CPUMAP, ON_LINK = 33, 35, 37
"""``enum bpf_attach_type``: BPF_XDP_DEVMAP, BPF_XDP_CPUMAP, BPF_XDP."""

ROOT = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 8); __type(key, __u32);
         __type(value, __u32); } root_array SEC(".maps");
SEC("xdp") int xdp_root(struct xdp_md *ctx)
{
    for (__u32 i = 0; i < 8; i++)
        bpf_tail_call(ctx, &root_array, i);
    return XDP_PASS;
}
char LICENSE[] SEC("license") = "GPL";
"""
SENDS = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct { __uint(type, BPF_MAP_TYPE_DEVMAP); __uint(max_entries, 4); __type(key, __u32);
         __type(value, struct bpf_devmap_val); } ports SEC(".maps");
SEC("xdp") int sends(struct xdp_md *ctx) { return bpf_redirect_map(&ports, 2, XDP_PASS); }
char LICENSE[] SEC("license") = "GPL";
"""
INCLUDES = [f"-I{folder}" for folder in Path("/usr/include").glob("*-linux-gnu")]


def returning(code: Action, name: str, attach_type: int) -> bpf.Fd:
    image = struct.pack("=BBhi", 0xB7, 0, 0, code) + bytes.fromhex("9500000000000000")
    return bpf.prog_load(bpf.ProgType.XDP, image, name=name, attach_type=attach_type)


def behind(cli: CommandLine) -> list[tuple[object, ...]]:
    found = cli.status()["behind"]
    return [(one["map"]["name"], one["index"], one["program"]["name"], one["ifindex"]) for one in found]


def test_a_root_program_with_an_array(cli: CommandLine) -> None:
    with (
        Object(compile_text(ROOT, *INCLUDES), "root") as opened,
        returning(Action.DROP, "balancer", ON_LINK) as balancer,
        Netlink(cli.playground.netns) as netlink,
    ):
        opened.load()
        (program,), (array,) = opened.programs(), opened.maps()
        netlink.attach_xdp(cli.playground.ifindex, program.fd, "native", None)
        assert behind(cli) == []
        bpf.map_update(array.fd, struct.pack("=I", 5), struct.pack("=I", balancer.fileno()))
        assert behind(cli) == [("root_array", 5, "balancer", None)]
        prog_id = bpf.prog_info(balancer).id
        table = cli("status", cli.interface).out
        assert f"behind it: root_array[5] → balancer (id {prog_id}), by tail call" in table


def test_the_program_of_a_device_map(cli: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "sends.o"
    path.write_bytes(compile_text(SENDS, *INCLUDES))
    net = cli.playground
    cli.ok("load", cli.interface, str(path), "--linkage", "static")
    with (
        returning(Action.PASS, "egress", DEVMAP) as egress,
        bpf.map_by_id(map_of(look(cli.interface, net.netns), "ports")) as ports,
    ):
        value = struct.pack("=II", net.ifindex, egress.fileno())
        netns.run(net.netns, lambda: bpf.map_update(ports, struct.pack("=I", 2), value))
        assert behind(cli) == [("ports", 2, "egress", net.ifindex)]
        netns.run(
            net.netns, lambda: bpf.map_update(ports, struct.pack("=I", 2), struct.pack("=II", net.ifindex, 0))
        )
        assert behind(cli) == []


def test_the_program_of_a_cpu_and_its_verdicts(cli: CommandLine) -> None:
    net = cli.playground
    running = redirecting(net, "by_cpumap")
    cpu = min(os.sched_getaffinity(0))
    cpumap = map_of(running, "cpus")
    with returning(Action.DROP, "oncpu", CPUMAP) as program, bpf.map_by_id(cpumap) as fd:
        bpf.map_update(fd, struct.pack("=I", cpu), struct.pack("=II", 64, program.fileno()))
        assert behind(cli) == [("cpus", cpu, "oncpu", None)]
        assert f"cpus[{cpu}] → oncpu" in cli("status", cli.interface).out
        verbose = cli("status", cli.interface, "-v").out
        assert "not counted: watch and events count them, each while it runs" in verbose
        with listen(netns=netns.inode(net.netns)) as listener:
            net.send([scripted(bytes([cpu]))] * 5)

            def lost() -> int:
                rows = (
                    listener.read()
                    .about(netns.inode(net.netns), None, [cpumap])
                    .of(Tracepoint.CPUMAP_PROGRAM)
                )
                assert {row.place.code for row in rows} <= {Action.DROP}
                return sum(row.tally.lost for row in rows)

            assert settled(lambda: lost() == 5, 5), lost()


# A program that a bpf_link holds


@contextlib.contextmanager
def held(cli: CommandLine) -> Iterator[tuple[bpf.Fd, Path]]:
    pin = bpffs.find() / f"xdptui-test-{os.getpid()}-{secrets.token_hex(4)}"
    net = cli.playground
    with (
        returning(Action.PASS, "theirs", ON_LINK) as program,
        netns.run(net.netns, lambda: bpf.link_create(program, net.ifindex, ON_LINK)) as link,
    ):
        bpf.obj_pin(link, str(pin))
        try:
            yield link, pin
        finally:
            pin.unlink()


def test_a_link_is_shown_with_owner_and_pins_and_detached_by_its_id(cli: CommandLine) -> None:
    with held(cli) as (link, pin):
        number = bpf.link_info(link).id
        shown = cli("detach", cli.interface)
        assert shown.code == 0
        for words in (f"bpf_link {number} holds program", "owner: not known", f"{pin} (of the link)"):
            assert words in shown.out
        assert f"`xdptui detach {cli.interface} --link {number} --netns {cli.playground.netns}`" in shown.out
        assert cli.status()["programs"], "it was only shown"
        known = cli.status()["owner_evidence"]
        assert (known["how"], known["pins"]) == (f"held by bpf_link {number}, pinned at {pin}", [str(pin)])
        assert f"pin: {pin} (of the link)" in cli("status", cli.interface, "-v").out
        wrong = cli("detach", cli.interface, "--link", str(number + 1000))
        assert wrong.code in (1, 4, 5)
        assert cli.status()["programs"]
        done = cli.ok("detach", cli.interface, "--link", str(number)).json
        assert (done["detached"], done["link"], done["pins"]) == (True, number, [str(pin)])
        assert cli.status()["programs"] == []
        assert pin.exists(), "pins are their owner's"
        assert f"detached from bpf_link {number}" in cli("log", cli.interface).out
        cli.load("pass")
    assert cli("log", cli.interface).code == 0


def test_what_no_link_holds_is_not_detached(cli: CommandLine) -> None:
    assert cli("detach", cli.interface).code == 5, "nothing runs"
    cli.load("pass")
    refused = cli("detach", cli.interface, "--link", "1")
    assert refused.code == 4
    assert "attached by netlink" in refused.err
    assert look(cli.interface, cli.playground.netns).chain is not None
