# SPDX-License-Identifier: Apache-2.0
"""Identify a foreign program's owner: known products by their marks, others by open descriptors. Pure."""

from __future__ import annotations

from xdpchain.advice import Advice, Do, advise
from xdpchain.frozen import frozen
from xdpchain.model.commands import Commands
from xdpchain.model.interface import Mode

__all__ = ["Evidence", "Held", "Ownership", "judge"]


@frozen
class Held:
    """A process with an open descriptor for the program or the link that attaches it."""

    pid: int
    command: str
    holds: str


@frozen
class Evidence:
    """What is known about a program on a hook, and its components if it is a dispatcher. ``maps``: names as
    the kernel stores them; ``pins``: paths of the programs, the link (``link_pins``) and the maps;
    ``complete``: all processes and pins were inspected; ``adoptable``: it may become a chain.
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


@frozen
class Ownership:
    """``who`` owns it, as text, empty if unknown; ``how`` it is attached; and how to change it. It is
    running, so ``fix`` never detaches it.
    """

    who: str
    how: str
    fix: str | Advice


@frozen
class Product:
    """Marks of a product: prefixes of program names; map names, or prefixes if they end in an underscore;
    parts of pin paths.
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
    Product(  # bpfilter: src/libbpfilter/cgen/cgen.c and program.c; its pins are in bpfilter/NAME
        "bpfilter's", "`bfcli ruleset get` shows it: change it with bfcli",
        ("bf_prog",), ("bf_cmap", "bf_pmap", "bf_set_"), ("/bpfilter/",),
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


def judge(evidence: Evidence, commands: Commands) -> Ownership:
    """Name the owner as far as known, and how the program can be changed."""
    product = next((candidate for candidate in PRODUCTS if _marked(candidate, evidence)), None)
    how = _how(evidence)
    holders = ", ".join(f"{held.command} (pid {held.pid})" for held in _holding(evidence))
    if product is not None:
        who = f"{product.who}; {holders} has it open" if holders else product.who
        return Ownership(
            who,
            how,
            product.fix.replace("XDP_FILTER", commands.inside("xdp-filter", "unload", evidence.interface)),
        )
    who = f"of {holders}" if holders else ""
    return Ownership(who, how, _way_out(evidence))


def _marked(product: Product, evidence: Evidence) -> bool:
    return (
        (bool(product.names) and evidence.name.startswith(product.names))
        or any(_same(name, mark) for name in evidence.maps for mark in product.maps)
        or any(mark in pin for pin in evidence.pins for mark in product.pins)
    )


def _same(name: str, mark: str) -> bool:
    """Compare a map's name with a mark, which is a prefix if it ends in an underscore."""
    return name.startswith(mark) if mark.endswith("_") else name == mark


def _holding(evidence: Evidence) -> tuple[Held, ...]:
    """Who holds the link, or else the program, each process once."""
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
        pids = " ".join(str(process.pid) for process in held)
        return f"That process decides: `systemctl status {pids}` names its service"
    if evidence.link_id is not None:
        return advise(Do.FIND_OWNER)
    if not evidence.adoptable:
        return advise(Do.ASK_OWNER)
    return Advice(Do.ADOPT, evidence.interface, evidence.netns) | advise(Do.FIND_OWNER)
