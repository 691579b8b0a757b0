# SPDX-License-Identifier: Apache-2.0
"""Packets on their way through the chain: a filter, the matching packets, and one of them in full."""

from __future__ import annotations

import os
import time
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Button, Input, Static

from xdpchain import files
from xdpchain.follow.followed import Followed
from xdpchain.follow.pcapng import file_header, packet_blocks
from xdpchain.model.actions import Action, ActionSet
from xdpchain.model.running import Running
from xdptui.screens.dialog import button, paragraph
from xdptui.screens.two_panes import TwoPanes
from xdptui.settings import state_file
from xdptui.view.follow_lines import detail_lines, packet_cells, packet_head, packet_name
from xdptui.widgets.row_list import RowList
from xdptui.words.advice import told
from xdptui.words.path_words import Paths
from xdptui.workers.packet_follower import (
    Began,
    Ended,
    Followings,
    FollowMessage,
    Packets,
    PathsFound,
    Progress,
)

__all__ = ["FollowScreen"]

STYLES = {
    "name": "bold", "index": "$quiet", "label": "$quiet", "title": "bold $primary", "mark": "bold $accent",
    "line": "$accent", "changed": "bold $accent", "error": "bold $error",
    "on-A": "bold $action-a", "on-D": "bold $error",
    "on-P": "bold $success", "on-T": "bold $primary", "on-R": "bold $accent",
}  # fmt: skip

VERDICTS = (
    ActionSet(),
    *map(ActionSet.of, (Action.DROP, Action.ABORTED, Action.PASS, Action.TX, Action.REDIRECT)),
)
"""Verdicts whose packets can be shown, one at a time; the first means any."""

COUNT = 100
"""Packets shown per following: enough to look at, and it ends by itself."""
KEPT = 1000
"""Packets kept per following, those with other verdicts included."""

SWAPS = (
    "Enter starts: a recording chain on the same maps is swapped in, and swapped back when you close this. "
    "Nothing is edited."
)
OTHERWISE = "Enter starts, closing stops. What runs is not swapped."

AGAIN = "To follow again: /, enter"


def names_of(verdicts: ActionSet) -> str:
    """``DROP``, or ``all``."""
    return ", ".join(action.name for action in verdicts) or "all"


def _meant(packet: Followed, verdicts: ActionSet) -> bool:
    return not verdicts or packet.outcome in verdicts


