# SPDX-License-Identifier: Apache-2.0
"""Explain why the kernel refused to change an XDP hook. Pure: it interprets an errno by what else is known.

Source: dev_xdp_attach() in net/core/dev.c. One errno can have several causes (EEXIST: a lost race, another
mode, a device on top), and the extended ack's text differs between kernels. So the device's state
distinguishes the causes; the text is kept in ``detail``.
"""

from __future__ import annotations

import errno
from typing import NamedTuple

from xdpchain.advice import SINGLE_BUFFER_MTU, Advice, Do, advise
from xdpchain.errors import (
    Busy,
    KernelRefused,
    NotFound,
    PermissionDenied,
    RaceLost,
    Unsupported,
    XdpChainError,
)

from .links import LinkInfo, XdpMode
from .transport import Refusal

__all__ = [
    "Attempt",
    "HookBusy",
    "ModeConflict",
    "MtuTooLarge",
    "NoNativeXdp",
    "attach_refused",
]

MOST_MTU = str(SINGLE_BUFFER_MTU)

_ENOTSUPP = 524  # internal to the kernel, but some drivers return it
_OTHER_MODE: dict[XdpMode, XdpMode] = {"native": "generic", "generic": "native"}


class HookBusy(Busy):
    """Another program, or a bpf_link, holds the hook."""


class ModeConflict(Busy):
    """A program runs in the other mode: native and generic exclude each other."""


class NoNativeXdp(Unsupported):
    """The driver does not support XDP in this mode, or not in the device's current configuration."""


class MtuTooLarge(Unsupported):
    """Packets may be too large for programs without multi-buffer support."""


class Attempt(NamedTuple):
    """What was tried. ``expected_id`` is the program that had to be on the hook (None: none)."""

    ifindex: int
    mode: XdpMode
    detach: bool
    expected_id: int | None


def attach_refused(
    refusal: Refusal,
    attempt: Attempt,
    link: LinkInfo | None,
    features: frozenset[str] | None,
    peer: tuple[LinkInfo, str | None] | None = None,
) -> XdpChainError:
    """The error to raise; ``link`` is the device after the refusal (None: gone), ``peer`` the other end of a
    pair and the name of its namespace.
    """
    interface = link.name if link else f"interface {attempt.ifindex}"
    what = f"Can't {'remove the XDP program from' if attempt.detach else 'put an XDP program on'} {interface}"
    code, words, detail = refusal.code, refusal.words, refusal.detail
    if code in (errno.EPERM, errno.EACCES):
        return PermissionDenied(
            what,
            "CAP_NET_ADMIN is needed, which this process lacks",
            advise(Do.GET_PERMISSION, "CAP_NET_ADMIN"),
            detail=detail,
        )
    if code == errno.ENODEV or link is None:
        return NotFound(what, "it does not exist (any more)", advise(Do.LIST_INTERFACES), detail=detail)
    if code in (errno.EEXIST, errno.EBUSY):
        return _occupied(what, refusal, attempt, link, interface)
    if code == errno.ERANGE or "mtu" in words.lower() or "frags" in words.lower():
        return _mtu_too_large(what, refusal, link, peer)
    if code in (errno.EOPNOTSUPP, _ENOTSUPP) and attempt.mode != "generic":
        never = (
            features is not None and ("basic" if attempt.mode == "native" else "hw-offload") not in features
        )
        return NoNativeXdp(
            what,
            f"its driver has no XDP in {attempt.mode} mode"
            if never
            else f"its driver refused {attempt.mode} mode: {words}",
            advise(Do.CHOOSE_GENERIC),
            detail=detail,
        )
    return KernelRefused(what, words, "The kernel's log (`dmesg`) may say more", detail=detail)


def _mtu_too_large(
    what: str, refusal: Refusal, link: LinkInfo, peer: tuple[LinkInfo, str | None] | None
) -> MtuTooLarge:
    words, generic = refusal.words, advise(Do.CHOOSE_GENERIC) | advise(Do.BUILD_FOR_FRAGMENTS)
    if "peer" not in words.lower():
        why = f"{words} (its MTU is {link.mtu})"
        return MtuTooLarge(
            what, why, Advice(Do.LOWER_MTU, link.name, None, (MOST_MTU,)) | generic, detail=refusal.detail
        )
    if peer is None:
        why = f"{words} (its peer is in a namespace without a name here)"
        return MtuTooLarge(what, why, generic, detail=refusal.detail)
    other, netns = peer
    where = f" in namespace {netns}" if netns else ""
    why = f"{words} (its peer {other.name}{where} has MTU {other.mtu})"
    lower = Advice(Do.LOWER_MTU, other.name, netns or "", (MOST_MTU,))
    return MtuTooLarge(what, why, lower | generic, detail=refusal.detail)


def _occupied(what: str, refusal: Refusal, attempt: Attempt, link: LinkInfo, interface: str) -> XdpChainError:
    expected, detail = attempt.expected_id, refusal.detail
    here = link.program(attempt.mode)
    other = _OTHER_MODE.get(attempt.mode)
    there = link.program(other) if other else None
    if here is None and there is not None and expected in (None, there):
        return ModeConflict(
            what,
            f"program {there} runs there in {other} mode; native and generic mode exclude each other",
            f"Use {other} mode, or remove that program first",
            detail=detail,
        )
    if expected is None and here is not None:
        return HookBusy(
            what,
            f"program {here} already runs there in {attempt.mode} mode",
            Advice(Do.LOOK, interface) | advise(Do.ASK_OWNER),
            detail=detail,
        )
    if expected is not None and here != expected:
        now = f"program {here}" if here else f"program {there} in {other} mode" if there else "nothing"
        return RaceLost(
            what,
            f"program {expected} no longer runs there; {now} does",
            advise(Do.READ_AGAIN),
            detail=detail,
        )
    if expected is not None and refusal.code == errno.EBUSY:
        return HookBusy(
            what,
            f"program {here} is held by a bpf_link, which only its owner can change",
            advise(Do.ASK_OWNER),
            detail=detail,
        )
    return HookBusy(
        what,
        refusal.words,
        "Look for XDP programs on its upper devices (bond, bridge, team)",
        detail=detail,
    )
