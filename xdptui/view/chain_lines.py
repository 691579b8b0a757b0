# SPDX-License-Identifier: Apache-2.0
"""The chain as lines: one or two per slot, with the toggles, the counters and a trend. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field

from xdpchain.frozen import frozen
from xdpchain.model.actions import ALL_ACTIONS, Action
from xdpchain.model.chain import Chain
from xdpchain.model.shadow import would_have
from xdpchain.model.slot import Slot
from xdptui.view.cells import Cell, Line, clip, left, right
from xdptui.view.marks import symbols, toggled
from xdptui.view.session import Shown
from xdptui.words.numbers import share, short, sparkline
from xdptui.words.rates import Rates, Reading

__all__ = ["ChainView", "Columns", "columns", "heading", "slot_lines"]

TOGGLE = 2
"""Columns of one toggle: its letter, and the slot it leads to, or a star if it differs from what runs."""

LONGEST_NAME = 48
"""Maximum columns for a name."""

SHADOW = "S"
"""Follows the number of a slot in shadow."""

OFF = "O"
"""Follows the number of a slot that is off."""


@frozen
class ChainView:
    """What the chain pane shows; ``action`` is the one that space toggles, None if nothing can be toggled;
    ``drag`` is (dragged slot, place it is over).
    """

    chain: Chain = field(default_factory=Chain)
    base: Chain | None = None
    removed: tuple[Slot, ...] = ()
    candidate: bool = False
    reading: Reading | None = None
    trends: Mapping[str, Sequence[float]] = field(default_factory=dict)
    slot: int = 0
    action: Action | None = Action.PASS
    focused: bool = False
    shown: Shown = Shown.PACKET_RATE
    drag: tuple[int, int] | None = None

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The slots in the order shown; during a drag, as if the slot were released here."""
        if self.drag is None:
            return self.chain.slots
        source, target = self.drag
        rest = [s for i, s in enumerate(self.chain.slots) if i != source]
        return (*rest[:target], self.chain.slots[source], *rest[target:])

    @property
    def picked(self) -> Action | None:
        """The action under the cursor, if there is a cursor among the actions."""
        return self.action if self.focused and self.slots and not self.drag else None

    @property
    def cursor(self) -> int:
        return self.drag[1] if self.drag else self.slot

    def place(self, key: str) -> str:
        """The slot's number as shown."""
        return next((str(i) for i, slot in enumerate(self.slots) if slot.key == key), "?")

    def columns(self, width: int) -> Columns:
        """The columns for this chain: toggles are wider if one leads to a slot with a two-digit number."""
        targets = {route.target for slot in self.slots for route in slot.routes}
        return columns(width, TOGGLE + any(len(self.place(target)) > 1 for target in targets))


@frozen
class Columns:
    """Where each column begins and how wide it is; width 0 means hidden. ``toggle``: the width of
    one toggle.
    """

    priority: int
    name: int
    toggles: int
    number: int
    total: int
    volume: int
    id: int
    trend: int
    toggle: int = TOGGLE

    @property
    def priority_at(self) -> int:
        return 5

    @property
    def toggles_at(self) -> int:
        return 5 + (self.priority + 1 if self.priority else 0) + self.name + 1

    def action_at(self, x: int) -> Action | None:
        """The action whose toggle is in this column."""
        index, inside = divmod(x - self.toggles_at, self.toggle)
        if self.toggles and 0 <= index < len(ALL_ACTIONS) and 0 <= inside < self.toggle:
            return ALL_ACTIONS[index]
        return None

    def on_priority(self, x: int) -> bool:
        return self.priority > 0 and self.priority_at <= x < self.priority_at + self.priority


