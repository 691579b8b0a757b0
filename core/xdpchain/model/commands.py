# SPDX-License-Identifier: Apache-2.0
"""Commands to be typed by the operator, in the namespace where they are to work. Pure."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

__all__ = ["Commands"]


@dataclass(frozen=True, slots=True)
class Commands:
    """Spells commands for the interfaces of a namespace; None is the caller's own."""

    netns: str | None

    def ip(self, words: str) -> str:
        """``ip WORDS``."""
        return f"ip -n {shlex.quote(self.netns)} {words}" if self.netns else f"ip {words}"

    def ethtool(self, option: str, interface: str, words: str) -> str:
        """``ethtool OPTION INTERFACE WORDS``."""
        where = f"ip netns exec {shlex.quote(self.netns)} " if self.netns else ""
        return f"{where}ethtool {option} {shlex.quote(interface)} {words}"

    def xdptui(self, words: str) -> str:
        """``xdptui WORDS``."""
        return f"xdptui {words} --netns {shlex.quote(self.netns)}" if self.netns else f"xdptui {words}"

    def xdp_loader(self, words: str) -> str:
        """``xdp-loader WORDS``: nsenter keeps /sys as it is, which `ip netns exec` does not."""
        enter = f"nsenter --net=/run/netns/{shlex.quote(self.netns)} " if self.netns else ""
        return f"{enter}xdp-loader {words}"
