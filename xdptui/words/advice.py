# SPDX-License-Identifier: Apache-2.0
"""The engine's advice as text: once for the command line and, where a key does it, for the screen."""

from __future__ import annotations

import os
from collections.abc import Mapping

from xdpchain.advice import Advice, Do
from xdpchain.errors import XdpChainError
from xdpchain.model.chain import Linkage
from xdpchain.model.commands import Commands

__all__ = ["KEYS", "WORDS", "told", "worded"]

WORDS: dict[Do, str] = {
    Do.GET_PERMISSION: "",  # depends on the caller
    Do.LIST_INTERFACES: "`{0}` lists the interfaces",
    Do.NEAR_INTERFACE: "Did you mean {all}?",
    Do.OTHER_NETNS: "Another network namespace has one of that name (`{0}`)",
    Do.LIST_NETNS: "`{0}` lists the namespaces",
    Do.REMOVE_NETNS_FILE: "Delete the file with `{0}`, or add the namespace again",
    Do.SWITCH_JIT_ON: "Run `{0}`, then load it again",
    Do.MOUNT_SYSFS: "Mount it (`{0}`)",
    Do.LOAD: "`{0}` loads a program",
    Do.ADD: "`{0}` adds a program to the chain",
    Do.ADOPT: "If you have its object file, `{0}` makes it a chain's first slot",
    Do.CHOOSE_LINKAGE: "Use {all}",
    Do.RELINK: "`{0}` changes the chain's linkage",
    Do.LINK_ANEW: "The next change relinks the chain; so does `{0}`",
    Do.CHANGE_MODE: "`{0}` moves the chain",
    Do.CHOOSE_GENERIC: "Use generic mode ({0}): slower, but it works with every driver and MTU",
    Do.LIFT_POLICY: "Remove the policy (`{0}`)",
    Do.SWITCH_COUNTERS_ON: "`{0}` turns the counters on",
    Do.SHADOW_AGAIN: "`{0}` puts it back into shadow",
    Do.START_WITH_FRESH_MAPS: "Start with empty maps ({0}), losing the contents of the old ones",
    Do.MOVE_PINNED_MAP: "Pin it elsewhere ({0}), or remove the pin if nobody needs that map (`{1}`)",
    Do.SET_IN_MAP: "`{0}` sets it in the running map",
    Do.REPLACE: "`{0}` replaces it with a new version",
    Do.LOWER_MTU: "Lower the MTU (`{0}`)",
    Do.BUILD_FOR_FRAGMENTS: "Use programs with multi-buffer support (SEC xdp.frags)",
    Do.MEND: "{names}",
    Do.USE_STATIC: "Static chains are counted and followed without tracing",
    Do.BRING_UP: "Bring it up (`{0}`)",
    Do.LOOK: "`{0}` shows it",
    Do.LOOK_AT_LOG: "`{0}` shows who changed what",
    Do.READ_AGAIN: "Read the chain again and repeat the edit",
    Do.CONFIRM: "`{0}` keeps the pending change",
    Do.ROLL_BACK: "`{0}` rolls the pending change back",
    Do.GO_WITHOUT_CONFIRM: "Try without {0}",
    Do.CONFIRM_OR_INSIST: "Add {0} to apply it with automatic rollback, or {1} to apply it permanently",
    Do.CLEAN: "`{0}` removes what nobody uses any more",
    Do.DETACH_IDLE: "Nothing runs behind it: remove it with `{0}`",
    Do.SHOW_LINK: "`{0}` shows who holds it, and how to detach it without asking them",
    Do.FIND_OWNER: "Find its owner first: it may be in another mount or PID namespace (a container)",
    Do.ASK_OWNER: "Remove it with the tool that put it there",
    Do.RECORD: "`{0}` makes a recording",
    Do.OVERWRITE: "Give another name, or replace it ({0})",
    Do.WRITE_OBJECTS: "Write its object files out ({0})",
}
"""``{0}``, ``{1}`` are the commands, ``{all}`` lists all of them as alternatives."""

