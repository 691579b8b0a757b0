# SPDX-License-Identifier: Apache-2.0
"""A change rolls back unless confirmed; who decides, and when, and that only one decision counts."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.kernel.arming import (
    LATER,
    SOON,
    arm,
    child,
    eventually,
    gone,
    guardians,
    lives,
    no_guardian_survives,
    nothing_left,
    settled_on,
)
from tests.kernel.chains import LINKAGES, chain_of, change, look_at, run_through
from tests.kernel.test_state import all_contents
from xdpchain.change.confirm import pinning
from xdpchain.change.confirm.by_hand import NotPending, confirm, roll_back
from xdpchain.change.plan import make_plan
from xdpchain.change.stale import clean, stale_pins
from xdpchain.editing import apply
from xdpchain.errors import Busy, InvalidInput, KernelRefused, RaceLost
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.pending_change import Decision, Outcome, PendingState
from xdpchain.observe import pending_pins
from xdpchain.sys import bpf, bpffs, netns
from xdpchain.sys.netlink import Netlink
from xdpchain.testing import frames
from xdpchain.testing.playground import Playground
from xdptui.words.advice import worded

FRAME = frames.udp(frames.PEER, frames.NEAR, 9)
DROP, PASS = 1, 2


@pytest.mark.parametrize("linkage", LINKAGES)
def test_unconfirmed_the_old_chain_comes_back_with_all_its_state(
    guarded: Playground, samples: Path, linkage: Linkage
) -> None:
    old = change(guarded, chain_of(samples, "firewall", "ratelimit", "tailcalls", linkage=linkage))
    guarded.send([FRAME] * 5)
    before = all_contents(old)
    candidate = chain_of(samples, "drop", linkage=linkage)
    new = arm(guarded, candidate)
    assert new.pending is not None
    assert new.pending.state is PendingState.PENDING
    assert (new.pending.old, new.pending.new) == (
        old.hook and old.hook.prog_id,
        new.hook and new.hook.prog_id,
    )
    assert run_through(new, FRAME).code == DROP
    settled = settled_on(guarded)
    assert settled.outcome is Outcome.ROLLED_BACK
    now = look_at(guarded)
    assert (now.hook, now.chain, now.counters_map) == (old.hook, old.chain, old.counters_map)
    assert (now.pending, now.settled) == (None, settled)
    assert all_contents(now) == before
    assert run_through(now, FRAME).code == PASS
    eventually(lambda: gone(new.pending.guardian), "the guardian ends")  # type: ignore[union-attr]
    assert nothing_left()
    # It can also be edited further, tail calls and all.
    assert now.chain is not None
    change(guarded, now.chain.move(1, 0))
    assert look_at(guarded).settled is None


@pytest.mark.parametrize("linkage", LINKAGES)
def test_components_of_both_chains_work_either_way(
    guarded: Playground, samples: Path, linkage: Linkage
) -> None:
    old = change(guarded, chain_of(samples, "firewall", "tailcalls", "monitor", linkage=linkage))
    assert old.chain is not None
    for confirmed in (False, True):
        new = arm(guarded, old.chain.move(2, 0).remove([1]), LATER)
        assert new.chain is not None
        if linkage is Linkage.FREPLACE:
            assert {slot.id for slot in new.chain} < {slot.id for slot in old.chain}
        decided = (
            confirm(guarded.ifname, guarded.netns) if confirmed else roll_back(guarded.ifname, guarded.netns)
        )
        assert decided.hook == (new.hook if confirmed else old.hook)
        assert decided.chain == (new.chain if confirmed else old.chain)
        guarded.send([FRAME] * 3)
        assert nothing_left()
        assert new.pending is not None
        eventually(lambda: gone(new.pending.guardian), "the guardian ends")  # type: ignore[union-attr]  # noqa: B023
    assert stale_pins() == ()


def test_confirmed_in_time_it_stays(guarded: Playground, samples: Path) -> None:
    old = change(guarded, chain_of(samples, "firewall"))
    new = arm(guarded, chain_of(samples, "drop"), seconds=3)
    now = confirm(guarded.ifname, guarded.netns)
    assert now.hook == new.hook
    assert now.pending is None
    assert now.settled is not None
    assert now.settled.outcome is Outcome.CONFIRMED
    assert new.pending is not None
    eventually(lambda: pending_pins.boot_clock() > new.pending.deadline + 0.5, "the deadline passes")  # type: ignore[union-attr]
    assert look_at(guarded).hook == new.hook
    assert gone(new.pending.guardian)
    assert old.hook is not None
    eventually(lambda: not lives(old.hook.prog_id), "the old chain is let go")  # type: ignore[union-attr]
    with pytest.raises(NotPending):
        confirm(guarded.ifname, guarded.netns)


def test_too_late_a_confirmation_says_that_it_was_rolled_back(guarded: Playground, samples: Path) -> None:
    change(guarded, chain_of(samples, "firewall"))
    arm(guarded, chain_of(samples, "drop"))
    settled_on(guarded)
    with pytest.raises(NotPending, match="rolled back"):
        confirm(guarded.ifname, guarded.netns)


def test_rolled_back_at_once(guarded: Playground, samples: Path) -> None:
    old = change(guarded, chain_of(samples, "firewall", "monitor"))
    arm(guarded, chain_of(samples, "drop"), LATER)
    now = roll_back(guarded.ifname, guarded.netns)
    assert (now.hook, now.chain) == (old.hook, old.chain)
    assert now.settled is not None
    assert now.settled.outcome is Outcome.ROLLED_BACK
    assert nothing_left()


@pytest.mark.parametrize("linkage", LINKAGES)
def test_an_empty_hook_is_empty_again(guarded: Playground, samples: Path, linkage: Linkage) -> None:
    new = arm(guarded, chain_of(samples, "drop", linkage=linkage))
    assert new.pending is not None
    assert new.pending.old is None
    assert run_through(new, FRAME).code == DROP
    assert settled_on(guarded).runs is None
    assert look_at(guarded).hooks == ()
    eventually(lambda: gone(new.pending.guardian), "the guardian ends")  # type: ignore[union-attr]
    assert stale_pins() == ()
    assert new.hook is not None
    eventually(lambda: not lives(new.hook.prog_id), "the new chain is gone")  # type: ignore[union-attr]


@pytest.mark.parametrize("linkage", LINKAGES)
def test_a_chain_that_was_taken_off_comes_back(guarded: Playground, samples: Path, linkage: Linkage) -> None:
    old = change(guarded, chain_of(samples, "firewall", "tailcalls", linkage=linkage))
    new = arm(guarded, Chain(linkage=linkage))
    assert new.hooks == ()
    assert new.pending is not None
    assert settled_on(guarded).outcome is Outcome.ROLLED_BACK
    now = look_at(guarded)
    assert (now.hook, now.chain) == (old.hook, old.chain)


def test_two_interfaces_wait_independently(root: None, samples: Path) -> None:
    with Playground(links=2) as playground, no_guardian_survives(playground):
        old = [change(playground, chain_of(samples, "firewall"), link) for link in (0, 1)]
        arm(playground, chain_of(samples, "drop"), LATER, link=0)
        arm(playground, chain_of(samples, "drop"), SOON, link=1)
        assert settled_on(playground, 1).outcome is Outcome.ROLLED_BACK
        assert look_at(playground, 1).hook == old[1].hook
        waiting = look_at(playground, 0)
        assert waiting.pending is not None
        assert waiting.hook != old[0].hook
        confirm(playground.links[0].ifname, playground.netns)
        assert look_at(playground, 0).hook == waiting.hook


def test_a_waiting_change_comes_first(guarded: Playground, samples: Path) -> None:
    change(guarded, chain_of(samples, "firewall"))
    new = arm(guarded, chain_of(samples, "monitor", "pass"), LATER)
    assert new.chain is not None
    for seconds in (None, 5.0):
        with pytest.raises(Busy, match="a pending change") as caught:
            apply(make_plan(look_at(guarded), new.chain.remove([0])), confirm=seconds)
        assert "xdptui rollback" in worded(caught.value.todo)
    assert look_at(guarded).hook == new.hook
    confirm(guarded.ifname, guarded.netns)
    change(guarded, new.chain.remove([0]))


def test_a_change_that_fails_leaves_nothing_armed(
    guarded: Playground, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = change(guarded, chain_of(samples, "firewall"))
    inode = netns.inode(guarded.netns)

    def fail(*_: object, **__: object) -> None:
        raise KernelRefused("injected")

    for owner, name in (
        (Netlink, "attach_xdp"),
        (bpf, "obj_pin"),
        (bpf, "map_freeze"),
        (pinning, "write_pending"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, fail)
            if name == "write_pending":
                patch.setattr("xdpchain.change.confirm.arming.write_pending", fail)
            with pytest.raises(KernelRefused):
                arm(guarded, chain_of(samples, "drop"), LATER)
        assert look_at(guarded).hook == old.hook
        assert look_at(guarded).pending is None
        eventually(lambda: not guardians(inode), "the guardian ends")
        assert nothing_left()


def test_a_change_that_can_not_be_guarded_is_not_made(
    guarded: Playground, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = change(guarded, chain_of(samples, "firewall"))
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(KernelRefused, match="can't be armed"):
        arm(guarded, chain_of(samples, "drop"))
    assert look_at(guarded).hook == old.hook
    assert nothing_left()


def test_only_the_first_decision_counts() -> None:
    with pinning.make_decision() as decision:
        assert pending_pins.decided(decision) is None
        assert pinning.claim(decision, Decision.CONFIRM) is Decision.CONFIRM
        assert pinning.claim(decision, Decision.ROLL_BACK) is Decision.CONFIRM
        assert pending_pins.decided(decision) is Decision.CONFIRM


@pytest.mark.parametrize("seconds", [0, 0.5, 1e6, float("nan")])
def test_a_deadline_must_make_sense(guarded: Playground, samples: Path, seconds: float) -> None:
    with pytest.raises(InvalidInput):
        arm(guarded, chain_of(samples, "drop"), seconds)
    assert look_at(guarded).hooks == ()


# The guardian itself is killed


def test_without_a_guardian_it_is_said_and_decided_by_hand(guarded: Playground, samples: Path) -> None:
    old = change(guarded, chain_of(samples, "firewall"))
    for decide, expected in ((roll_back, old.hook), (confirm, None)):
        new = arm(guarded, chain_of(samples, "drop"))
        assert new.pending is not None
        os.kill(new.pending.guardian, signal.SIGKILL)
        eventually(lambda: look_at(guarded).pending.state is PendingState.UNGUARDED, "it is noticed")  # type: ignore[union-attr]
        eventually(lambda: pending_pins.boot_clock() > new.pending.deadline, "the deadline")  # type: ignore[union-attr]  # noqa: B023
        assert look_at(guarded).hook == new.hook
        assert decide(guarded.ifname, guarded.netns).hook == (expected or new.hook)
        assert nothing_left()


def test_the_next_change_rolls_back_what_is_overdue(guarded: Playground, samples: Path) -> None:
    old = change(guarded, chain_of(samples, "firewall"))
    new = arm(guarded, chain_of(samples, "drop"))
    assert new.pending is not None
    os.kill(new.pending.guardian, signal.SIGKILL)
    eventually(lambda: pending_pins.boot_clock() > new.pending.deadline, "the deadline")  # type: ignore[union-attr]
    with pytest.raises(RaceLost, match="not confirmed in time"):
        change(guarded, chain_of(samples, "pass"))
    now = look_at(guarded)
    assert now.hook == old.hook
    assert now.settled is not None
    assert now.settled.outcome is Outcome.ROLLED_BACK
    assert nothing_left()


def test_what_is_left_of_an_interface_that_is_gone_is_cleaned_up(root: None, samples: Path) -> None:
    with Playground() as playground:
        old = change(playground, chain_of(samples, "firewall"))
        new = arm(playground, chain_of(samples, "drop"), LATER)
        assert new.pending is not None
        os.kill(new.pending.guardian, signal.SIGKILL)
        eventually(lambda: gone(new.pending.guardian), "the guardian ends")  # type: ignore[union-attr]
        assert clean(dry_run=True) == ()
        assert look_at(playground).pending is not None
    assert old.hook is not None
    assert lives(old.hook.prog_id)
    seen = [
        (pin.program, pin.certain) for pin in stale_pins() if pin.path.parent.name == pending_pins.PENDING
    ]
    assert [number for number, _ in seen] == [new.pending.old]
    clean(force=True)
    assert nothing_left()
    eventually(lambda: not lives(old.hook.prog_id), "the old chain is let go")  # type: ignore[union-attr]


KILLED = """
from xdpchain.sys.trusted_directory import TrustedDirectory
def killed(name, left):
    does = getattr(TrustedDirectory, name)
    def counted(directory, *arguments):
        nonlocal left
        if "armed" in directory.path.parts:
            if not left:
                kill()
            left -= 1
        return does(directory, *arguments)
    setattr(TrustedDirectory, name, counted)
