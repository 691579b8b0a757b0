# SPDX-License-Identifier: Apache-2.0
"""Two hosts that can reach each other: a playground with addresses and neighbour entries on both sides."""

from __future__ import annotations

import socket
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

from xdpchain.sys import netns
from xdpchain.testing.playground import Playground

__all__ = [
    "NEAR4", "NEAR6", "NEAR_MAC", "PEER4", "PEER6", "PEER_MAC", "connection", "enable_ipv6", "introduce",
    "ip", "masked",
]  # fmt: skip

NEAR4, PEER4 = "203.0.113.2", "203.0.113.9"
NEAR6, PEER6 = "2001:db8:77::2", "2001:db8:77::9"
PORT = 2222
AF21 = 0x48
NEAR_MAC, PEER_MAC = "02:78:64:70:00:01", "02:78:64:70:00:02"


def ip(namespace: str, *commands: str) -> None:
    """Run ``ip`` commands in a namespace."""
    for words in commands:
        subprocess.run(["ip", "-n", namespace, *words.split()], check=True)


def enable_ipv6(namespace: str) -> None:
    def write() -> None:
        for name in ("all", "default"):
            Path(f"/proc/thread-self/root/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("0")

    netns.run(namespace, write)


def introduce(playground: Playground) -> None:
    """Give both sides addresses and each other's MAC."""
    for namespace in (playground.netns, playground.peer_netns):
        enable_ipv6(namespace)
    sides = (
        (playground.netns, "xdp0", NEAR4, NEAR6, PEER4, PEER6, PEER_MAC),
        (playground.peer_netns, "peer0", PEER4, PEER6, NEAR4, NEAR6, NEAR_MAC),
    )
    for namespace, device, own4, own6, other4, other6, mac in sides:
        ip(
            namespace,
            f"addr add {own4}/24 dev {device}",
            f"addr add {own6}/64 dev {device} nodad",
            f"neigh replace {other4} lladdr {mac} dev {device}",
            f"neigh replace {other6} lladdr {mac} dev {device}",
        )


def connection(
    playground: Playground, near: str, whole: Callable[[bytes, int, int], bool] | None = None
) -> tuple[str, list[bytes]]:
    """A real TCP connection from the peer, as ssh's client would make it: its SSH_CONNECTION, and every
    packet of it that xdp0 received that ``whole(frame, client's port, server's)`` accepts; by default those
    that contain both ports.
    """

    def takes(frame: bytes, port: int, to_port: int) -> bool:
        return struct.pack("!HH", port, to_port) in frame[:60]

    family = socket.AF_INET6 if ":" in near else socket.AF_INET

    def inside(namespace: str, call: Callable[[], socket.socket]) -> socket.socket:
        return netns.run(namespace, call)

    def sniff() -> socket.socket:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
        sock.bind(("xdp0", 0x0003))
        sock.settimeout(3)
        return sock

    with (
        inside(playground.netns, sniff) as sniffer,
        inside(playground.netns, lambda: socket.create_server((near, PORT), family=family)) as server,
        inside(playground.peer_netns, lambda: socket.socket(family, socket.SOCK_STREAM)) as client,
    ):
        client.settimeout(3)
        client.connect((near, PORT))
        accepted, _ = server.accept()
        with accepted:
            if family == socket.AF_INET6:
                client.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, AF21)
            else:
                client.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, AF21)
            client.send(bytes(36))
            accepted.recv(36)
            accepted.send(b"shown")
            client.recv(5)
            (source, port), (to, to_port) = client.getsockname()[:2], client.getpeername()[:2]
            received: list[bytes] = []
            while len(received) < 4:  # SYN, ACK, data, ACK
                frame, where = sniffer.recvfrom(4096)
                if where[2] != socket.PACKET_OUTGOING and (whole or takes)(frame, port, to_port):
                    received.append(frame)
    return f"{source} {port} {to} {to_port}", received


def masked(frame: bytes) -> bytes:
    """Without what can't be predicted: the datagram's number, sequence numbers, the window, timestamp values,
    the flow label, payload, and the checksums over them.
    """
    data = bytearray(frame)
    six = data[12:14] == b"\x86\xdd"
    tcp = 14 + (40 if six else 20)
    if six:
        data[15] &= 0xF0
        data[16:18] = bytes(2)
    else:
        data[18:20] = data[24:26] = bytes(2)
    data[tcp + 4 : tcp + 12] = bytes(8)
    data[tcp + 14 : tcp + 18] = bytes(4)
    end = tcp + (data[tcp + 12] >> 4) * 4
    at = tcp + 20
    while at < end and data[at]:
        size = 1 if data[at] == 1 else data[at + 1]
        if data[at] == 8:
            data[at + 2 : at + 10] = bytes(8)
        if data[at] in (2, 3):  # its values depend on the route and on memory
            data[at + 2 : at + size] = bytes(size - 2)
        at += size
    data[end:] = bytes(len(data) - end)
    return bytes(data)
