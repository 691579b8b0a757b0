# SPDX-License-Identifier: Apache-2.0
"""Check the BPF filesystem: is it mounted and writable, and does it hold stale pins?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from xdpchain.change.stale import stale_pins
from xdpchain.errors import XdpChainError
from xdpchain.linkage.array_pins import DIRECTORY as ARRAYS
from xdpchain.model.commands import quote
from xdpchain.model.naming import some
from xdpchain.observe.trace.pins import SUBDIRECTORY as TRACES
from xdpchain.sys import bpf, bpffs

from .finding import AS_ROOT, Finding, Topic, error, info, ok, warn

__all__ = ["examine_storage"]


def examine_storage() -> tuple[Finding, ...]:
    """Check only: nothing is removed, or mounted (unless LIBXDP_BPFFS_AUTOMOUNT allows it)."""
    try:
        path = bpffs.find()
    except XdpChainError as missing:
        return (
            warn(
                Topic.BPFFS, "bpffs.mounted", f"{missing.what}: {missing.why}",
                "Without it there is no freplace linkage, and libxdp's chains and chains with "
                "program arrays can't be edited",
                bpffs.mount_command(),
            ),
        )  # fmt: skip
    return (
        ok(Topic.BPFFS, "bpffs.mounted", f"the BPF filesystem is mounted at {path}"),
        *_writable(path),
        *_private(),
        *_several(path),
        *_stale(),
    )


def _writable(path: Path) -> Iterator[Finding]:
    read_only = os.statvfs(path).f_flag & os.ST_RDONLY
    if read_only:
        yield error(
            Topic.BPFFS, "bpffs.writable", f"{path} is mounted read-only",
            "Chains with pins can't be changed", f"mount -o remount,rw {quote(str(path))}",
        )  # fmt: skip
    elif not os.access(path, os.W_OK | os.X_OK):
        yield warn(
            Topic.BPFFS, "bpffs.writable", f"this process can't write to {path}",
            "Chains with pins can't be changed, and libxdp's chains can't be read", AS_ROOT,
        )  # fmt: skip
    else:
        yield ok(Topic.BPFFS, "bpffs.writable", f"{path} is writable")


def _private() -> Iterator[Finding]:
    check = "bpffs.private"
    why = "Other users could plant links and pins there: changes that need it are refused"
    try:
        distrusted = bpffs.distrusted(bpffs.SUBDIRECTORY, ARRAYS, TRACES)
    except XdpChainError as failed:
        yield info(Topic.BPFFS, check, f"its permissions were not checked: {failed}", why, failed.todo)
        return
    for refused in distrusted:
        yield warn(Topic.BPFFS, check, f"{refused.what}: {refused.why}", why, refused.command)
    if not distrusted:
        yield ok(Topic.BPFFS, check, "only root can write to it")


def _several(path: Path) -> Iterator[Finding]:
    devices: dict[int, Path] = {}
    for mount in bpffs.mounts():
        try:
            devices.setdefault(os.stat(mount).st_dev, mount)
        except OSError:
            continue
    others = [str(mount) for device, mount in devices.items() if device != os.stat(path).st_dev]
    if others:
        yield info(
            Topic.BPFFS, "bpffs.several", f"there are other BPF filesystems: {some(sorted(others))}",
            "Tools that use another one don't see each other's pins: their chains look like "
            "chains with lost pins",
            "Set LIBXDP_BPFFS to the one that all tools use",
        )  # fmt: skip


def _stale() -> Iterator[Finding]:
    check = "bpffs.stale-pins"
    try:
        stale = stale_pins()
    except (XdpChainError, bpf.BpfError, OSError) as refused:
        why = "Unused pins keep programs and maps in memory"
        todo = (isinstance(refused, XdpChainError) and refused.todo) or AS_ROOT
        yield info(Topic.BPFFS, check, f"stale pins were not checked: {refused}", why, todo)
        return
    for pins in stale:
        what = f"stale pins in {pins.path}: {pins.why}"
        why = "They keep a dispatcher, its components and their maps in memory"
        if pins.certain:
            yield warn(Topic.BPFFS, check, what, why, "xdptui clean")
        else:
            yield info(Topic.BPFFS, check, what, why, "`xdptui clean --force` if nobody uses them")
    if not stale:
        yield ok(Topic.BPFFS, check, "no stale pins")
