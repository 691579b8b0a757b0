# SPDX-License-Identifier: Apache-2.0
"""Choose a program from an object file, see what it is and whether the interface can run it, and try it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Button, Input, Static

from xdpchain.errors import XdpChainError
from xdpchain.frozen import frozen
from xdpchain.model.chain import MAX_SLOTS, Chain, Linkage
from xdpchain.model.component import Component
from xdpchain.model.interface import Mode
from xdpchain.model.naming import some
from xdpchain.model.runconfig import MAX_PRIORITY
from xdpchain.model.running import Running
from xdpchain.model.slot import Slot
from xdpchain.objects.objfile import ObjectFile, ProgramSpec
from xdptui.render.verdicts_text import verdict_facts
from xdptui.screens.dialog import button, paragraph
from xdptui.screens.failure import Failure
from xdptui.screens.object_files import Found, ObjectFiles
from xdptui.screens.trial import TrialDialog
from xdptui.view.facts import finding_text, program_facts
from xdptui.view.file_lines import program_cells, program_head
from xdptui.widgets.action_toggles import ActionToggles
from xdptui.widgets.mode_choice import ModeChoice
from xdptui.widgets.row_list import RowList
from xdptui.words.advice import told, worded

if TYPE_CHECKING:
    from xdpchain.change.checks import Finding
    from xdpchain.maps.globals import GlobalVariable
    from xdpchain.objects.verdicts import ProgramVerdicts

__all__ = ["Choice", "LoadDialog", "objection"]


@frozen
class Choice:
    """What joins the candidate: the slot, its position (None: by priority), and the mode of a new chain."""

    slot: Slot
    at: int | None
    mode: Mode


class LoadDialog(ObjectFiles[Choice | None]):
    """Answers with a Choice, or None. With ``replaces``, the program replaces the one in that slot.
    ``together`` are the interfaces on which it is loaded at once, without a candidate; empty if it joins one.
    """

    DEFAULT_CSS = """
    LoadDialog {
        #box { width: 110; height: 100%; max-height: 40; }
        #body { height: 1fr; padding: 0; }
        #lists { height: 1fr; min-height: 4; margin: 1 0 0 0; }
        CellGrid { background: $surface; }
        #fileside { width: 2fr; height: 1fr; margin: 0 1 0 0; }
        #programside { width: 3fr; height: 1fr; }
        #files, #programs { height: 1fr; }
        #factbox {
            height: 1fr; min-height: 4; max-height: 12; margin: 1 0 0 0; padding: 0 0 0 1;
            scrollbar-size-vertical: 1;
        }
        #facts { height: auto; }
        #priority { width: 10; }
        #at { width: 13; }
        .label { width: auto; color: $foreground 70%; padding: 0 1 0 0; }
        #settings { height: 1; layout: horizontal; }
        .part { height: 1; width: auto; }
        #modeline { height: 1; }
        #modenote { width: 1fr; height: 1; color: $foreground 70%; }
    }
    LoadDialog.-slim #settings { height: 2; layout: vertical; }
    LoadDialog.-slim #atname { width: 12; }
    LoadDialog.-low #lists { margin: 0; }
    LoadDialog.-low #factbox { margin: 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+g", "globals", show=False),
        Binding("ctrl+t", "trial", show=False),
        Binding("ctrl+l", "lines", show=False),
    ]

    def __init__(
        self,
        running: Running,
        chain: Chain,
        *,
        directory: str | None = None,
        replaces: int | None = None,
        linkage_why: str = "",
        together: Sequence[str] = (),
    ) -> None:
        super().__init__(directory)
        self._together = tuple(together)
        self._linkage_why = linkage_why
        self._target, self._chain, self._replaces = running, chain, replaces
        self._object: ObjectFile | None = None
        self._component: Component | None = None
        self._variables: tuple[GlobalVariable, ...] = ()
        self._findings: tuple[Finding, ...] | None = None
        self._error: XdpChainError | None = None
        self._verdicts: ProgramVerdicts | None = None
        self._lines = False
        where = running.interface
        self.heading = (
            f"Load a program on {some(self._together or [where.name])}"
            if replaces is None
            else f"Replace {chain.slots[replaces].name} (slot {replaces}) on {where.name}"
        )

    def body(self) -> ComposeResult:
        yield from self.path_line()
        with Horizontal(id="lists"):
            with Vertical(id="fileside"):
                yield from self.file_list()
            with Vertical(id="programside"):
                yield RowList(id="programs")
        with VerticalScroll(id="factbox"):
            yield paragraph("", id="facts")
        if self.settles:
            with Container(id="settings"):
                with Horizontal(classes="part"):
                    yield paragraph("Priority", classes="name")
                    yield Input(id="priority", type="integer", compact=True, placeholder="declared")
                    yield paragraph(" continues on", classes="label")
                    yield ActionToggles(Slot.of(Component("")).actions, id="actions")
                with Horizontal(classes="part"):
                    yield paragraph("slot", id="atname", classes="label")
                    yield Input(id="at", type="integer", compact=True, placeholder="by priority")
        if self._free:
            with Horizontal(id="modeline"):
                yield paragraph("Mode", classes="name")
                yield ModeChoice(id="mode")
                yield paragraph("", id="modenote")

    def buttons(self) -> ComposeResult:
        yield button("Cancel (esc)", "cancel")
        variables = button("Globals (ctrl+g)", "globals")
        variables.disabled = True
        yield variables
        trial = button("Try it (ctrl+t)", "trial")
        trial.disabled = True
        yield trial
        does = "Replace" if self._replaces is not None else "Load" if self._together else "Add"
        add = button(f"{does} (ctrl+s)", "add", "primary")
        add.disabled = True
        yield add

    @property
    def settles(self) -> bool:
        """Whether priority, actions and position are chosen here."""
        return self._replaces is None

    @property
    def _free(self) -> bool:
        """Whether the mode is still open: nothing runs, and the candidate is empty."""
        return not self._target.hooks and not self._chain.slots

    @property
    def _mode(self) -> Mode:
        if not self._free:
            return self._chain.mode
        return self.query_one(ModeChoice).mode

    def on_mount(self) -> None:
        super().on_mount()
        self._show()

    def on_resize(self) -> None:
        super().on_resize()
        self.set_class(self.app.size.width < SLIM, "-slim")

    # The object

    def into_object(self) -> bool:
        if self._object is not None:
            self.set_focus(self.query_one("#programs"))
        return self._object is not None

    def close_object(self) -> None:
        if self._object is not None or self._error is not None:
            self._object = self._component = self._error = self._findings = None
            self._variables = ()
            self._show()

    def no_object(self, error: XdpChainError) -> None:
        self._error = error
        self._show()

    def read_object(self, path: str) -> Found:
        from xdpchain.objects.components import programs_of

        try:
            return programs_of(path)
        except XdpChainError as error:
            return error

    def open_object(self, found: Found) -> None:
        if isinstance(found, XdpChainError):
            self._error = found
            self._show()
            return
        self._object = found
        if self._programs:
            programs = self.query_one("#programs", RowList)
            programs.row = 0
            self._choose(self._programs[0].name)
            self.set_focus(programs)
        else:
            self._error = XdpChainError(f"{os.path.basename(found.path or '')} has no XDP program")
            self._show()

    # Programs

    @on(RowList.Moved, "#programs")
    def moved(self) -> None:
        spec = self.query_one("#programs", RowList).under(self._programs)
        if spec is not None and (self._component is None or self._component.name != spec.name):
            self._choose(spec.name)

    @property
    def _programs(self) -> tuple[ProgramSpec, ...]:
        return self._object.xdp_programs() if self._object is not None else ()

    def _list_programs(self) -> None:
        found = self._programs
        self.query_one("#programs", RowList).present(
            len(found),
            lambda row, width: program_cells(
                found[row].name,
                found[row].run_config.priority,
                _letters(found[row].run_config.actions.names()),
                found[row].has_run_config,
                width,
            ),
            head=program_head,
            sorts={
                "programs": lambda row: found[row].name,
                "prio": lambda row: found[row].run_config.priority,
            },
            words=lambda row: found[row].name,
        )

    @on(RowList.Chosen, "#programs")
    def picked(self) -> None:
        self.set_focus(self.query_one("#add"))

    def _choose(self, name: str) -> None:
        from xdpchain.maps.globals import globals_of
        from xdpchain.objects.components import component_of

        assert self._object is not None
        self._findings = self._verdicts = None
        try:
            self._component = component_of(self._object, name=name)
            self._variables = globals_of(self._object, name)
            self._error = None
        except XdpChainError as error:
            self._component, self._error, self._variables = None, error, ()
        else:
            if self.settles:
                declared = self._component.declared
                self.query_one("#actions", ActionToggles).actions = declared.actions
                self.query_one("#priority", Input).placeholder = f"{declared.priority}"
            self._judge()
        self._show()

    def _judge(self) -> None:
        """Ask the engine whether the interface can run it."""
        component = self._component
        if component is None:
            return
        running, mode = self._target, self._mode
        self._ask_verdicts(component)

        def work() -> tuple[Finding, ...]:
            from xdpchain.change.checks import check_component

            return tuple(check_component(component, running, mode))

        self.ask(work, self._judged, "judge")

    def _judged(self, found: tuple[Finding, ...] | Exception) -> None:
        self._findings = (objection(found),) if isinstance(found, Exception) else found
        self._show()

    def _ask_verdicts(self, component: Component) -> None:
        """Ask what it can return, and where."""
        data = component.object.data if component.object is not None else None
        if data is None:
            return

        def work() -> ProgramVerdicts:
            from xdpchain.objects.verdicts import verdicts_of

            return verdicts_of(data, component.name)

        self.ask(work, self._list_verdicts, "verdicts")

    def _list_verdicts(self, found: ProgramVerdicts | Exception) -> None:
        self._verdicts = None if isinstance(found, Exception) else found
        self._show()

    def action_lines(self) -> None:
        """Show or hide the lines that decide the verdicts."""
        self._lines = not self._lines
        self._show()

    @on(ModeChoice.Changed)
    def mode_changed(self) -> None:
        self._judge()
        self._show()

    @on(Input.Changed, "#priority")
    @on(Input.Changed, "#at")
    def settings_changed(self) -> None:
        self._show()

    # Display, and what depends on it

    def _show(self) -> None:
        self._list_programs()
        facts: list[Content] = []
        if self._error is not None:
            facts.append(Content.styled(told(self._error, keys=True), "$error"))
            if self._error.detail:
                facts.append(Content.styled(self._error.detail, "dim"))
        elif self._object is not None and self._component is not None:
            spec = self._object.program(self._component.name)
            facts += [Content(line) for line in program_facts(self._object, spec)]
            if self._verdicts is not None and self._verdicts.name == spec.name:
                facts += [Content(line) for line in verdict_facts(self._verdicts, lines=self._lines)]
            if self._component.globals:
                given = ", ".join(
                    f"{variable.name} = {variable.text}" for variable in self._component.globals
                )
                facts.append(Content.styled(f"globals given: {given}", "$accent"))
            facts.append(
                Content.styled("checking against the interface…", "dim")
            ) if self._findings is None else None
        else:
            listed = self.query_one("#files").has_focus
            facts.append(Content.styled(BROWSING if listed else TYPING, "dim"))
        for finding in self._findings or ():
            sign, style, text = finding_text(finding)
            facts.append(
                Content.assemble((f"{sign} ", f"bold {style}"), (text, style if sign == "✗" else ""))
            )
        if self._free and self._component is not None and self._linkage_why:
            text = f"{self._chain.linkage} linkage: {self._linkage_why}"
            facts.append(Content.assemble(("✓ ", "bold $success"), text))
        problem = self._problem()
        if problem:
            facts.append(Content.styled(problem, "$error"))
        elif self._component is not None and not _refused(self._findings):
            facts.append(Content.styled(self._next(), "dim"))
        elif self._component is not None:
            facts.append(Content.styled("Fix the ✗ above before adding it.", "$error"))
        self.query_one("#facts", Static).update(Content("\n").join(facts))
        usable = self._component is not None and not problem
        for variables in self.query("#globals").results(Button):  # absent when a program is adopted
            variables.disabled = not self._variables
            variables.display = bool(self._variables)  # frees its room for others where space is short
        self.query_one("#trial", Button).disabled = not usable
        self.query_one("#add", Button).disabled = not usable or _refused(self._findings)
        if self._free:
            note = (
                "slower, above the driver: only on request" if self._mode is Mode.GENERIC else "in the driver"
            )
            self.query_one("#modenote", Static).update(note)

    def _next(self) -> str:
        """The next step, or the meaning of the focused field."""
        focused = self.focused.id if self.focused else ""
        step = "ctrl+s adds it to the candidate; nothing runs until you apply (a)."
        if self._together:
            step = f"ctrl+s asks, then loads it on all {len(self._together)} interfaces at once, or on none."
        return FIELDS.get(focused or "", step)

    def on_descendant_focus(self) -> None:
        self._show()

    def _problem(self) -> str:
        """What is wrong with the settings; empty if nothing is."""
        if not self.settles:
            return ""
        if len(self._chain) >= self._chain.linkage.facts.most_slots:
            return _full(self._chain.linkage)
        priority, at = self._number("#priority"), self._number("#at")
        if priority is not None and not 0 <= priority <= MAX_PRIORITY:
            return f"The priority must be 0 to {MAX_PRIORITY}."
        if at is not None and not 0 <= at <= len(self._chain):
            return f"The slot must be 0 to {len(self._chain)}."
        return ""

    def _number(self, which: str) -> int | None:
        try:
            return int(self.query_one(which, Input).value)
        except ValueError:
            return None

    def _choice(self) -> Choice | None:
        if self._component is None or self._problem():
            return None
        if self._replaces is not None:
            slot = self._chain.slots[self._replaces]
            return Choice(replace(slot, component=self._component), self._replaces, self._mode)
        actions = self.query_one("#actions", ActionToggles).actions
        slot = Slot.of(self._component, self._number("#priority"), actions)
        return Choice(slot, self._number("#at"), self._mode)

    def _tried(self, choice: Choice) -> Chain:
        """The candidate with this choice."""
        chain = self._chain if self._chain.slots else replace(self._chain, mode=choice.mode)
        if self._replaces is not None:
            return chain.substitute(self._replaces, choice.slot.component)
        return chain.add(choice.slot, choice.at)

    def action_globals(self) -> None:
        if self._component is not None and self._variables and self.query("#globals"):
            self.run_worker(self._globals_flow(self._component), group="globals", exclusive=True)

    async def _globals_flow(self, component: Component) -> None:
        from xdpchain.maps.globals import with_globals
        from xdptui.screens.globals_form import GlobalsForm

        kept: frozenset[str] = frozenset()
        if self._replaces is not None:
            old = self._chain.slots[self._replaces].component
            if old.id is not None:
                kept = frozenset(r.name for r in old.maps if r.name.startswith((".data", ".bss")))
        given = {variable.name: variable.text for variable in component.globals}
        answer = await self.app.push_screen_wait(GlobalsForm(component.name, self._variables, given, kept))
        if answer is None or self._component is not component or self._object is None:
            return
        self._component = with_globals(replace(component, globals=()), self._object, answer)
        self._show()

    def action_trial(self) -> None:
        choice = self._choice()
        if choice is None:
            return
        try:
            chain = self._tried(choice)
        except XdpChainError as error:
            self.app.push_screen(Failure(error, netns=self._target.interface.netns))
            return
        self.app.push_screen(TrialDialog(chain, choice.slot.name))

    def action_accept(self) -> None:
        self.when_settled(self._accept)

    action_add = action_accept

    def _accept(self) -> None:
        if not self.query_one("#add", Button).disabled:
            self.finish(self._choice())
        elif self._object is None and self._error is None:
            self.refuse_path()


