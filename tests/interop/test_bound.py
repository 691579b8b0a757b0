# SPDX-License-Identifier: Apache-2.0
"""A dispatcher bound to its device, between two editors: libxdp supports this from 1.6 on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.libxdp import Loader, Refused, agreed, nothing_left
from tests.kernel.chains import change, look_at
from tests.objects.compile import asking_object
from xdpchain.linkage.dispatcher.installed import emitted_version
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.slot import Slot
from xdpchain.objects.components import load_component
from xdpchain.testing.playground import Playground

pytestmark = pytest.mark.vm


def test_xdp_loader_and_a_bound_chain(
    playground: Playground, samples: Path, tmp_path: Path, loader: Loader
) -> None:
    path = asking_object(tmp_path)
    if emitted_version() < 3 or path is None:
        pytest.skip("this libxdp or kernel knows no bound dispatchers")
    chain = Chain(linkage=Linkage.FREPLACE).add(Slot.of(load_component(str(path))))
    change(playground, chain.add(Slot.of(load_component(str(samples / "counter.o")))))
    running = agreed(playground, ["xdp_counter", "hashed"])
    with pytest.raises(Refused, match="bound"):
        loader.load(samples / "pass.o")  # it would have to request a bound one
    assert agreed(playground, ["xdp_counter", "hashed"]).identity == running.identity
    assert running.chain is not None
    loader.unload(running.chain.slots[0].id or 0)
    left = agreed(playground, ["hashed"])
    assert left.dispatcher is not None
    assert left.dispatcher.bound
    change(playground, (left.chain or Chain()).add(Slot.of(load_component(str(samples / "firewall.o")))))
    again = agreed(playground)
    change(playground, (again.chain or Chain()).remove([again.chain.position(left.chain.slots[0].key)]))  # type: ignore[union-attr]
    rest = look_at(playground)
    assert rest.dispatcher is not None
    assert rest.dispatcher.bound  # what was loaded for this device stays bound
    loader.unload()
    nothing_left(playground)
