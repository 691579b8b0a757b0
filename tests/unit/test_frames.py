# SPDX-License-Identifier: Apache-2.0
"""A frame is correct by a receiver's own rule: the checksum over everything, itself included, is 0"""

from __future__ import annotations

import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdpchain.model.link_layer import ETHERNET
from xdpchain.testing.frames import NEAR, PEER, scripted
from xdpchain.trial.packets import frames
from xdpchain.trial.packets.builtin import builtin
from xdpchain.trial.packets.frames import Host
from xdpchain.trial.packets.ssh import Ends, ssh_packets
from xdpchain.trial.packets.wrapping import Ethernet, Inside, Tag

PORTS = st.integers(0, 0xFFFF)
HOSTS = st.integers(1, 254).map(Host.number)
PAYLOADS = st.binary(max_size=64)
VERSIONS = st.sampled_from([4, 6])
SSH4 = Ends("192.0.2.9", 50022, "192.0.2.1", 22)
SSH6 = Ends("2001:db8::9", 65535, "2001:db8::1", 2222)
LINK = Ethernet(NEAR.mac, PEER.mac)
FOUR = ("203.0.113.9", "203.0.113.1")
SIX = ("2001:db8:1::9", "2001:db8:1::1")


def network_layer(frame: bytes) -> tuple[int, bytes, bytes]:
    """(protocol, pseudo header, segment); also checks the IPv4 header checksum."""
    ethertype = struct.unpack_from("!H", frame, 12)[0]
    packet = frame[14:]
    if ethertype == 0x0800:
        assert frames.checksum(packet[:20]) == 0
        assert struct.unpack_from("!H", packet, 2)[0] == len(packet)
        segment = packet[20:]
        return packet[9], packet[12:20] + struct.pack("!HH", packet[9], len(segment)), segment
    assert ethertype == 0x86DD
    assert struct.unpack_from("!H", packet, 4)[0] == len(packet) - 40
    segment = packet[40:]
    return packet[6], packet[8:40] + struct.pack("!II", len(segment), packet[6]), segment


def test_checksum_of_the_example_in_rfc_1071() -> None:
    assert frames.checksum(bytes.fromhex("0001f203f4f5f6f7")) == ~0xDDF2 & 0xFFFF


def test_checksum_pads_an_odd_length_with_a_zero() -> None:
    assert frames.checksum(b"\x01\x02\x03") == frames.checksum(b"\x01\x02\x03\x00")


@given(HOSTS, HOSTS, PORTS, PORTS, PAYLOADS, VERSIONS)
def test_udp(
    source: Host, destination: Host, sport: int, dport: int, payload: bytes, version: frames.Version
) -> None:
    frame = frames.udp(source, destination, dport, source_port=sport, payload=payload, version=version)
    protocol, pseudo, segment = network_layer(frame)
    assert protocol == 17
    assert frames.checksum(pseudo + segment) == 0
    assert struct.unpack_from("!HHH", segment) == (sport, dport, len(segment))
    assert segment[6:8] != b"\0\0"  # would mean that there is no checksum
    assert segment[8:] == payload


def test_udp_checksum_that_comes_out_as_zero_is_sent_as_all_ones() -> None:
    plain = frames.udp(PEER, NEAR, 9, payload=b"\0\0")
    stored = struct.unpack_from("!H", plain, 14 + 20 + 6)[0]
    # A payload equal to the checksum makes the sum 0xffff, whose complement is 0.
    frame = frames.udp(PEER, NEAR, 9, payload=struct.pack("!H", stored))
    assert frame[14 + 20 + 6 : 14 + 20 + 8] == b"\xff\xff"


@given(HOSTS, HOSTS, PORTS, st.integers(0, 0xFFFFFFFF), VERSIONS)
def test_tcp_syn(source: Host, destination: Host, port: int, sequence: int, version: frames.Version) -> None:
    protocol, pseudo, segment = network_layer(
        frames.tcp_syn(source, destination, port, sequence=sequence, version=version)
    )
    assert protocol == 6
    assert frames.checksum(pseudo + segment) == 0
    assert struct.unpack_from("!H", segment, 2)[0] == port
    assert segment[13] == 0x02  # SYN and nothing else


@given(HOSTS, HOSTS, st.integers(0, 0xFFFF), PAYLOADS)
def test_icmp_echo(source: Host, destination: Host, sequence: int, payload: bytes) -> None:
    protocol, _, message = network_layer(
        frames.icmp_echo(source, destination, sequence=sequence, payload=payload)
    )
    assert protocol == 1
    assert message[0] == 8
    assert frames.checksum(message) == 0


@given(HOSTS, HOSTS, PAYLOADS)
def test_icmpv6_echo(source: Host, destination: Host, payload: bytes) -> None:
    protocol, pseudo, message = network_layer(
        frames.icmp_echo(source, destination, payload=payload, version=6)
    )
    assert protocol == 58
    assert message[0] == 128
    assert frames.checksum(pseudo + message) == 0


def test_neighbor_solicitation() -> None:
    frame = frames.neighbor_solicitation(PEER, NEAR)
    protocol, pseudo, message = network_layer(frame)
    assert protocol == 58
    assert frames.checksum(pseudo + message) == 0
    assert frame[14 + 7] == 255  # hop limit: anything else is discarded (RFC 4861, 7.1.1)
    assert message[8:24] == NEAR.ipv6.packed