class FollowScreen(TwoPanes[None]):
    """Follows when asked to, until closed."""

    DEFAULT_CSS = """
    FollowScreen {
        #box { width: 100%; height: 100%; padding: 0; }
        #body { height: 1fr; padding: 0; }
        #expression { margin: 0 1; }
        #note, #saved { height: auto; max-height: 3; padding: 0 1; }
        #saved { display: none; }
        #packets { height: 2fr; min-height: 4; }
        #detail { height: 3fr; padding: 0 1; border-top: solid $panel; scrollbar-size-vertical: 1; }
        #packet { height: auto; }
        #buttons { margin: 0; }
        CellGrid { background: $surface; }
    }
    """
    panes = ("#packets", "#detail")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", show=False),
        Binding("w", "write", show=False),
        Binding("x", "end", show=False),
        Binding("v", "verdict", show=False),
        Binding("p", "path", show=False),
        Binding("tab,shift+tab", "other", show=False),
    ]
    first = "#expression"

    def __init__(self, running: Running) -> None:
        super().__init__()
        self._target = running
        self._followings = Followings(running, self.post_message)
        self._packets: list[Followed] = []
        self._paths: dict[int, Paths] = {}
        self._going = False
        self._verdicts = VERDICTS[0]
        self._followed = 0
        self._advice = SWAPS if running.linkage_facts.records_inside else OTHERWISE
        self._state, self._trouble, self._tally, self._saved = self._advice, "", "", ""
        self.heading = f"Follow packets on {running.interface.name}"

    def body(self) -> ComposeResult:
        yield Input(
            id="expression", compact=True, select_on_focus=False,
            placeholder="Filter (tcpdump syntax): icmp and host 192.0.2.7 (empty: all packets)",
        )  # fmt: skip
        yield paragraph("", id="note")
        yield paragraph("", id="saved")
        yield RowList(id="packets", choosing=False)
        with VerticalScroll(id="detail"):
            yield paragraph("", id="packet")

    def buttons(self) -> ComposeResult:
        yield button("Close (esc)", "close")
        yield button("Filter (/)", "filter")
        yield button(self._verdict_label(), "verdict")
        yield button("Path (p)", "path")
        yield button("Stop (x)", "end")
        yield button("Write (w)", "write")

    def on_mount(self) -> None:
        super().on_mount()
        self._show()

    def on_unmount(self) -> None:
        self._followings.end()

    # Display

    def _verdict_label(self) -> str:
        return f"Show: {names_of(self._verdicts)} (v)"

    @property
    def _shown(self) -> list[Followed]:
        """The packets whose verdict is asked for: those on the screen, and those that `w` writes."""
        return [packet for packet in self._packets if _meant(packet, self._verdicts)]

    def _show(self) -> None:
        shown = self._shown
        only = f". Shown: {len(shown)} with verdict {names_of(self._verdicts)}" if self._verdicts else ""
        note = Content.assemble(
            (f"{self._trouble}\n" if self._tally else self._trouble, "bold $error")
            if self._trouble
            else (self._state, "$foreground 80%"),
            f"{self._tally}{only}" if self._tally else "",
        )
        saved = self.query_one("#saved", Static)
        self.query_one("#note", Static).update(note)
        saved.update(Content(self._saved))  # on lines of its own: a path is of no use without its end
        saved.display = bool(self._saved)
        rows = self.query_one("#packets", RowList)
        waiting = "Waiting for packets…" if self._going else ""
        if self._packets and not shown:
            again = "" if self._going else "; / enter: follow again"
            waiting = f"None ended as {names_of(self._verdicts)}. v: others{again}"
        rows.present(
            len(shown),
            lambda row, width: packet_cells(shown[row], width),
            empty=waiting,
            head=packet_head,
            sorts={
                "-#": lambda row: shown[row].number,
                "packet": lambda row: packet_name(shown[row]),
                "bytes": lambda row: shown[row].entry.length,
                "verdict": lambda row: shown[row].verdict,
            },
        )
        self.query_one("#write", Button).disabled = not shown
        self.query_one("#end", Button).disabled = not self._going
        self._show_packet()

    def _show_packet(self) -> None:
        packet = self.query_one("#packets", RowList).under(self._shown)
        if packet is None:
            self.query_one("#packet", Static).update("")
            return
        width = max(40, self.query_one("#detail").size.width - 2)
        lines = [
            Content.assemble(*((text, STYLES.get(style, "")) for text, style in parts))
            for parts in detail_lines(packet, width, self._paths.get(packet.number))
        ]
        self.query_one("#packet", Static).update(Content("\n").join(lines))

    @on(RowList.Moved, "#packets")
    def moved(self) -> None:
        self._show_packet()
        self.query_one("#detail").scroll_home(animate=False)

    # Following

    @on(Input.Submitted, "#expression")
    def submitted(self, event: Input.Submitted) -> None:
        self._trouble, self._state, self._tally, self._saved = "", "beginning…", "", ""
        self._packets, self._paths, self._followed, self._going = [], {}, 0, True
        work = self._followings.begin(event.value.strip())
        self.run_worker(work, thread=True, group="follow", exit_on_error=False)
        self._show()

    def _old(self, event: FollowMessage) -> bool:
        return event.number != self._followings.number

    def on_began(self, event: Began) -> None:
        if self._old(event):
            return
        what = event.expression or "all packets"
        self._state = f"FOLLOWING {what}. "
        if event.remark:
            self._state += f"Note: {event.remark}. "
        self.set_focus(self.query_one("#packets"))
        self._show()

    def on_packets(self, event: Packets) -> None:
        if self._old(event):
            return
        rows = self.query_one("#packets", RowList)
        shown = len(self._shown)
        at_end = rows.row >= shown - 1
        for packet in event.found:
            meant = _meant(packet, self._verdicts)
            if meant and shown >= COUNT:
                continue
            shown += meant
            self._packets.append(packet)
            self._followed += 1
        if shown >= COUNT:
            self._followings.end(f"{COUNT} packets, the most at a time")
        others = [packet.number for packet in self._packets if not _meant(packet, self._verdicts)]
        gone = set(others[: max(0, len(self._packets) - KEPT)])
        self._packets = [packet for packet in self._packets if packet.number not in gone]
        if at_end:
            rows.row = shown - 1
        self._show()

    def on_progress(self, event: Progress) -> None:
        if self._old(event):
            return
        self._tally = f"{event.looked_at} packets examined, {self._followed} followed"
        if event.lost:
            self._tally += f", {event.lost} lost (no room for their records)"
        self._show()

    def on_ended(self, event: Ended) -> None:
        if self._old(event):
            return
        self._going = False
        self._state = f"ENDED{f': {event.why}' if event.why else ''}; the chain is as it was. {AGAIN}. "
        if event.error is not None:
            self._trouble = told(event.error, keys=True)
            if not self._packets:
                self.set_focus(self.query_one("#expression"))
        self._show()

    # Keys

    def action_filter(self) -> None:
        self.set_focus(self.query_one("#expression"))

    def action_verdict(self) -> None:
        """Show the packets with the next verdict; the others are followed too, and come back with theirs."""
        self._verdicts = VERDICTS[(VERDICTS.index(self._verdicts) + 1) % len(VERDICTS)]
        self._followings.sifting = bool(self._verdicts)
        self.query_one("#verdict", Button).label = self._verdict_label()
        self._saved = ""
        self._show()

    def action_path(self) -> None:
        """Run the packet under the cursor once more to get the lines that ran."""
        packet = self.query_one("#packets", RowList).under(self._shown)
        if packet is not None:
            work = self._followings.paths_of(packet)
            self.run_worker(work, thread=True, group="path", exclusive=True, exit_on_error=False)

    def on_paths_found(self, event: PathsFound) -> None:
        if not self._old(event):
            self._paths[event.packet] = event.paths
            self._show_packet()

    def action_end(self) -> None:
        self._followings.end()

    def action_other(self) -> None:
        self.show_both()
        order = [self.query_one(selector) for selector in ("#expression", "#packets", "#detail")]
        here = next((i for i, widget in enumerate(order) if widget.has_focus), -1)
        self.set_focus(order[(here + 1) % len(order)])

    def action_write(self) -> None:
        """Write what is shown to a new file in the folder for recordings."""
        self._trouble = ""
        packets = self._shown
        if not packets:
            return
        name = "".join(c if c.isalnum() else "_" for c in self._target.interface.name)
        chain = self._target.chain or self._target.shown or ()
        keys = [slot.key for slot in chain]
        names = [slot.name for slot in chain]
        header = file_header(self._target.interface.name, names, self._target.device.layer)
        try:
            path = state_file(os.environ, f"follow-{name}-{time.strftime('%Y%m%d-%H%M%S')}.pcapng")
            with os.fdopen(files.create(str(path)), "wb") as file:
                file.write(header)
                for packet in packets:
                    file.write(packet_blocks(packet, keys))
        except OSError as error:
            self._trouble = f"{error.filename} can't be written: {error.strerror}"
        else:
            self._saved = f"{len(packets)} packet{'s' * (len(packets) != 1)} written to {path}"
        self._show()