SLIM = 78
"""Columns of a terminal below which the settings take two lines."""

TYPING = "Type a path (tab completes it), or press the down key for the file list."
BROWSING = "enter opens, / filters by name, s sorts (size, age), backspace goes up a directory."

FIELDS = {
    "priority": "Priority: the lowest runs first. Empty: as declared by the program.",
    "actions": "Continues on: after these codes the next slot runs; any other code is final.",
    "at": "Slot: position in the chain, from 0. Empty: by priority.",
    "mode": "Native runs in the driver; generic works with any driver but is slower.",
}
"""What each field means."""


def objection(error: Exception) -> Finding:
    """What prevents loading, as one of the findings."""
    from xdpchain.change.checks import Finding

    if isinstance(error, XdpChainError):
        return Finding("error", f"{error.what}: {error.why}", worded(error.todo, keys=True))
    return Finding("error", f"{type(error).__name__}: {error}")


def _refused(findings: tuple[Finding, ...] | None) -> bool:
    return any(finding.level == "error" for finding in findings or ())


def _full(linkage: Linkage) -> str:
    most = linkage.facts.most_slots
    said = f"The chain is full: {linkage} linkage has {most} slots."
    return said if most == MAX_SLOTS else f"{said} Static linkage (L) has {MAX_SLOTS}."


def _letters(names: tuple[str, ...]) -> str:
    return "".join(name.removeprefix("XDP_")[0] for name in names) or "nothing"
