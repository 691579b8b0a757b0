# SPDX-License-Identifier: Apache-2.0
"""The state of an interface as frozen values: the device, its XDP hook, and the chain on it."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from xdpchain.advice import Advice
from xdpchain.frozen import frozen

from .chain import Chain, Linkage
from .interface import Interface, Mode
from .linkage import UNLINKED, LinkageFacts

if TYPE_CHECKING:
    from .counting import Counting
    from .following import Following
    from .link_layer import LinkLayer
    from .pending_change import ConfirmOutcome, PendingChange

__all__ = ["Device", "DispatcherInfo", "Hook", "Identity", "Owner", "Running"]

Identity = tuple[int, tuple[int, ...], str, int]
"""Distinguishes states of an interface: `Running.identity`."""


class Owner(StrEnum):
    """Whose program holds the hook."""

    XDPTUI = "xdptui"
    LIBXDP = "libxdp"
    BPFMAN = "bpfman"
    FOREIGN = "foreign"
    UNKNOWN = "unknown"
    """It can't be read, so its owner is unknown."""


@frozen
class Device:
    """Facts about the device that matter to XDP.

    ``features``: the driver's XDP features (kernel 6.3 and later), None if not reported; ``rx``/``tx``:
    (packets, bytes) as counted by the interface. ``arphrd`` and ``kind`` (rtnetlink's, None for hardware)
    determine its link layer (`link_layer`). ``netns_inode`` identifies its network namespace among those that
    exist now (0: unknown), ``netns_cookie`` among all since boot (None before kernel 5.14, e8b9eab99232).
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


@frozen
class Hook:
    """The program on an interface's XDP hook. ``link_id`` is set if a bpf_link holds it."""

    mode: Mode
    prog_id: int
    name: str
    tag: str
    link_id: int | None = None


@frozen
class DispatcherInfo:
    """The dispatcher's program ID, the version of its configuration block, and whether it is ``bound`` to the
    interface because a component reads RX metadata.
    """

    id: int
    version: int
    bound: bool = False


@frozen
class Running:
    """One interface and what runs on it.

    ``chain`` is None if nothing runs or if it can't be edited (``note`` tells the operator why, ``todo`` what
    to do); ``shown`` is then that chain as far as known, for display only. ``hooks`` has more than one
    element if native and offloaded programs run at once. ``pending`` is the pending change, ``settled`` the
    outcome of the last one, until the next change. ``replaces_prog_id``: the ID of the equivalent program
    that the one on the hook replaced, such as one that records packets (``following`` says for whom).
    ``arrays``: map IDs of a tail-call chain's program arrays, one per slot; empty if the kernel emptied them.

    ``counters_map`` identifies the count of a chain with its own counters by the ID of the first map: it
    stays the same through edits for as long as counts continue. ``counting`` is where the counts are now;
    under freplace linkage these are the components' own, without a ``counters_map``. ``form``: how a static
    chain's components were linked into its program (`threaded`, `inlined`, `calls`); ``form_reason``: why not
    in a cheaper form, or under freplace linkage, why components don't count.
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
    pending: PendingChange | None = None
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
        """Whether it can be edited: the hook is free, or holds a known chain."""
        return not self.hooks or self.chain is not None

    @property
    def linkage_facts(self) -> LinkageFacts:
        """What its linkage can do; `UNLINKED` if what runs is not a chain."""
        return self.linkage.facts if self.linkage is not None else UNLINKED

    @property
    def emptied(self) -> bool:
        """Whether this is a tail-call chain whose program arrays the kernel emptied, so only the first slot
        runs. Followed chains have no arrays either but are not emptied.
        """
        bare = self.linkage_facts.through_arrays and not self.arrays
        return bare and self.chain is not None and self.following is None

    @property
    def identity(self) -> Identity:
        """What must be unchanged for an edit: the ifindex, the program IDs on the hook (never reused) or that
        of the replaced equivalent program, whatever can change in a chain without a new program, and the
        network namespace (what a name, path or process refers to may change).
        """
        ids = tuple(hook.prog_id for hook in self.hooks)
        turns = self.chain.turns if self.chain is not None else ""
        return (
            self.interface.ifindex,
            ids if self.replaces_prog_id is None else (self.replaces_prog_id, *ids[1:]),
            turns,
            self.device.netns_inode,
        )
