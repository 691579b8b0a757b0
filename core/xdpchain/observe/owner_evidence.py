# SPDX-License-Identifier: Apache-2.0
"""Whose program is it that is not ours? Known products by their marks, anybody else by who holds it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from xdpchain.model.chain import Mode
from xdpchain.model.commands import Commands

__all__ = ["Evidence", "Held", "Verdict", "judge"]


@dataclass(frozen=True, slots=True)
class Held:
    """A process that has the program, or the link that attaches it, open."""

    pid: int
    command: str
    holds: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a program on a hook. ``maps`` are names as the kernel keeps them, ``pins`` paths of
    the program, its link (``link_pins``) and its maps; ``complete``: all processes and pins were looked at.
    """

    interface: str
    mode: Mode
    prog_id: int
    name: str
    link_id: int | None = None
    maps: tuple[str, ...] = ()
    link_pins: tuple[str, ...] = ()
    pins: tuple[str, ...] = ()
    held: tuple[Held, ...] = ()
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Verdict:
    """``who`` in words, empty where it is not known; ``how`` it is attached; and what removes it."""

    who: str
    how: str
    fix: str


@dataclass(frozen=True, slots=True)
class Product:
    """Marks of one product: beginnings of program names; names of maps, or their beginnings where they end in
    an underscore; parts of pin paths.
    """

    who: str
    fix: str
    names: tuple[str, ...] = ()
    maps: tuple[str, ...] = ()
    pins: tuple[str, ...] = ()


PRODUCTS = (
    Product(  # cilium: bpf/bpf_xdp.c, pkg/datapath/loader
        "Cilium's",
        "Set loadBalancer.acceleration=disabled in Cilium's Helm values, and restart its agent",
        ("cil_xdp_",), ("cilium_",), ("/cilium/", "/tc/globals/cilium_"),
    ),
    Product(  # calico: felix/bpf-gpl/xdp.c
        "Calico's",
        "calicoctl patch felixconfiguration default --patch '{\"spec\":{\"xdpEnabled\":false}}'",
        ("xdp_calico", "cali_xdp", "calico_xdp"), (), ("/calico/",),
    ),
    Product(  # katran: lib/bpf/balancer.bpf.c
        "katran's", "Stop katran's server, which detaches it",
        ("balancer_ingres",), ("ch_rings", "vip_map"), (),
    ),
    Product(  # katran: lib/bpf/xdp_root.c
        "a root program for others (katran, or a tool made like it)",
        "Stop the tool that owns it: its program array runs whatever was put into it",
        ("xdp_root",), ("root_array", "xdp_root_array"), (),
    ),
    Product(  # bpfman: pins and a dispatcher of its own
        "bpfman's", "bpfman list programs, then bpfman unload ID", (), (), ("/bpfman/",),
    ),
    Product(  # xdp-tools: lib/libxdp/xsk_def_xdp_prog.c
        "an AF_XDP application's (its libxdp loaded the default program)",
        "Stop the application (DPDK, Suricata, Open vSwitch...), or let it load by a dispatcher",
        ("xsk_def_prog", "xsk_prog", "xdp_sock_prog"), ("xsks_map",), (),
    ),
    Product(  # xdp-tools: xdp-filter
        "xdp-filter's, loaded without a dispatcher", "xdp-filter unload INTERFACE",
        ("xdpfilt_",), (), (),
    ),
)  # fmt: skip


def judge(evidence: Evidence, commands: Commands) -> Verdict:
    """Name the owner as far as it shows, and say what removes the program."""
    product = next((one for one in PRODUCTS if _marked(one, evidence)), None)
    how = _how(evidence)
    holders = ", ".join(f"{one.command} (pid {one.pid})" for one in _holding(evidence))
    if product is not None:
        who = f"{product.who}; {holders} has it open" if holders else product.who
        return Verdict(who, how, product.fix.replace("INTERFACE", evidence.interface))
    who = f"of {holders}" if holders else ""
    return Verdict(who, how, _removal(evidence, commands))


def _marked(product: Product, evidence: Evidence) -> bool:
    return (
        (bool(product.names) and evidence.name.startswith(product.names))
        or any(_same(name, mark) for name in evidence.maps for mark in product.maps)
        or any(mark in pin for pin in evidence.pins for mark in product.pins)
    )


def _same(name: str, mark: str) -> bool:
    """A map's name against a mark; one that ends in an underscore is the beginning of many."""
    return name.startswith(mark) if mark.endswith("_") else name == mark


def _holding(evidence: Evidence) -> tuple[Held, ...]:
    """Who holds the link, or else the program; a process once."""
    by_link = [one for one in evidence.held if one.holds == "link"]
    return tuple({one.pid: one for one in by_link or evidence.held}.values())


def _how(evidence: Evidence) -> str:
    if evidence.link_id is None:
        return "attached by netlink"
    if evidence.link_pins:
        return f"held by bpf_link {evidence.link_id}, pinned at {evidence.link_pins[0]}"
    return f"held by bpf_link {evidence.link_id}"


def _removal(evidence: Evidence, commands: Commands) -> str:
    held = _holding(evidence)
    if evidence.link_id is not None:
        if held:
            pids = " ".join(str(one.pid) for one in held)
            return f"Stop that process (`systemctl status {pids}` names its service): the link goes with it"
        if evidence.link_pins:
            return f"rm {evidence.link_pins[0]}, if you know that its owner is gone"
        return f"bpftool link detach id {evidence.link_id}"
    flag = {Mode.GENERIC: "xdpgeneric", Mode.NATIVE: "xdpdrv", Mode.OFFLOAD: "xdpoffload"}[evidence.mode]
    if evidence.mode is Mode.OFFLOAD:
        return commands.ip(f"link set dev {evidence.interface} {flag} off")
    adopt = commands.xdptui(f"adopt {evidence.interface} OBJ")
    off = commands.ip(f"link set dev {evidence.interface} {flag} off")
    return f"{adopt} (OBJ is its object file: it becomes a chain's first slot), or {off}"
