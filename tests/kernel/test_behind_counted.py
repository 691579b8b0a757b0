# SPDX-License-Identifier: Apache-2.0
"""What programs in devmaps and cpumaps return is counted while somebody looks, or the kernel says why not."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.chains import change
from tests.kernel.command_line import CommandLine
from tests.kernel.mishaps import map_of
from tests.kernel.tracing import settled
from tests.objects.compile import compile_text
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.running import Running
from xdpchain.model.slot import Slot
from xdpchain.objects.components import load_component
from xdpchain.observe.discover import look
from xdpchain.sys import bpf, netns
from xdpchain.sys.libbpf import Object
from xdpchain.testing.frames import scripted
from xdpchain.testing.playground import Playground
from xdptui.workers.behind_meter import BehindMeter, BehindReading

HEAD = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char LICENSE[] SEC("license") = "GPL";
static __always_inline int payload(struct xdp_md *ctx, int at)
{
    unsigned char *data = (void *)(long)ctx->data;
    return (void *)(data + 17) <= (void *)(long)ctx->data_end ? data[14 + at] : 0;
}
"""
SENDS = (
    HEAD
    + """
struct { __uint(type, BPF_MAP_TYPE_DEVMAP); __uint(max_entries, 4); __type(key, __u32);
         __type(value, struct bpf_devmap_val); } ports SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_CPUMAP); __uint(max_entries, 64); __type(key, __u32);
         __type(value, struct bpf_cpumap_val); } cpus SEC(".maps");
SEC("xdp") int sends(struct xdp_md *ctx)
{
    if (payload(ctx, 0))
        return bpf_redirect_map(&cpus, payload(ctx, 1), XDP_PASS);
    return bpf_redirect_map(&ports, payload(ctx, 1), XDP_PASS);
}
"""
)
MEETS = (
    HEAD
    + """
SEC("xdp/devmap") int at_device(struct xdp_md *ctx) { return payload(ctx, 2); }
SEC("xdp/devmap") int at_another(struct xdp_md *ctx) { return payload(ctx, 2); }
SEC("xdp/cpumap") int on_cpu(struct xdp_md *ctx) { return payload(ctx, 2); }
"""
)
INCLUDES = [f"-I{folder}" for folder in Path("/usr/include").glob("*-linux-gnu")]
TO_DEVICE, TO_CPU = 0, 1
DROP, PASS, TX = 1, 2, 3


@pytest.fixture
def net() -> Iterator[Playground]:
    with Playground(links=2, peer_takes_xdp=True) as playground:
        yield playground


@pytest.fixture
def programs() -> Iterator[Mapping[str, int]]:
    with Object(compile_text(MEETS, *INCLUDES), "meets") as opened:
        opened.load()
        yield {program.name: program.fd for program in opened.programs()}


@contextlib.contextmanager
def filled(running: Running, name: str, index: int, first: int, program: int) -> Iterator[None]:
    """An element of a map: the device's ifindex or the queue's length, and the program."""
    value = struct.pack("=Ii", first, program)
    with bpf.map_by_id(map_of(running, name)) as fd:
        key = struct.pack("=I", index)
        netns.run(running.interface.netns, lambda: bpf.map_update(fd, key, value))
        yield


def sending(net: Playground, linkage: Linkage) -> Running:
    """Run a program that redirects on the first interface."""
    with tempfile.TemporaryDirectory(prefix="xdptui-test-") as folder:
        path = Path(folder, "sends.o")
        path.write_bytes(compile_text(SENDS, *INCLUDES))
        return change(net, Chain(linkage=linkage).add(Slot.of(load_component(str(path)))))


def codes(reading: BehindReading) -> tuple[int, ...] | None:
    return None if reading.totals is None else tuple(int(n) for n in reading.totals.packets)


def frame(*payload: int) -> bytes:
    return scripted(bytes(payload))


CPU = min(os.sched_getaffinity(0))


@pytest.mark.vm
@pytest.mark.parametrize("linkage", [Linkage.STATIC, Linkage.FREPLACE])
def test_what_they_return_is_counted(net: Playground, programs: Mapping[str, int], linkage: Linkage) -> None:
    running = sending(net, linkage)
    target = net.links[1].ifindex
    with (
        filled(running, "ports", 2, target, programs["at_device"]),
        filled(running, "ports", 3, target, programs["at_another"]),
        filled(running, "cpus", CPU, 64, programs["on_cpu"]),
        BehindMeter() as meter,
    ):

        def counts() -> dict[str, tuple[int, ...] | None]:
            return {one.behind.name: codes(one) for one in meter.read(running)}

        net.send([frame(TO_DEVICE, 2, DROP)] * 9)
        assert counts() == dict.fromkeys(programs, (0,) * 6), "nobody looked before"
        net.send([frame(TO_DEVICE, 2, DROP)] * 3 + [frame(TO_DEVICE, 2, PASS)] * 2)
        net.send([frame(TO_DEVICE, 3, TX)] * 4 + [frame(TO_CPU, CPU, PASS)] * 5 + [frame(TO_CPU, CPU, 0)])
        wanted = {
            "at_device": (0, 3, 2, 0, 0, 0),
            "at_another": (0, 0, 0, 4, 0, 0),
            "on_cpu": (1, 0, 5, 0, 0, 0),
        }
        assert settled(lambda: counts() == wanted), counts()
        sizes = {one.behind.name: one.totals.all_bytes for one in meter.read(running) if one.totals}
        length = len(frame(0, 0, 0))
        assert sizes == {"at_device": 5 * length, "at_another": 4 * length, "on_cpu": 6 * length}
    assert not [
        info for _, info in bpf.each_link() if info.type == bpf.LINK_TRACING and info.target in ids(programs)
    ], "nothing stays"


