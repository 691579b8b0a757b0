# SPDX-License-Identifier: Apache-2.0
"""Two editors with one interface: xdptui's engine and xdp-loader, so that a test can hand a chain from one to
the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from tests.interop.libxdp import Loader
from xdpchain.editing import edit
from xdpchain.model.actions import ActionSet
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.interface import Mode
from xdpchain.model.running import Running
from xdpchain.model.slot import Slot
from xdpchain.objects.components import load_component
from xdpchain.observe.discover import look
from xdpchain.testing.playground import Playground

__all__ = ["Editor", "Ours", "Program", "Theirs"]


@dataclass(frozen=True)
class Program:
    """A program of a sample object, and settings that override what it declares."""

    file: str
    name: str | None = None
    priority: int | None = None
    actions: str | None = None


class Editor(Protocol):
    """An editor of chains."""

    name: str

    def load(self, *programs: Program, generic: bool = False) -> None:
        """Add these programs to what runs, one edit each."""

    def remove(self, *numbers: int) -> None:
        """Remove the components with these program ids."""

    def remove_all(self) -> None:
        """Leave the hook empty."""


class Theirs:
    """xdp-loader."""

    name = "xdp-loader"

    def __init__(self, loader: Loader, samples: Path) -> None:
        self._loader = loader
        self._samples = samples

    def load(self, *programs: Program, generic: bool = False) -> None:
        for program in programs:
            self._loader.load(
                self._samples / f"{program.file}.o",
                name=program.name,
                priority=program.priority,
                actions=program.actions,
                mode="skb" if generic else None,
            )

    def remove(self, *numbers: int) -> None:
        self._loader.unload(*numbers)

    def remove_all(self) -> None:
        self._loader.unload()


class Ours:
    """xdptui's engine."""

    name = "xdptui"

    def __init__(self, playground: Playground, samples: Path, link: int = 0) -> None:
        self._playground = playground
        self._ifname = playground.links[link].ifname
        self._samples = samples

    def edit(self, change: Callable[[Chain], Chain], mode: Mode | None = None) -> Running:
        """Change what runs; an empty hook gets a chain with freplace linkage."""

        def candidate(running: Running) -> Chain:
            chain = running.chain or Chain(linkage=Linkage.FREPLACE, mode=mode or Mode.NATIVE)
            if mode is not None and chain.mode is not mode:
                chain = Chain(chain.slots, chain.linkage, mode)
            return change(chain)

        return edit(self._ifname, candidate, netns=self._playground.netns).running

    def slot(self, program: Program) -> Slot:
        component = load_component(str(self._samples / f"{program.file}.o"), name=program.name)
        return Slot.of(
            component, program.priority, None if program.actions is None else ActionSet.parse(program.actions)
        )

    def load(self, *programs: Program, generic: bool = False) -> None:
        for program in programs:
            self.edit(partial(Chain.add, slot=self.slot(program)), Mode.GENERIC if generic else Mode.NATIVE)

    def remove(self, *numbers: int) -> None:
        self.edit(lambda chain: chain.remove(i for i, slot in enumerate(chain) if slot.id in numbers))

    def remove_all(self) -> None:
        assert look(self._ifname, self._playground.netns).hooks
        self.edit(lambda chain: Chain())
