# SPDX-License-Identifier: Apache-2.0
"""Network namespaces as rows. Pure."""

from __future__ import annotations

from xdpchain.frozen import frozen
from xdptui.view.cells import Cell, left, right
from xdptui.words.printable import printable

__all__ = ["NamespaceView", "namespace_cells", "namespace_head"]

NAME, COUNT, XDP = 34, 12, 16


@frozen
class NamespaceView:
    """A network namespace as `--netns` spells it (None: the one in which xdptui was started), the number of
    its interfaces (None: not read yet; -1: it can't be read), and the names of those with XDP programs.
    """

    netns: str | None
    interfaces: int | None = None
    with_xdp: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        return "(where xdptui was started)" if self.netns is None else printable(self.netns)

    @property
    def words(self) -> str:
        """The text that a filter searches."""
        return " ".join((self.label, *self.with_xdp))


def namespace_head(width: int, position: str) -> tuple[Cell, ...]:
    """The line above the namespaces."""
    name = _name(width)
    return (
        left("  namespace", name),
        right("interfaces", COUNT),
        left(f"  XDP on  {position}", width - name - COUNT),
    )


def namespace_cells(view: NamespaceView, width: int) -> tuple[Cell, ...]:
    """A namespace."""
    name = _name(width)
    count = "…" if view.interfaces is None else "?" if view.interfaces < 0 else str(view.interfaces)
    none = "" if view.interfaces is None else "can't be read" if view.interfaces < 0 else "-"
    names = ", ".join(map(printable, view.with_xdp)) or none
    return (
        left(f"  {_end(view.label, name - 2)}", name, "name"),
        right(count, COUNT),
        left(f"  {names}", width - name - COUNT, "plain" if view.with_xdp else "off"),
    )


def _end(label: str, room: int) -> str:
    """Of a path that is too long, the end: the beginnings are alike."""
    return f"…{label[1 - room :]}" if label.startswith("/") and len(label) > room > 1 else label


def _name(width: int) -> int:
    return max(0, min(NAME, width - COUNT - XDP))
