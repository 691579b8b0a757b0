# SPDX-License-Identifier: Apache-2.0
"""What concerns one interface costs the same among few and among many, measured in calls and messages, not
seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.chains import chain_of, change, look_at
from tests.kernel.command_line import CommandLine
from xdpchain.editing import edit
from xdpchain.model.slot import Slot
from xdpchain.objects.components import load_component
from xdpchain.sys.bpf import call
from xdpchain.sys.netlink.transport import Transport
from xdpchain.testing.playground import Playground

FEW, MANY = 2, 120


def cost(act: Callable[[], object]) -> Counter[str]:
    """The bpf(2) calls, the netlink requests, and the messages these returned. A walk over the machine's pins
    counts as one, however many others have left.
    """
    made: Counter[str] = Counter()
    with pytest.MonkeyPatch.context() as patch:
        bpf_call, exchange = call.bpf_call, Transport.exchange

        def counted_call(command: call.Command, attr: bytes) -> tuple[int, bytes]:
            made[f"bpf {command.name}"] += 1
            return bpf_call(command, attr)

        def counted_exchange(self: Transport, request: bytearray, **options: Any) -> list[tuple[int, bytes]]:
            replies = exchange(self, request, **options)
            made["netlink requests"] += 1
            made["netlink messages"] += len(replies)
            return replies

        def counted_walk() -> Iterator[None]:
            made["walks over the pins"] += 1
            yield from ()

        patch.setattr("xdpchain.sys.pinned._paths", counted_walk)
        for module in ("call", "programs", "maps", "links"):
            patch.setattr(f"xdpchain.sys.bpf.{module}.bpf_call", counted_call, raising=False)
        patch.setattr(Transport, "exchange", counted_exchange)
        act()
    return made


def all_costs(samples: Path, links: int, capsys: pytest.CaptureFixture[str]) -> dict[str, Counter[str]]:
    with Playground(links=links) as playground:
        cli = CommandLine(playground, capsys, samples)
        for link in range(links):  # each has a chain, so that one look too many shows
            change(playground, chain_of(samples, "pass"), link)
        slot = Slot.of(load_component(str(samples / "counter.o")))
        look_at(playground)  # asks once for what all share: the netdev family
        return {
            "look": cost(lambda: look_at(playground)),
            "edit": cost(
                lambda: edit(
                    playground.ifname,
                    lambda running: running.chain.add(slot),  # type: ignore[union-attr]
                    netns=playground.netns,
                )
            ),
            "status": cost(lambda: cli.ok("status", playground.ifname)),
            "plan": cost(lambda: cli("plan", "move", playground.ifname, "0", "1")),
            "set": cost(lambda: cli.ok("set", playground.ifname, "0", "-A", "PASS,DROP")),
            "unload": cost(lambda: cli.ok("unload", playground.ifname, "--all")),
        }


def test_one_interface_costs_the_same_among_many(
    samples: Path, root: None, capsys: pytest.CaptureFixture[str]
) -> None:
    few = all_costs(samples, FEW, capsys)
    assert few["look"]["netlink messages"] == few["look"]["netlink requests"] > 0
    many = all_costs(samples, MANY, capsys)
    for what, made in few.items():
        assert many[what] == made, what


def test_a_change_looks_three_times(playground: Playground, samples: Path) -> None:
    """To plan, under the lock, and to see the result. Each queries one link; features are asked for once."""
    change(playground, chain_of(samples, "pass"))
    assert cost(lambda: look_at(playground))["netlink requests"] == 2
    slot = Slot.of(load_component(str(samples / "counter.o")))
    made = cost(
        lambda: edit(
            playground.ifname,
            lambda running: running.chain.add(slot),  # type: ignore[union-attr]
            netns=playground.netns,
        )
    )
    assert made["netlink requests"] == 2 + 1 + 1 + 1  # and the swap
