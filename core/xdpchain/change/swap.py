# SPDX-License-Identifier: Apache-2.0
"""The swap: the one operation that packets notice. The kernel does it between two packets."""

from __future__ import annotations

import contextlib

from xdpchain.errors import RaceLost, XdpChainError
from xdpchain.model.chain import Interface, Mode
from xdpchain.model.running import Running
from xdpchain.sys import bpf
from xdpchain.sys.netlink import HookBusy, Netlink

__all__ = ["swap", "took_effect"]


def swap(now: Running, new: bpf.Fd | None, mode: Mode, through: Netlink | None = None) -> None:
    """Put a program on the hook, or take off the one that is there (``new`` is None), if and only if ``now``
    still runs; ``through`` are sockets that are open in its namespace. Raises RaceLost, NotFound, and what
    the kernel and the driver refuse.
    """
    interface = now.interface
    with contextlib.ExitStack() as held:
        expected = None
        if now.hook is not None:
            try:
                expected = held.enter_context(bpf.prog_by_id(now.hook.prog_id)).fileno()
            except bpf.BpfError as error:
                raise bpf.refusal(error, f"the program that {interface} runs can't be named") from error
        netlink = through or held.enter_context(Netlink(interface.netns))
        try:
            netlink.attach_xdp(interface.ifindex, new.fileno() if new else -1, mode.value, expected)
        except HookBusy as error:
            if now.hook is not None:
                raise
            # It was free a moment ago: somebody was faster, and did not take the lock for that.
            raise RaceLost(error.what, error.why, error.todo, detail=error.detail) from error


def took_effect(interface: Interface, mode: Mode, new: int | None) -> bool:
    """Whether this program runs after all: an interrupt may come between the swap and its return."""
    try:
        with Netlink(interface.netns) as netlink:
            return netlink.link(interface.ifindex).program(mode.value) == new
    except XdpChainError:
        return False
