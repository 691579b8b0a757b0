# SPDX-License-Identifier: Apache-2.0
"""What was found on an interface, as frozen values: the device, its XDP hook, and the chain behind it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from xdpchain.advice import Advice

from .chain import Chain, Interface, Linkage, Mode

if TYPE_CHECKING:
    from .counting import Counting
    from .following import Following
    from .link_layer import LinkLayer
    from .pending_change import ConfirmOutcome, PendingChange

__all__ = ["Device", "DispatcherInfo", "Hook", "Identity", "Owner", "Running"]

Identity = tuple[int, tuple[int, ...], str, int]
"""What tells one state of an interface from another: `Running.identity`."""


class Owner(StrEnum):
    """Whose program holds the hook."""

    XDPTUI = "xdptui"
    LIBXDP = "libxdp"
    BPFMAN = "bpfman"
    FOREIGN = "foreign"
    UNKNOWN = "unknown"
    """It can't be read, so nobody is said to own it."""


@dataclass(frozen=True, slots=True)
class Device:
    """Facts about the device that matter to XDP.

    ``features`` are the driver's XDP features (kernel 6.3 on), None where the kernel can't tell;
    ``rx``/``tx`` are (packets, bytes) as the interface itself counts them. ``arphrd`` and ``kind``
    (rtnetlink's, None for hardware) say how its packets begin (`link_layer`). ``netns_inode`` tells its
    network namespace from others of this moment (0: not known), ``netns_cookie`` from others of this boot
    (None before kernel 5.14, e8b9eab99232).
    """

    interface: Interface
    up: bool
    operstate: str
    mtu: int
    driver: str | None
    features: frozenset[str] | None
    rx: tuple[int, int] = (0, 0)
    tx: tuple[int, int] = (0, 0)
    address: str | None = None
    arphrd: int = 1
    kind: str | None = None
    netns_inode: int = 0
    netns_cookie: int | None = None

    @property
    def layer(self) -> LinkLayer:
        from .link_layer import link_layer

        return link_layer(self.arphrd, self.kind)


@dataclass(frozen=True, slots=True)
class Hook:
    """The program on an interface's XDP hook. ``link_id`` is set where a bpf_link holds it."""

    mode: Mode
    prog_id: int
    name: str
    tag: str
    link_id: int | None = None


@dataclass(frozen=True, slots=True)
class DispatcherInfo:
    """The dispatcher's prog id, the version of its configuration block, and whether it is ``bound`` to the
    interface, for some component reads RX metadata.
    """

    id: int
    version: int
    bound: bool = False


@dataclass(frozen=True, slots=True)
class Running:
    """One interface and what runs on it.

    ``chain`` is None where nothing runs, and where what runs can't be edited (``note`` says why, in words
    for the operator, and ``todo`` what helps); ``shown`` is that chain as far as it is known, for the eye
    alone. ``hooks`` has more than one element where native and offloaded programs run at once. ``armed`` is
    a change that rolls back unless it is confirmed, ``settled`` what became of the last one, until the next
    change.
    ``replaces_prog_id`` is the id of the program whose place the one on the hook took without changing
    anything, as that does which records the way of packets: ``following`` says for whom. ``arrays`` are the
    map ids of a tail-call chain's program arrays, one a slot; none where the kernel emptied them.

    ``counters_map`` names the counting of a chain that counts by itself, by the id of the map that it began
    with: it stays the same for as long as counts go on, through edits. ``counting`` is where the counts are
    now; under freplace linkage of the components that count for themselves, and there is no ``counters_map``.
    ``form`` says what the components of a static chain became in its one program (`threaded`, `inlined`,
    `calls`), ``form_reason`` why not what costs less; under freplace linkage, why components don't count.
    """

    device: Device
    hooks: tuple[Hook, ...] = ()
    owner: Owner | None = None
    linkage: Linkage | None = None
    dispatcher: DispatcherInfo | None = None
    chain: Chain | None = None
    counters_map: int | None = None
    note: str = ""
    shown: Chain | None = None
    armed: PendingChange | None = None
    settled: ConfirmOutcome | None = None
    replaces_prog_id: int | None = None
    following: Following | None = None
    arrays: tuple[int, ...] = ()
    counting: Counting | None = None
    form: str = ""
    form_reason: str = ""
    todo: str | Advice = ""

    @property
    def interface(self) -> Interface:
        return self.device.interface

    @property
    def hook(self) -> Hook | None:
        return self.hooks[0] if self.hooks else None

    @property
    def mode(self) -> Mode | None:
        return self.hooks[0].mode if self.hooks else None

    @property
    def editable(self) -> bool:
        """Whether a candidate can be made from this: the hook is free, or holds a chain that we know."""
        return not self.hooks or self.chain is not None

    @property
    def emptied(self) -> bool:
        """Whether this is a tail-call chain whose program arrays the kernel emptied: no slot runs but the
        first. While somebody follows it, it has none.
        """
        bare = self.linkage is Linkage.TAILCALL and not self.arrays
        return bare and self.chain is not None and self.following is None

    @property
    def identity(self) -> Identity:
        """What an edit expects to find unchanged: the ifindex, the prog ids on the hook (the kernel reuses
        none) or that of the program which the one on the hook stands for, what can change in a chain without
        another program, and the network namespace (what a name, a path or a process leads to may change).
        """
        ids = tuple(hook.prog_id for hook in self.hooks)
        turns = self.chain.turns if self.chain is not None else ""
        return (
            self.interface.ifindex,
            ids if self.replaces_prog_id is None else (self.replaces_prog_id, *ids[1:]),
            turns,
            self.device.netns_inode,
        )
