# SPDX-License-Identifier: Apache-2.0
"""Whose program is it that is not ours? Known products by their marks, anybody else by who holds it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from xdpchain.advice import Advice, Do, advise
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
    """What is known of a program on a hook, and of the components behind it, where it is a dispatcher.
    ``maps`` are names as the kernel keeps them, ``pins`` paths of the programs, the link (``link_pins``) and
    the maps; ``complete``: all processes and pins were looked at; ``adoptable``: it may become a chain.
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
    netns: str | None = None
    adoptable: bool = True


@dataclass(frozen=True, slots=True)
class Verdict:
    """``who`` in words, empty where it is not known; ``how`` it is attached; and who can change it. It runs,
    so nothing here detaches it.
    """

    who: str
    how: str
    fix: str | Advice


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
        "a root program for others (katran, or a similar tool)",
        "Stop the tool that owns it: its program array runs whatever was put into it",
        ("xdp_root",), ("root_array", "xdp_root_array"), (),
    ),
    Product(  # bpfman: pins and a dispatcher of its own
        "bpfman's", "`bpfman list programs` shows it: change it with bpfman", (), (), ("/bpfman/",),
    ),
    Product(  # bpfilter: src/libbpfilter/cgen/handle.h; its pins are in bpfilter/NAME
        "bpfilter's", "`bfcli ruleset get` shows it: change it with bfcli",
        ("bf_prog",), (), ("/bpfilter/",),
    ),
    Product(  # xdp-tools: lib/libxdp/xsk_def_xdp_prog.c
        "an AF_XDP application's (its libxdp loaded the default program)",
        "Stop the application (DPDK, Suricata, Open vSwitch...), or make it load through a dispatcher",
        ("xsk_def_prog", "xsk_prog", "xdp_sock_prog"), ("xsks_map",), (),
    ),
    Product(  # xdp-tools: xdp-filter
        "xdp-filter's, loaded without a dispatcher", "`XDP_FILTER` removes it",
        ("xdpfilt_",), (), (),
    ),
)  # fmt: skip


def judge(evidence: Evidence, commands: Commands) -> Verdict:
    """Name the owner as far as it shows, and say who can change the program."""
    product = next((one for one in PRODUCTS if _marked(one, evidence)), None)
    how = _how(evidence)
    holders = ", ".join(f"{held.command} (pid {held.pid})" for held in _holding(evidence))
    if product is not None:
        who = f"{product.who}; {holders} has it open" if holders else product.who
        return Verdict(
            who,
            how,
            product.fix.replace("XDP_FILTER", commands.inside("xdp-filter", "unload", evidence.interface)),
        )
    who = f"of {holders}" if holders else ""
    return Verdict(who, how, _way_out(evidence))


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
    by_link = [held for held in evidence.held if held.holds == "link"]
    return tuple({held.pid: held for held in by_link or evidence.held}.values())


def _how(evidence: Evidence) -> str:
    if evidence.link_id is None:
        return "attached by netlink"
    if evidence.link_pins:
        return f"held by bpf_link {evidence.link_id}, pinned at {evidence.link_pins[0]}"
    return f"held by bpf_link {evidence.link_id}"


def _way_out(evidence: Evidence) -> str | Advice:
    held = _holding(evidence)
    if held:
        pids = " ".join(str(one.pid) for one in held)
        return f"That process decides: `systemctl status {pids}` names its service"
    if evidence.link_id is not None:
        return advise(Do.FIND_OWNER)
    if not evidence.adoptable:
        return advise(Do.ASK_OWNER)
    return Advice(Do.ADOPT, evidence.interface, evidence.netns) | advise(Do.FIND_OWNER)
