# SPDX-License-Identifier: Apache-2.0
"""A static chain whose components are functions does what the same chain does when they are part of the
dispatcher: the one is for what is too much for one function, the other for everybody else.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.kernel.chains import chain_of, change, scripted_chain
from xdpchain.linkage import static
from xdpchain.model.actions import Action, ActionSet
from xdpchain.model.chain import Chain, Linkage
from xdpchain.sys import bpf
from xdpchain.testing import frames
from xdpchain.testing.playground import Playground
from xdpchain.trial.run import TrialRow, run_trial

WORDS = ["P", "PD", "ADPTR", "none", "TR", "P"]


def scripted(samples: Path) -> Chain:
    chain = scripted_chain(samples, [ActionSet.parse(text) for text in WORDS], Linkage.STATIC)
    return chain.route(0, Action.TX, chain.slots[4].key)


def everything(samples: Path) -> Chain:
    return chain_of(samples, "globals", "subprogs", "loops", "mapinmap", "globalfn", "tailcalls", "firewall")


def tried(chain: Chain) -> list[TrialRow]:
    chance = random.Random(7)
    packets = [
        frames.scripted(bytes(chance.choice((0, 1, 2, 3, 4, 5, 31, 99)) for _ in WORDS)) for _ in range(60)
    ]
    packets += [frames.udp(frames.PEER, frames.NEAR, port) for port in range(7, 12)]
    return list(run_trial(chain, packets).rows)


@pytest.mark.parametrize("make", [scripted, everything])
def test_both_forms_do_the_same(
    root: None, samples: Path, monkeypatch: pytest.MonkeyPatch, make: object
) -> None:
    chain = make(samples)  # type: ignore[operator]
    inside = [(row.slots, row.verdict, row.frame_out) for row in tried(chain)]
    monkeypatch.setattr(static, "_inlined", lambda *_: None)
    assert [(row.slots, row.verdict, row.frame_out) for row in tried(chain)] == inside


def functions(program: int) -> int:
    with bpf.prog_by_id(program) as fd:
        return bpf.prog_info(fd).function_count


def test_what_fits_leaves_no_call_and_what_does_not_stays_a_function(
    playground: Playground, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = change(playground, chain_of(samples, "firewall", "ratelimit", "monitor"))
    assert running.hook is not None
    assert functions(running.hook.prog_id) == 1
    # Its tail calls have to come back to the chain.
    running = change(playground, chain_of(samples, "firewall", "tailcalls"))
    assert running.hook is not None
    assert functions(running.hook.prog_id) >= 2
    # The verifier may refuse the one function: then calls divide its work.
    refused = []
    load = bpf.prog_load

    def once(*words: object, **options: object) -> bpf.Fd:
        if options.get("name") == static.PROGRAM and not refused:
            refused.append(options)
            raise bpf.BpfError(7, bpf.Command.PROG_LOAD)
        return load(*words, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(bpf, "prog_load", once)
    running = change(playground, chain_of(samples, "firewall", "ratelimit", "monitor"))
    assert refused
    assert running.hook is not None
    assert functions(running.hook.prog_id) == 4
