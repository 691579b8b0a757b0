# SPDX-License-Identifier: Apache-2.0
"""The swap: the one operation that packets notice. The kernel does it between two packets, unless the mode
changes: native and generic exclude each other, so there the hook is empty for a moment.
"""

from __future__ import annotations

import contextlib

from xdpchain.errors import RaceLost, XdpChainError
from xdpchain.model.chain import Interface, Mode
from xdpchain.model.running import Running
from xdpchain.sys import bpf
from xdpchain.sys.netlink import HookBusy, ModeConflict, Netlink

__all__ = ["exchange", "swap", "took_effect"]


def swap(now: Running, new: bpf.Fd | None, mode: Mode, through: Netlink | None = None) -> None:
    """Put a program on the hook, or take off the one that is there (``new`` is None), if and only if ``now``
    still runs; ``through`` are sockets that are open in its namespace. Raises RaceLost, NotFound, and what
    the kernel and the driver refuse.
    """
    interface = now.interface
    with contextlib.ExitStack() as held:
        expected: bpf.Fd | None = None
        if now.hook is not None:
            try:
                expected = held.enter_context(bpf.prog_by_id(now.hook.prog_id))
            except bpf.BpfError as error:
                raise bpf.refusal(error, f"the program on {interface} can't be identified") from error
        netlink = through or held.enter_context(Netlink(interface.netns))
        try:
            exchange(netlink, interface.ifindex, (expected, now.mode or mode), (new, mode))
        except HookBusy as error:
            if now.hook is not None:
                raise
            # It was free a moment ago: somebody was faster, and did not take the lock for that.
            raise RaceLost(error.what, error.why, error.todo, detail=error.detail) from error


def exchange(
    netlink: Netlink,
    ifindex: int,
    old: tuple[bpf.Fd | None, Mode],
    new: tuple[bpf.Fd | None, Mode],
) -> None:
    """Put ``new`` in the place of ``old``, each with its mode (None: nothing). Where the modes differ, that
    takes two steps, between which nothing runs; if the second one is refused, ``old`` comes back. Raises what
    `Netlink.attach_xdp` raises.
    """
    (before, from_mode), (after, to_mode) = old, new
    if before is None or after is None or from_mode is to_mode:
        mode = to_mode if after is not None else from_mode
        netlink.attach_xdp(ifindex, -1 if after is None else after, mode.value, before)
        return
    try:
        netlink.attach_xdp(ifindex, -1, from_mode.value, before)
        netlink.attach_xdp(ifindex, after, to_mode.value, None)
    except BaseException:
        with contextlib.suppress(HookBusy, ModeConflict):  # it never left, or somebody else came
            netlink.attach_xdp(ifindex, before, from_mode.value, None)
        raise


def took_effect(interface: Interface, mode: Mode, new: int | None) -> bool:
    """Whether this program runs after all: an interrupt may come between the swap and its return."""
    try:
        with Netlink(interface.netns) as netlink:
            return netlink.link(interface.ifindex).program(mode.value) == new
    except XdpChainError:
        return False
