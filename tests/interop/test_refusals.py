# SPDX-License-Identifier: Apache-2.0
"""What can't be edited, as both editors see it: other versions, lost pins, somebody else's programs; and
stale pins.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.interop.editors import Ours, Program, Theirs
from tests.interop.libxdp import Loader, Refused, agreed, kernel, nothing_left, pinned
from tests.objects.compile import compile_file
from xdpchain.change import stale
from xdpchain.change.stale import clean, stale_pins
from xdpchain.errors import InvalidInput, NotOurs, XdpChainError
from xdpchain.linkage.dispatcher.config import SIZES, USED
from xdpchain.linkage.dispatcher.installed import EMITTED
from xdpchain.model.actions import ActionSet
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.interface import Mode
from xdpchain.model.running import Owner, Running
from xdpchain.observe.discover import look
from xdpchain.sys import bpf, bpffs
from xdpchain.sys.libbpf import Object
from xdpchain.sys.netlink import Netlink
from xdpchain.testing.playground import LET_PASS, Playground
from xdptui.words.advice import worded

pytestmark = pytest.mark.vm

DISPATCHER_V1 = Path(__file__).parents[1] / "objects" / "dispatcher_v1.bpf.c"
INCLUDES = ("-idirafter", f"/usr/include/{platform.machine()}-linux-gnu")

FIREWALL, LIMIT, MONITOR = Program("firewall"), Program("ratelimit"), Program("monitor")
EITHER = pytest.mark.parametrize("who", ["xdptui", "xdp-loader"])


def running_on(playground: Playground) -> Running:
    return look(playground.ifname, playground.netns)


def off(playground: Playground) -> None:
    """`ip link set … xdp off`: what an operator does who does not know about dispatchers."""
    for mode in ("xdpdrv", "xdpgeneric"):
        command = ["ip", "-n", playground.netns, "link", "set", "dev", playground.ifname, mode, "off"]
        subprocess.run(command, check=True)


def attached(playground: Playground, program: bpf.Fd) -> None:
    with Netlink(playground.netns) as netlink:
        netlink.attach_xdp(playground.ifindex, program, "native", None)


# Versions


def test_a_newer_version_locks_the_older_libxdp_out(
    playground: Playground, ours: Ours, theirs: Theirs
) -> None:
    """xdp-loader 1.3 supports version 2. A chain of version 3 is ours alone until it is moved to
    version 2.
    """
    ours.edit(lambda chain: replace(chain, dispatcher_version=3).add(ours.slot(FIREWALL)))
    running = running_on(playground)
    assert running.dispatcher is not None
    assert (running.owner, running.dispatcher.version) == (Owner.XDPTUI, 3)
    with pytest.raises(Refused):
        theirs.load(MONITOR)
    with pytest.raises(Refused):
        theirs.remove_all()
    assert running_on(playground).identity == running.identity
    # An edit that requests no other version keeps the running one.
    ours.load(LIMIT)
    assert running_on(playground).dispatcher.version == 3  # type: ignore[union-attr]
    ours.edit(lambda chain: replace(chain, dispatcher_version=2))
    agreed(playground, ["xdp_firewall", "xdp_ratelimit"])
    theirs.load(MONITOR)
    agreed(playground, ["xdp_firewall", "xdp_ratelimit", "xdp_monitor"])


@pytest.mark.parametrize("version", [1, 4])
def test_versions_that_are_not_emitted(playground: Playground, ours: Ours, version: int) -> None:
    with pytest.raises(InvalidInput, match=f"version {version} is not supported"):
        ours.edit(lambda chain: replace(chain, dispatcher_version=version).add(ours.slot(FIREWALL)))
    assert running_on(playground).hooks == ()


@pytest.fixture
def version_1(playground: Playground, samples: Path) -> Iterator[int]:
    """A chain of version 1 with two slots, as libxdp 1.2 leaves it; yields the dispatcher's program id."""
    words = [USED | 4, USED | 2, *[0] * 8, 7, 8, *[0] * 8]
    block = bytes([2, 0, 0, 0]) + b"".join(word.to_bytes(4, "little") for word in words)
    assert len(block) == SIZES[1]
    with Object(compile_file(DISPATCHER_V1, *INCLUDES), "xdp_dispatcher") as opened:
        for bpf_map in opened.maps():
            bpf_map.set_initial_value(block)
        (main,) = opened.programs()
        main.as_xdp(False)
        opened.load()
        dispatcher = bpf.Fd(os.dup(main.fd))
    number = bpf.prog_info(dispatcher).id
    directory = bpffs.make_dispatch_dir(playground.ifindex, number).path
    for index, name in enumerate(("two_learn", "two_enforce")):
        with Object((samples / "two.o").read_bytes()) as opened:
            for program in opened.programs():
                program.set_autoload(program.name == name)
                if program.name == name:
                    program.as_freplace(dispatcher, f"prog{index}")
                    wanted = program
            opened.load()
            types = bpf.prog_info(bpf.Fd(os.dup(wanted.fd))).attach_btf_id
            with bpf.link_create(bpf.Fd(os.dup(wanted.fd)), dispatcher, target_btf_id=types) as link:
                bpf.obj_pin(link, str(directory / f"prog{index}-link"))
            with bpf.Fd(os.dup(wanted.fd)) as fd:
                bpf.obj_pin(fd, str(directory / f"prog{index}-prog"))
    attached(playground, dispatcher)
    dispatcher.close()
    yield number
    shutil.rmtree(directory, ignore_errors=True)