def columns(width: int, toggle: int = TOGGLE) -> Columns:
    """Distribute ``width`` among the columns; those that don't fit go, least important first."""
    toggles = toggle * len(ALL_ACTIONS)
    least_name = 14
    priority = 5 if width >= 36 else 0
    room = width - 5 - (priority + 1 if priority else 0) - least_name - 1 - toggles
    number = total = volume = ident = trend = 0
    if room >= 31:
        number = 6
        room -= 31
    if room >= 6:
        total = 6
        room -= 6
    if width >= 110:
        volume, ident = 7, 7
        room -= 14
    if number and room >= 7:
        trend = min(room - 1, 6 if width < 110 else 20)
        room -= trend + 1
    if trend and room > 14:
        trend += room - 14
        room = 14
    name = max(1, least_name + room) if room < 0 or number else least_name + room
    if trend > 40:  # a trend works in half the room, a name does not
        more = min(LONGEST_NAME - name, trend - 40)
        name, trend = name + more, trend - more
    return Columns(priority, name, toggles, number, total, volume, ident, trend, toggle)


def heading(cols: Columns, shown: Shown, two: bool, picked: Action | None = None) -> Line:
    """The line above the slots. ``picked``: the action under the cursor. The brackets are up here on every
    terminal, because a sign beside a toggle would look like its state.
    """
    cells = [left("   # ", 5)]
    if cols.priority:
        cells += [right("prio", cols.priority), Cell(" ")]
    cells.append(left("name", cols.name))
    letters = "".join(action.letter.ljust(cols.toggle) for action in ALL_ACTIONS)
    before, letter, after = f" {letters}".partition(f" {picked.letter} " if picked else " .")
    cells += [Cell(before), Cell(letter and f"[{letter.strip()}]", "pointer"), Cell(after)]
    if cols.number:
        cells += [Cell(" ")] + [right(action.letter, cols.number) for action in ALL_ACTIONS]
    if cols.total:
        cells.append(right(shown if not two else "all", cols.total))
    if cols.volume:
        cells.append(right("bytes", cols.volume))
    if cols.id:
        cells.append(right("id", cols.id))
    if cols.trend:
        cells += [Cell(" "), right("trend" if cols.trend < 16 else "trend, packets/s", cols.trend)]
    return Line(tuple(cells), "head")


def slot_lines(view: ChainView, cols: Columns, two: bool) -> list[list[Line]]:
    """For each slot its lines (one, or two if ``two``), then one line for each removed slot."""
    base = {slot.key: slot for slot in view.base or ()}
    marks = symbols(view.base, view.chain) if view.candidate else {}
    groups = []
    for i, slot in enumerate(view.slots):
        here = i == view.cursor
        tone = "" if not here else "drag" if view.drag else "cursor" if view.focused else "blurred"
        mark = marks.get(slot.key, " ")
        lines = [Line(_first(view, cols, i, slot, base.get(slot.key), mark, here, two), tone)]
        if two:
            lines.append(Line(_second(view, cols, slot), tone))
        groups.append(lines)
    groups += [[Line(_removed(cols, slot))] for slot in view.removed]
    return groups


def _first(
    view: ChainView, cols: Columns, i: int, slot: Slot, was: Slot | None, mark: str, here: bool, two: bool
) -> tuple[Cell, ...]:
    pointer = "≡" if here and view.drag else "▶" if here else " "
    cells = [Cell(pointer, "pointer"), Cell(mark, "mark"), right(str(i), 2, "index")]
    cells.append(Cell(OFF if slot.off else SHADOW if slot.shadow else " ", "mark"))
    if cols.priority:
        differs = view.candidate and was is not None and was.priority != slot.priority
        number = str(slot.priority)
        cells.append(
            right(
                number if len(number) <= cols.priority else short(slot.priority),
                cols.priority,
                "changed" if differs else "num",
            )
        )
        cells.append(Cell("*" if differs else " ", "changed"))
    cells += [left(slot.name, cols.name, "added" if mark == "+" else "name"), Cell(" ")]
    differing = toggled(was, slot) if view.candidate else ()
    targets = {route.code: view.place(route.target) for route in slot.routes}
    rerouted = {route.code for route in slot.routes if was is not None and route not in was.routes}
    for action in ALL_ACTIONS:
        on = action in slot.actions
        style = f"on-{action.letter}" if on else "off"
        if here and action is view.picked:
            style = "picked"
        routed = targets.get(action, targets.get(None) if not on else None)
        if routed is not None:
            style = "picked" if style == "picked" else f"on-{action.letter}"
            cells += [
                Cell(action.letter, style),
                left(routed, cols.toggle - 1, "changed" if action in rerouted else "mark"),
            ]
            continue
        letter = action.letter if on else "·"
        star = "*" if action in differing else " "
        cells += [Cell(letter, style), left(star, cols.toggle - 1, "changed")]
    cells += _numbers(view, cols, slot, view.shown)
    if cols.trend:
        trend = sparkline(view.trends.get(slot.key, ()), cols.trend)
        cells += [Cell(" "), Cell(trend, "trend")]
    return tuple(cells)


