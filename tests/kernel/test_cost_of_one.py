# SPDX-License-Identifier: Apache-2.0
"""What concerns one interface costs the same among few and among many, measured in calls and messages, not
seconds.

Left out is what is asked of the whole machine: `maps` names other programs that use a map, `doctor` looks for
stale pins, the first change of an interface searches the journal for its former names, and before each change
it is looked up which process holds the operator's ssh connection.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.arming import LATER, no_guardian_survives
from tests.kernel.chains import chain_of, change, look_at
from tests.kernel.syscall_counting import SyscallCounter
from tests.stress.scale import scaled
from tests.stress.syscalls import run_until, told_to_the_kernel
from xdpchain.change.confirm.by_hand import confirm
from xdpchain.change.journal.store import STATE
from xdpchain.change.plan import make_plan
from xdpchain.editing import apply_all, edit
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.running import Running
from xdpchain.model.slot import Slot
from xdpchain.objects.components import load_component
from xdpchain.observe.discover import look
from xdpchain.sys.bpf import call
from xdpchain.sys.netlink.transport import Transport
from xdpchain.testing.playground import Playground

ROOT = Path(__file__).parents[2]
FEW, MANY = 32, scaled(200, 500, 60)
"""More interfaces. A change examines a few of others' pins at random, and with ``FEW`` there are as many."""

MOST_CALLS = {Linkage.STATIC: 160, Linkage.TAILCALL: 250}
"""The most system calls to apply a chain of one slot to one interface more."""


def cost(act: Callable[[], object]) -> Counter[str]:
    """The bpf(2) calls, the netlink requests, and the messages these returned."""
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

        for module in ("call", "programs", "maps", "links"):
            patch.setattr(f"xdpchain.sys.bpf.{module}.bpf_call", counted_call, raising=False)
        patch.setattr(Transport, "exchange", counted_exchange)
        act()
    return made


ENVIRON = {**os.environ, "PYTHONPATH": f"{ROOT / 'core'}{os.pathsep}{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
LOOK = """
import sys
from xdpchain.observe.discover import look
running = look(*sys.argv[1:])
"""
FOLLOW = f"""{LOOK}
from xdpchain.follow import follow
follow(running).close()
"""
TRY = f"""{LOOK}
from xdpchain.trial.run import run_trial
run_trial(running.chain, [bytes(64)])
"""


def add_others(playground: Playground, samples: Path, count: int, linkage: Linkage) -> None:
    """More interfaces, every fourth with a chain; half of these were changed again, which was confirmed or is
    pending.
    """
    names = [f"v{i}" for i in range(count)]
    lines = "".join(f"link add {name} type veth peer name w{name}\n" for name in names)
    ip = ["ip", "-n", playground.netns, "-batch", "-"]
    subprocess.run(ip, input=lines, text=True, check=True)

    def now(some: list[str]) -> list[Running]:
        return [look(name, playground.netns) for name in some]

    chains = [chain_of(samples, "pass", "counter", linkage=one) for one in (linkage, Linkage.TAILCALL)]
    changed = names[::4]
    apply_all([make_plan(running, chains[i % 2]) for i, running in enumerate(now(changed))])
    for some in (changed[::4], changed[1::4]):
        moved = [make_plan(one, one.chain.move(1, 0)) for one in now(some) if one.chain]
        apply_all(moved, confirm=LATER)
        if some[0] == names[0]:
            confirm(some[0], playground.netns)


def all_costs(
    counter: SyscallCounter, samples: Path, others: int, linkage: Linkage
) -> dict[str, Counter[str]]:
    with Playground() as playground, no_guardian_survives(playground):
        add_others(playground, samples, others, linkage)
        change(playground, chain_of(samples, "pass"))  # starts its journal
        change(playground, Chain())
        where, found = (playground.ifname, playground.netns), {}

        def counted(what: str, *command: str) -> None:
            made, code = counter.of([sys.executable, *command], ENVIRON)
            assert code in (0, 2), f"{what} ended with {code}"  # 2: a plan changes something
            found[what] = made

        def cli(*words: str) -> None:
            counted(" ".join(words[:2]), "-m", "xdptui", *words, "--netns", playground.netns)

        name = playground.ifname
        objects = [str(samples / f"{one}.o") for one in ("firewall", "monitor", "pass")]
        cli("load", name, *objects[:2], "--linkage", linkage.value)
        counted("look", "-c", LOOK, *where)
        cli("status", name)
        cli("watch", name, "--count", "1")
        cli("why", name)
        cli("plan", "move", name, "0", "1")
        cli("plan", "unload", name, "0")
        counted("load one more", "-m", "xdptui", "load", name, objects[2], "--netns", playground.netns)
        cli("move", name, "0", "1")
        cli("set", name, "0", "-A", "PASS,DROP")
        cli("log", name)
        counted("follow", "-c", FOLLOW, *where)
        counted("try", "-c", TRY, *where)
        counted("unload one", "-m", "xdptui", "unload", name, "1", "--netns", playground.netns)
        cli("undo", name)
        cli("unload", name, "--all")
        return found


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "linkage",
    [
        Linkage.STATIC,
        Linkage.TAILCALL,
        # Under emulation these thirty commands take many minutes.
        pytest.param(Linkage.FREPLACE, marks=[pytest.mark.vm, pytest.mark.long]),
    ],
)
def test_one_interface_costs_the_same_among_many(
    samples: Path, own_bpffs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linkage: Linkage
) -> None:
    """All system calls of each command by kind, whatever chains, pins, pending changes and journals others
    have.
    """
    found = {}
    with SyscallCounter() as counter:
        for others in (FEW, MANY):
            monkeypatch.setitem(os.environ, "XDPTUI_STATE", str(tmp_path / str(others)))
            monkeypatch.setitem(ENVIRON, "XDPTUI_STATE", str(tmp_path / str(others)))
            monkeypatch.setitem(ENVIRON, "LIBXDP_BPFFS", str(own_bpffs))
            found[others] = all_costs(counter, samples, others, linkage)
    more = {
        what: {kind: (made[kind], again[kind]) for kind in made | again if made[kind] != again[kind]}
        for what, made in found[FEW].items()
        for again in [found[MANY][what]]
    }
    print({what: made.total() for what, made in found[FEW].items()})
    assert not {what: kinds for what, kinds in more.items() if kinds}


