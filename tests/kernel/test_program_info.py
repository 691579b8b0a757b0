# SPDX-License-Identifier: Apache-2.0
"""What the kernel says of a program."""

from __future__ import annotations

import contextlib

import pytest

from xdpchain.bytecode.instructions import LET_PASS
from xdpchain.sys import blobs, bpf
from xdpchain.sys.bpf.programs import FEW_MAPS


@pytest.mark.parametrize("count", [0, 1, FEW_MAPS, FEW_MAPS + 1])
def test_all_maps_of_a_program_are_named_however_many(root: None, count: int) -> None:
    with contextlib.ExitStack() as held:
        program = held.enter_context(bpf.prog_load(bpf.ProgType.XDP, LET_PASS, name="many"))
        bound = []
        for number in range(count):
            fd = held.enter_context(blobs.make("bound", b"%d" % number))
            bpf.prog_bind_map(program, fd)
            bound.append(bpf.map_info(fd).id)
        assert bpf.prog_map_ids(program) == tuple(bound)
