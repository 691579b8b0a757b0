# SPDX-License-Identifier: Apache-2.0
"""Debian's xdp-loader as a second editor of the same chain, and what both must agree on."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

from xdpchain.model.actions import ActionSet
from xdpchain.model.interface import Mode
from xdpchain.model.running import Running
from xdpchain.observe.discover import look
from xdpchain.sys import bpf, bpffs
from xdpchain.testing.playground import Playground

__all__ = [
    "Loader",
    "LoaderSlot",
    "LoaderStatus",
    "Refused",
    "agreed",
    "in_netns",
    "kernel",
    "loader_version",
    "nothing_left",
    "pinned",
    "xdp_loader",
]

MODES = {"native": Mode.NATIVE, "skb": Mode.GENERIC}


class Refused(Exception):
    """xdp-loader failed; its message."""


@dataclass(frozen=True)
class LoaderSlot:
    """A row ` =>` of xdp-loader's status."""

    priority: int
    name: str
    id: int
    tag: str
    actions: ActionSet


@dataclass(frozen=True)
class LoaderStatus:
    """xdp-loader's status of one interface; ``id`` is the dispatcher's, None if nothing is loaded."""

    id: int | None
    name: str
    mode: Mode | None
    slots: tuple[LoaderSlot, ...]


def xdp_loader() -> list[str] | None:
    """The command: this machine's, or the one unpacked in XDPTUI_XDP_TOOLS (`tests/vm/run --xdp-tools`), with
    its own libraries. None if there is none.
    """
    if tree := os.environ.get("XDPTUI_XDP_TOOLS"):
        libraries = f"{tree}/usr/lib/x86_64-linux-gnu"
        dynamic_loader = [f"{libraries}/ld-linux-x86-64.so.2", "--library-path", libraries]
        return [*dynamic_loader, f"{tree}/usr/sbin/xdp-loader"]
    found = shutil.which("xdp-loader")
    return [found] if found else None


def in_netns(playground: Playground, *command: str) -> list[str]:
    """The command in the playground's network namespace, and in our own mount namespace, where bpffs is."""
    return ["nsenter", f"--net=/run/netns/{playground.netns}", *command]


class Loader:
    """xdp-loader on one interface of a playground."""

    def __init__(self, playground: Playground, link: int = 0) -> None:
        self._playground = playground
        self._ifname = playground.links[link].ifname

    def run(self, command: str, *arguments: str) -> str:
        """xdp-loader's output. Raises Refused."""
        loader = xdp_loader()
        assert loader is not None
        full = in_netns(self._playground, *loader, command, self._ifname, *arguments)
        done = subprocess.run(full, capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise Refused(done.stdout + done.stderr)
        return done.stdout

    def load(
        self,
        *files: Path,
        name: str | None = None,
        priority: int | None = None,
        actions: str | None = None,
        mode: str | None = None,
    ) -> None:
        options = {"-n": name, "-P": priority, "-A": actions, "-m": mode}
        given = [str(word) for pair in options.items() if pair[1] is not None for word in pair]
        self.run("load", *given, *map(str, files))

    def unload(self, *numbers: int) -> None:
        """Unload those programs, or all."""
        for number in numbers:
            self.run("unload", "--id", str(number))
        if not numbers:
            self.run("unload", "--all")

    def clean(self) -> None:
        self.run("clean")

    def status(self) -> LoaderStatus:
        number, name, mode = None, "", None
        slots = []
        for line in self.run("status").splitlines():
            words = line.split()
            if words[:1] == ["=>"]:
                # An extra, empty row stands for an empty dispatcher.
                priority, program, ident, tag = words[1:5]
                actions = ActionSet.parse(words[5] if len(words) > 5 else "")
                slots.append(LoaderSlot(int(priority), program, int(ident), tag, actions))
            elif words[:1] == [self._ifname] and "<No" not in line:
                name, mode, number = words[1], MODES[words[2]], int(words[3])
        return LoaderStatus(number, name, mode, tuple(slots))


def pinned() -> dict[str, tuple[str, ...]]:
    """Everything below <bpffs>/xdp: the directories and their pins."""
    top = bpffs.find() / "xdp"
    names = sorted(os.listdir(top)) if top.is_dir() else []
    return {name: tuple(sorted(os.listdir(top / name))) for name in names}


def agreed(playground: Playground, names: list[str] | None = None, link: int = 0) -> Running:
    """Assert that xdptui, xdp-loader and the pins agree on the running chain, and that it is in libxdp's
    order; with ``names``, that these components run in this order. Returns our own view.
    """
    where = playground.links[link]
    running, status = look(where.ifname, playground.netns), Loader(playground, link).status()
    assert running.chain is not None, running.note
    assert running.hook is not None
    assert (status.id, status.name, status.mode) == (running.hook.prog_id, "xdp_dispatcher", running.mode)
    ours = tuple(
        LoaderSlot(s.priority, s.name, s.id or 0, s.component.tag or "", s.goes_on) for s in running.chain
    )
    assert ours == _printed(status.slots, ours)
    if names is not None:
        assert [slot.name for slot in running.chain] == names
    directory = f"dispatch-{where.ifindex}-{status.id}"
    numbers = range(len(ours))
    pins = tuple(sorted(f"prog{n}-{what}" for n in numbers for what in ("link", "prog")))
    here = {one: names for one, names in pinned().items() if re.match(rf"dispatch-{where.ifindex}-", one)}
    assert here == {directory: pins}
    for number, slot in zip(numbers, ours, strict=True):
        _check_pins(bpffs.find() / "xdp" / directory, number, slot.id, running.hook.prog_id)
    return running


def _printed(rows: tuple[LoaderSlot, ...], ours: tuple[LoaderSlot, ...]) -> tuple[LoaderSlot, ...]:
    """The rows as meant: for a row without actions, xdp-loader 1.3 repeats those of the row above."""
    meant = []
    for number, row in enumerate(rows):
        repeated = number and row.actions == rows[number - 1].actions
        empty = number < len(ours) and not ours[number].actions
        meant.append(replace(row, actions=ActionSet()) if repeated and empty else row)
    return tuple(meant)


def _check_pins(directory: Path, number: int, program: int, dispatcher: int) -> None:
    """The program's pin holds the program, the link's pin its link to this dispatcher."""
    with bpf.obj_get(str(directory / f"prog{number}-prog")) as fd:
        info = bpf.prog_info(fd)
        assert (info.id, info.type) == (program, bpf.ProgType.EXT)
    with bpf.obj_get(str(directory / f"prog{number}-link")) as fd:
        link = bpf.link_info(fd)
        assert (link.type, link.prog_id) == (bpf.LINK_TRACING, program)
        assert link.target in (dispatcher, 0)  # 0: kernels before 5.13 do not say


def kernel() -> tuple[int, int]:
    """The version of the running kernel, to know what other tools can't do on it."""
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int(re.match(r"\d+", minor)[0])  # type: ignore[index]


@functools.cache
def loader_version() -> tuple[int, ...]:
    """xdp-loader's version, which is that of its libxdp."""
    loader = xdp_loader()
    assert loader is not None
    said = subprocess.run([*loader, "load", "--version"], capture_output=True, text=True, check=False).stdout
    return tuple(int(number) for number in said.split()[2].split("."))


def nothing_left(playground: Playground, link: int = 0) -> None:
    """Assert that nothing runs and that no pin of this interface is left, as both editors see it."""
    where = playground.links[link]
    assert look(where.ifname, playground.netns).hooks == ()
    assert Loader(playground, link).status().id is None
    assert [one for one in pinned() if one.startswith(f"dispatch-{where.ifindex}-")] == []