killed({name!r}, {left})
"""


@pytest.mark.parametrize(
    ("name", "left", "remains"),
    [
        ("pin", 0, 1),
        ("pin", 1, 1),
        ("pin", 2, 2),
        ("pin", 3, 2),
        ("rename", 0, 0),
        ("unlink", 0, 2),
        ("unlink", 1, 1),
        ("unlink", 3, 1),
        ("rmdir", 0, 1),
    ],
)
def test_what_a_killed_process_left_of_a_change_is_cleaned_up(
    root: None, samples: Path, name: str, left: int, remains: int
) -> None:
    """Killed while it arms a change (pin), or after confirming it. ``remains``: how many names; the guardian
    does what was not begun.
    """
    fatal = KILLED.format(name=name, left=left)
    confirms = "from xdpchain.change.confirm.by_hand import confirm\nconfirm(ifname, netns)"
    prepare, after = (fatal, "") if name == "pin" else ("", fatal + confirms)
    with Playground() as playground:
        old = change(playground, chain_of(samples, "firewall"))
        done = subprocess.run(child(playground, samples / "drop.o", prepare, after), check=False)
        assert done.returncode == -signal.SIGKILL
        inode = netns.inode(playground.netns)
        eventually(lambda: not guardians(inode), "the guardian ends")
    assert len(pending_pins.remains()) == remains
    clean(force=True)
    assert nothing_left()
    assert old.hook is not None
    eventually(lambda: not lives(old.hook.prog_id), "the old chain is let go")  # type: ignore[union-attr]


# Another tool changes the chain meanwhile


def replace_by_hand(playground: Playground) -> int:
    """As any tool may that does not ask first."""
    code = bytes.fromhex("b7000000020000009500000000000000")
    with (
        bpf.prog_load(bpf.ProgType.XDP, code, name="intruder") as program,
        Netlink(playground.netns) as netlink,
        bpf.prog_by_id(netlink.link(playground.ifindex).xdp[0].prog_id) as old,
    ):
        netlink.attach_xdp(playground.ifindex, program.fileno(), "native", old.fileno())
        return bpf.prog_info(program).id


def take_off(playground: Playground) -> None:
    subprocess.run(["ip", "-n", playground.netns, "link", "set", playground.ifname, "xdp", "off"], check=True)


@pytest.mark.parametrize("linkage", LINKAGES)
def test_another_tools_program_is_left_alone(guarded: Playground, samples: Path, linkage: Linkage) -> None:
    old = change(guarded, chain_of(samples, "firewall", "tailcalls", linkage=linkage))
    new = arm(guarded, chain_of(samples, "drop", linkage=linkage))
    number = replace_by_hand(guarded)
    waiting = look_at(guarded)
    assert waiting.pending is not None
    assert waiting.pending.state is PendingState.OVERTAKEN
    settled = settled_on(guarded)
    assert (settled.outcome, settled.runs) == (Outcome.OVERTAKEN, number)
    assert look_at(guarded).hook == waiting.hook
    assert new.pending is not None
    eventually(lambda: gone(new.pending.guardian), "the guardian ends")  # type: ignore[union-attr]
    assert nothing_left()
    assert old.hook is not None
    eventually(lambda: not lives(old.hook.prog_id), "the old chain is let go")  # type: ignore[union-attr]


def test_a_chain_that_was_taken_off_meanwhile_stays_off(guarded: Playground, samples: Path) -> None:
    change(guarded, chain_of(samples, "firewall"))
    arm(guarded, chain_of(samples, "drop"))
    take_off(guarded)
    assert settled_on(guarded).outcome is Outcome.OVERTAKEN
    assert look_at(guarded).hooks == ()


def test_what_was_overtaken_does_not_stand_in_the_way(guarded: Playground, samples: Path) -> None:
    change(guarded, chain_of(samples, "firewall"))
    new = arm(guarded, chain_of(samples, "drop"), LATER)
    take_off(guarded)
    with pytest.raises(RaceLost, match="no longer runs"):
        roll_back(guarded.ifname, guarded.netns)
    arm(guarded, chain_of(samples, "drop"), LATER)
    take_off(guarded)
    assert change(guarded, chain_of(samples, "pass")).pending is None
    assert new.pending is not None
    assert nothing_left()


@pytest.mark.vm
def test_pins_that_another_tool_cleared_away_are_made_again(guarded: Playground, samples: Path) -> None:
    old = change(guarded, chain_of(samples, "firewall", "monitor", linkage=Linkage.FREPLACE))
    assert old.hook is not None
    arm(guarded, chain_of(samples, "drop", linkage=Linkage.FREPLACE))
    path = bpffs.find() / "xdp" / f"dispatch-{guarded.ifindex}-{old.hook.prog_id}"
    bpffs.remove_dispatch_dir(bpffs.DispatchDir(path, guarded.ifindex, old.hook.prog_id))
    assert settled_on(guarded).outcome is Outcome.ROLLED_BACK
    now = look_at(guarded)
    assert (now.hook, now.chain) == (old.hook, old.chain)


@pytest.mark.vm
def test_from_one_linkage_to_the_other_and_back(guarded: Playground, samples: Path) -> None:
    old = change(guarded, chain_of(samples, "firewall", "tailcalls", linkage=Linkage.FREPLACE))
    arm(guarded, chain_of(samples, "drop", linkage=Linkage.STATIC))
    assert settled_on(guarded).outcome is Outcome.ROLLED_BACK
    assert look_at(guarded).chain == old.chain


@pytest.mark.vm
def test_what_may_come_back_is_not_stale(guarded: Playground, samples: Path) -> None:
    change(guarded, chain_of(samples, "firewall", linkage=Linkage.FREPLACE))
    arm(guarded, chain_of(samples, "drop", linkage=Linkage.FREPLACE), LATER)
    assert stale_pins() == ()
    roll_back(guarded.ifname, guarded.netns)
    assert stale_pins() == ()


def test_what_became_of_changes_in_namespaces_that_are_gone_is_forgotten(samples: Path) -> None:
    def settle_one() -> Path:
        with Playground() as net:
            change(net, chain_of(samples, "pass"))
            apply(make_plan(look_at(net), Chain()), confirm=LATER)
            roll_back(net.ifname, net.netns)
            path = bpffs.find() / "xdptui" / pending_pins.SETTLED / f"{netns.inode(net.netns)}-{net.ifindex}"
            assert path.exists()
        return path

    first = settle_one()
    deadline = time.monotonic() + 30  # the kernel frees namespaces at its leisure
    while first.exists() and time.monotonic() < deadline:
        settle_one()
    assert not first.exists()
