# SPDX-License-Identifier: Apache-2.0
"""What programs printed, as text and as JSON. Pure."""

from __future__ import annotations

import time
from typing import Any

from xdpchain.observe.logs import Output, Said
from xdptui.words.printable import printable

__all__ = ["said_document", "said_text"]


def said_text(said: Said) -> str:
    """``20:31:07.123  cpu 1  xdp_firewall  firewall.bpf.c:47  blocked port 9``; of a stream
    ``20:31:07.123  stdout  xdp_firewall  blocked port 9``
    """
    who = printable(said.slot[1]) if said.slot else "?"
    where = f"{said.line.file}:{said.line.number}" if said.line else "?"
    if said.output is Output.PRINTK:
        columns = [_clock(said.at), f"cpu {said.cpu}", who, where]
    else:
        columns = [_clock(said.at), said.output.value, who]
    return "  ".join((*columns, printable(said.text)))


def _clock(at: float | None) -> str:
    if at is None:
        return "earlier     "
    return f"{time.strftime('%H:%M:%S', time.localtime(at))}.{int(at % 1 * 1000):03}"


def said_document(said: Said) -> dict[str, Any]:
    """``{"at", "cpu", "output", "slot", "name", "file", "line", "text"}``"""
    return {
        "at": said.at,
        "cpu": said.cpu,
        "output": said.output.value,
        "slot": said.slot[0] if said.slot else None,
        "name": said.slot[1] if said.slot else None,
        "file": said.line.file if said.line else None,
        "line": said.line.number if said.line else None,
        "text": said.text,
    }
