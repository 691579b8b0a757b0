# SPDX-License-Identifier: Apache-2.0
"""ssh over a tunnel: the guard tries its packets on the underlying device as they arrive there, which real
packets of a real connection through a real tunnel confirm.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kernel.chains import chain_of, look_at
from tests.kernel.command_line import CommandLine
from tests.kernel.two_hosts import NEAR4, NEAR6, PEER4, PEER6, connection, introduce, ip, masked
from tests.objects.compile import compile_text
from xdpchain.model.chain import Chain
from xdpchain.model.interface import Interface, Mode
from xdpchain.model.slot import Slot
from xdpchain.objects.components import load_component
from xdpchain.observe.discover import look
from xdpchain.testing.playground import Playground
from xdpchain.trial.packets.own_connection import own_interfaces
from xdpchain.trial.packets.sources import own_packets
from xdpchain.trial.ssh_guard import Judgement, judge

INNER_NEAR, INNER_PEER = "198.51.100.2", "198.51.100.9"
SIX_NEAR, SIX_PEER = "2001:db8:99::2", "2001:db8:99::9"
ETHERNET_HEADER = 14

# Drops IP packets of one protocol (and UDP of one port, if not 0), as filters below tunnels do.
DROP = """
#define SEC(name) __attribute__((section(name), used))
struct xdp_md { unsigned int data, data_end; };
SEC("xdp") int drop_outer(struct xdp_md *ctx)
{
	unsigned char *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

	if (data + 64 > end)
		return 2;
	if (data[12] == 0x08 && data[13] == 0x00 && data[23] == PROTOCOL)
		return !PORT || (data[36] << 8 | data[37]) == PORT ? 1 : 2;
	if (data[12] == 0x86 && data[13] == 0xdd && (data[20] == 60 ? data[54] : data[20]) == PROTOCOL)
		return !PORT || (data[56] << 8 | data[57]) == PORT ? 1 : 2;
	return 2;
}
SEC("license") char licence[] = "GPL";
"""


@pytest.fixture
def dropping(tmp_path: Path) -> Callable[[int, int], Slot]:
    def made(protocol: int, port: int = 0) -> Slot:
        path = tmp_path / f"drop-{protocol}-{port}.o"
        path.write_bytes(compile_text(DROP, f"-DPROTOCOL={protocol}", f"-DPORT={port}"))
        return Slot.of(load_component(str(path)))

    return made


@pytest.fixture
def ground(playground: Playground, monkeypatch: pytest.MonkeyPatch) -> Playground:
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    introduce(playground)
    return playground


def tunnel(ground: Playground, words: str) -> None:
    """``tun1`` on both sides: ``words`` of `ip link add`, with {local} and {remote}; skips with the kernel's
    message if it has no such device.
    """
    six = "6" in words.split()[0]
    ends = (NEAR6, PEER6) if six else (NEAR4, PEER4)
    for namespace, (local, remote) in ((ground.netns, ends), (ground.peer_netns, ends[::-1])):
        command = ["ip", "-n", namespace, "link", "add", "tun1", "type"]
        command += words.format(local=local, remote=remote).split()
        made = subprocess.run(command, capture_output=True, text=True)
        if "Unknown device type" in made.stderr or "not supported" in made.stderr:
            pytest.skip(f"{' '.join(command[3:])}: {made.stderr.strip()}")
        assert made.returncode == 0, made.stderr


def wireguard(ground: Playground, folder: Path) -> None:
    """Keys and peers for both sides."""

    def run(namespace: str | None, *words: str, given: str = "") -> str:
        command = ["ip", "netns", "exec", namespace, *words] if namespace else list(words)
        return subprocess.run(command, input=given, capture_output=True, text=True, check=True).stdout.strip()

    private = [run(None, "wg", "genkey") for _ in range(2)]
    public = [run(None, "wg", "pubkey", given=key) for key in private]
    for number, (namespace, endpoint) in enumerate(((ground.netns, PEER4), (ground.peer_netns, NEAR4))):
        key = folder / f"key{number}"
        key.write_text(private[number])
        run(
            namespace, "wg", "set", "tun1", "listen-port", "51820", "private-key", str(key),
            "peer", public[1 - number], "allowed-ips", "0.0.0.0/0", "endpoint", f"{endpoint}:51820",
        )  # fmt: skip


def addressed(ground: Playground, *, six: bool = False) -> str:
    """Give both ends of the tunnel addresses and bring them up; returns the near one."""
    near, peer, length = (SIX_NEAR, SIX_PEER, 64) if six else (INNER_NEAR, INNER_PEER, 24)
    for namespace, address in ((ground.netns, near), (ground.peer_netns, peer)):
        nodad = " nodad" if six else ""
        ip(namespace, f"addr add {address}/{length} dev tun1{nodad}", "link set tun1 up")
    return near


def where(ground: Playground) -> Interface:
    return Interface("xdp0", ground.ifindex, ground.netns)


def outer(frame: bytes) -> tuple[object, ...]:
    """The predictable parts of the outer packet's headers: MACs, protocol, addresses, and for UDP
    the port.
    """
    if frame[12:14] == b"\x86\xdd":
        return frame[:14], frame[20], frame[22:54], len(frame)
    port = frame[36:38] if frame[23] == 17 else b""
    return frame[:14], frame[23], frame[26:34], port, len(frame)


def inner(frame: bytes, skip: int, *, bare: bool) -> bytes:
    """The packet in the tunnel, as far as predictable."""
    if bare:
        kind = b"\x86\xdd" if frame[skip] >> 4 == 6 else b"\x08\x00"
        return masked(bytes(12) + kind + frame[skip:])
    return masked(frame[skip:])


LAB = pytest.mark.vm
KINDS = {
    # `ip link add` words, protocol, UDP port, bytes before the inner packet, bare IP inside, IPv6 inside
    "vxlan": ("vxlan id 7 dstport 4789 local {local} remote {remote}", 17, 4789, 14 + 28 + 8, False, False),
    "geneve": ("geneve id 8 dstport 6081 remote {remote}", 17, 6081, 14 + 28 + 8, False, False),
    "gre": ("gre local {local} remote {remote} key 5", 47, 0, 14 + 20 + 8, True, False),
    "gretap": ("gretap local {local} remote {remote}", 47, 0, 14 + 20 + 4, False, False),
    "ipip": ("ipip local {local} remote {remote}", 4, 0, 14 + 20, True, False),
    "sit": ("sit local {local} remote {remote}", 41, 0, 14 + 20, True, True),
    "ip6gre": ("ip6gre local {local} remote {remote}", 47, 0, 14 + 40 + 8 + 4, True, False),
    "ip6tnl": ("ip6tnl mode any local {local} remote {remote}", 4, 0, 14 + 40 + 8, True, False),
}


@pytest.mark.parametrize(
    "kind", [kind if kind == "vxlan" else pytest.param(kind, marks=LAB) for kind in KINDS]
)
def test_the_device_below_a_tunnel(
    ground: Playground,
    monkeypatch: pytest.MonkeyPatch,
    dropping: Callable[[int, int], Slot],
    samples: Path,
    kind: str,
) -> None:
    words, protocol, port, skip, bare, six = KINDS[kind]
    tunnel(ground, words)
    near = addressed(ground, six=six)
    named, received = connection(
        ground, near, lambda frame, *ports: b"".join(n.to_bytes(2, "big") for n in ports) in frame
    )
    monkeypatch.setenv("SSH_CONNECTION", named)
    assert ground.ifindex in own_interfaces(ground.netns)
    supply = own_packets(where(ground))
    assert supply is not None
    data, ack, _ = (packet.data for packet in supply.packets)
    for built, real in ((data, received[2]), (ack, received[3])):
        assert outer(built) == outer(real)
        assert inner(built, skip, bare=bare) == inner(real, skip, bare=bare)
    # A chain that drops the tunnel's packets is refused, one that drops others is not.
    lost = judge(look_at(ground), Chain().add(dropping(protocol, port)))
    assert lost is not None
    assert [one.verdict.name for one in lost.lost if hasattr(one.verdict, "name")] == ["DROP"] * 3
    for harmless in (Chain().add(dropping(6, 0)), chain_of(samples, "firewall", "monitor")):
        assert judge(look_at(ground), harmless) == Judgement("xdp0")
    # The tunnel's own device is guarded as well, with packets in the form in which it delivers them.
    whole = look("tun1", ground.netns)
    if whole.device.layer.known:
        found = judge(whole, chain_of(samples, "drop", mode=Mode.GENERIC))
        assert found is not None
        assert len(found.lost) == 3
    else:
        unknown = judge(whole, chain_of(samples, "pass", mode=Mode.GENERIC))
        assert unknown is not None
        assert "not checked" in unknown.unchecked


@LAB
def test_the_device_below_wireguard(
    ground: Playground, monkeypatch: pytest.MonkeyPatch, dropping: Callable[[int, int], Slot], tmp_path: Path
) -> None:
    tunnel(ground, "wireguard")
    wireguard(ground, tmp_path)
    near = addressed(ground)

    def carries(frame: bytes, *_: int) -> bool:
        return frame[36:38] == (51820).to_bytes(2, "big") and frame[42] == 4 and len(frame) > 42 + 32

    named, received = connection(ground, near, carries)
    monkeypatch.setenv("SSH_CONNECTION", named)
    supply = own_packets(where(ground))
    assert supply is not None
    data, ack, syn = (packet.data for packet in supply.packets)
    for built, real in ((syn, received[0]), (data, received[2]), (ack, received[3])):
        assert outer(built) == outer(real)
        assert built[34:36] == real[34:36]
        assert built[42:46] == real[42:46]
    lost = judge(look_at(ground), Chain().add(dropping(17, 51820)))
    assert lost is not None
    assert len(lost.lost) == 3
    assert judge(look_at(ground), Chain().add(dropping(17, 53))) == Judgement("xdp0")


def test_a_remote_of_the_forwarding_database(
    ground: Playground, monkeypatch: pytest.MonkeyPatch, dropping: Callable[[int, int], Slot]
) -> None:
    """A VXLAN without a remote of its own, as a port of a bridge that has the address."""
    tunnel(ground, "vxlan id 7 dstport 8472 local {local}")
    subprocess.run(
        ["bridge", "-n", ground.netns, "fdb", "append", "00:00:00:00:00:00", "dev", "tun1", "dst", PEER4],
        check=True,
    )
    ip(
        ground.netns,
        "link add br0 type bridge",
        "link set tun1 master br0 up",
        "link set br0 up",
        f"addr add {INNER_NEAR}/24 dev br0",
    )
    monkeypatch.setenv("SSH_CONNECTION", f"{INNER_PEER} 50022 {INNER_NEAR} 22")
    assert len(own_interfaces(ground.netns)) == 3
    lost = judge(look_at(ground), Chain().add(dropping(17, 8472)))
    assert lost is not None
    assert "in vxlan 7 from 203.0.113.9" in lost.lost[0].packet
    assert judge(look_at(ground), Chain().add(dropping(17, 4789))) == Judgement("xdp0")


def test_a_tunnel_whose_remote_is_not_told(
    ground: Playground,
    monkeypatch: pytest.MonkeyPatch,
    samples: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Where the packets arrive can't be known: this is reported, and needs the override."""
    tunnel(ground, "vxlan external dstport 4789")
    addressed(ground)
    monkeypatch.setenv("SSH_CONNECTION", f"{INNER_PEER} 50022 {INNER_NEAR} 22")
    found = judge(look_at(ground), chain_of(samples, "pass"))
    assert found is not None
    assert found.lost == ()
    assert "tun1 (vxlan), and the kernel does not report where" in found.unchecked
    assert ground.ifindex in own_interfaces(ground.netns)
    # The tunnel device is known to carry it, and is checked.
    itself = judge(look("tun1", ground.netns), chain_of(samples, "pass", mode=Mode.GENERIC))
    assert itself == Judgement("tun1")
    cli = CommandLine(ground, capsys, samples)
    words = ("load", "xdp0", cli.sample("pass"))
    refused = cli(*words)
    assert refused.code == 8
    assert "could not check" in refused.err
    assert cli.status()["programs"] == []
    assert cli(*words, "--confirm", "60").code == 0
    assert cli("rollback", "xdp0").code == 0
    assert cli(*words, "--even-if-ssh-dies").code == 0


