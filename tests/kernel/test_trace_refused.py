# SPDX-License-Identifier: Apache-2.0
"""Where the kernel refuses TRACING programs, the reason is given and nothing is left."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kernel.chains import look_at
from xdpchain.errors import PermissionDenied
from xdpchain.model.running import Running
from xdpchain.observe.counters import open_counters
from xdpchain.observe.trace import counting_cost, trace
from xdpchain.sys import bpf
from xdpchain.sys.libbpf import Object
from xdpchain.sys.netlink import Netlink
from xdpchain.testing.playground import Playground
from xdptui.words.advice import worded


@pytest.fixture
def foreign(playground: Playground, samples: Path) -> Iterator[Running]:
    """What runs on an interface to which somebody attached a program that is no dispatcher."""
    if ctypes.CDLL("libbpf.so.1").libbpf_probe_bpf_prog_type(bpf.ProgType.TRACING, None) == 1:
        pytest.skip("this kernel takes TRACING programs")
    with Object((samples / "pass.o").read_bytes()) as opened, Netlink(playground.netns) as netlink:
        opened.load()
        netlink.attach_xdp(playground.ifindex, next(opened.programs()).fd, mode="native", expected_fd=None)
        yield look_at(playground)


@pytest.mark.parametrize("ask", [open_counters, trace, counting_cost])
def test_the_reason_is_the_kernels_and_not_a_missing_capability(
    foreign: Running, ask: Callable[[Running], object]
) -> None:
    before = set(bpf.ids(bpf.Command.LINK_GET_NEXT_ID))
    with pytest.raises(PermissionDenied, match="blocks TRACING programs") as caught:
        ask(foreign)
    assert "Static chains" in worded(caught.value.todo)
    assert "BPF_PROG_LOAD" in caught.value.detail
    assert set(bpf.ids(bpf.Command.LINK_GET_NEXT_ID)) <= before
