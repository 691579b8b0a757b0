# SPDX-License-Identifier: Apache-2.0
"""Check one interface for XDP: mode, MTU, queues, offloads, and related devices. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from xdpchain.advice import SINGLE_BUFFER_MTU
from xdpchain.model.commands import Commands
from xdpchain.model.interface import Mode
from xdpchain.model.naming import counted, some

from .drivers import driver_needs
from .facts import Facts
from .finding import Finding, Topic, error, info, ok, warn

__all__ = ["examine_device"]

WHERE = Topic.INTERFACE

ENOUGH_PACKETS, LOPSIDED = 10_000, 0.9
"""Fewest packets to judge the balance between CPUs; the share of one CPU that is reported."""


def examine_device(facts: Facts, commands: Commands) -> tuple[Finding, ...]:
    """Judge the device, independent of the program on it."""
    return tuple(
        finding
        for judge in (_native, _mtu, _veth, _queues, _balance, driver_needs, _vlan, _stack)
        for finding in judge(facts, commands)
    )


def _native(facts: Facts, commands: Commands) -> Iterator[Finding]:
    features = facts.running.device.features
    check, driver = "interface.native", facts.driver
    if features is None:
        yield info(
            WHERE, check, f"this kernel does not report {driver}'s XDP features (6.3 and newer do)",
            "Load a chain to see whether native mode works",
        )  # fmt: skip
    elif "basic" in features:
        yield ok(WHERE, check, f"{driver} supports native XDP: {', '.join(sorted(features))}")
    elif facts.lower is not None:
        yield info(
            WHERE, check, f"it has generic mode only; its lower device is {facts.lower}",
            f"A chain on {facts.lower} sees its packets earlier, along with all others there",
            commands.xdptui("load", facts.lower, "OBJ"),
        )  # fmt: skip
    else:
        judge = warn if facts.running.device.up else info
        yield judge(
            WHERE, check, f"{driver} does not support native XDP",
            "Generic mode works with every driver but is slower: the kernel allocates a socket buffer first",
            commands.xdptui("load", facts.name, "OBJ", options=("-m", "generic")),
        )  # fmt: skip
    mode = facts.running.mode
    if mode is Mode.GENERIC and features is not None and "basic" in features:
        unload = commands.xdptui("unload", facts.name, options=("--all",))
        yield warn(
            WHERE, "interface.mode", f"it runs in generic mode although {driver} has native XDP",
            "Native mode is several times as fast; the kernel can't switch modes atomically",
            f"`{unload}`, then load the chain again: nothing runs in between",
        )  # fmt: skip


def _mtu(facts: Facts, commands: Commands) -> Iterator[Finding]:
    device, chain = facts.running.device, facts.running.chain or facts.running.shown
    check, where = "interface.mtu", f"MTU {device.mtu}"
    if facts.loopback:
        return
    if device.mtu <= SINGLE_BUFFER_MTU:
        yield ok(WHERE, check, f"{where} fits in one buffer")
        return
    lower = commands.ip("link", "set", "dev", facts.name, "mtu", str(SINGLE_BUFFER_MTU))
    if device.features is not None and "rx-sg" not in device.features and "basic" in device.features:
        yield warn(
            WHERE, check, f"{where} needs multi-buffer support, which {facts.driver} does not have for XDP",
            "It refuses native programs, or drops packets that do not fit in one buffer", lower,
        )  # fmt: skip
    elif chain is None or not chain.slots:
        yield info(
            WHERE, check, f"{where} needs multi-buffer support",
            "In native mode a chain runs here only if all its components have multi-buffer support "
                "(section xdp.frags)",
            lower,
        )  # fmt: skip
    elif lacking := [slot.name for slot in chain.slots if not slot.component.frags]:
        mode = facts.running.mode
        if mode is Mode.GENERIC:
            yield info(
                WHERE, check, f"{where} needs multi-buffer support, missing in {', '.join(lacking)}",
                "In generic mode the kernel copies such packets into one buffer, which takes time", lower,
            )  # fmt: skip
        else:
            yield warn(
                WHERE, check, f"{where} needs multi-buffer support, missing in {', '.join(lacking)}",
                "Larger packets are copied into one buffer, or lost; the driver may refuse the next change",
                f"`{lower}`, or build them in section xdp.frags",
            )  # fmt: skip
    else:
        yield ok(WHERE, check, f"{where} needs multi-buffer support, and the whole chain has it")


def _veth(facts: Facts, commands: Commands) -> Iterator[Finding]:
    if facts.kind != "veth":
        return
    features, peer = facts.running.device.features, facts.peer
    who = peer.name if peer else "its peer"
    there = Commands(peer.netns) if peer else commands
    if features is not None and "ndo-xmit" not in features:
        fix = f"Load a program that passes everything on {who}, or turn on GRO there"
        if peer is not None:
            fix += f": `{there.ethtool('-K', peer.name, 'gro', 'on')}`"
        yield info(
            WHERE, "interface.redirect-target", "it does not accept redirected packets (no ndo-xmit feature)",
            f"A veth sends XDP frames (XDP_TX, redirects) only while {who} has an XDP program, or GRO on",
            fix,
        )  # fmt: skip
    chain = facts.running.chain
    whole = chain is not None and all(slot.component.frags for slot in chain.slots)
    if peer is not None and peer.mtu > SINGLE_BUFFER_MTU and not whole:
        lower = there.ip("link", "set", "dev", peer.name, "mtu", str(SINGLE_BUFFER_MTU))
        generic = commands.xdptui("load", facts.name, "OBJ", options=("-m", "generic"))
        yield warn(
            WHERE, "interface.peer-mtu", f"its peer {peer.name} has MTU {peer.mtu}",
            "veth refuses programs without multi-buffer support while the sender's packets may need it",
            f"`{lower}`; or generic mode: `{generic}`",
        )  # fmt: skip
    queues = facts.queues
    if peer is not None and queues is not None and peer.tx is not None and queues.rx < peer.tx:
        if peer.tx <= queues.max_rx:
            fix = commands.ethtool("-L", facts.name, "rx", str(peer.tx))
        else:
            fix = there.ethtool("-L", peer.name, "tx", str(queues.rx))
        yield error(
            WHERE, "interface.veth-queues",
            f"it receives with {counted(queues.rx, 'queue')}, its peer {peer.name} sends with {peer.tx}",
            "veth refuses native XDP if it has fewer receive queues than its peer has transmit queues", fix,
        )  # fmt: skip


def _queues(facts: Facts, commands: Commands) -> Iterator[Finding]:
    queues, check = facts.queues, "interface.queues"
    if queues is None:
        return
    if queues.rx == 0:
        yield info(WHERE, check, "it has no receive queue now", "It receives once a process opens it")
        return
    text = f"{counted(queues.rx, 'receive queue')} for {counted(facts.cpus, 'CPU')}"
    most = min(queues.max_rx, facts.cpus)
    if queues.rx >= most:
        yield ok(WHERE, check, f"{text}, at most {queues.max_rx}")
        return
    if facts.kind == "veth":
        fix = _more_veth_queues(facts, commands, most)
    elif queues.combined:
        fix = commands.ethtool("-L", facts.name, "combined", str(most))
    else:
        send = min(queues.max_tx, facts.cpus)
        fix = commands.ethtool("-L", facts.name, "rx", str(most), *(("tx", str(send)) if send else ()))
    yield info(WHERE, check, text, "Each queue is handled by one CPU: the others are idle", fix)


def _balance(facts: Facts, commands: Commands) -> Iterator[Finding]:
    """Whether one CPU handles nearly all packets despite several queues."""
    total, check = sum(facts.packets), "interface.balance"
    if facts.queues is None or facts.queues.rx < 2 or total < ENOUGH_PACKETS:
        return
    most = max(facts.packets)
    text = f"CPU {facts.packets.index(most)} handled {most / total:.0%} of {total} packets"
    if most / total < LOPSIDED:
        yield ok(WHERE, check, f"{text}, the highest share")
        return
    yield info(
        WHERE, check, f"{text}, although it has {facts.queues.rx} receive queues",
        "A flow stays on one queue, and several queues may interrupt the same CPU",
    )  # fmt: skip


def _more_veth_queues(facts: Facts, commands: Commands, most: int) -> str:
    """A veth receives on the queues its peer sends on. Native mode is refused if the peer has more transmit
    queues than this end has receive queues, so this end is changed first.
    """
    peer = facts.peer
    if peer is None or peer.max_tx is None:
        return ""
    most = min(most, peer.max_tx)
    if facts.queues is None or most <= facts.queues.rx:
        return ""
    here = commands.ethtool("-L", facts.name, "rx", str(most))
    return f"`{here}`, then `{Commands(peer.netns).ethtool('-L', peer.name, 'tx', str(most))}`"


def _vlan(facts: Facts, commands: Commands) -> Iterator[Finding]:
    """VLAN offload hides tags from XDP, which matters if VLANs are in use."""
    vlans = [upper.name for upper in facts.uppers if upper.kind == "vlan"]
    if vlans and facts.on("rx-vlan-hw-parse") and facts.kind != "veth":
        yield warn(
            WHERE, "interface.vlan-offload", f"the card strips VLAN tags ({some(vlans)})",
            "Components see the packets of all VLANs untagged and can't tell them apart",
            commands.ethtool("-K", facts.name, "rxvlan", "off"),
        )  # fmt: skip


def _stack(facts: Facts, commands: Commands) -> Iterator[Finding]:
    master, name = facts.master, facts.name
    above = (*facts.uppers, *((master,) if master is not None else ()))
    for upper in above:
        if upper.runs_xdp and facts.running.chain is None:
            yield error(
                WHERE, "interface.upper-program", f"{upper.name} ({upper.kind}) above it runs an XDP program",
                "The kernel accepts no program on a device below one that has a program",
                f"Add to the chain of {upper.name} instead: `{commands.xdptui('load', upper.name, 'OBJ')}`",
            )  # fmt: skip
    if master is not None and master.kind in ("bond", "team"):
        yield warn(
            WHERE, "interface.bond", f"it is a port of {master.name} ({master.kind})",
            f"A chain here sees only part of the traffic; while it runs, none can run on "
            f"{master.name}",
            commands.xdptui("load", master.name, "OBJ"),
        )  # fmt: skip
    elif master is not None:
        yield info(
            WHERE, f"interface.{'bridge' if master.kind == 'bridge' else 'master'}",
            f"it is a port of {master.name} ({master.kind})",
            f"A chain here decides before {master.name} does: what it drops never reaches the others",
        )  # fmt: skip
    if facts.kind == "bond" and facts.ports:
        yield info(
            WHERE, "interface.bond-ports", f"its ports are {some(facts.ports)}",
            "A chain here runs on each of them, so each must have native XDP and no program of its "
            "own; the bond's mode must be balance-rr, active-backup, balance-xor or 802.3ad",
        )  # fmt: skip
    if facts.uppers:
        listed = some(f"{upper.name} ({upper.kind})" for upper in facts.uppers)
        yield info(
            WHERE, "interface.uppers", f"{listed} {'is' if len(facts.uppers) == 1 else 'are'} on top of it",
            f"A chain on {name} sees their packets too, as they arrive from the wire",
        )  # fmt: skip