@pytest.mark.parametrize("mode", ["tunnel", "transport"])
def test_ipsec_without_a_device(
    ground: Playground, monkeypatch: pytest.MonkeyPatch, dropping: Callable[[int, int], Slot], mode: str
) -> None:
    """A policy says that the packets arrive as ESP."""
    client, server = (INNER_PEER, INNER_NEAR) if mode == "tunnel" else (PEER4, NEAR4)
    words = f"xfrm policy add src {client} dst {server} dir in tmpl"
    words += f" src {PEER4} dst {NEAR4}" if mode == "tunnel" else ""
    command = ["ip", "-n", ground.netns, *words.split(), "proto", "esp", "mode", mode]
    made = subprocess.run(command, capture_output=True, text=True)
    if "not supported" in made.stderr:
        pytest.skip(f"ip {words}: {made.stderr.strip()}")
    assert made.returncode == 0, made.stderr
    ip(ground.netns, f"addr add {INNER_NEAR}/32 dev xdp0", f"route add {INNER_PEER} via {PEER4}")
    monkeypatch.setenv("SSH_CONNECTION", f"{client} 50022 {server} 22")
    lost = judge(look_at(ground), Chain().add(dropping(50, 0)))
    assert lost is not None
    assert lost.lost[0].packet == "your ssh: data, in ESP from 203.0.113.9"
    assert judge(look_at(ground), Chain().add(dropping(6, 0))) == Judgement("xdp0")