def _second(view: ChainView, cols: Columns, slot: Slot) -> tuple[Cell, ...]:
    shown = view.shown.counterpart
    lead = cols.toggles_at + cols.toggles
    cells = [*_second_label(view, slot, f"{shown} ", lead), *_numbers(view, cols, slot, shown, small=True)]
    if cols.trend:
        rates = _pick(view.reading, slot, shown)
        text = f"{short(rates.all_bytes)}B" if rates and not cols.volume else ""
        cells += [Cell(" "), right(text, cols.trend, "label")]
    return tuple(cells)


def _second_label(view: ChainView, slot: Slot, unit: str, lead: int) -> list[Cell]:
    said = ""
    totals = view.reading.totals.get(slot.key) if view.reading else None
    # A slot not yet in shadow has really dropped what it dropped.
    runs = any(running.key == slot.key and running.shadow for running in view.base or ())
    if runs and slot.shadow and totals is not None and totals.all_packets:
        would = would_have(slot, totals.packets)
        said = clip(f"    would drop {share(would.dropped, would.all)}", max(0, lead - len(unit)))
    elif slot.policy and totals is not None and (broken := slot.policy.breaches(totals.packets)):
        said = clip(f"    ! {short(broken)} forbidden", max(0, lead - len(unit)))
    return [Cell(said, "mark"), right(unit, lead - len(said), "label")]


def _pick(reading: Reading | None, slot: Slot, shown: Shown) -> Rates | None:
    if reading is None:
        return None
    return (reading.rates if shown in (Shown.PACKET_RATE, Shown.BYTE_RATE) else reading.totals).get(slot.key)


def _numbers(view: ChainView, cols: Columns, slot: Slot, shown: Shown, small: bool = False) -> list[Cell]:
    rates = _pick(view.reading, slot, shown)
    octets = shown in (Shown.BYTE_RATE, Shown.BYTES)
    values = None if rates is None else rates.bytes if octets else rates.packets

    def cell(value: float | None, width: int) -> Cell:
        style = "zero" if not value else "label" if small else "num"
        return right(short(value), width, style)

    cells: list[Cell] = []
    if cols.number:
        cells.append(Cell(" "))
        cells += [cell(values[action] if values else None, cols.number) for action in ALL_ACTIONS]
    if cols.total:
        cells.append(cell(sum(values) if values else None, cols.total))
    if cols.volume:
        cells.append(cell(rates.all_bytes if rates else None, cols.volume))
    if cols.id:
        ident = "" if small else str(slot.id) if slot.id is not None else "new"
        cells.append(right(ident, cols.id, "label"))
    return cells


def _removed(cols: Columns, slot: Slot) -> tuple[Cell, ...]:
    cells = [Cell(" "), Cell("-", "removed"), Cell("   ")]
    if cols.priority:
        cells += [right(short(slot.priority), cols.priority, "removed"), Cell(" ")]
    cells += [left(slot.name, cols.name, "gone"), Cell(" ")]
    rest = cols.toggles + cols.number * 5 + bool(cols.number) + cols.total + cols.volume + cols.id
    cells.append(left("removed, not yet applied", rest + (cols.trend + 1 if cols.trend else 0), "removed"))
    return tuple(cells)
