# SPDX-License-Identifier: Apache-2.0
"""What the kernel reports about tunnels: how devices of these kinds encapsulate packets, WireGuard's peers,
and IPsec's policies. Frozen values, and their messages. Pure.
"""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from xdpchain.frozen import frozen

from .messages import DUMP, attributes, ip_text, native, request

__all__ = [
    "IpsecPolicy",
    "IpsecState",
    "Tunnel",
    "WireguardPeer",
    "decode_forwarding",
    "decode_ipsec_policy",
    "decode_ipsec_state",
    "decode_tunnel",
    "decode_wireguard",
    "encode_get_forwarding",
    "encode_get_ipsec",
    "encode_get_wireguard",
]


@frozen
class Tunnel:
    """How a tunnel device encapsulates packets: the outer addresses (None: any, or several), ``ident``
    (VXLAN's or Geneve's network, GRE's key), the UDP port at our end, and the device that it is bound to.
    ``external``: each packet's remote is chosen elsewhere (routes, a switch) and not reported. ``numbered``:
    GRE packets have sequence numbers. ``limited``: IPv6 packets have the encapsulation-limit option, as Linux
    sends them.
    """

    local: str | None = None
    remote: str | None = None
    ident: int | None = None
    port: int | None = None
    through: int | None = None
    external: bool = False
    numbered: bool = False
    limited: bool = False


@frozen
class WireguardPeer:
    """A peer: where its packets come from (None: not heard from yet), and the networks behind it."""

    endpoint: tuple[str, int] | None
    networks: tuple[IPv4Network | IPv6Network, ...]


@frozen
class IpsecPolicy:
    """An IPsec policy for incoming packets: those from ``source`` to ``destination`` (``protocol`` 0: any)
    arrive in ESP from ``outer_source`` to ``outer_destination`` (None, None: between the same addresses).
    """

    source: IPv4Network | IPv6Network
    destination: IPv4Network | IPv6Network
    protocol: int
    outer_source: str | None
    outer_destination: str | None

    def covers(self, source: str, destination: str, protocol: int) -> bool:
        """Whether it applies to packets between these addresses."""
        ends = (ip_address(source), self.source), (ip_address(destination), self.destination)
        return self.protocol in (0, protocol) and all(
            address.version == net.version and address in net for address, net in ends
        )


@frozen
class IpsecState:
    """An IPsec state (security association) for ESP between two addresses: its SPI, and the receiver's UDP
    port if ESP is encapsulated in UDP.
    """

    source: str
    destination: str
    spi: int
    port: int | None


# include/uapi/linux/if_tunnel.h, if_link.h: attribute numbers by meaning
_VXLAN = {
    1: "ident", 2: "remote", 3: "through", 4: "local", 15: "port", 16: "remote", 17: "local", 25: "external",
}  # fmt: skip
_GENEVE = {1: "ident", 2: "remote", 7: "remote", 5: "port", 6: "external"}
_GRE = {
    1: "through", 2: "flags", 4: "key", 6: "local", 7: "remote", 13: "flags6", 14: "encap", 18: "external",
}  # fmt: skip
_IPTUN = {1: "through", 2: "local", 3: "remote", 8: "flags6", 15: "encap", 19: "external"}
_VTI = {1: "through", 4: "local", 5: "remote"}
_XFRM = {1: "through", 2: "ident", 3: "external"}
_NAMES = {
    "vxlan": _VXLAN, "geneve": _GENEVE, "gre": _GRE, "gretap": _GRE, "ip6gre": _GRE, "ip6gretap": _GRE,
    "ipip": _IPTUN, "sit": _IPTUN, "ip6tnl": _IPTUN, "vti": _VTI, "vti6": _VTI, "xfrm": _XFRM,
}  # fmt: skip
_GRE_KEY, _GRE_SEQUENCE = 0x2000, 0x1000
_IP6_IGNORES_LIMIT = 0x1
_NO_ADDRESS = ("0.0.0.0", "::")


def decode_tunnel(kind: str, data: bytes) -> Tunnel:
    """IFLA_INFO_DATA of a tunnel device. Encapsulation in UDP (fou, gue) makes it ``external``, because the
    kernel does not report where such packets arrive.
    """
    names = _NAMES.get(kind)
    if names is None:
        return Tunnel(external=kind != "wireguard")
    found: dict[str, bytes] = {}
    for attribute, value in attributes(data):
        name = names.get(attribute)
        if name is not None and not (name in ("local", "remote") and ip_text(value) in (None, *_NO_ADDRESS)):
            found[name] = value
    flags = _big(found.get("flags")) or 0
    external = "external" in found and (found["external"] in (b"",) or any(found["external"]))
    six = kind in ("ip6tnl", "ip6gre", "ip6gretap")
    key = _big(found.get("key")) if flags & _GRE_KEY else None
    return Tunnel(
        local=ip_text(found.get("local")),
        remote=ip_text(found.get("remote")),
        ident=native(found.get("ident")) if "ident" in found else key,
        port=_big(found.get("port")),
        through=native(found.get("through")) or None,
        external=external or bool(native(found.get("encap"))),
        numbered=bool(flags & _GRE_SEQUENCE),
        limited=six and not (native(found.get("flags6")) or 0) & _IP6_IGNORES_LIMIT,
    )