def test_devices_below_a_macvlan(
    ground: Playground, monkeypatch: pytest.MonkeyPatch, dropping: Callable[[int, int], Slot]
) -> None:
    ip(
        ground.netns,
        "link add link xdp0 name mac0 address 02:00:00:00:00:77 type macvlan",
        "link set mac0 up",
        f"addr add {INNER_NEAR}/24 dev mac0",
        f"neigh add {INNER_PEER} lladdr 02:00:00:00:00:99 dev mac0",
    )
    monkeypatch.setenv("SSH_CONNECTION", f"{INNER_PEER} 50022 {INNER_NEAR} 22")
    supply = own_packets(where(ground))
    assert supply is not None
    assert {packet.data[:12].hex() for packet in supply.packets} == {"020000000077" + "020000000099"}
    lost = judge(look_at(ground), Chain().add(dropping(6, 0)))
    assert lost is not None
    assert len(lost.lost) == 3
    assert judge(look_at(ground), Chain().add(dropping(17, 0))) == Judgement("xdp0")


@LAB
def test_devices_below_a_vlan_on_a_bond(
    ground: Playground, monkeypatch: pytest.MonkeyPatch, dropping: Callable[[int, int], Slot]
) -> None:
    ip(
        ground.netns,
        "link add bond0 type bond mode active-backup",
        "link set xdp0 down",
        "link set xdp0 master bond0",
        "link set bond0 up",
        "link add link bond0 name bond0.7 type vlan id 7",
        "link set bond0.7 up",
        f"addr add {INNER_NEAR}/24 dev bond0.7",
        f"neigh add {INNER_PEER} lladdr 02:00:00:00:00:99 dev bond0.7",
    )
    monkeypatch.setenv("SSH_CONNECTION", f"{INNER_PEER} 50022 {INNER_NEAR} 22")
    assert len(own_interfaces(ground.netns)) == 3
    supply = own_packets(where(ground))
    assert supply is not None
    tagged = [packet for packet in supply.packets if packet.name.endswith("VLAN 7")]
    assert len(tagged) == 3
    assert {packet.data[12:16] for packet in tagged} == {bytes((0x81, 0, 0, 7))}
    assert judge(look_at(ground), Chain().add(dropping(17, 0))) == Judgement("xdp0")
