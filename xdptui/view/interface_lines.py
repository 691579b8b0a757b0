# SPDX-License-Identifier: Apache-2.0
"""The interfaces as lines. Pure."""

from __future__ import annotations

from xdpchain.frozen import frozen
from xdpchain.model.running import Owner, Running
from xdptui.view.cells import DOWN, UP, Cell, Line, left, right, size_of
from xdptui.view.session import Order
from xdptui.words.numbers import short

__all__ = ["InterfaceView", "column_at", "heading", "interface_line", "ownership"]

FEATURES = {
    "basic": "basic",
    "redirect": "redirect",
    "ndo-xmit": "xmit",
    "xsk-zerocopy": "zerocopy",
    "hw-offload": "offload",
    "rx-sg": "sg",
    "ndo-xmit-sg": "xmit-sg",
}
"""Short names of the kernel's XDP features (enum netdev_xdp_act, kernel 6.3), in its order."""


LONGEST = 15
"""Maximum length of an interface's name (IFNAMSIZ)."""
COLUMNS = (Order.NAME, Order.LINK, Order.MODE, Order.OWNER, Order.CHAIN, Order.TRAFFIC, Order.DRIVER)


@frozen
class InterfaceView:
    """One interface as listed; ``rate`` is packets/s through its chain, None if not counted. ``alarm``:
    packets were just lost after their program. ``marked``: the next load applies to it too.
    """

    running: Running
    candidate: bool = False
    rate: float | None = None
    alarm: bool = False
    marked: bool = False


def _widths(width: int) -> tuple[int, int, int, int, int, int, int, int]:
    """name, state, mode, owner, chain, rate, driver, features (the rest)."""
    if width >= 110:
        fixed = (18, 6, 8, 8, 26, 7, 12)
    elif width >= 72:
        fixed = (LONGEST, 5, 8, 8, 11, 6, 9)
    elif width >= 47:
        fixed = (LONGEST, 5, 8, 8, 0, 6, 0)
    else:
        link, mode = 5 if width >= 24 else 0, 8 if width >= 32 else 0
        fixed = (max(4, min(LONGEST, width - 3)), link, mode, 0, 0, 0, 0)
    rest = width - 3 - sum(fixed) - 1
    return (*fixed, rest if rest >= 6 and width >= 72 else 0)


def heading(width: int, position: str, order: Order = Order.INDEX, reverse: bool = False) -> Line:
    """The line above the interfaces, with ``position`` (such as ``1-4 of 100``) at the right. The sort column
    is marked with the direction.
    """
    name, state, mode, owner, chain, rate, driver, features = _widths(width)

    def label(text: str, column: Order) -> str:
        # Most traffic and the longest chain come first: that is descending.
        down = reverse != (column in (Order.TRAFFIC, Order.CHAIN))
        return text if column is not order else f"{text}{DOWN if down else UP}"

    cells = [
        left("  " + label("interface", Order.NAME), name + 3),
        left(label("link", Order.LINK), state),
        left(label("mode", Order.MODE), mode),
        left(label("owner", Order.OWNER), owner),
        left(label("chain", Order.CHAIN), chain),
        right(label("pkt/s", Order.TRAFFIC), rate) if rate else Cell(""),
        left(" " + label("driver", Order.DRIVER), driver),
    ]
    used = sum(len(cell.text) for cell in cells)
    text = f" {'features' if features else ''}"
    room = width - used
    if position and room < len(position) + len(text) + 1:
        text = ""
    while position and room < len(position) + 2:  # drop the last labels to make room
        room += len(cells.pop().text)
    cells.append(
        Cell((text + position.rjust(max(0, room - len(text) - 1)) + " ")[: max(0, room)].ljust(room))
    )
    return Line(tuple(cells), "head")


def column_at(width: int, x: int) -> Order | None:
    """The column whose heading is at ``x``; None if there is nothing to sort by."""
    name, *rest = _widths(width)
    for column, size in zip(COLUMNS, (name + 3, *rest), strict=False):
        if x < size:
            return column
        x -= size
    return None


def ownership(running: Running) -> str:
    """The owner in one word: ``free`` if no program runs."""
    return str(running.owner) if running.owner else "?" if running.hooks else "free"


def _chain(running: Running, wide: bool) -> str:
    chain = running.chain or running.shown
    if chain is not None:
        count = len(chain)
        text = f"{count} {chain.linkage}"
        if wide:
            text = f"{count} slot{'s' * (count != 1)} {chain.linkage}"
            if running.dispatcher:
                text += f", id {running.dispatcher.id}"
        return text
    return running.hook.name or f"id {running.hook.prog_id}" if running.hook else ""


def interface_line(view: InterfaceView, width: int, here: bool, focused: bool) -> Line:
    """One interface as a line of exactly ``width`` characters."""
    running = view.running
    device = running.device
    name, state, mode, owner, chain, rate, driver, features = _widths(width)
    owner_style = "free" if not running.hooks else "name" if running.owner is Owner.XDPTUI else "foreign"
    if device.features is None:
        shown = "?"
    else:
        shown = " ".join(word for key, word in FEATURES.items() if key in device.features) or "none"
        shown += "".join(f" {key}" for key in sorted(device.features - FEATURES.keys()))
    cells = [
        Cell("▶" if here else " ", "pointer"),
        Cell("*" if view.candidate else "+" if view.marked else " ", "changed"),
        left(running.interface.name, name, "name" if running.hooks else "plain"),
        Cell("!", "warn") if view.alarm else Cell(" "),
        left("up" if device.up else "down", state, "plain" if device.up else "label"),
        left(str(running.mode) if running.mode else "-", mode, "plain" if running.mode else "zero"),
        left(ownership(running), owner, owner_style),
        left(_chain(running, width >= 110), chain - 1 if chain else 0, "plain"),
        Cell(" " if chain else ""),
        right(short(view.rate), rate, "num" if view.rate else "zero") if rate else Cell(""),
        left(f" {device.driver or '-'}", driver, "plain"),
    ]
    used = sum(size_of(cell.text) for cell in cells)
    cells.append(left(f" {shown}" if features else "", width - used, "label"))
    return Line(tuple(cells), "" if not here else "cursor" if focused else "blurred")
