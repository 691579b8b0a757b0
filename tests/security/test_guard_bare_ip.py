# SPDX-License-Identifier: Apache-2.0
"""Devices that carry IP without a link-layer header: trials, the guard, following, on a real tun device."""

from __future__ import annotations

import shutil
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.command_line import CommandLine
from tests.kernel.tun import NEAR, PEER, Tun
from tests.objects.compile import compile_text
from xdpchain.errors import InvalidInput
from xdpchain.model.chain import Chain
from xdpchain.model.interface import Mode
from xdpchain.model.link_layer import BARE_IP, ETHERNET
from xdpchain.model.slot import Slot
from xdpchain.objects.components import load_component
from xdpchain.observe.discover import look
from xdpchain.sys import bpf
from xdpchain.testing.playground import Playground
from xdpchain.trial.packets.frames import Host, ip_of, udp
from xdpchain.trial.packets.sources import builtin_packets, packets_of, read_packets
from xdpchain.trial.ssh_guard import Judgement, judge

ARPHRD_NETLINK = 824
OWN = f"{PEER} 50022 {NEAR} 22"

# Drops what begins like IPv4; an Ethernet frame to one of our MACs begins with 0x02.
NO_IP = """
#define SEC(name) __attribute__((section(name), used))
struct xdp_md { unsigned int data, data_end; };
struct { int (*type)[2], (*max_entries)[1], (*key)[1]; unsigned char (*value)[64]; } seen SEC(".maps");
static void *(*lookup)(void *, const void *) = (void *)1;
SEC("xdp") int no_ip(struct xdp_md *ctx)
{
	unsigned char *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	unsigned int key = 0;
	unsigned char *kept = lookup(&seen, &key);

	if (!kept || data + 20 > end)
		return 2;
	for (int i = 0; i < 20; i++)
		kept[i] = data[i];
	return data[0] >> 4 == 4 ? 1 : 2;
}
SEC("license") char licence[] = "GPL";
"""


@pytest.fixture
def no_ip(tmp_path: Path) -> str:
    path = tmp_path / "no_ip.o"
    path.write_bytes(compile_text(NO_IP))
    return str(path)


@pytest.fixture
def tun(playground: Playground, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tun]:
    monkeypatch.setenv("SSH_CONNECTION", OWN)
    with Tun(playground.netns) as made:
        yield made


@pytest.fixture
def cli(tun: Tun, playground: Playground, capsys: pytest.CaptureFixture[str], samples: Path) -> CommandLine:
    found = CommandLine(playground, capsys, samples)
    found.interface = tun.ifname
    return found


def generic(path: str) -> Chain:
    return Chain(mode=Mode.GENERIC).add(Slot.of(load_component(path)))


def test_what_is_tried_is_what_programs_see(tun: Tun, cli: CommandLine, no_ip: str) -> None:
    """On the device, the kernel shows a program the same bytes as a trial does."""
    running = look(tun.ifname, cli.playground.netns)
    assert running.device.layer is BARE_IP
    packets = packets_of("ssh", running.interface).packets
    assert (
        cli("load", tun.ifname, no_ip, "-m", "generic", "--linkage", "static", "--even-if-ssh-dies").code == 0
    )
    chain = look(tun.ifname, cli.playground.netns).chain
    assert chain is not None
    number = next(bpf_map.id for bpf_map in chain.slots[0].component.maps if bpf_map.name == "seen")
    for packet in packets:
        tun.receive(packet.data)
        with bpf.map_by_id(number) as fd:
            assert bpf.map_lookup(fd, bytes(4), 64)[:20] == packet.data[:20]


def test_the_guard_refuses_what_drops_all_of_ip(
    tun: Tun, cli: CommandLine, no_ip: str, samples: Path
) -> None:
    running = look(tun.ifname, cli.playground.netns)
    found = judge(running, generic(no_ip))
    assert found is not None
    assert [lost.packet for lost in found.lost] == [
        "your ssh: data",
        "your ssh: ACK",
        "your ssh: SYN to reconnect",
    ]
    refused = cli("load", tun.ifname, no_ip, "-m", "generic")
    assert (refused.code, cli.status()["programs"]) == (8, [])
    # A chain that lets them pass is accepted.
    assert judge(running, generic(str(samples / "pass.o"))) == Judgement(tun.ifname)
    assert cli("load", tun.ifname, cli.sample("pass"), "-m", "generic").code == 0