def test_arp_request_goes_to_everyone() -> None:
    frame = frames.arp_request(PEER, NEAR)
    assert len(frame) == 42
    assert frame[:6] == b"\xff" * 6
    assert frame[14:22] == bytes.fromhex("0001080006040001")
    assert frame[28:32] == PEER.ipv4.packed
    assert frame[38:] == NEAR.ipv4.packed


def test_scripted_keeps_the_codes_where_the_sample_looks() -> None:
    frame = scripted(bytes([2, 1, 3]))
    assert len(frame) == 60
    assert frame[12:18] == b"\x88\xb5\x02\x01\x03\x00"[:6]
    with pytest.raises(ValueError, match="do not fit"):
        scripted(bytes(47))


@pytest.mark.parametrize("number", [0, 255])
def test_hosts_are_numbered_1_to_254(number: int) -> None:
    with pytest.raises(ValueError, match="1 to 254"):
        Host.number(number)


@pytest.mark.skipif(shutil.which("tcpdump") is None, reason="tcpdump is not installed (make dev)")
def test_tcpdump_finds_every_frame_whole_and_every_checksum_right(tmp_path: Path) -> None:
    sent = [
        frames.arp_request(PEER, NEAR),
        frames.icmp_echo(PEER, NEAR, payload=b"ping"),
        frames.icmp_echo(PEER, NEAR, payload=b"ping6", version=6),
        frames.neighbor_solicitation(PEER, NEAR),
        frames.udp(PEER, NEAR, 9, payload=b"odd"),
        frames.udp(PEER, NEAR, 9, payload=b"even", version=6),
        frames.tcp_syn(PEER, NEAR, 22),
        frames.tcp_syn(PEER, NEAR, 22, version=6),
        *(packet.data for packet in builtin(NEAR, PEER, ETHERNET)),
        *(packet.data for packet in ssh_packets(SSH4, (LINK,))),
        *(packet.data for packet in ssh_packets(SSH6, (LINK, Tag(7)))),
        *(packet.data for packet in ssh_packets(replace(SSH4, mosh=True), (LINK,))),
        *(
            packet.data
            for around in (
                (LINK, Inside("vxlan", *FOUR, ident=7, port=4789)),
                (LINK, Inside("geneve", *SIX, ident=8, port=6081)),
                (Inside("gre", *FOUR, ident=9, numbered=True),),
                (LINK, Inside("ip6gretap", *SIX, limited=True)),
                (Inside("ipip", *FOUR),),
                (Inside("esp", *FOUR, ident=0x1234),),
                (Inside("esp", *FOUR, ident=0x1235, port=4500, remote_port=4500),),
                (Inside("ipip", *FOUR), LINK, Inside("vxlan", *FOUR, ident=6)),
                (Inside("wireguard", *FOUR, port=51820, remote_port=51821),),
            )
            for packet in ssh_packets(SSH4, (*around, LINK))
        ),
        *(packet.data for packet in ssh_packets(SSH6, (Inside("sit", *FOUR), LINK))),
    ]
    capture = tmp_path / "frames.pcap"
    with capture.open("wb") as file:
        file.write(struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for frame in sent:
            file.write(struct.pack("=IIII", 0, 0, len(frame), len(frame)) + frame)
    shown = subprocess.run(
        ["tcpdump", "-vv", "-n", "-t", "-r", str(capture)], capture_output=True, text=True, check=True
    ).stdout
    for word in (
        "Request who-has 192.0.2.1", "Reply 192.0.2.2 is-at 02:78:64:70:00:02", "echo request", "echo reply",
        "neighbor solicitation", "neighbor advertisement", "router advertisement", "UDP", "Flags [S]",
        "DHCP-Message (53), length 1: Offer", "DHCP-Message (53), length 1: ACK",
        "192.0.2.1.40000: [udp sum ok]",
        "A? example.com. 1/0/0 example.com. A 192.0.2.80", "192.0.2.2.443 > 192.0.2.1.40000: Flags [S.]",
        "192.0.2.9.50022 > 192.0.2.1.22: Flags [P.]", "192.0.2.9.50023 > 192.0.2.1.22: Flags [S]",
        "2001:db8::9.65535 > 2001:db8::1.2222: Flags [.]", "2001:db8::9.49152 > 2001:db8::1.2222: Flags [S]",
        "192.0.2.9.50022 > 192.0.2.1.22: Flags [P.]",
        "VXLAN, flags [I] (0x08), vni 7",
        "Geneve, Flags [none], vni 0x8", "GREv0, Flags [key present, sequence#",
        "DSTOPT", "ESP(spi=0x00001234,seq=0x1), length", "UDP-encap: ESP(spi=0x00001235,seq=0x1)",
        "vni 6", "203.0.113.9.51821 > 203.0.113.1.51820: [udp sum ok]", "proto IPIP (4)", "proto IPv6 (41)",
        "mss 1460,sackOK,TS val 1 ecr 0,nop,wscale 7", "class 0x48",
    ):  # fmt: skip
        assert word in shown
    for wrong in ("bad", "incorrect", "truncated", "[|"):
        assert wrong not in shown