KEYS: dict[Do, str] = {
    Do.LOAD: "Press l to load a program",
    Do.ADD: "Press l to add a program to the chain",
    Do.ADOPT: "Press i to adopt it, with its object file",
    Do.CHOOSE_LINKAGE: "Press L and choose {names} linkage",
    Do.RELINK: "Press L and choose {names} linkage",
    Do.CHOOSE_GENERIC: "Choose generic mode: slower, but it works with every driver and MTU",
    Do.CHANGE_MODE: "Press L and choose {names} mode",
    Do.SHOW_LINK: "Press u to see who holds it, or to detach it without asking them",
    Do.LIFT_POLICY: "Press v to remove the policy",
    Do.SWITCH_COUNTERS_ON: "Press c to turn the counters on",
    Do.SHADOW_AGAIN: "Press S on the slot to put it back into shadow",
    Do.REPLACE: "Press o to replace it with a new version",
    Do.SET_IN_MAP: "Press m to set it in the running map",
    Do.READ_AGAIN: "Press r to read the chain again, then repeat the edit",
    Do.CONFIRM: "Press C to keep the pending change",
    Do.ROLL_BACK: "Press B to roll the pending change back",
    Do.GO_WITHOUT_CONFIRM: "Press w to make changes without confirmation",
    Do.OVERWRITE: "Give another name",
}
"""The same, if the screen has a key for it."""


def worded(
    todo: str | Advice,
    netns: str | None = None,
    *,
    keys: bool = False,
    root: bool | None = None,
) -> str:
    """What to do, as a sentence without its full stop. ``netns`` is the namespace the command works in;
    ``keys``: the reader is at the screen. Leaves out linkages that this kernel refuses.
    """
    if isinstance(todo, str):
        return todo
    parts: list[str] = []
    at: Advice | None = todo
    while at is not None:
        if said := _one(
            at, Commands(netns), KEYS if keys else {}, os.geteuid() == 0 if root is None else root
        ):
            parts.append(said)
        at = at.otherwise
    rest = [part if part[:2].isupper() else part[0].lower() + part[1:] for part in parts[1:]]
    return "; or ".join([*parts[:1], *rest])


def told(error: Exception, netns: str | None = None, *, keys: bool = False) -> str:
    """What failed, why, and what to do, on one line; ``netns`` and ``keys`` as for `worded`."""
    if not isinstance(error, XdpChainError):
        return str(error)
    text = f"{error.what}: {error.why}" if error.why else error.what
    todo = worded(error.todo, netns, keys=keys)
    return f"{text}. {todo}" if todo else text


def _one(advice: Advice, commands: Commands, keys: Mapping[Do, str], root: bool) -> str:
    if advice.do is Do.GET_PERMISSION:
        return _permission(advice.args, root)
    if advice.do in (Do.CHOOSE_LINKAGE, Do.RELINK):
        possible = tuple(name for name in advice.args if _works(name))
        if not possible:
            return ""
        advice = Advice(advice.do, advice.interface, advice.netns, possible)
    spelled = commands.of(advice)
    words = keys.get(advice.do) or WORDS[advice.do]
    return words.format(*spelled, all=_listed(spelled), names=_listed(advice.args))


def _permission(capabilities: tuple[str, ...], root: bool) -> str:
    if not root:
        return "Run it as root (sudo)"
    which = ", ".join(capabilities) or "the missing capabilities"
    return f"It already runs as root: give its container or service {which}"


def _listed(words: tuple[str, ...]) -> str:
    return " or ".join((", ".join(words[:-1]), words[-1])) if len(words) > 1 else "".join(words)


def _works(linkage: str) -> bool:
    """Whether this kernel accepts that linkage: tried once per process."""
    from xdpchain.linkage.probe import probe_linkage

    try:
        return probe_linkage(Linkage(linkage)).works
    except (XdpChainError, OSError):
        return False
