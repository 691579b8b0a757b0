# SPDX-License-Identifier: Apache-2.0
"""The pane with more about the slot under the cursor, if there is room."""

from __future__ import annotations

from xdpchain.model.chain import Chain
from xdpchain.model.running import Running
from xdpchain.model.slot import Slot
from xdptui.view.cells import Line, left
from xdptui.view.inspector_lines import inspector_lines
from xdptui.widgets.pane import Pane
from xdptui.words.rates import Reading

__all__ = ["Inspector"]


class Inspector(Pane):
    """The facts of one slot, and the warnings of its chain."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._chain = Chain()
        self._slot: Slot | None = None
        self._was: Slot | None = None
        self._base: Running | None = None
        self._reading: Reading | None = None

    def present(
        self,
        chain: Chain,
        slot: Slot | None,
        was: Slot | None,
        running: Running | None = None,
        reading: Reading | None = None,
    ) -> None:
        """Show ``slot`` of ``chain``; ``was`` is the same slot as it runs in ``running``, ``reading`` its
        counts.
        """
        self._chain, self._slot, self._was = chain, slot, was
        self._base, self._reading = running, reading
        self.resized()

    def resized(self) -> None:
        width, rows = self.size.width, self.size.height - 1
        if rows < 0 or width <= 0:
            return
        title = f" {self._slot.name}" if self._slot else " no slot"
        lines = [Line((left(title, width),), "head")]
        lines += inspector_lines(self._chain, self._slot, self._was, width, self._base, self._reading)[:rows]
        self.paint(lines)