def test_version_1_moves_to_a_later_one_in_one_step(
    playground: Playground, ours: Ours, theirs: Theirs, version_1: int
) -> None:
    """libxdp refuses to touch it; the kernel attaches the running components to a new dispatcher."""
    running = running_on(playground)
    assert running.dispatcher is not None
    assert (running.owner, running.dispatcher.id, running.dispatcher.version) == (Owner.LIBXDP, version_1, 1)
    assert running.chain is not None
    assert "version 1" in running.note
    shown = [(slot.name, slot.priority, slot.actions) for slot in running.chain]
    assert shown == [("two_learn", 7, ActionSet.parse("P")), ("two_enforce", 8, ActionSet.parse("D"))]
    with pytest.raises(Refused):
        theirs.load(MONITOR)
    before = [slot.id for slot in running.chain]
    ours.load(MONITOR)
    moved = agreed(playground, ["two_learn", "two_enforce", "xdp_monitor"])
    assert moved.dispatcher is not None
    assert moved.dispatcher.version in EMITTED
    assert not moved.note
    assert [slot.id for slot in moved.chain or ()][:2] == before
    theirs.load(FIREWALL)
    agreed(playground, ["two_learn", "two_enforce", "xdp_firewall", "xdp_monitor"])
    theirs.remove_all()
    nothing_left(playground)


def test_a_relink_alone_moves_version_1(playground: Playground, ours: Ours, version_1: int) -> None:
    ours.edit(lambda chain: chain.relink(Linkage.FREPLACE))
    moved = agreed(playground, ["two_learn", "two_enforce"])
    assert moved.dispatcher is not None
    assert moved.dispatcher.version in EMITTED
    assert moved.dispatcher.id != version_1
    ours.remove_all()
    nothing_left(playground)


# Pins


