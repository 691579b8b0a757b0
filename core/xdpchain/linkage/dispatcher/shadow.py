# SPDX-License-Identifier: Apache-2.0
"""What a dispatcher can't store about a slot: labels, and the actions to restore after shadow.

libxdp's configuration has one action set per slot, which in shadow is "after any code", and no labels. Both
are therefore bound to the component in frozen maps, which outlive every dispatcher, libxdp's too. A note
names the dispatcher that it was made for and can't be removed, so one for a later dispatcher (which failed,
or was rolled back) is ignored, unless libxdp then edits the chain.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from typing import TypeVar

from xdpchain.decoding import ID, Fields, fields
from xdpchain.errors import InvalidInput
from xdpchain.model.actions import ActionSet
from xdpchain.model.labels import Labels
from xdpchain.model.manifest import labels_in
from xdpchain.sys import blobs, bpf
from xdpchain.sys.while_it_lives import while_it_lives

__all__ = ["leave_labels", "leave_note", "read_labels", "read_note"]

NOTE = "xdptui_shadow"
LABELS = "xdptui_labels"
MOST_BYTES = 1 << 14
"""Size limit of a note: ours have about 2 KiB at most."""


def read_note(component: int, dispatcher: int) -> ActionSet | None:
    """The actions of the component with this prog ID, which is in shadow on the dispatcher with that one;
    None if none were noted. Raises BpfError.
    """
    return _latest(component, dispatcher, NOTE, lambda note: ActionSet(note.integer("actions")))


def leave_note(component: bpf.Fd, dispatcher: int, actions: ActionSet) -> None:
    """Note a component's actions, for this dispatcher and later ones. Raises BpfError."""
    if read_note(bpf.prog_info(component).id, dispatcher) != actions:
        _leave(component, NOTE, {"dispatcher": dispatcher, "actions": actions.mask})


def read_labels(component: int, dispatcher: int) -> Labels | None:
    """The labels of the slot of the component with this prog ID; None if none were noted since it was loaded.
    Raises BpfError.
    """
    return _latest(component, dispatcher, LABELS, lambda note: labels_in(note.fields("labels")))


def leave_labels(component: bpf.Fd, dispatcher: int, labels: Labels) -> None:
    """Note the labels of a component's slot, for this dispatcher and later ones. Raises BpfError."""
    _leave(component, LABELS, {"dispatcher": dispatcher, "labels": dict(labels)})


T = TypeVar("T")


def _latest(component: int, dispatcher: int, name: str, read: Callable[[Fields], T]) -> T | None:
    with bpf.prog_by_id(component) as fd:
        map_ids = bpf.prog_map_ids(fd)
    found: tuple[int, T] | None = None
    for noted, note in _notes(component, map_ids):
        if noted != name:
            continue
        with contextlib.suppress(InvalidInput):
            made_for, content = note.integer("dispatcher", most=ID), read(note)
            # Prog IDs increase, and maps are listed in the order in which they were bound.
            if made_for <= dispatcher and (found is None or made_for >= found[0]):
                found = made_for, content
    return found[1] if found else None


@while_it_lives(bpf.prog_by_id)
def _notes(component: int, map_ids: tuple[int, ...]) -> tuple[tuple[str, Fields], ...]:
    """The notes among a component's maps, with their maps' names."""
    found = []
    for map_id in map_ids:
        with bpf.map_by_id(map_id) as fd:
            name = bpf.map_info(fd).name
            if name in (NOTE, LABELS):
                with contextlib.suppress(InvalidInput):
                    found.append((name, fields(blobs.read(fd, MOST_BYTES).rstrip(b"\0"), "a note of a slot")))
    return tuple(found)


def _leave(component: bpf.Fd, name: str, note: Mapping[str, object]) -> None:
    with blobs.make(name, json.dumps(note).encode()) as fd:
        bpf.prog_bind_map(component, fd)
