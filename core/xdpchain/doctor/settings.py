# SPDX-License-Identifier: Apache-2.0
"""Kernel settings that matter to BPF, as the kernel reports them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from xdpchain.sys.libbpf import kernel_types_missing

from .finding import AS_ROOT, Finding, Topic, info, ok, warn

__all__ = ["examine_settings"]

SYSCTL = Path("/proc/sys")
KERNEL_TYPES = Path("/sys/kernel/btf/vmlinux")
LOCKDOWN = Path("/sys/kernel/security/lockdown")


def examine_settings() -> tuple[Finding, ...]:
    """Read all settings; one that can't be read is reported, not guessed."""
    return tuple(
        finding
        for look in (_types, _jit, _harden, _unprivileged, _statistics, _lockdown)
        for finding in look()
    )


def _types() -> Iterator[Finding]:
    try:
        with KERNEL_TYPES.open("rb") as file:
            readable = file.read(2) in (b"\x9f\xeb", b"\xeb\x9f")
    except OSError:
        readable = False
    why, helps = kernel_types_missing()
    if readable:
        yield ok(Topic.SETTINGS, "settings.vmlinux-btf", "the kernel's BTF (vmlinux) is available")
    else:
        yield warn(
            Topic.SETTINGS, "settings.vmlinux-btf", f"the kernel's BTF is missing: {why}",
            "Components that read kernel structures (CO-RE) can't be loaded, and fexit counting "
            "does not work",
            helps or "Boot a kernel with CONFIG_DEBUG_INFO_BTF=y (Debian's and Fedora's have it)",
        )  # fmt: skip


def _jit() -> Iterator[Finding]:
    # Whether programs are compiled was tried; this only checks what trying can't show.
    if _sysctl("net/core/bpf_jit_enable") == "2":
        yield warn(
            Topic.SETTINGS, "settings.jit-debug", "the JIT dumps all code to the kernel log",
            "net.core.bpf_jit_enable=2 is for developers: it reveals addresses and slows each load",
            "sysctl -w net.core.bpf_jit_enable=1",
        )  # fmt: skip


def _harden() -> Iterator[Finding]:
    value = _sysctl("net/core/bpf_jit_harden")
    check = "settings.jit-harden"
    if value == "2":
        yield info(
            Topic.SETTINGS, check, "JIT hardening is on for everybody (net.core.bpf_jit_harden=2)",
            "Constants are blinded in root's programs too: chains run slower, and code can't be listed",
            "`sysctl -w net.core.bpf_jit_harden=1` if only root loads programs",
        )  # fmt: skip
    elif value is not None:
        what = "off" if value == "0" else "on for unprivileged users"
        yield ok(Topic.SETTINGS, check, f"JIT hardening is {what} (net.core.bpf_jit_harden={value})")


def _unprivileged() -> Iterator[Finding]:
    value = _sysctl("kernel/unprivileged_bpf_disabled")
    check = "settings.unprivileged"
    if value == "0":
        yield warn(
            Topic.SETTINGS, check, "unprivileged users may load BPF programs",
            "Many kernel exploits used this (speculative execution, verifier bugs); XDP does not need it",
            "sysctl -w kernel.unprivileged_bpf_disabled=2",
        )  # fmt: skip
    elif value is not None:
        yield ok(Topic.SETTINGS, check, f"only privileged users can load BPF programs ({value})")


def _statistics() -> Iterator[Finding]:
    value = _sysctl("kernel/bpf_stats_enabled")
    check = "settings.statistics"
    if value == "1":
        yield info(
            Topic.SETTINGS, check, "run-time statistics are on (kernel.bpf_stats_enabled)",
            "They cost some 20 ns per packet and program; xdptui does not need them",
            "sysctl -w kernel.bpf_stats_enabled=0",
        )  # fmt: skip
    elif value is not None:
        yield ok(Topic.SETTINGS, check, "run-time statistics are off")


def _lockdown() -> Iterator[Finding]:
    check = "settings.lockdown"
    try:
        text = LOCKDOWN.read_text()
    except FileNotFoundError:
        mounted = LOCKDOWN.parent.is_dir() and any(LOCKDOWN.parent.iterdir())
        if mounted:
            yield ok(Topic.SETTINGS, check, "the kernel does not support lockdown")
        else:
            yield info(
                Topic.SETTINGS, check, "lockdown: not known, securityfs is not mounted",
                "In confidentiality mode the kernel refuses programs that read kernel memory",
                f"mount -t securityfs securityfs {LOCKDOWN.parent}",
            )  # fmt: skip
        return
    except OSError as denied:
        why = "In confidentiality mode the kernel refuses programs that read kernel memory"
        yield info(
            Topic.SETTINGS,
            check,
            f"lockdown: unknown ({denied.strerror})",
            why,
            AS_ROOT,
        )
        return
    chosen = re.search(r"\[(\w+)\]", text)
    mode = chosen[1] if chosen else "unknown"
    if mode == "confidentiality":
        yield warn(
            Topic.SETTINGS, check, "the kernel is locked down (confidentiality)",
            "Programs that read kernel memory are refused: fexit counting, and many components",
            "Boot with lockdown=integrity (or without lockdown) if your policy allows",
        )  # fmt: skip
    else:
        yield ok(Topic.SETTINGS, check, f"lockdown: {mode}")


def _sysctl(name: str) -> str | None:
    """A setting; None if it can't be read: net.core.bpf_* exist only in the initial network namespace."""
    try:
        return (SYSCTL / name).read_text().strip()
    except OSError:
        return None