@EITHER
@pytest.mark.parametrize("which", ["all", "one program"])
def test_without_pins_a_chain_is_lost(
    playground: Playground,
    ours: Ours,
    theirs: Theirs,
    monkeypatch: pytest.MonkeyPatch,
    who: str,
    which: str,
) -> None:
    """libxdp calls a dispatcher legacy if a pin of its programs is missing, and so do we."""
    monkeypatch.setattr(stale, "GRACE", 0.0)
    (ours if who == "xdptui" else theirs).load(FIREWALL, LIMIT)
    (directory,) = pinned()
    path = bpffs.find() / "xdp" / directory
    if which == "all":
        shutil.rmtree(path)
    else:
        (path / "prog1-prog").unlink()
    running = running_on(playground)
    assert running.chain is None
    assert running.linkage is Linkage.FREPLACE
    assert "pins are gone" in running.note
    left = 2 if which == "one program" else 0  # without its pin, a link is gone, and its component with it
    # How to remove it is said only if nothing runs behind it: components that still run have an owner.
    off_command = f"ip -n {playground.netns} link set dev {playground.ifname} xdpdrv off"
    assert (off_command in worded(running.todo)) == (left == 0)
    assert ("Find its owner" in worded(running.todo)) == (left != 0)
    if kernel() < (5, 13) and left:
        assert "does not report" in running.note
    else:
        assert (f"{left} of its 2" if left else "none of its components") in running.note
        assert running.shown is not None
        assert [slot.name for slot in running.shown] == ["xdp_firewall", "xdp_ratelimit"][:left]
    for editor in (ours, theirs):
        with pytest.raises((NotOurs, Refused)):
            editor.load(MONITOR)
        assert running_on(playground).identity == running.identity
    theirs.remove_all()
    assert running_on(playground).hooks == ()
    ours.load(FIREWALL)  # a change cleans up the remaining pins
    agreed(playground, ["xdp_firewall"])


@EITHER
@pytest.mark.parametrize("healer", ["xdptui", "xdp-loader"])
def test_a_lost_link_is_made_anew(
    playground: Playground,
    ours: Ours,
    theirs: Theirs,
    monkeypatch: pytest.MonkeyPatch,
    who: str,
    healer: str,
) -> None:
    """Without its link a component does not run. Neither editor minds: the next edit attaches it again."""
    monkeypatch.setattr(stale, "GRACE", 0.0)
    (ours if who == "xdptui" else theirs).load(FIREWALL, LIMIT)
    (directory,) = pinned()
    (bpffs.find() / "xdp" / directory / "prog1-link").unlink()
    running = running_on(playground)
    assert running.editable
    assert "xdp_ratelimit is gone, so it does not run" in running.note
    (ours if healer == "xdptui" else theirs).load(MONITOR)
    if healer == "xdp-loader":  # it stops unpinning at a missing pin
        assert [(pins.path.name, pins.removed) for pins in clean()] == [(directory, True)]
    assert agreed(playground, ["xdp_firewall", "xdp_ratelimit", "xdp_monitor"]).note == ""


