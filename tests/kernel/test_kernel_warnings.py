# SPDX-License-Identifier: Apache-2.0
"""Warnings that need a look at the kernel: the contents of maps, and who accepts redirected packets."""

from __future__ import annotations

import os
import secrets
import struct
from pathlib import Path

from tests.kernel.chains import chain_of, change, look_at
from tests.kernel.command_line import CommandLine
from xdpchain.change.kernel_warnings import with_kernel_warnings
from xdpchain.change.plan import Plan, make_plan
from xdpchain.model.chain import Chain
from xdpchain.model.slot import Slot
from xdpchain.objects.components import load_component
from xdpchain.sys import bpf, bpffs
from xdpchain.testing.frames import NEAR, PEER, udp
from xdpchain.testing.playground import Playground


def planned(playground: Playground, candidate: Chain) -> Plan:
    return with_kernel_warnings(make_plan(look_at(playground), candidate))


def texts(plan: Plan, word: str) -> list[str]:
    return [warning.text for warning in plan.warnings if word in warning.text]


def map_of(chain: Chain, name: str) -> int:
    return next(ref.id for slot in chain for ref in slot.component.maps if ref.name == name)


def test_state_that_would_be_lost_is_counted(playground: Playground, samples: Path) -> None:
    running = change(playground, chain_of(samples, "ratelimit", "pass"))
    assert running.chain is not None
    assert running.chain.slots[0].name == "xdp_ratelimit"
    without = running.chain.remove([0])
    assert texts(planned(playground, without), "lost") == [], "nothing is in the buckets yet"
    playground.send([udp(PEER, NEAR, 53)])
    assert texts(planned(playground, without), "lost") == [
        "xdp_ratelimit is removed, and the contents of its maps are lost: buckets (lru_hash, 1 entry)"
    ]
    assert texts(planned(playground, running.chain.move(0, 1)), "lost") == []
    pin = bpffs.find() / f"xdptui-test-{os.getpid()}-{secrets.token_hex(4)}"
    with bpf.map_by_id(map_of(running.chain, "buckets")) as fd:
        bpf.obj_pin(fd, str(pin))
    try:
        assert texts(planned(playground, without), "lost") == [], "a pin keeps them"
    finally:
        pin.unlink()


def test_targets_are_read_from_device_maps(samples: Path) -> None:
    with Playground(links=2) as playground:
        chain = Chain().add(Slot.of(load_component(str(samples / "redirect.o"), name="redirect_out")))
        others = [f"xdp{n}" for n in (0, 1)]
        (fresh,) = texts(planned(playground, chain), "not set yet")
        assert all(name in fresh for name in others), "veth takes packets once its peer has XDP, or GRO"
        running = change(playground, chain)
        assert running.chain is not None
        with bpf.map_by_id(map_of(running.chain, "out")) as fd:
            bpf.map_update(fd, struct.pack("=I", 0), struct.pack("=I", playground.links[1].ifindex))
        aimed = planned(playground, running.chain)
        assert texts(aimed, "redirects to xdp1") == [
            "redirect_out redirects to xdp1: no ndo-xmit feature, packets are lost"
        ]
    with Playground(links=2, peer_takes_xdp=True) as playground:
        assert texts(planned(playground, chain), "redirects") == []


def test_the_command_line_says_it(cli: CommandLine, playground: Playground) -> None:
    cli.load("ratelimit", "pass")
    playground.send([udp(PEER, NEAR, 53)])
    dry = cli("unload", cli.interface, "xdp_ratelimit", "--dry-run")
    assert "the contents of its maps are lost: buckets (lru_hash, 1 entry)" in dry.err
    done = cli.ok("unload", cli.interface, "xdp_ratelimit")
    assert any("1 entry" in warning["text"] for warning in done.json["plan"]["warnings"]), "as it was before"
