# SPDX-License-Identifier: Apache-2.0
"""Judge the program on an interface's hook: an editable chain, or another tool's program. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from xdpchain.advice import Advice, Do, advise
from xdpchain.model.commands import Commands
from xdpchain.model.naming import counted
from xdpchain.model.running import Owner, Running
from xdpchain.observe.owner_evidence import Evidence, Ownership, judge

from .finding import Finding, Level, Topic, info, ok, warn

__all__ = ["examine_hook"]

CHECK = "interface.program"


def examine_hook(running: Running, evidence: Evidence | None, commands: Commands) -> Iterator[Finding]:
    """Judge the program on the hook; ``evidence`` is given for one that can't be edited."""
    name, hook = running.interface.name, running.hook
    if not running.device.up:
        judge_down = info if hook is None else warn
        what = "it is down" if hook is None else "it is down: its XDP program sees no packets"
        why = "A chain can be loaded, but will see no packets" if hook is None else "No packets arrive"
        bring_up = commands.ip("link", "set", "dev", name, "up")
        yield judge_down(Topic.INTERFACE, "interface.down", what, why, bring_up)
    if hook is None:
        yield ok(Topic.INTERFACE, CHECK, "no XDP program runs")
    elif running.chain is not None:
        yield from _chain(running, commands)
    elif evidence is None:
        level = Level.WARN if running.owner is Owner.UNKNOWN else Level.ERROR
        what = f"program {hook.prog_id} ({hook.name}): {running.note}"
        todo = running.todo or advise(Do.READ_AGAIN)
        yield Finding(
            level, Topic.INTERFACE, CHECK, what, "A program that can't be read is never replaced", todo
        )
    elif running.owner is Owner.FOREIGN:
        yield _program(evidence, commands)
    else:
        yield _dispatcher(running, evidence, commands)


def _chain(running: Running, commands: Commands) -> Iterator[Finding]:
    count = len(running.chain or ())
    whose = {Owner.XDPTUI: "our", Owner.LIBXDP: "libxdp's"}.get(running.owner or Owner.FOREIGN, "a")
    text = f"{whose} chain of {counted(count, 'slot')} runs ({running.linkage} linkage)"
    yield ok(Topic.INTERFACE, CHECK, text)
    if running.note:
        yield warn(
            Topic.INTERFACE, "interface.chain", running.note,
            "The chain does not work as intended",
            running.todo or "Any change to the chain reattaches it",
        )  # fmt: skip
    if running.following is not None and not running.following.alive:
        yield warn(
            Topic.INTERFACE, "interface.followed",
            f"{running.following.author} followed packets here and is gone",
            "The chain still runs with the recording dispatcher, which costs some nanoseconds per packet",
            advise(Do.CLEAN, on=running.interface),
        )  # fmt: skip


def _program(evidence: Evidence, commands: Commands) -> Finding:
    ownership = judge(evidence, commands)
    what = f"program {evidence.prog_id} ({evidence.name}) is not ours"
    why = "Other owners' programs are never replaced: no chain can be loaded here while it runs"
    return warn(Topic.INTERFACE, CHECK, *_whose(what, why, evidence, ownership), ownership.fix)


def _dispatcher(running: Running, evidence: Evidence, commands: Commands) -> Finding:
    """A chain that is shown but not editable. A removal command is given only if no owner is running."""
    ownership = judge(evidence, commands)
    what = f"program {evidence.prog_id} ({evidence.name}) can't be edited: {running.note}"
    if running.owner is Owner.BPFMAN:
        what = "bpfman's chain runs here"
    what, why = _whose(what, "It is shown, but only its owner should change it", evidence, ownership)
    fix = running.todo
    if not fix or (isinstance(fix, Advice) and fix.do in (Do.FIND_OWNER, Do.ASK_OWNER)):
        fix = ownership.fix if ownership.who else running.todo or advise(Do.FIND_OWNER)
    level = Level.WARN if ownership.who or running.owner is Owner.BPFMAN else Level.ERROR
    return Finding(level, Topic.INTERFACE, CHECK, what, why, fix)


def _whose(what: str, why: str, evidence: Evidence, ownership: Ownership) -> tuple[str, str]:
    if ownership.who.startswith("of "):
        what += f": it is held {ownership.who.replace('of ', 'by ', 1)}"
    elif ownership.who:
        what += f", but {ownership.who}" if what.endswith("not ours") else f"; it is {ownership.who}"
    if not evidence.complete and not ownership.who:
        why += ". Not all processes and pins could be checked: somebody may hold it"
    return f"{what} ({ownership.how})", why