APPLY = """
import sys
from xdpchain.linkage import array_pins
from xdpchain.sys import while_it_lives
from xdpchain.trial.packets import own, own_connection
from xdptui.cli import main

while_it_lives.LEAST_ROOM = 10_000  # what is kept is searched now and then for what is gone
# Both ask all processes of this machine, which come and go: the one once, the other only where tests run.
own.own_connections = lambda netns: own_connection.OwnConnections()
array_pins.require_lasting = lambda *words: None
sys.exit(main(sys.argv[1:]))
"""


def applied(samples: Path, place: Path, linkage: Linkage, links: int) -> Counter[str]:
    """The system calls of an apply over so many interfaces, the first of this BPF filesystem and journal."""
    spec = place / "spec"
    shutil.rmtree(place / "bpffs" / "xdptui", ignore_errors=True)
    with Playground(links=links) as playground:
        slot = f'[[interface.slot]]\nobject = "{samples / "firewall.o"}"\n'
        spec.write_text(f'[[interface]]\nname = "xdp*"\nlinkage = "{linkage.value}"\n{slot}')

        def body() -> None:
            os.environ[STATE] = str(place / f"of-{links}")
            os.environ["PYTHONPATH"] = f"{ROOT / 'core'}{os.pathsep}{ROOT}"
            command = [sys.executable, "-c", APPLY, "apply", str(spec), "--netns", playground.netns]
            os.execv(sys.executable, command)  # knows nothing of what the tests before did

        calls, code = run_until(body, None, told_to_the_kernel)
        assert code == 0
        return Counter(str(call) if call.name == "bpf" else call.name for call in calls)


@pytest.mark.parametrize("linkage", MOST_CALLS)
def test_applying_to_one_more_costs_the_same(
    samples: Path, own_bpffs: Path, tmp_path: Path, linkage: Linkage
) -> None:
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
    assert (
        cost(lambda: look_at(playground))["netlink requests"] == 3
    )  # the program's pins, from before and after
    slot = Slot.of(load_component(str(samples / "counter.o")))
    made = cost(
        lambda: edit(
            playground.ifname,
            lambda running: running.chain.add(slot),  # type: ignore[union-attr]
            netns=playground.netns,
        )
    )
    assert made["netlink requests"] == 3 + 1 + 1 + 1  # and the swap
