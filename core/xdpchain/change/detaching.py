# SPDX-License-Identifier: Apache-2.0
"""Detach a program that another tool's bpf_link holds. The kernel allows this with CAP_NET_ADMIN, without the
owner's consent, so it must be requested explicitly by the link's ID.
"""

from __future__ import annotations

from xdpchain.advice import Advice, Do, advise
from xdpchain.errors import NotFound, NotOurs, RaceLost
from xdpchain.model.running import Hook, Running
from xdpchain.observe.discover import look
from xdpchain.observe.permissions import require_capabilities
from xdpchain.sys import bpf, bpffs

from .journal.keeping import record

__all__ = ["detach_link", "held_by_link"]


def held_by_link(name: str, netns: str | None = None) -> tuple[Running, Hook]:
    """An interface whose program is held by a bpf_link, and that program. Raises NotFound (no program),
    NotOurs (not held by a link), PermissionDenied.
    """
    require_capabilities()
    running = look(name, netns)
    hook = running.hook
    if hook is None:
        raise NotFound(f"{running.interface} runs no program")
    if hook.link_id is None:
        todo: str | Advice = running.todo
        if running.chain is not None:
            todo = advise(Do.LOOK, on=running.interface)
        raise NotOurs(
            f"program {hook.prog_id} ({hook.name}) on {running.interface} can't be detached by a link",
            "it is not held by a bpf_link: it was attached by netlink",
            todo,
        )
    return running, hook


def detach_link(name: str, link_id: int, netns: str | None = None) -> tuple[Running, str]:
    """Detach the link with this ID from an interface. Returns what runs then, and a message if the journal
    could not be written.

    The link, its pins and its holders remain, but it is attached to nothing. Raises what `held_by_link`
    raises; RaceLost if another link, or none, holds the program now; KernelRefused.
    """
    require_capabilities()
    with bpffs.lock():
        running, hook = held_by_link(name, netns)
        try:
            with bpf.link_by_id(link_id) as link:
                info = bpf.link_info(link)
                held = (info.type, info.target, info.prog_id)
                if held != (bpf.LINK_XDP, running.interface.ifindex, hook.prog_id):
                    raise RaceLost(
                        f"bpf_link {link_id} does not hold the program on {running.interface}",
                        f"bpf_link {hook.link_id} holds program {hook.prog_id} ({hook.name}) there",
                        advise(Do.SHOW_LINK, on=running.interface),
                    )
                bpf.link_detach(link)
        except bpf.BpfError as error:
            raise bpf.refusal(error, f"bpf_link {link_id} can't be detached") from error
        after = look(name, netns)
        change = f"- {hook.name} (program {hook.prog_id}), detached from bpf_link {link_id}"
        return after, record(running, after, (change,))
