# SPDX-License-Identifier: Apache-2.0
"""What this process is not permitted to do, and what it would take."""

from __future__ import annotations

import errno
from typing import NamedTuple

from xdpchain.advice import Advice, Do, advise
from xdpchain.errors import PermissionDenied, XdpChainError
from xdpchain.sys import bpf, bpffs
from xdpchain.sys.capabilities import effective_capabilities

__all__ = [
    "Capability",
    "missing_capabilities",
    "missing_privileges",
    "require_capabilities",
    "require_reading",
    "unseen",
]

CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_PERFMON, CAP_BPF = 12, 21, 38, 39

RETURN_PASS = bytes.fromhex("b7000000020000009500000000000000")


class Capability(NamedTuple):
    """Something missing: its name, what can't be done without it, and how to get it."""

    name: str
    why: str
    todo: str | Advice = ""


NEEDED = (
    (
        CAP_SYS_ADMIN,
        "CAP_SYS_ADMIN",
        "programs and maps can't be opened by id: chains can't be read or edited",
    ),
    (CAP_BPF, "CAP_BPF", "programs and maps can't be loaded"),
    (CAP_PERFMON, "CAP_PERFMON", "the verifier treats programs as untrusted and refuses most"),
    (CAP_NET_ADMIN, "CAP_NET_ADMIN", "programs can't be attached to interfaces"),
)


def missing_capabilities() -> tuple[Capability, ...]:
    """What prevents editing chains; () if nothing does.

    capget(2) tells the capabilities (CAP_SYS_ADMIN includes CAP_BPF and CAP_PERFMON, as before kernel 5.8).
    If all are present, loading a minimal XDP program is tried, since kernel policy may still forbid it.
    """
    if missing := missing_privileges():
        return missing
    try:
        bpf.prog_load(bpf.ProgType.XDP, RETURN_PASS, name="xdptui_probe").close()
    except bpf.BpfError as error:
        if error.errno in (errno.EPERM, errno.EACCES):
            why = "the kernel forbids XDP programs despite the capabilities (lockdown, LSM, seccomp)"
            return (
                Capability(
                    "permission for bpf(2)", why, "Ask the administrator of this kernel; dmesg may say more"
                ),
            )
        raise bpf.refusal(error, "a minimal XDP program can't be loaded") from error
    return ()


def require_capabilities() -> None:
    """Raise PermissionDenied, naming what is missing, unless this process can edit chains.

    Without CAP_SYS_ADMIN a first chain could be attached but not read back.
    """
    if missing := missing_privileges():
        raise PermissionDenied(
            "XDP chains can't be changed by this process",
            "; ".join(f"{capability.name} is missing: {capability.why}" for capability in missing),
            advise(Do.GET_PERMISSION, *(capability.name for capability in missing)),
        )


def require_reading(what: str) -> None:
    """Raise PermissionDenied, "``what`` can't be read", if this process can't open programs by ID."""
    lacking = [privilege for privilege in missing_privileges() if privilege.name == "CAP_SYS_ADMIN"]
    if lacking:
        raise PermissionDenied(f"{what} can't be read", f"{lacking[0].name} is needed", lacking[0].todo)


def unseen() -> tuple[str, ...]:
    """What this process can't see of this machine's chains, and why, a sentence each; () if it sees
    everything.

    In no kernel up to 6.18 does a BPF token (6.9 and later) replace CAP_SYS_ADMIN here: it allows loading
    programs, types and maps, but not opening them by ID.
    """
    limits = []
    if any(privilege.name == "CAP_SYS_ADMIN" for privilege in missing_privileges()):
        limits.append(
            "chains, their owners, maps and counts: opening programs by id needs CAP_SYS_ADMIN, which "
            "no BPF token provides"
        )
    try:
        with bpffs.open_below("xdptui"):
            pass
    except (XdpChainError, FileNotFoundError) as error:
        if isinstance(error, PermissionDenied):
            limits.append(f"pending changes and kept maps: {error.what}, {error.why}")
    except OSError as error:
        limits.append(f"pending changes and kept maps: {error.strerror}")
    return tuple(limits)


def missing_privileges() -> tuple[Capability, ...]:
    """The capabilities needed for editing that this process lacks."""
    held = effective_capabilities()
    return tuple(
        Capability(name, why, advise(Do.GET_PERMISSION, name))
        for bit, name, why in NEEDED
        if not held >> bit & 1 and not (bit in (CAP_BPF, CAP_PERFMON) and held >> CAP_SYS_ADMIN & 1)
    )
