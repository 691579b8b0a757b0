# SPDX-License-Identifier: Apache-2.0
"""What programs printed, as text and as JSON. Pure."""

from __future__ import annotations

import time
from typing import Any

from xdpchain.observe.logs import Said
from xdptui.words.printable import printable

__all__ = ["said_document", "said_text"]


def said_text(said: Said) -> str:
    """``20:31:07.123  cpu 1  xdp_firewall  firewall.bpf.c:47  blocked port 9``"""
    clock = time.strftime("%H:%M:%S", time.localtime(said.at))
    who = said.slot[1] if said.slot else "?"
    where = f"{said.line.file}:{said.line.number}" if said.line else "?"
    clock = f"{clock}.{int(said.at % 1 * 1000):03}"
    return "  ".join((clock, f"cpu {said.cpu}", printable(who), where, printable(said.text)))


def said_document(said: Said) -> dict[str, Any]:
    """``{"at", "cpu", "slot", "name", "file", "line", "text"}``"""
    return {
        "at": said.at,
        "cpu": said.cpu,
        "slot": said.slot[0] if said.slot else None,
        "name": said.slot[1] if said.slot else None,
        "file": said.line.file if said.line else None,
        "line": said.line.number if said.line else None,
        "text": said.text,
    }
