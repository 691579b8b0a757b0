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

__all__ = ["leave_labels", "leave_note", "read_labels", "read_note"]

NOTE = "xdptui_shadow"
LABELS = "xdptui_labels"


def read_note(component: bpf.Fd, dispatcher: int) -> ActionSet | None:
    """The actions of a component that is in shadow on the dispatcher with this prog ID; None if none were
    noted. Raises BpfError.
    """
    return _latest(component, dispatcher, NOTE, lambda note: ActionSet(note.integer("actions")))


def leave_note(component: bpf.Fd, dispatcher: int, actions: ActionSet) -> None:
    """Note a component's actions, for this dispatcher and later ones. Raises BpfError."""
    if read_note(component, dispatcher) != actions:
        _leave(component, NOTE, {"dispatcher": dispatcher, "actions": actions.mask})


def read_labels(component: bpf.Fd, dispatcher: int) -> Labels | None:
    """The labels of a component's slot; None if none were noted since it was loaded. Raises BpfError."""
    return _latest(component, dispatcher, LABELS, lambda note: labels_in(note.fields("labels")))


def leave_labels(component: bpf.Fd, dispatcher: int, labels: Labels) -> None:
    """Note the labels of a component's slot, for this dispatcher and later ones. Raises BpfError."""
    _leave(component, LABELS, {"dispatcher": dispatcher, "labels": dict(labels)})


T = TypeVar("T")


def _latest(component: bpf.Fd, dispatcher: int, name: str, read: Callable[[Fields], T]) -> T | None:
    found: tuple[int, T] | None = None
    for map_id in bpf.prog_map_ids(component):
        with bpf.map_by_id(map_id) as fd:
            if bpf.map_info(fd).name != name:
                continue
            with contextlib.suppress(InvalidInput):
                note = fields(blobs.read(fd).rstrip(b"\0"), "a note of a slot")
                made_for, content = note.integer("dispatcher", most=ID), read(note)
                # Prog IDs increase, and maps are listed in the order in which they were bound.
                if made_for <= dispatcher and (found is None or made_for >= found[0]):
                    found = made_for, content
    return found[1] if found else None


def _leave(component: bpf.Fd, name: str, note: Mapping[str, object]) -> None:
    with blobs.make(name, json.dumps(note).encode()) as fd:
        bpf.prog_bind_map(component, fd)
