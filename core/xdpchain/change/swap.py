# SPDX-License-Identifier: Apache-2.0
"""The swap: the only operation that affects packets. The kernel does it between two packets, unless the mode
changes: native and generic exclude each other, so the hook is then empty for a moment.
"""

from __future__ import annotations

import contextlib

from xdpchain.errors import RaceLost, XdpChainError
from xdpchain.model.interface import Interface, Mode
from xdpchain.model.running import Running
from xdpchain.sys import bpf
from xdpchain.sys.netlink import HookBusy, ModeConflict, Netlink

__all__ = ["exchange", "swap", "took_effect"]


def swap(now: Running, new: bpf.Fd | None, mode: Mode, through: Netlink | None = None) -> None:
    """Attach a program, or detach the current one (``new`` is None), if and only if ``now`` still runs.
    ``through``: netlink sockets open in its namespace. Raises RaceLost, NotFound, and what
    `Netlink.attach_xdp` raises.
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
            # It was free a moment ago: somebody was faster and did not take the lock.
            raise RaceLost(error.what, error.why, error.todo, detail=error.detail) from error


def exchange(
    netlink: Netlink,
    ifindex: int,
    old: tuple[bpf.Fd | None, Mode],
    new: tuple[bpf.Fd | None, Mode],
) -> None:
    """Replace ``old`` by ``new``, each with its mode (None: no program). If the modes differ this takes two
    steps, between which nothing runs; if the second is refused, ``old`` is attached again. Raises what
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
        with contextlib.suppress(
            HookBusy, ModeConflict
        ):  # it was never detached, or another program was attached
            netlink.attach_xdp(ifindex, before, from_mode.value, None)
        raise


def took_effect(interface: Interface, mode: Mode, new: int | None) -> bool:
    """Whether this program runs after all: an interrupt may have come between the swap and its return."""
    try:
        with Netlink(interface.netns) as netlink:
            return netlink.link(interface.ifindex).program(mode.value) == new
    except XdpChainError:
        return False
