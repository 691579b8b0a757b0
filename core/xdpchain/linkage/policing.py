# SPDX-License-Identifier: Apache-2.0
"""The ring buffer in which a chain reports policy violations. Each new program takes it over, so that a
reader misses nothing during an edit.
"""

from __future__ import annotations

import contextlib

from xdpchain.model.chain import Chain
from xdpchain.model.running import Running
from xdpchain.sys import bpf

__all__ = ["VIOLATIONS", "is_policed", "ring_for", "ring_of"]

VIOLATIONS = "xdptui_violations"
RING_SIZE = 1 << 16


def is_policed(chain: Chain) -> bool:
    """Whether this chain forbids anything."""
    return any(slot.policy for slot in chain)


def ring_of(running: Running) -> bpf.Fd | None:
    """The running dispatcher's ring buffer; None if it has none. Raises BpfError."""
    if running.dispatcher is None:
        return None
    with bpf.prog_by_id(running.dispatcher.id) as program:
        for map_id in bpf.prog_map_ids(program):
            fd = bpf.map_by_id(map_id)
            if bpf.map_info(fd).name.startswith(VIOLATIONS[:15]):
                return fd
            fd.close()
    return None


def ring_for(candidate: Chain, running: Running, held: contextlib.ExitStack) -> bpf.Fd | None:
    """The ring for a candidate: the running chain's, or a new one; None if nothing is forbidden."""
    if not is_policed(candidate):
        return None
    try:
        ring = ring_of(running) or bpf.map_create(bpf.MapType.RINGBUF, 0, 0, RING_SIZE, name=VIOLATIONS)
    except bpf.BpfError as error:
        raise bpf.refusal(error, "the ring buffer for policy violations can't be created") from error
    return held.enter_context(ring)
