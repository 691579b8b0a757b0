# SPDX-License-Identifier: Apache-2.0
"""What runs on one interface's hook: a chain that can be edited, or somebody else's program. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from xdpchain.model.commands import Commands
from xdpchain.model.running import Owner, Running
from xdpchain.observe.owner_evidence import Evidence, judge

from .finding import Finding, Topic, error, info, ok, warn

__all__ = ["examine_hook"]

CHECK = "interface.program"


def examine_hook(running: Running, evidence: Evidence | None, commands: Commands) -> Iterator[Finding]:
    """Judge the program on the hook; ``evidence`` is what shows of one that is not ours."""
    name, hook = running.interface.name, running.hook
    if hook is None:
        if not running.device.up:
            yield info(
                Topic.INTERFACE, "interface.down", "it is down",
                "A chain can be loaded, and waits for packets",
                commands.ip(f"link set dev {name} up"),
            )  # fmt: skip
        yield ok(Topic.INTERFACE, CHECK, "no XDP program runs")
    elif running.chain is not None:
        count = len(running.chain)
        whose = {Owner.XDPTUI: "our", Owner.LIBXDP: "libxdp's"}.get(running.owner or Owner.FOREIGN, "a")
        text = f"{whose} chain of {count} slot{'s' * (count != 1)} runs ({running.linkage} linkage)"
        yield ok(Topic.INTERFACE, CHECK, text)
        if running.following is not None and not running.following.alive:
            yield warn(
                Topic.INTERFACE, "interface.followed",
                f"packets were followed here by {running.following.author}, who is gone",
                "The chain still runs with the dispatcher that records them, which costs some nanoseconds",
                commands.xdptui(f"clean {name}"),
            )  # fmt: skip
    elif evidence is not None:
        yield _foreign(running, evidence, commands)
    elif running.owner is Owner.BPFMAN:
        yield warn(
            Topic.INTERFACE, CHECK, "bpfman's chain runs here", "It is shown, and left to bpfman to change",
            "bpfman list programs, then bpfman unload ID",
        )  # fmt: skip
    else:
        yield error(
            Topic.INTERFACE, CHECK, f"program {hook.prog_id} ({hook.name}) can't be edited: {running.note}",
            "What can't be read as a chain is never replaced", _removal(running, commands),
        )  # fmt: skip


def _foreign(running: Running, evidence: Evidence, commands: Commands) -> Finding:
    verdict = judge(evidence, commands)
    what = f"program {evidence.prog_id} ({evidence.name}) is not ours"
    if verdict.who.startswith("of "):
        what += f": it is held {verdict.who.replace('of ', 'by ', 1)}"
    elif verdict.who:
        what += f", but {verdict.who}"
    why = "What is not ours is never replaced: no chain can be loaded here while it runs"
    if not evidence.complete and not verdict.who:
        why += ". Not all processes and pins could be looked at: somebody may hold it"
    return warn(Topic.INTERFACE, CHECK, f"{what} ({verdict.how})", why, verdict.fix)


def _removal(running: Running, commands: Commands) -> str:
    name = running.interface.name
    if running.linkage is not None:
        unload = commands.xdp_loader(f"unload {name} --all")
        return f"{unload}; or {commands.ip(f'link set dev {name} xdp off')}, then load the chain again"
    return commands.ip(f"link set dev {name} xdp off")
