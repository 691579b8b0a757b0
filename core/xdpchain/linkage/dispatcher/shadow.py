# SPDX-License-Identifier: Apache-2.0
"""The actions that a component in shadow will have again, where the dispatcher can't carry them.

libxdp's configuration has one action set a slot, and in shadow that is "after any code". The component's own
actions hang on the component, in a frozen map bound to it: that outlives every dispatcher, libxdp's too. A
note names the dispatcher that it was made for, and can't be taken back, so one made for a later dispatcher
(which failed, or was rolled back) is passed over. Only if libxdp edits the chain after such a one does it
count.
"""

from __future__ import annotations

import contextlib
import json

from xdpchain.decoding import ID, fields
from xdpchain.errors import InvalidInput
from xdpchain.model.actions import ActionSet
from xdpchain.sys import blobs, bpf

__all__ = ["leave_note", "read_note"]

NOTE = "xdptui_shadow"


def read_note(component: bpf.Fd, dispatcher: int) -> ActionSet | None:
    """The actions of a component that the dispatcher with this prog id has in shadow; None if none were
    noted. Raises BpfError.
    """
    found: tuple[int, ActionSet] | None = None
    for number in bpf.prog_map_ids(component):
        with bpf.map_by_id(number) as fd:
            if bpf.map_info(fd).name != NOTE:
                continue
            with contextlib.suppress(InvalidInput):
                note = fields(blobs.read(fd).rstrip(b"\0"), "the note of a slot in shadow")
                made_for, actions = note.integer("dispatcher", most=ID), ActionSet(note.integer("actions"))
                # Prog ids rise, and maps are listed in the order in which they were bound.
                if made_for <= dispatcher and (found is None or made_for >= found[0]):
                    found = made_for, actions
    return found[1] if found else None


def leave_note(component: bpf.Fd, dispatcher: int, actions: ActionSet) -> None:
    """Note a component's actions, for this dispatcher and those after it. Raises BpfError."""
    if read_note(component, dispatcher) == actions:
        return
    text = json.dumps({"dispatcher": dispatcher, "actions": actions.mask}).encode()
    with blobs.make(NOTE, text) as fd:
        bpf.prog_bind_map(component, fd)