def decode_wireguard(data: bytes) -> tuple[int | None, tuple[WireguardPeer, ...]]:
    """(listening port, peers) of a WG_CMD_GET_DEVICE answer, after its generic netlink header."""
    port, peers = None, []
    for attribute, value in attributes(data):
        if attribute == 6:  # WGDEVICE_A_LISTEN_PORT
            port = native(value)
        elif attribute == 8:  # WGDEVICE_A_PEERS
            peers += [_peer(body) for _, body in attributes(value)]
    return port, tuple(peers)


def _peer(body: bytes) -> WireguardPeer:
    endpoint: tuple[str, int] | None = None
    networks: list[IPv4Network | IPv6Network] = []
    for attribute, value in attributes(body):
        if attribute == 4:  # WGPEER_A_ENDPOINT: a sockaddr
            family, port = struct.unpack_from("=H", value)[0], struct.unpack_from("!H", value, 2)[0]
            raw = value[4:8] if family == socket.AF_INET else value[8:24]
            endpoint = (ip_text(raw) or "", port)
        elif attribute == 9:  # WGPEER_A_ALLOWEDIPS
            for _, entry in attributes(value):
                fields = dict(attributes(entry))
                address = ip_text(fields.get(2))
                if address is not None and fields.get(3):
                    networks.append(ip_network(f"{address}/{fields[3][0]}", strict=False))
    return WireguardPeer(endpoint, tuple(networks))


_SELECTOR = 56  # struct xfrm_selector
_TEMPLATE = 64  # struct xfrm_user_tmpl
_POLICY = 168  # struct xfrm_userpolicy_info
_STATE = 224  # struct xfrm_usersa_info
_TUNNEL_MODE = 1
_GETSA, _GETPOLICY = 0x12, 0x15
_RTM_GETNEIGH = 30
_ESP = 50


def decode_ipsec_policy(body: bytes) -> IpsecPolicy | None:
    """An XFRM_MSG_NEWPOLICY message after its header; None if it is not for incoming ESP, or belongs to a
    device (an XFRM interface).
    """
    if len(body) < _POLICY or body[160] != 0 or body[161] != 0:  # XFRM_POLICY_IN, XFRM_POLICY_ALLOW
        return None
    family = struct.unpack_from("=H", body, 40)[0]
    fields = dict(attributes(body[_POLICY:]))
    template = fields.get(5, b"")
    if len(template) < _TEMPLATE or template[20] != _ESP or any(fields.get(31, b"")):
        return None
    outer_family = struct.unpack_from("=H", template, 24)[0]
    tunnel = template[48] == _TUNNEL_MODE
    return IpsecPolicy(
        _network(family, body[16:32], body[43]),
        _network(family, body[0:16], body[42]),
        body[44],
        str(_of(outer_family, template[28:44])) if tunnel else None,
        str(_of(outer_family, template[0:16])) if tunnel else None,
    )


def decode_ipsec_state(body: bytes) -> IpsecState | None:
    """An XFRM_MSG_NEWSA message after its header; None if it is not for ESP."""
    if len(body) < _STATE or body[76] != _ESP:
        return None
    family = struct.unpack_from("=H", body, 212)[0]
    spi = struct.unpack_from("!I", body, 72)[0]
    encapsulation = dict(attributes(body[_STATE:])).get(4, b"")
    port = struct.unpack_from("!H", encapsulation, 4)[0] if len(encapsulation) >= 6 else None
    return IpsecState(str(_of(family, body[80:96])), str(_of(family, body[56:72])), spi, port)


def encode_get_ipsec(*, states: bool) -> bytes:
    """Dump the policies, or the states."""
    return request(_GETSA, DUMP, bytes(24)) if states else request(_GETPOLICY, DUMP, bytes(64))


def encode_get_wireguard(family: int, ifindex: int) -> bytes:
    """Ask generic netlink's family "wireguard" for a device (WG_CMD_GET_DEVICE)."""
    return request(family, DUMP, struct.pack("=BBHHHI", 0, 1, 0, 8, 1, ifindex))


def encode_get_forwarding(ifindex: int) -> bytes:
    """Dump a device's forwarding database (struct ndmsg)."""
    return request(_RTM_GETNEIGH, DUMP, struct.pack("=BxxxiHBB", socket.AF_BRIDGE, ifindex, 0, 0, 0))


def decode_forwarding(message: bytes) -> tuple[int, str, str | None]:
    """(ifindex, MAC, remote) of an RTM_NEWNEIGH message of family AF_BRIDGE; "" and None if missing."""
    fields = dict(attributes(message[28:]))
    return struct.unpack_from("=i", message, 20)[0], fields.get(2, b"").hex(":"), ip_text(fields.get(1))


def _of(family: int, raw: bytes) -> IPv4Address | IPv6Address:
    return IPv4Address(raw[:4]) if family == socket.AF_INET else IPv6Address(raw)


def _network(family: int, raw: bytes, length: int) -> IPv4Network | IPv6Network:
    return ip_network(f"{_of(family, raw)}/{length}", strict=False)


def _big(raw: bytes | None) -> int | None:
    return int.from_bytes(raw, "big") if raw else None
