# SPDX-License-Identifier: Apache-2.0
"""What a trial can't know about a component, judging by what its code asks the kernel for. Pure.

Helpers are identified by number (enum bpf_func_id, include/uapi/linux/bpf.h), which never changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from xdpchain.frozen import frozen

from . import opcodes as op
from .instructions import instructions
from .opcodes import Helper

__all__ = ["TO_DEVICES", "Traits", "Where", "only_to_stack", "redirect_words", "traits", "words"]

CLOCKS = frozenset(
    {
        Helper.KTIME_GET_NS,
        Helper.JIFFIES64,
        Helper.KTIME_GET_BOOT_NS,
        Helper.KTIME_GET_COARSE_NS,
        Helper.KTIME_GET_TAI_NS,
    }
)
CTX_INGRESS, CTX_QUEUE = 12, 16  # offsets in struct xdp_md

NO_ELEMENTS = {"queue", "stack", "bloom_filter", "stack_trace"}
TO_DEVICES = ("devmap", "devmap_hash")


@frozen
class Traits:
    """What a component's code does that a trial can only partly do. ``ingress`` and ``queue``: it may read
    where a packet came in (its code reads a word at that offset of something).
    """

    helpers: frozenset[int] = frozenset()
    kernel_functions: bool = False
    device: bool = False
    ingress: bool = False
    queue: bool = False


@frozen
class Where:
    """A component in a trial: its slot and name, its maps' types (bpftool's spelling) by name, the names of
    those that were only partly copied, and the names of the devices in its device maps.
    """

    slot: int
    name: str
    maps: Mapping[str, str]
    partial: Sequence[str] = ()
    devices: Mapping[str, Sequence[str]] | None = None
    filled: bool = False
    """Its program arrays are filled from its object file, so a trial follows them."""
    runs: bool = False
    """It is a slot of the running chain, not of the candidate."""

    def __str__(self) -> str:
        return f"slot {self.slot} ({self.name}){' of what runs' * self.runs}"


def traits(code: bytes, *, device: bool = False) -> Traits:
    """What the instructions of a component and its subprograms do; ``device``: it reads RX metadata."""
    helpers = set()
    functions = ingress = queue = False
    for _, instruction in instructions(code):
        if instruction.code == op.CALL and instruction.source == op.CALL_HELPER:
            helpers.add(instruction.immediate)
        elif instruction.code == op.CALL and instruction.source == op.CALL_KFUNC:
            functions = True
        elif instruction.code == op.LDX_W:
            ingress |= instruction.offset == CTX_INGRESS
            queue |= instruction.offset == CTX_QUEUE
    return Traits(frozenset(helpers), functions, device, ingress, queue)


def words(where: Where, has: Traits, *, arrived: bool) -> tuple[str, ...]:
    """What can't be known about the component, a sentence each. ``arrived``: the packets appeared to arrive
    on the interface itself, not on the loopback device.
    """
    found = []
    if has.helpers & CLOCKS and Helper.GET_PRANDOM_U32 in has.helpers:
        found.append(f"{where} reads a clock and random numbers: at another time it may decide differently")
    elif has.helpers & CLOCKS:
        found.append(f"{where} reads a clock: at another time or packet rate it may decide differently")
    elif Helper.GET_PRANDOM_U32 in has.helpers:
        found.append(f"{where} reads random numbers: the next time it may decide differently")
    if Helper.TAIL_CALL in has.helpers and not where.filled:
        found.append(
            f"{where} tail-calls programs put into its array at run time: not followed, the "
            "trial continues as if the array were empty"
        )
    if has.kernel_functions:
        found.append(f"{where} calls kernel functions, which may answer differently for real packets")
    if has.device:
        found.append(f"{where} reads RX metadata (hash, timestamp, VLAN tag): a trial has none")
    if Helper.XDP_ADJUST_META in has.helpers:
        found.append(f"{where} passes metadata to the network stack, which a trial does not show")
    if Helper.PERF_EVENT_OUTPUT in has.helpers:
        found.append(f"{where} sends events to a reader: in a trial nobody receives them")
    if not arrived and (has.ingress or Helper.FIB_LOOKUP in has.helpers):
        found.append(f"{where} may look at the receiving interface: here that was lo")
    if has.queue:
        found.append(f"{where} may look at the receive queue: in a trial it is always 0")
    for name in where.partial:
        kind = where.maps.get(name, "")
        if kind in NO_ELEMENTS:
            found.append(f"{where} started with an empty copy of its map {name}: a {kind} can't be read")
        elif kind not in ("prog_array", "perf_event_array", "ringbuf", "user_ringbuf"):
            found.append(f"{where} had a partial copy of its map {name}, which is too large for a trial")
    return tuple(found)


def only_to_stack(where: Where, has: Traits) -> bool:
    """Whether the component can redirect only to another CPU, and from there to the network stack."""
    kinds = set(where.maps.values())
    return "cpumap" in kinds and not kinds & {*TO_DEVICES, "xskmap"} and Helper.REDIRECT not in has.helpers


def redirect_words(where: Where, has: Traits) -> str:
    """Where packets that the component redirects would go, as far as is known."""
    targets = []
    for name, devices in (where.devices or {}).items():
        targets.append(f"to {', '.join(devices) or 'nobody'} by its map {name}")
    for name, kind in where.maps.items():
        if kind == "cpumap":
            targets.append(f"to another CPU by its map {name}, and on to the network stack")
        elif kind == "xskmap":
            targets.append(f"to a process's AF_XDP socket by its map {name}")
    if Helper.REDIRECT in has.helpers:
        targets.append("to an interface that it chooses itself")
    where_to = ", or ".join(targets) or "somewhere"
    return f"{where} redirects {where_to}: whether packets arrive there is not known"
