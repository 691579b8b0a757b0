# SPDX-License-Identifier: Apache-2.0
"""What individual drivers require for native XDP, with sources. Pure.

The kernel can't be asked for this: it is what the drivers check when a program is attached, and each entry
names the function. Drivers without known requirements are not listed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from xdpchain.frozen import frozen
from xdpchain.model.commands import Commands

from .facts import Facts, Queues
from .finding import Finding, Level, Topic

__all__ = ["SOURCES", "driver_needs"]

Judge = Callable[[Facts, Queues, Commands], "Need | None"]


@frozen
class Need:
    """An unmet requirement of a driver. ``blocks``: the driver refuses native XDP because of it."""

    what: str
    why: str
    fix: str
    blocks: bool = True


def _ixgbe(facts: Facts, queues: Queues, commands: Commands) -> Need | None:
    if facts.cpus <= 64:
        return None
    what = f"{facts.cpus} CPUs, but ixgbe has 64 XDP transmit queues"
    if facts.cpus > 128:
        return Need(what, "With more than 128 CPUs it refuses XDP", "Boot with nr_cpus=128 or fewer")
    why = "CPUs share them under a lock, which makes XDP_TX and redirects slower"
    return Need(what, why, "Boot with nr_cpus=64 if that matters", blocks=False)


def _mlx5(facts: Facts, queues: Queues, commands: Commands) -> Need | None:
    if queues.rx >= facts.cpus:
        return None
    most = min(facts.cpus, queues.max_rx)
    fix = commands.ethtool("-L", facts.name, *f"combined {most}".split())
    if most < facts.cpus:
        fix = f"Redirect to it only from CPUs 0 to {most - 1} (set the interrupt affinity)"
    return Need(
        f"{queues.rx} channels for {facts.cpus} CPUs",
        f"Packets redirected to it from CPU {queues.rx} and above are lost: each CPU sends on the "
        "channel with its own number",
        fix,
        blocks=False,
    )


def _virtio(facts: Facts, queues: Queues, commands: Commands) -> Need | None:
    if queues.rx + facts.cpus <= queues.max_rx:
        return None
    return Need(
        f"{queues.max_rx} queue pairs, {queues.rx} in use; XDP needs one more for each of {facts.cpus} CPUs",
        "XDP transmits on shared queues under a lock, which slows XDP_TX and redirects; "
        "before kernel 5.13 the driver refuses XDP instead",
        f"Give it more queue pairs (QEMU: queues={2 * facts.cpus} on the netdev, mq=on on the device)",
        blocks=False,
    )


def _ena(facts: Facts, queues: Queues, commands: Commands) -> Need | None:
    if 2 * queues.rx <= queues.max_rx:
        return None
    return Need(
        f"{queues.rx} of {queues.max_rx} queues are in use",
        "XDP needs the same number again for sending: at most half of them may be in use",
        commands.ethtool("-L", facts.name, *f"combined {max(1, queues.max_rx // 2)}".split()),
    )


def _gve(facts: Facts, queues: Queues, commands: Commands) -> Need | None:
    if queues.rx == queues.tx and 2 * queues.tx <= queues.max_tx:
        return None
    count = max(1, min(queues.max_rx, queues.max_tx // 2))
    return Need(
        f"{queues.rx} receive queues, {queues.tx} of at most {queues.max_tx} transmit queues",
        "XDP needs as many transmit as receive queues, and at most half of the maximum",
        commands.ethtool("-L", facts.name, *f"rx {count} tx {count}".split()),
    )


def _bnxt(facts: Facts, queues: Queues, commands: Commands) -> Need | None:
    if queues.combined:
        return None
    count = max(1, min(queues.rx, queues.tx))
    return Need(
        "its queues are separate for receive and transmit",
        "The driver refuses XDP unless they are combined",
        commands.ethtool("-L", facts.name, *f"rx 0 tx 0 combined {count}".split()),
    )


QUEUES: dict[str, tuple[Judge, str]] = {
    "ixgbe": (_ixgbe, "ixgbe_xdp_setup(), intel/ixgbe/ixgbe_main.c (4fe815850bdc)"),
    "mlx5_core": (_mlx5, "mlx5e_xdp_xmit(), mellanox/mlx5/core/en/xdp.c"),
    "virtio_net": (_virtio, "virtnet_xdp_set(), virtio_net.c (97c2c69e1926)"),
    "ena": (_ena, "ena_xdp_allowed(), amazon/ena"),
    "gve": (_gve, "verify_xdp_configuration(), google/gve/gve_main.c"),
    "bnxt_en": (_bnxt, "bnxt_xdp_set(), broadcom/bnxt/bnxt_xdp.c"),
}

REFUSE_LRO: dict[str, str] = {
    "gve": "verify_xdp_configuration(), google/gve/gve_main.c",
    "hv_netvsc": "netvsc_xdp_set(), hyperv/netvsc_bpf.c",
    "mlx5_core": "mlx5e_xdp_allowed(), mellanox/mlx5/core/en_main.c",
    "virtio_net": "virtnet_xdp_set(), virtio_net.c",
}
"""Drivers that refuse XDP while LRO is on (virtio_net: only if the host does not let it be turned off)."""

REFUSE_HW_GRO: dict[str, str] = {
    "gve": "gve_verify_xdp_configuration(), google/gve/gve_main.c",
    "virtio_net": "virtnet_xdp_set(), virtio_net.c",
}
"""The same for HW-GRO; in virtio_net that means its guest offloads."""

SOURCES: dict[str, tuple[str, ...]] = {
    driver: tuple(
        dict.fromkeys(
            source
            for source in (
                QUEUES[driver][1] if driver in QUEUES else None,
                REFUSE_LRO.get(driver),
                REFUSE_HW_GRO.get(driver),
            )
            if source
        )
    )
    for driver in sorted(QUEUES.keys() | REFUSE_LRO.keys() | REFUSE_HW_GRO.keys())
}
"""For each driver, the sources in drivers/net (and drivers/net/ethernet) of the kernel."""


def driver_needs(facts: Facts, commands: Commands) -> Iterator[Finding]:
    """Unmet requirements of this interface's driver."""
    driver = facts.running.device.driver or ""
    if driver in QUEUES and facts.queues is not None:
        need = QUEUES[driver][0](facts, facts.queues, commands)
        if need is not None:
            level = Level.ERROR if need.blocks else Level.WARN
            yield Finding(
                level, Topic.INTERFACE, "interface.xdp-queues", f"{driver}: {need.what}", need.why, need.fix
            )
    yield from _merging(facts, driver, "rx-lro", "LRO", "interface.lro", REFUSE_LRO, commands)
    yield from _merging(facts, driver, "rx-gro-hw", "HW-GRO", "interface.hw-gro", REFUSE_HW_GRO, commands)


