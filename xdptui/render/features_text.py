# SPDX-License-Identifier: Apache-2.0
"""What drivers and this machine support, as text and as a document. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from xdpchain.model.running import Device
from xdptui.words.advice import worded
from xdptui.words.printable import printable

if TYPE_CHECKING:
    from xdpchain.linkage.probe import TailcallProbe
    from xdpchain.observe.permissions import Capability

__all__ = ["MEANINGS", "device_document", "device_text", "machine_document", "machine_text"]

MEANINGS: dict[str, str] = {
    "basic": "native mode: XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX",
    "redirect": "XDP_REDIRECT from here to other devices",
    "ndo-xmit": "XDP_REDIRECT from other devices to here",
    "xsk-zerocopy": "AF_XDP zero copy",
    "hw-offload": "programs on the card itself",
    "rx-sg": "multi-buffer packets (jumbo frames)",
    "ndo-xmit-sg": "multi-buffer packets, redirected to here",
}
"""Features by their names in Documentation/netlink/specs/netdev.yaml; the bits exist from kernel 6.3 on."""

WIDTH = 30


def constant(feature: str) -> str:
    """The kernel's constant for a feature, as xdp-loader prints it."""
    return "NETDEV_XDP_ACT_" + feature.upper().replace("-", "_")


def _known(device: Device) -> dict[str, bool]:
    assert device.features is not None
    unknown = sorted(device.features - MEANINGS.keys())
    return {name: name in device.features for name in (*MEANINGS, *unknown)}


def device_text(device: Device) -> str:
    """One device, one line per feature."""
    where = printable(str(device.interface))
    lines = [f"{where}: driver {device.driver or 'unknown'}, MTU {device.mtu}, {device.operstate}"]
    if device.features is None:
        return f"{lines[0]}\n  this kernel does not report driver features (6.3 does)"
    for name, there in _known(device).items():
        meaning = MEANINGS.get(name, "")
        lines.append(f"  {constant(name) + ':':{WIDTH}} {'yes' if there else 'no':3}  {meaning}".rstrip())
    if "basic" not in device.features:
        lines.append("  no native mode: chains run here only in generic mode (-m generic)")
    return "\n".join(lines)


def device_document(device: Device) -> dict[str, Any]:
    """One entry of ``interfaces``; ``native`` and ``features`` are null if the kernel can't tell."""
    return {
        "name": device.interface.name,
        "ifindex": device.interface.ifindex,
        "netns": device.interface.netns,
        "driver": device.driver,
        "mtu": device.mtu,
        "operstate": device.operstate,
        "native": None if device.features is None else "basic" in device.features,
        "features": None if device.features is None else _known(device),
    }


def machine_text(linkage: tuple[str, str], tailcall: TailcallProbe, missing: Sequence[Capability]) -> str:
    """What applies to all interfaces."""
    lines = ["this machine:", f"  linkage: {linkage[0]}, {linkage[1]}"]
    lines.append(f"  tailcall linkage: {'yes' if tailcall.works else 'no'}, {tailcall.reason}")
    if not missing:
        lines.append("  permission: chains can be edited")
    for capability in missing:
        lines += [f"  missing: {capability.name}: {capability.why}", f"    {worded(capability.todo)}"]
    return "\n".join(lines)


def machine_document(
    linkage: tuple[str, str], tailcall: TailcallProbe, missing: Sequence[Capability]
) -> dict[str, Any]:
    """The entry ``machine``."""
    return {
        "linkage": {"default": linkage[0], "why": linkage[1]},
        "tailcall": {"works": tailcall.works, "functions": tailcall.functions, "why": tailcall.reason},
        "missing": [
            {"name": capability.name, "why": capability.why, "todo": worded(capability.todo)}
            for capability in missing
        ],
    }