def ids(programs: Mapping[str, int]) -> set[int]:
    return {bpf.prog_info(fd).id for fd in programs.values()}


@pytest.mark.vm
def test_a_program_in_several_elements_counts_once_and_a_new_one_anew(
    net: Playground, programs: Mapping[str, int]
) -> None:
    running = sending(net, Linkage.STATIC)
    target = net.links[1].ifindex
    with BehindMeter() as meter:
        assert meter.read(running) == ()
        with (
            filled(running, "ports", 1, target, programs["at_device"]),
            filled(running, "ports", 2, target, programs["at_device"]),
        ):
            meter.read(running)
            net.send([frame(TO_DEVICE, 1, DROP), frame(TO_DEVICE, 2, DROP)])
            both = [(0, 2, 0, 0, 0, 0)] * 2
            assert settled(lambda: [codes(one) for one in meter.read(running)] == both)
            with filled(running, "ports", 2, target, programs["at_another"]):
                assert [codes(one) for one in meter.read(running)] == [both[0], (0,) * 6]
                net.send([frame(TO_DEVICE, 2, PASS)])
                assert settled(lambda: codes(meter.read(running)[1]) == (0, 0, 1, 0, 0, 0))


@pytest.mark.vm
def test_what_was_loaded_without_btf_says_so(net: Playground) -> None:
    running = sending(net, Linkage.STATIC)
    image = struct.pack("=BBhi", 0xB7, 0, 0, PASS) + bytes.fromhex("9500000000000000")
    with (
        bpf.prog_load(bpf.ProgType.XDP, image, name="bare", attach_type=33) as bare,
        filled(running, "ports", 2, net.links[1].ifindex, bare.fileno()),
        BehindMeter() as meter,
    ):
        (reading,) = meter.read(running)
        assert codes(reading) is None
        assert "loaded without BTF" in reading.why


@pytest.mark.vm
def test_watch_shows_them(
    net: Playground,
    programs: Mapping[str, int],
    capsys: pytest.CaptureFixture[str],
    samples: Path,
) -> None:
    running = sending(net, Linkage.STATIC)
    cli = CommandLine(net, capsys, samples)
    with filled(running, "ports", 2, net.links[1].ifindex, programs["at_device"]):
        words = ("watch", cli.interface, "--json", "--interval", "0.2", "--count", "400")
        with cli.process(*words, run=subprocess.Popen, stdout=subprocess.PIPE) as watching:
            found: dict[str, Any] = {}
            for number, line in enumerate(watching.stdout):
                if number == 0:
                    net.send([frame(TO_DEVICE, 2, DROP)] * 3)
                (found,) = json.loads(line)["interfaces"][0]["behind"]
                if found["counters"]["XDP_DROP"]["packets"] == 3:
                    break
            watching.kill()
        assert found["not_counted"] == ""
        assert found["program"]["name"] == "at_device"
        assert (found["map"]["name"], found["index"], found["ifindex"]) == ("ports", 2, net.links[1].ifindex)
        table = cli("watch", cli.interface, "--count", "1").out
        assert "behind it: ports[2] → at_device" in table
        assert "returned" in table


def test_where_the_kernel_refuses_tracing_it_says_so(
    net: Playground,
    programs: Mapping[str, int],
    capsys: pytest.CaptureFixture[str],
    samples: Path,
) -> None:
    if ctypes.CDLL("libbpf.so.1").libbpf_probe_bpf_prog_type(bpf.ProgType.TRACING, None) == 1:
        pytest.skip("this kernel takes TRACING programs")
    running = sending(net, Linkage.STATIC)
    cli = CommandLine(net, capsys, samples)
    with filled(running, "ports", 2, net.links[1].ifindex, programs["at_device"]):
        line = cli("watch", cli.interface, "--json", "--count", "1").out
        (found,) = json.loads(line)["interfaces"][0]["behind"]
        assert found["counters"] is None
        assert "this kernel blocks TRACING programs (EPERM)" in found["not_counted"]
        assert (
            "not counted: this kernel blocks TRACING programs"
            in cli("watch", cli.interface, "--count", "1").out
        )
        assert "watch counts them while it runs" in cli("status", cli.interface, "-v").out
    assert look(cli.interface, net.netns).chain is not None