@EITHER
def test_what_off_leaves_behind_is_cleaned(
    playground: Playground, ours: Ours, theirs: Theirs, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    monkeypatch.setattr(stale, "GRACE", 3.0)
    (ours if who == "xdptui" else theirs).load(FIREWALL, LIMIT)
    (before,) = pinned()
    number = int(before.rpartition("-")[2])
    off(playground)
    bpf.prog_by_id(number).close()  # the pinned links hold it
    if who == "xdp-loader":
        assert stale_pins() == ()  # it might be about to be attached
        time.sleep(3.1)
    (found,) = clean(dry_run=True)
    assert (found.path.name, found.program, found.certain, found.removed) == (before, number, True, False)
    assert "runs on no interface" in found.why
    assert list(pinned()) == [before]
    (done,) = clean()
    assert done.removed
    nothing_left(playground)
    with pytest.raises(bpf.BpfError):
        _gone(number)
    assert clean() == ()


def _gone(number: int) -> None:
    """Programs go when the last packet is done with them. Raises BpfError when it is gone."""
    for _ in range(50):
        bpf.prog_by_id(number).close()
        time.sleep(0.1)


def test_the_next_change_sweeps_up(playground: Playground, ours: Ours) -> None:
    ours.load(FIREWALL, LIMIT)
    off(playground)
    ours.load(MONITOR)
    agreed(playground, ["xdp_monitor"])


@EITHER
def test_their_clean_leaves_a_live_chain(
    playground: Playground, loader: Loader, ours: Ours, theirs: Theirs, who: str
) -> None:
    (ours if who == "xdptui" else theirs).load(FIREWALL, LIMIT)
    loader.clean()
    agreed(playground, ["xdp_firewall", "xdp_ratelimit"])
    assert clean() == ()
    agreed(playground, ["xdp_firewall", "xdp_ratelimit"])


def test_one_bpffs_for_two_namespaces(playground: Playground, samples: Path, ours: Ours) -> None:
    """The same ifindex in two namespaces: neither a change nor `clean` in one removes the other's
    live pins.
    """
    with Playground() as second:
        assert second.ifindex == playground.ifindex
        other = Ours(second, samples)
        other.load(FIREWALL, LIMIT)
        ours.load(MONITOR)
        assert len(pinned()) == 2
        off(playground)
        assert [pins.removed for pins in clean()] == [True]
        running = look(second.ifname, second.netns)
        assert [slot.name for slot in running.chain or ()] == ["xdp_firewall", "xdp_ratelimit"]
        ours.load(MONITOR)
        other.load(MONITOR)
        assert len(pinned()) == 2
        other.remove_all()
    ours.remove_all()
    assert pinned() == {}


# Somebody else's


def test_a_foreign_program_stays(playground: Playground, ours: Ours, theirs: Theirs) -> None:
    with bpf.prog_load(bpf.ProgType.XDP, LET_PASS, name="somebodys") as program:
        attached(playground, program)
    running = running_on(playground)
    assert (running.owner, running.chain) == (Owner.FOREIGN, None)
    for editor in (ours, theirs):
        with pytest.raises((NotOurs, Refused)):
            editor.load(FIREWALL)
        assert running_on(playground).identity == running.identity
    assert pinned() in ({}, dict.fromkeys(pinned(), ()))
    off(playground)
    theirs.load(FIREWALL)
    agreed(playground, ["xdp_firewall"])


def test_a_program_by_that_name_is_no_dispatcher(playground: Playground, ours: Ours) -> None:
    with bpf.prog_load(bpf.ProgType.XDP, LET_PASS, name="xdp_dispatcher") as program:
        attached(playground, program)
    running = running_on(playground)
    assert (running.owner, running.chain, running.linkage) == (Owner.FOREIGN, None, None)
    with pytest.raises(NotOurs):
        ours.load(FIREWALL)


def test_a_single_program_of_libxdp(
    playground: Playground, ours: Ours, theirs: Theirs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LIBXDP_SKIP_DISPATCHER: xdp-loader attaches the program itself."""
    with monkeypatch.context() as patch:
        patch.setenv("LIBXDP_SKIP_DISPATCHER", "1")
        theirs.load(FIREWALL)
    running = running_on(playground)
    assert (running.owner, running.hooks[0].name) == (Owner.FOREIGN, "xdp_firewall")
    with pytest.raises(NotOurs):
        ours.load(MONITOR)
    theirs.remove_all()
    ours.load(MONITOR)
    agreed(playground, ["xdp_monitor"])


def test_a_static_chain_is_a_single_program_to_libxdp(
    playground: Playground, loader: Loader, ours: Ours, theirs: Theirs
) -> None:
    ours.edit(lambda chain: Chain(mode=Mode.NATIVE).add(ours.slot(FIREWALL)).add(ours.slot(LIMIT)))
    running = running_on(playground)
    status = loader.status()
    assert (status.id, status.name, status.slots) == (running.hooks[0].prog_id, "xdptui_chain", ())
    with pytest.raises(Refused):
        theirs.load(MONITOR)
    assert running_on(playground).identity == running.identity
    ours.edit(lambda chain: chain.relink(Linkage.FREPLACE))
    agreed(playground, ["xdp_firewall", "xdp_ratelimit"])
    theirs.load(MONITOR)
    agreed(playground, ["xdp_firewall", "xdp_ratelimit", "xdp_monitor"])


def test_what_they_loaded_has_no_object_file(playground: Playground, ours: Ours, theirs: Theirs) -> None:
    theirs.load(FIREWALL)
    with pytest.raises(XdpChainError, match="object file is not known"):
        ours.edit(lambda chain: chain.relink(Linkage.STATIC))
    agreed(playground, ["xdp_firewall"])
