# SPDX-License-Identifier: Apache-2.0
"""``xdptui detach``: say which bpf_link holds a program; given the link's ID, detach it."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from xdpchain.change.detaching import detach_link, held_by_link
from xdpchain.model.commands import Commands
from xdpchain.model.running import Hook
from xdpchain.observe.gather_evidence import evidence_of
from xdpchain.observe.owner_evidence import judge
from xdptui.commands.options import number
from xdptui.outcome import Talk, write
from xdptui.render import documents
from xdptui.words.owners import evidence_lines
from xdptui.words.printable import printable

__all__ = ["run"]


def run(options: Namespace) -> int:
    """Show the program, its owner and pins; detach it if the link is given."""
    link = None if options.link is None else number(options.link, "link id")
    running, hook = held_by_link(options.interface, options.netns)
    evidence = evidence_of([running])[running.interface.ifindex]
    commands = Commands(options.netns)
    ownership = judge(evidence, commands)
    if not options.json:
        write(
            printable(
                f"{running.interface}: bpf_link {hook.link_id} holds program {hook.prog_id} ({hook.name})"
            )
        )
        write("\n".join(f"  {line}" for line in evidence_lines(ownership.who, evidence)))
    trouble = ""
    if link is not None:
        _, trouble = detach_link(options.interface, link, options.netns)
    if options.json:
        known = documents.owner_evidence(ownership, evidence)
        write(json.dumps(_document(options, hook, known, detached=link is not None), indent=2))
    elif link is not None:
        write("Detached. The link and its pins stay, attached to nothing")
    else:
        command = commands.xdptui("detach", options.interface, options=("--link", str(hook.link_id)))
        write(f"`{printable(command)}` detaches it now; its owner is not asked and may attach it again")
    if trouble:
        Talk(options.json).warn(trouble)
    return 0


def _document(options: Namespace, hook: Hook, known: Mapping[str, Any], *, detached: bool) -> dict[str, Any]:
    return {
        "interface": options.interface,
        "netns": options.netns,
        "program": {"id": hook.prog_id, "name": hook.name, "tag": hook.tag},
        "link": hook.link_id,
        **known,
        "detached": detached,
    }