def test_built_in_packets_are_bare_and_told_apart(tun: Tun, cli: CommandLine, no_ip: str) -> None:
    supply = builtin_packets(look(tun.ifname, cli.playground.netns).interface)
    assert {packet.data[0] >> 4 for packet in supply.packets} == {4, 6}
    assert not any("ARP" in packet.name for packet in supply.packets)
    shown = cli("plan", "load", tun.ifname, no_ip, "-m", "generic", "--what-if")
    fours = sum(packet.data[0] >> 4 == 4 for packet in supply.packets) + 3
    sixes = sum(packet.data[0] >> 4 == 6 for packet in supply.packets)
    assert f"{fours + sixes} packets: {fours} PASS → DROP" in shown.out
    assert f"{sixes} as before" in shown.out


def capture_of(link_type: int, *packets: bytes) -> bytes:
    head = struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, link_type)
    return head + b"".join(
        struct.pack("=IIII", 0, 0, len(packet), len(packet)) + packet for packet in packets
    )


def test_captures_go_with_the_device() -> None:
    frame = udp(Host.number(2), Host.number(1), 9)
    bare = ip_of(frame)
    cooked = bytes(14) + b"\x08\x00"
    arp = bytes(14) + b"\x08\x06" + bytes(28)
    for capture in (capture_of(101, bare), capture_of(228, bare), capture_of(113, arp, cooked + bare)):
        (packet,) = read_packets(capture, "it", BARE_IP).packets
        assert (packet.data, packet.name) == (bare, "UDP 192.0.2.2:40000 > 9")
    with pytest.raises(InvalidInput, match="another link type"):
        read_packets(capture_of(1, frame), "it", BARE_IP)
    with pytest.raises(InvalidInput, match="not Ethernet frames"):
        read_packets(capture_of(101, bare), "it", ETHERNET)


def test_packets_are_filtered_and_written_as_bare_ip(tun: Tun, cli: CommandLine, tmp_path: Path) -> None:
    assert cli("load", tun.ifname, cli.sample("pass"), "-m", "generic", "--linkage", "static").code == 0
    wanted = ip_of(udp(Host.number(2), Host.number(1), 4242))
    other = ip_of(udp(Host.number(2), Host.number(1), 4243))
    stop = threading.Event()

    def send() -> None:
        end = time.monotonic() + 20
        while not stop.wait(0.05) and time.monotonic() < end:
            for packet in (other, wanted):
                tun.receive(packet)

    thread = threading.Thread(target=send)
    thread.start()
    path = tmp_path / "bare.pcapng"
    words = ("follow", tun.ifname, "udp port 4242", "-c", "2", "-w", str(path), "--timeout", "15")
    try:
        shown = cli(*words)
    finally:
        stop.set()
        thread.join()
    assert shown.code == 0, shown.err
    assert shown.out.count("UDP 192.0.2.2:40000 > 4242") == 2
    assert "4243" not in shown.out
    if shutil.which("tshark") is None:
        return
    read = ["tshark", "-r", str(path), "-T", "fields", "-e", "frame.encap_type", "-e", "udp.dstport"]
    lines = subprocess.run(read, capture_output=True, text=True, check=True).stdout.split("\n")
    assert {line.split("\t")[1] for line in lines if line} == {"4242"}
    assert {line.split("\t")[0] for line in lines if line} == {"7"}  # WTAP_ENCAP_RAW_IP


def test_what_nobody_tried_is_not_checked(
    playground: Playground, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], samples: Path
) -> None:
    """A device type missing from the table: reported, and needs the override."""
    monkeypatch.setenv("SSH_CONNECTION", OWN)
    with Tun(playground.netns, ARPHRD_NETLINK) as made:
        cli = CommandLine(playground, capsys, samples)
        cli.interface = made.ifname
        words = ("load", made.ifname, cli.sample("pass"), "-m", "generic")
        planned = cli("plan", *words, "--what-if", "builtin", "--json")
        assert {one["old"] for one in planned.json["what_if"]["summary"]} == {None}
        assert "not checked" in planned.json["what_if"]["not_known"][0]
        assert "link type 824" in planned.json["ssh"]["unchecked"]
        refused = cli(*words)
        assert refused.code == 8
        assert "could not check" in refused.err
        assert cli.status()["programs"] == []
        assert cli(*words, "--even-if-ssh-dies").code == 0
        followed = cli("follow", made.ifname, "icmp", "--timeout", "0.2")
        assert followed.code == 6
        assert "link type 824" in followed.err


@pytest.mark.parametrize("arphrd", [512, 519, 768, 776, 778, 0xFFFE])
def test_each_type_that_carries_bare_ip(
    playground: Playground, monkeypatch: pytest.MonkeyPatch, no_ip: str, arphrd: int
) -> None:
    monkeypatch.setenv("SSH_CONNECTION", OWN)
    with Tun(playground.netns, arphrd) as made:
        running = look(made.ifname, playground.netns)
        assert running.device.arphrd == arphrd
        found = judge(running, generic(no_ip))
        assert found is not None
        assert len(found.lost) == 3
