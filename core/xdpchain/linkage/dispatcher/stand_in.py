# SPDX-License-Identifier: Apache-2.0
"""The stand-in for a component that is off: a program of its name that returns XDP_PASS, after which the
chain continues.

libxdp has no slot without a program, and at its next edit attaches whatever is pinned. So the component
itself is hidden from it, pinned under the stand-in's prog ID (`arrays`), and the stand-in carries the slot as
it was: any tool may rebuild the chain around it, and the slot stays off. If another tool leaves the stand-in
alone in the dispatcher's place, packets pass.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterable
from dataclasses import replace

from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.manifest import Author, Manifest
from xdpchain.model.slot import Slot
from xdpchain.objects.btf import Btf
from xdpchain.objects.btf_types import Func, Kind
from xdpchain.sys import blobs, bpf
from xdpchain.sys.libbpf import FUNC_GLOBAL, merge_btf

from .attached import ORIGIN
from .emit import RETURN_PASS

__all__ = ["load_stand_in"]


def load_stand_in(
    slot: Slot, dispatcher: bpf.Fd, function: str, held: Iterable[bpf.Fd], author: Author
) -> bpf.Fd:
    """A stand-in for a slot that is off, ready to replace this function of the dispatcher. The maps in
    ``held`` live as long as it does. Raises KernelRefused, PermissionDenied, Unsupported.
    """
    try:
        raw = bpf.btf_raw(bpf.prog_info(dispatcher).btf_id)
        place = Btf.parse(raw).find(function, Kind.FUNC)
        assert isinstance(place, Func)
        merged = merge_btf([raw], [(slot.name, FUNC_GLOBAL, place.prototype)])
        origin = Manifest(Chain((replace(slot, row=None),), Linkage.FREPLACE, counters=False), author)
        with contextlib.ExitStack() as undo:
            with bpf.btf_load(merged.data) as btf:
                program = undo.enter_context(
                    bpf.prog_load(
                        bpf.ProgType.EXT,
                        RETURN_PASS,
                        name=slot.name,
                        btf_fd=btf.fileno(),
                        func_info=struct.pack("<II", 0, merged.functions[0]),
                        attach_btf_id=place.id,
                        attach_fd=dispatcher.fileno(),
                    )
                )
            for fd in held:
                bpf.prog_bind_map(program, fd)
            with blobs.make(ORIGIN, origin.encode()) as carrier:
                bpf.prog_bind_map(program, carrier)
            undo.pop_all()
            return program
    except bpf.BpfError as error:
        raise bpf.refusal(error, f"the stand-in for {slot.name} can't be loaded", log=error.log) from error
