# SPDX-License-Identifier: Apache-2.0
"""Run a few frames through the candidate, without an interface (BPF_PROG_TEST_RUN)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Static

from xdpchain.model.actions import Action
from xdpchain.model.chain import Chain
from xdptui.screens.dialog import Dialog, paragraph
from xdptui.screens.failure import Failure
from xdptui.workers.trial_frames import NAMED_FRAMES

if TYPE_CHECKING:
    from xdpchain.trial.run import TrialReport

__all__ = ["TrialDialog"]

REPEAT = 1000
"""Runs per frame, for a meaningful duration."""

STYLE = {
    Action.ABORTED: "$error",
    Action.DROP: "$error",
    Action.PASS: "$success",
    Action.TX: "$primary",
    Action.REDIRECT: "$warning",
}


class TrialDialog(Dialog[None]):
    """Runs the trial in a worker and shows a verdict for each frame."""

    DEFAULT_CSS = "TrialDialog #box { width: 92; }"

    def __init__(self, chain: Chain, name: str) -> None:
        super().__init__()
        self._chain = chain
        self.heading = f"Trial of the chain with {name}"

    def body(self) -> ComposeResult:
        yield paragraph("linking and running in the background…", id="rows")
        yield paragraph(
            "The whole candidate, linked and run in the kernel on generated frames and copies of its "
            "maps; no interface is touched. Under 0, 1, …: what each slot returned, or a dot if it did "
            "not run.",
            classes="gap dim",
        )

    def on_mount(self) -> None:
        super().on_mount()
        self.ask(self._work, self._done, "trial")

    def _work(self) -> TrialReport:
        from xdpchain.trial.run import run_trial

        return run_trial(self._chain, [frame for _, frame in NAMED_FRAMES], repeat=REPEAT)

    def _done(self, outcome: TrialReport | Exception) -> None:
        if isinstance(outcome, Exception):
            self.app.switch_screen(Failure(outcome, "The trial failed"))
            return
        slots = "".join(f"{i:>3}" for i in range(len(self._chain)))
        lines = [Content.styled(f"{'frame':<28}{'bytes':>6} {slots}  {'verdict':<14}{'ns':>5}", "bold")]
        for (name, frame), row in zip(NAMED_FRAMES, outcome.rows, strict=True):
            known = isinstance(row.verdict, Action)
            verdict = Action(row.verdict).xdp_name if known else f"code {int(row.verdict)}"
            changed = " rewritten" if row.frame_out != frame else ""
            style = f"bold {STYLE[Action(row.verdict)]}" if known else "bold $error"
            lines.append(
                Content.assemble(
                    f"{name:<28}{len(frame):>6} ",
                    "".join(f"{_letter(code):>3}" for code in row.slots),
                    (f"  {verdict:<14}", style),
                    f"{row.ns:>5}{changed}",
                )
            )
        self.query_one("#rows", Static).update(Content("\n").join(lines))


def _letter(code: Action | int | None) -> str:
    if code is None:
        return "·"
    return code.letter if isinstance(code, Action) else "?"
