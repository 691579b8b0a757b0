# SPDX-License-Identifier: Apache-2.0
"""Take a program off that a bpf_link of somebody else holds. The kernel lets whoever may administrate the
network do that, without the owner's word: so it is asked for by the link's id, and for nothing else.
"""

from __future__ import annotations

from xdpchain.advice import Advice, Do, advise
from xdpchain.errors import NotFound, NotOurs, RaceLost
from xdpchain.model.running import Hook, Running
from xdpchain.observe.discover import look
from xdpchain.observe.permissions import require_capabilities
from xdpchain.sys import bpf, bpffs

from .journal.recording import record

__all__ = ["detach_link", "held_by_link"]


def held_by_link(name: str, netns: str | None = None) -> tuple[Running, Hook]:
    """An interface whose program a bpf_link holds, and that program. Raises NotFound (nothing runs there),
    NotOurs (no link holds it), PermissionDenied.
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
            "no bpf_link holds it: it was attached by netlink",
            todo,
        )
    return running, hook


def detach_link(name: str, link_id: int, netns: str | None = None) -> tuple[Running, str]:
    """Detach the link with this id from an interface, and return what runs then, with what could not be
    noted of it in the journal.

    The link itself, its pins and its holders stay; it is attached to nothing. Raises what `held_by_link`
    raises; RaceLost where another link holds the program, or none any more; KernelRefused.
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
