# SPDX-License-Identifier: Apache-2.0
"""Spell the commands that are printed as advice. Pure.

They are for a POSIX shell, except that names with unprintable characters use ``$'...'`` (bash, zsh, ksh,
POSIX 2024). Namespaces are spelled as in `netns_spelling`.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from xdpchain.advice import Advice, Do
from xdpchain.frozen import frozen
from xdpchain.netns_spelling import is_name, netns_path

__all__ = ["Commands", "quote"]


def quote(word: str) -> str:
    """Quote a word for a shell so that it is also safe to display."""
    if word.isprintable():
        return shlex.quote(word)
    return "$'" + "".join(map(_escaped, word)) + "'"


def _escaped(character: str) -> str:
    if character in "\\'":
        return "\\" + character
    if character.isprintable():
        return character
    # Octal has at most three digits, so a digit that follows is never taken as part of it.
    return "".join(f"\\{byte:03o}" for byte in character.encode(errors="surrogateescape"))


def _line(words: Sequence[str]) -> str:
    return " ".join(map(quote, words))


@frozen
class Commands:
    """Spells commands for the interfaces of a namespace; None is the caller's own."""

    netns: str | None = None

    def ip(self, *words: str) -> str:
        """``ip WORDS``."""
        if self.netns and is_name(self.netns):
            return _line(("ip", "-n", self.netns, *words))
        return self.inside("ip", *words)

    def ethtool(self, option: str, interface: str, *words: str) -> str:
        """``ethtool OPTION INTERFACE WORDS``."""
        if self.netns and is_name(self.netns):
            return _line(("ip", "netns", "exec", self.netns, "ethtool", option, interface, *words))
        return self.inside("ethtool", option, interface, *words)

    def xdptui(self, command: str, *positionals: str, options: Sequence[str] = ()) -> str:
        """``xdptui COMMAND POSITIONALS OPTIONS``."""
        after = (*options, *(("--netns", self.netns) if self.netns else ()))
        if any(word.startswith("-") for word in positionals):
            return _line(("xdptui", command, *after, "--", *positionals))
        return _line(("xdptui", command, *positionals, *after))

    def inside(self, *words: str) -> str:
        """Any command, run in the namespace. Unlike `ip netns exec`, nsenter does not replace /sys."""
        if not self.netns:
            return _line(words)
        return _line(("nsenter", f"--net={netns_path(self.netns)}", *words))

    def of(self, advice: Advice) -> tuple[str, ...]:
        """The commands for an advice, or options for the current command; empty if there are none."""
        here = self if advice.netns is None else Commands(advice.netns or None)
        interface, args = advice.interface or "IF", advice.args
        match advice.do:
            case Do.LIST_INTERFACES:
                return (here.ip("link"),)
            case Do.NEAR_INTERFACE:
                return args
            case Do.OTHER_NETNS:
                return (f"--netns {quote(args[0])}" if args[0] else "without --netns",)
            case Do.LIST_NETNS:
                return (_line(("ip", "netns", "list")),)
            case Do.REMOVE_NETNS_FILE:
                return (_line(("ip", "netns", "del", args[0])),)
            case Do.SWITCH_JIT_ON:
                return ("sysctl -w net.core.bpf_jit_enable=1",)
            case Do.MOUNT_SYSFS:
                return ("mount -t sysfs sysfs /sys",)
            case Do.LOAD | Do.ADD:
                return (here.xdptui("load", interface, "OBJ"),)
            case Do.ADOPT:
                return (here.xdptui("adopt", interface, "OBJ"),)
            case Do.CHOOSE_LINKAGE:
                return tuple(f"--linkage {argument}" for argument in args)
            case Do.RELINK | Do.LINK_ANEW:
                return (here.xdptui("relink", interface, options=("--linkage", args[0])),)
            case Do.CHANGE_MODE:
                return (here.xdptui("set", interface, options=("--mode", args[0])),)
            case Do.CHOOSE_GENERIC:
                return ("-m generic",)
            case Do.LIFT_POLICY:
                return (here.xdptui("set", interface, args[0], options=("--may", "any")),)
            case Do.SWITCH_COUNTERS_ON:
                return (here.xdptui("set", interface, options=("--counters",)),)
            case Do.SHADOW_AGAIN:
                return (here.xdptui("set", interface, args[0], options=("--shadow",)),)
            case Do.START_WITH_FRESH_MAPS:
                return ("--fresh-maps",)
            case Do.MOVE_PINNED_MAP:
                return ("-p DIR", _line(("rm", args[0])))
            case Do.SET_IN_MAP:
                options = ("--set", "KEY=VALUE", "--yes")
                return (here.xdptui("map", interface, "SLOT", "MAP", options=options),)
            case Do.REPLACE:
                return (here.xdptui("replace", interface, "SLOT", "OBJ"),)
            case Do.LOWER_MTU:
                return (here.ip("link", "set", "dev", interface, "mtu", args[0]),)
            case Do.BRING_UP:
                return (here.ip("link", "set", "dev", interface, "up"),)
            case Do.LOOK:
                return (here.xdptui("status", *((interface,) if advice.interface else ())),)
            case Do.LOOK_AT_LOG:
                return (here.xdptui("log", interface),)
            case Do.CONFIRM:
                return (here.xdptui("confirm", interface),)
            case Do.ROLL_BACK:
                return (here.xdptui("rollback", interface),)
            case Do.GO_WITHOUT_CONFIRM:
                return ("--confirm",)
            case Do.CONFIRM_OR_INSIST:
                return ("--confirm 60", "--even-if-ssh-dies")
            case Do.CLEAN:
                return (here.xdptui("clean", *((interface,) if advice.interface else ())),)
            case Do.DETACH_IDLE:
                flag = {"generic": "xdpgeneric", "native": "xdpdrv", "offload": "xdpoffload"}[args[0]]
                return (here.ip("link", "set", "dev", interface, flag, "off"),)
            case Do.SHOW_LINK:
                return (here.xdptui("detach", interface),)
            case Do.RECORD:
                return (here.xdptui("record", "FILE"),)
            case Do.OVERWRITE:
                return ("--force",)
            case Do.WRITE_OBJECTS:
                return ("--objects DIR",)
            case Do.BUILD_FOR_FRAGMENTS | Do.USE_STATIC | Do.MEND:
                return ()
            case Do.GET_PERMISSION | Do.READ_AGAIN | Do.FIND_OWNER | Do.ASK_OWNER:
                return ()
