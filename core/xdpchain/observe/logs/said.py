# SPDX-License-Identifier: Apache-2.0
"""A line that a program printed. Pure."""

from __future__ import annotations

from enum import StrEnum

from xdpchain.bytecode.sites import SourceLine
from xdpchain.frozen import frozen

__all__ = ["Output", "Said"]


class Output(StrEnum):
    """Where a line came from: the kernel's trace, or a stream of the program's own. The kernel itself also
    writes to a program's stderr, when it has to stop it (a loop that takes too long, a fault in an arena).
    """

    PRINTK = "printk"
    STDOUT = "stdout"
    STDERR = "stderr"


@frozen
class Said:
    """A printed line: ``at`` in seconds since 1970 (of a stream: when it was read; None: printed before
    anybody listened), the CPU (None: a stream does not tell), the text, the slot (index and name; None: not
    known), and the source line. ``text`` is whatever the program printed.
    """

    at: float | None
    cpu: int | None
    text: str
    slot: tuple[int, str] | None
    line: SourceLine | None
    output: Output
