# SPDX-License-Identifier: Apache-2.0
"""What else sits on an interface, in lines. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdptui.words.printable import printable

if TYPE_CHECKING:
    from xdpchain.observe.beside import Beside

__all__ = ["beside_lines"]


def beside_lines(seen: Beside) -> list[str]:
    """A line for each thing, in the order of packets that come in, and one for what could not be seen."""
    lines = []
    for companion in seen.found:
        named = " ".join(
            filter(
                None, (companion.name, "" if companion.prog_id is None else f"(program {companion.prog_id})")
            )
        )
        lines.append(
            f"{companion.what}, {companion.at}: {', '.join(filter(None, (printable(named), companion.text)))}"
        )
    lines += (f"not seen: {printable(reason)}" for reason in seen.unseen)
    return lines or ["nothing else: no AF_XDP socket, no netkit or tcx program, no tc filter"]
