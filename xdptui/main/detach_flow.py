# SPDX-License-Identifier: Apache-2.0
"""Detach a program that somebody else's bpf_link holds. Its owner is shown first and a word must be typed,
because the owner is not asked and no undo brings the program back.
"""

from __future__ import annotations

import asyncio

from xdpchain.errors import XdpChainError
from xdpchain.model.commands import Commands
from xdpchain.model.running import Running
from xdptui.main.desk import Desk
from xdptui.screens.question import Confirm
from xdptui.words.owners import evidence_lines

__all__ = ["detach_flow", "held_by_a_link"]


def held_by_a_link(running: Running | None) -> bool:
    """Whether a bpf_link holds what runs there, and none of it can be edited."""
    return running is not None and running.chain is None and bool(running.hook and running.hook.link_id)


async def detach_flow(desk: Desk, running: Running) -> None:
    """The key ``u`` on such an interface."""
    from xdpchain.change.detaching import detach_link

    hook, where = running.hook, running.interface
    assert hook is not None
    assert hook.link_id is not None
    link = hook.link_id
    lines = [f"bpf_link {link} holds program {hook.prog_id} ({hook.name}) on {where.name}."]
    lines += await asyncio.to_thread(_known, running)
    lines.append("Detaching takes effect at once and can't be undone. Its owner may attach it again.")
    if where.ifindex in desk.session.own:
        lines.append(f"Your own connection arrives through {where.name}.")
    dialog = Confirm("Detach somebody else's program", tuple(lines), "Detach", "Keep it", demand=where.name)
    if not await desk.ask(dialog) or not desk.still_at(where.ifindex):
        return
    try:
        after, trouble = await asyncio.to_thread(detach_link, where.name, link, where.netns)
    except XdpChainError as error:
        desk.fail(error, "Not detached")
        return
    desk.put(desk.session.applied(after))
    desk.notify(trouble or f"{where.name}: detached", severity="warning" if trouble else "information")


def _known(running: Running) -> list[str]:
    """What holds the program, and its pins, as far as is known."""
    from xdpchain.observe.gather_evidence import evidence_of
    from xdpchain.observe.owner_evidence import judge

    evidence = evidence_of([running]).get(running.interface.ifindex)
    if evidence is None:
        return ["owner: not known"]
    return evidence_lines(judge(evidence, Commands(running.interface.netns)).who, evidence)