def _merging(
    facts: Facts,
    driver: str,
    offload: str,
    name: str,
    check: str,
    refuse: dict[str, str],
    commands: Commands,
) -> Iterator[Finding]:
    """Packets merged by the NIC are too large for XDP programs."""
    if not facts.on(offload):
        return
    what = f"the card merges packets ({name} is on)"
    why = "Programs would see several packets as one, too large for XDP buffers; "
    if driver == "virtio_net" and facts.fixed(offload):
        yield Finding(
            Level.ERROR, Topic.INTERFACE, check, f"{what}, and the host does not allow turning it off",
            f"{why}the driver refuses native XDP",
            "On the host, give the device ctrl_guest_offloads=on, or guest_tso4=off,guest_tso6=off,"
            "guest_ecn=off,guest_ufo=off,guest_csum=off (QEMU)",
        )  # fmt: skip
        return
    word = "lro" if offload == "rx-lro" else offload
    fix = commands.ethtool("-K", facts.name, *f"{word} off".split())
    if driver == "virtio_net":
        # It switches the offloads off by itself when a program comes, and on again when it goes.
        text = f"{why}the driver turns it off while a program is attached"
        yield Finding(Level.INFO, Topic.INTERFACE, check, what, text)
    elif driver in refuse:
        text = f"{why}{driver} refuses native XDP until it is off"
        yield Finding(Level.ERROR, Topic.INTERFACE, check, what, text, fix)
    else:
        text = f"{why}most drivers refuse native XDP or turn it off, and generic mode turns it off"
        yield Finding(Level.WARN, Topic.INTERFACE, check, what, text, fix)
