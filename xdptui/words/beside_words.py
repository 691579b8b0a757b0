# SPDX-License-Identifier: Apache-2.0
"""What else is attached to an interface, as lines. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdptui.words.printable import printable

if TYPE_CHECKING:
    from xdpchain.observe.beside import Beside

__all__ = ["beside_lines"]


def beside_lines(seen: Beside) -> list[str]:
    """One line per thing, in the order in which incoming packets meet them, and one for what could not be
    seen."""
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
