# SPDX-License-Identifier: Apache-2.0
"""From native to generic mode and back, in two steps because the kernel has no atomic one; neither is left
half done.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernel.arming import LATER, ROOT, eventually, guardians
from tests.kernel.chains import LINKAGES, change, look_at
from tests.kernel.test_together import refuse_native
from xdpchain.change.confirm.by_hand import confirm, roll_back
from xdpchain.change.plan import Plan, make_plan
from xdpchain.editing import apply, apply_all, undo
from xdpchain.errors import InvalidInput, XdpChainError
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.interface import Mode, WantedMode
from xdpchain.model.running import Running
from xdpchain.model.slot import Slot
from xdpchain.objects.components import load_component
from xdpchain.observe.pending_pins import all_pending
from xdpchain.sys import netns
from xdpchain.testing.playground import Playground

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="XDP programs and network namespaces take root")


def moved(playground: Playground, mode: WantedMode) -> Plan:
    running = look_at(playground)
    return make_plan(running, running.chain or Chain(), mode=mode)


def loaded(playground: Playground, samples: Path, linkage: Linkage, mode: Mode = Mode.NATIVE) -> Running:
    slots = [Slot.of(load_component(str(samples / f"{name}.o"))) for name in ("firewall", "monitor")]
    return change(playground, Chain(linkage=linkage, mode=mode).add(slots[0]).add(slots[1]))


def maps(running: Running) -> list[tuple[int, ...]]:
    return [tuple(sorted(ref.id for ref in slot.component.maps)) for slot in running.chain or ()]


@pytest.mark.parametrize("linkage", LINKAGES)
def test_there_and_back(playground: Playground, samples: Path, linkage: Linkage) -> None:
    before = loaded(playground, samples, linkage)
    plan = moved(playground, WantedMode.GENERIC)
    assert any("no program runs" in warning.text for warning in plan.warnings)
    after = apply(plan)
    assert (after.mode, len(after.hooks), after.pending) == (Mode.GENERIC, 1, None)
    assert maps(after) == maps(before)
    assert not all_pending()
    assert apply(moved(playground, WantedMode.NATIVE)).mode is Mode.NATIVE
    assert undo(playground.ifname, playground.netns).mode is Mode.GENERIC
    eventually(lambda: not guardians(netns.inode(playground.netns)), "the guardians end")


def test_it_has_to_be_asked_for(playground: Playground, samples: Path) -> None:
    running = loaded(playground, samples, Linkage.STATIC, Mode.GENERIC)
    assert running.chain is not None
    with pytest.raises(InvalidInput, match="atomically"):
        make_plan(running, Chain(slots=running.chain.slots, linkage=Linkage.STATIC))


def test_what_ran_comes_back_where_native_mode_is_refused(playground: Playground, samples: Path) -> None:
    before = loaded(playground, samples, Linkage.STATIC, Mode.GENERIC)
    refuse_native(playground)
    with pytest.raises(XdpChainError, match="MTU"):
        apply(moved(playground, WantedMode.NATIVE))
    after = look_at(playground)
    assert (after.hooks, maps(after), after.pending, after.editable) == (
        before.hooks,
        maps(before),
        None,
        True,
    )
    assert not all_pending()


@pytest.mark.parametrize(
    ("linkage", "keep"),
    [
        (Linkage.STATIC, False),
        (Linkage.TAILCALL, True),
        pytest.param(Linkage.FREPLACE, False, marks=pytest.mark.vm),
    ],
)
def test_it_waits_to_be_confirmed(
    playground: Playground, samples: Path, linkage: Linkage, keep: bool
) -> None:
    before = loaded(playground, samples, linkage)
    pending = apply(moved(playground, WantedMode.GENERIC), confirm=LATER)
    assert (pending.mode, pending.pending is not None) == (Mode.GENERIC, True)
    after = (confirm if keep else roll_back)(playground.ifname, playground.netns)
    if keep:
        assert after.hooks == pending.hooks
    else:
        assert (after.hooks, maps(after)) == (before.hooks, maps(before))
    assert after.editable
    assert not all_pending()


CHILD = """
import os, signal, sys
sys.path[:0] = {path!r}
from xdpchain.change.plan import make_plan
from xdpchain.editing import apply
from xdpchain.model.interface import WantedMode
from xdpchain.observe.discover import look
from xdpchain.sys.netlink import Netlink
ifname, netns, fatal = sys.argv[1:]
attach, steps = Netlink.attach_xdp, []
def kill():
    os.kill(os.getpid(), signal.SIGKILL)
def counting(self, *args):
    attach(self, *args)
    steps.append(args)
    if len(steps) == int(fatal):
        kill()
Netlink.attach_xdp = counting
running = look(ifname, netns)
apply(make_plan(running, running.chain, mode=WantedMode.GENERIC))
"""


@pytest.mark.parametrize(
    ("linkage", "fatal"),
    [
        (Linkage.STATIC, 1),
        (Linkage.TAILCALL, 2),
        pytest.param(Linkage.FREPLACE, 1, marks=pytest.mark.vm),
    ],
)
def test_who_is_killed_in_the_gap_or_after_it_leaves_the_old_chain(
    playground: Playground, samples: Path, linkage: Linkage, fatal: int
) -> None:
    """If nothing runs, the guardian acts at once, even without --confirm."""
    before = loaded(playground, samples, linkage)
    code = CHILD.format(path=[str(ROOT / "core"), str(ROOT)])
    words = [sys.executable, "-c", code, playground.ifname, playground.netns, str(fatal)]
    assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
    eventually(lambda: not guardians(netns.inode(playground.netns)), "the guardian ends")
    after = look_at(playground)
    assert (after.hooks, maps(after), after.pending) == (before.hooks, maps(before), None)
    assert after.editable
    assert apply(moved(playground, WantedMode.GENERIC)).mode is Mode.GENERIC


def test_best_is_native_where_that_works_and_else_generic_and_says_so(
    playground: Playground, samples: Path
) -> None:
    chain = Chain(linkage=Linkage.STATIC).add(Slot.of(load_component(str(samples / "pass.o"))))
    (edited,) = apply_all([make_plan(look_at(playground), chain, mode=WantedMode.BEST)])
    assert edited.running.mode is Mode.NATIVE
    assert not any("generic" in one.text for one in edited.plan.changes)
    change(playground, Chain())
    refuse_native(playground)
    (edited,) = apply_all([make_plan(look_at(playground), chain, mode=WantedMode.BEST)])
    assert edited.running.mode is Mode.GENERIC
    assert any("generic mode, since native is not possible" in one.text for one in edited.plan.changes)
    assert any("MTU" in warning.text for warning in edited.plan.warnings)
    # Requested again, nothing changes, and the running program stays on the hook.
    (again,) = apply_all([moved(playground, WantedMode.BEST)])
    assert again.running.hooks == edited.running.hooks
    assert again.plan.empty
