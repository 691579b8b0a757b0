# SPDX-License-Identifier: Apache-2.0
"""Declared effects of programs compared with what they do: none said to leave packets alone changes one."""

from __future__ import annotations

from pathlib import Path

import pytest

from xdpchain.errors import XdpChainError
from xdpchain.model.chain import Chain
from xdpchain.model.slot import Slot
from xdpchain.objects.components import load_component
from xdpchain.objects.effects import effects_of
from xdpchain.objects.objfile import ObjectFile
from xdpchain.testing.frames import NEAR, PEER, arp_request, scripted, udp
from xdpchain.trial.run import run_trial

FRAMES = [udp(PEER, NEAR, 53), udp(PEER, NEAR, 9), arp_request(PEER, NEAR), scripted(bytes([2] * 10))]


@pytest.mark.usefixtures("root")
def test_all_samples_over_packets(samples: Path) -> None:
    changing, still = set(), set()
    for file in sorted(samples.glob("*.o")):
        data = file.read_bytes()
        for spec in ObjectFile.parse(data).xdp_programs():
            chain = Chain().add(Slot.of(load_component(str(file), name=spec.name)))
            try:
                rows = run_trial(chain, FRAMES).rows
            except XdpChainError:  # some samples are meant to be refused
                continue
            effects = effects_of(data, spec.name)
            assert effects is not None
            changes = any(row.frame_out != row.frame for row in rows)
            assert effects.writes or not changes, spec.name
            (changing if effects.writes else still).add(spec.name)
            if spec.name.startswith(("scripted", "mark")):
                assert changes, spec.name
    assert {"scripted_0", "mark_a"} <= changing
    assert {"xdp_firewall", "xdp_monitor", "xdp_ratelimit", "redirect_out"} <= still
