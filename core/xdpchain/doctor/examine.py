# SPDX-License-Identifier: Apache-2.0
"""Run all checks, part by part. A part that fails becomes a finding."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from xdpchain.advice import Do, advise
from xdpchain.errors import NotFound, XdpChainError
from xdpchain.linkage.dispatcher.installed import installed_version
from xdpchain.model.commands import Commands
from xdpchain.model.running import Running
from xdpchain.observe.discover import look, survey
from xdpchain.observe.gather_evidence import evidence_of
from xdpchain.observe.permissions import missing_capabilities

from .device import examine_device
from .finding import Finding, Topic, error, ok
from .gather import facts_of
from .hook import examine_hook
from .kernel import examine_kernel
from .settings import examine_settings
from .storage import examine_storage
from .tools import compare_dispatcher, examine_tools

__all__ = ["examine"]


def examine(netns: str | None = None, interface: str | None = None) -> tuple[Finding, ...]:
    """Examine this machine, and one interface or all in the namespace (the loopback device only if it is
    named or runs a program).

    Takes about half a second and changes nothing; checks that must attach a program do so in a temporary
    namespace. Raises NotFound for an unknown interface or namespace.
    """
    found = survey(netns) if interface is None else (look(interface, netns),)
    return (
        *_part(Topic.PERMISSIONS, "permissions", _permissions),
        *_part(Topic.KERNEL, "kernel.xdp", examine_kernel),
        *_part(Topic.SETTINGS, "settings", examine_settings),
        *_part(Topic.BPFFS, "bpffs", examine_storage),
        *_part(Topic.TOOLS, "tools", examine_tools),
        *_part(Topic.INTERFACE, "interface", lambda: _interfaces(found, netns, interface)),
    )


def _part(topic: Topic, check: str, look_at: Callable[[], Iterable[Finding]]) -> tuple[Finding, ...]:
    try:
        return tuple(look_at())
    except (XdpChainError, OSError) as failure:
        what = f"this could not be checked: {failure}"
        fix = (
            failure.todo if isinstance(failure, XdpChainError) and failure.todo else advise(Do.GET_PERMISSION)
        )
        return (error(topic, check, what, "An unchecked item may or may not be fine", fix),)


def _permissions() -> Iterator[Finding]:
    missing = missing_capabilities()
    for capability in missing:
        what = f"{capability.name} is missing: {capability.why}"
        why = "The terminal UI starts read-only, and commands that change something fail"
        yield error(Topic.PERMISSIONS, "permissions", what, why, capability.todo)
    if not missing:
        yield ok(Topic.PERMISSIONS, "permissions", "this process may edit chains")


def _interfaces(several: tuple[Running, ...], netns: str | None, named: str | None) -> Iterator[Finding]:
    commands = Commands(netns)
    evidence = evidence_of(several)
    installed = installed_version()
    facts = facts_of(several, netns)
    if named is not None and not facts:
        raise NotFound(f"{named} is gone")
    for fact in facts:
        running = fact.running
        if fact.loopback and named is None and not running.hooks:
            continue
        for finding in (
            *examine_hook(running, evidence.get(running.interface.ifindex), commands),
            *compare_dispatcher(running, installed, commands),
            *examine_device(fact, commands),
        ):
            yield replace(finding, interface=fact.name)
