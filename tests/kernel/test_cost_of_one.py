# SPDX-License-Identifier: Apache-2.0
"""What concerns one interface costs the same among few and among many, measured in calls and messages, not
seconds.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.chains import chain_of, change, look_at
from tests.kernel.command_line import CommandLine
from tests.stress.syscalls import run_until, told_to_the_kernel
from xdpchain.change.journal.store import STATE
from xdpchain.editing import edit
from xdpchain.model.linkage import Linkage
from xdpchain.model.slot import Slot
from xdpchain.objects.components import load_component
from xdpchain.sys import blobs
from xdpchain.sys.bpf import call
from xdpchain.sys.netlink.transport import Transport
from xdpchain.testing.playground import Playground
from xdpchain.trial.packets.own_connection import OwnConnections
from xdptui.cli import main

FEW, MANY = 2, 120

MOST_CALLS = {Linkage.STATIC: 200, Linkage.TAILCALL: 255}
"""The most system calls to apply a chain of one slot to one interface more."""


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


def applied(samples: Path, place: Path, linkage: Linkage, links: int) -> Counter[str]:
    """The system calls of an apply over so many interfaces, the first of this BPF filesystem and journal."""
    spec = place / "spec"
    shutil.rmtree(place / "bpffs" / "xdptui", ignore_errors=True)
    with Playground(links=links) as playground:
        slot = f'[[interface.slot]]\nobject = "{samples / "firewall.o"}"\n'
        spec.write_text(f'[[interface]]\nname = "xdp*"\nlinkage = "{linkage.value}"\n{slot}')

        def body() -> None:
            os.environ[STATE] = str(place / f"of-{links}")
            assert main(["apply", str(spec), "--netns", playground.netns]) == 0

        calls, code = run_until(body, None, told_to_the_kernel)
        assert code == 0
        return Counter(str(call) if call.name == "bpf" else call.name for call in calls)


@pytest.mark.parametrize("linkage", MOST_CALLS)
def test_applying_to_one_more_costs_the_same(
    samples: Path, own_bpffs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linkage: Linkage
) -> None:
    monkeypatch.setattr(blobs, "LEAST_ROOM", 10_000)  # is searched now and then for what is gone
    monkeypatch.setattr(blobs, "_DECODED", blobs._Decoded())
    # Both ask all processes of this machine, which come and go: the one once, the other only where tests run.
    monkeypatch.setattr("xdpchain.trial.packets.own.own_connections", lambda _: OwnConnections())
    monkeypatch.setattr("xdpchain.linkage.array_pins.require_lasting", lambda *_: None)
    applied(samples, tmp_path, linkage, 1)  # compiles what is imported
    ten, twenty, sixty = (applied(samples, tmp_path, linkage, links) for links in (10, 20, 60))
    twenty.subtract(ten)
    sixty.subtract(ten)
    # Rounded: a list of interfaces comes in one piece more, an import looks again at a directory.
    few = {name: round(more / 10) for name, more in twenty.items()}
    assert {name: round(more / 50) for name, more in sixty.items()} == few
    assert sum(twenty.values()) <= 10 * MOST_CALLS[linkage]


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
