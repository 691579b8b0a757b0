# SPDX-License-Identifier: Apache-2.0
"""Why the kernel refused to change an XDP hook, in words. Pure: it judges an errno by what else is known.

Source: dev_xdp_attach() in net/core/dev.c. One errno has several causes there (EEXIST: a lost race, another
mode, a device on top), and the extended ack's words differ between kernels, so the causes are told apart by
the device's state; the words are kept in ``detail``.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

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

__all__ = ["Attempt", "HookBusy", "ModeConflict", "MtuTooLarge", "NoNativeXdp", "attach_refused"]

_ENOTSUPP = 524  # the kernel's own, never meant for user space, but some drivers return it
_OTHER_MODE: dict[XdpMode, XdpMode] = {"native": "generic", "generic": "native"}


class HookBusy(Busy):
    """Another program, or a bpf_link, holds the hook."""


class ModeConflict(Busy):
    """A program runs in the other mode: native and generic exclude each other."""


class NoNativeXdp(Unsupported):
    """The driver has no XDP in this mode, or not in the device's present configuration."""


class MtuTooLarge(Unsupported):
    """The packets may be larger than what the driver can hand to a program that can't take frags."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What was tried. ``expected_id`` is the program that had to be there (None: none)."""

    ifindex: int
    mode: XdpMode
    detach: bool
    expected_id: int | None


def attach_refused(
    refusal: Refusal, attempt: Attempt, link: LinkInfo | None, features: frozenset[str] | None
) -> XdpChainError:
    """The error to raise; ``link`` is the device as it is after the refusal (None: gone)."""
    interface = link.name if link else f"interface {attempt.ifindex}"
    what = f"Can't {'remove the XDP program from' if attempt.detach else 'put an XDP program on'} {interface}"
    code, words, detail = refusal.code, refusal.words, refusal.detail
    if code in (errno.EPERM, errno.EACCES):
        return PermissionDenied(
            what, "it takes CAP_NET_ADMIN, which this process lacks", "Run it as root (sudo)", detail=detail
        )
    if code == errno.ENODEV or link is None:
        return NotFound(what, "it does not exist (any more)", "`ip link` shows the interfaces", detail=detail)
    if code in (errno.EEXIST, errno.EBUSY):
        return _occupied(what, refusal, attempt, link)
    if code == errno.ERANGE or "mtu" in words.lower() or "frags" in words.lower():
        return MtuTooLarge(
            what,
            f"{words} (its MTU is {link.mtu})",
            "Lower the MTU, of a veth's other end too, or use programs with frags support (SEC xdp.frags)",
            detail=detail,
        )
    if code in (errno.EOPNOTSUPP, _ENOTSUPP) and attempt.mode != "generic":
        never = (
            features is not None and ("basic" if attempt.mode == "native" else "hw-offload") not in features
        )
        return NoNativeXdp(
            what,
            f"its driver has no XDP in {attempt.mode} mode"
            if never
            else f"its driver refused {attempt.mode} mode: {words}",
            "Ask for generic mode (-m generic), which works with every driver but is slower"
            if never
            else "Change the device's configuration as the driver asks (ethtool), or ask for generic "
            "mode (-m generic)",
            detail=detail,
        )
    return KernelRefused(what, words, "The kernel's log (`dmesg`) may say more", detail=detail)


def _occupied(what: str, refusal: Refusal, attempt: Attempt, link: LinkInfo) -> XdpChainError:
    expected, detail = attempt.expected_id, refusal.detail
    here = link.program(attempt.mode)
    other = _OTHER_MODE.get(attempt.mode)
    there = link.program(other) if other else None
    if here is None and there is not None and expected in (None, there):
        return ModeConflict(
            what,
            f"program {there} runs there in {other} mode, and native and generic mode exclude each other",
            f"Ask for {other} mode, or remove that program first",
            detail=detail,
        )
    if expected is None and here is not None:
        return HookBusy(
            what,
            f"program {here} runs there already in {attempt.mode} mode",
            "Look at it with `xdptui status`; remove it with the tool that put it there",
            detail=detail,
        )
    if expected is not None and here != expected:
        now = f"program {here}" if here else f"program {there} in {other} mode" if there else "nothing"
        return RaceLost(
            what,
            f"program {expected} does not run there any more, but {now} does",
            "Read the chain again and repeat the edit",
            detail=detail,
        )
    if expected is not None and refusal.code == errno.EBUSY:
        return HookBusy(
            what,
            f"program {here} is held by a bpf_link, which only its owner can change",
            "Remove it with the tool that put it there",
            detail=detail,
        )
    return HookBusy(
        what,
        refusal.words,
        "Look for XDP programs on the devices on top of it (bond, bridge, team)",
        detail=detail,
    )
