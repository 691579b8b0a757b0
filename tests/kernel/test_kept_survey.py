# SPDX-License-Identifier: Apache-2.0
"""A survey that is kept up to date agrees with a new one, and reads only what changed."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.kernel.arming import arm, eventually
from tests.kernel.chains import LINKAGES, chain_of, change
from tests.kernel.test_cost_of_one import cost
from tests.kernel.test_transaction import RETURN_DROP, attached_by_link
from xdpchain.change.confirm.by_hand import roll_back
from xdpchain.errors import NotFound, PermissionDenied
from xdpchain.model.actions import ActionSet
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.running import Running
from xdpchain.observe import link_watch
from xdpchain.observe.discover import survey
from xdpchain.observe.interface_watch import Presence, names_of
from xdpchain.observe.kept_survey import KeptSurvey
from xdpchain.sys import bpf, bpffs, netns
from xdpchain.sys.bpf import call
from xdpchain.sys.netlink import LinkChanges
from xdpchain.testing.playground import Playground

LINKS = 12
XDP = 37
"""BPF_XDP, an attach type."""
LINK_UPDATE = 29


def link_update(link: bpf.Fd, program: bpf.Fd) -> None:
    call.bpf_call(LINK_UPDATE, struct.pack("=IIII", link.fileno(), program.fileno(), 0, 0))  # type: ignore[arg-type]


def ip(playground: Playground, *words: str) -> None:
    subprocess.run(["ip", "-n", playground.netns, *words], check=True)


@pytest.fixture
def many(root: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Playground]:
    monkeypatch.setattr(link_watch.Watch.__init__, "__kwdefaults__", {"slow_poll": 3600.0})
    with Playground(links=LINKS) as playground:
        yield playground


@contextmanager
def kept(playground: Playground) -> Iterator[KeptSurvey]:
    with KeptSurvey(playground.netns) as found:
        while found.wait(0.3):  # what new devices send
            found.look()
        found.look()
        yield found


def steady(runnings: tuple[Running, ...]) -> list[Running]:
    return [replace(one, device=replace(one.device, rx=(0, 0), tx=(0, 0))) for one in runnings]


def agrees(found: KeptSurvey, playground: Playground) -> bool:
    return steady(found.look()) == steady(survey(playground.netns))


def test_it_agrees_with_a_survey_after_every_kind_of_change(many: Playground, samples: Path) -> None:
    with kept(many) as found:
        assert agrees(found, many)
        ip(many, "link", "add", "new0", "type", "veth", "peer", "name", "new1")
        assert {"new0", "new1"} <= {one.interface.name for one in found.look()}
        ip(many, "link", "set", "new0", "name", "renamed", "mtu", "1300")
        assert agrees(found, many)
        running = change(many, chain_of(samples, "pass", "drop"), 3)
        assert agrees(found, many)
        assert running.chain is not None
        change(many, running.chain.move(1, 0), 3)
        assert agrees(found, many)
        ip(many, "link", "del", "renamed")
        assert agrees(found, many)
        change(many, running.chain.remove([0, 1]), 3)
        assert agrees(found, many)


def test_a_pending_change_and_its_outcome_are_read_each_time(many: Playground, samples: Path) -> None:
    with kept(many) as found:
        change(many, chain_of(samples, "pass"))
        arm(many, chain_of(samples, "drop"), seconds=60.0)
        assert any(one.pending for one in found.look())
        roll_back(many.ifname, many.netns)
        assert agrees(found, many)
        assert any(one.settled for one in found.look())


def test_only_what_changed_is_read(many: Playground) -> None:
    with kept(many) as found:
        assert cost(found.look)["netlink requests"] == 0
        ip(many, "link", "set", many.links[5].ifname, "mtu", "1400")
        found.wait(5.0)
        assert cost(found.look)["netlink messages"] == 2  # the link, and its features
        assert cost(lambda: found.look(whole=True))["netlink messages"] > 2 * LINKS


def test_lost_notifications_make_it_read_everything(many: Playground) -> None:
    with kept(many) as found:
        lines = "".join(f"link set {many.ifname} mtu {1300 + turn % 9}\n" for turn in range(3000))
        subprocess.run(["ip", "-n", many.netns, "-batch", "-"], input=lines.encode(), check=True)
        assert agrees(found, many)


def test_the_service_goes_by_the_names_in_notifications(many: Playground) -> None:
    with Presence([many.netns]) as presence:
        names = set(names_of(presence.look())[many.netns])
        ip(many, "link", "add", "new0", "type", "veth", "peer", "name", "new1")
        ip(many, "link", "set", "new1", "name", "new2")
        ip(many, "link", "del", many.links[0].ifname)
        presence.wait(5.0)
        assert cost(presence.look)["netlink requests"] == 0
        assert set(names_of(presence.look())[many.netns]) == names - {many.links[0].ifname} | {"new0", "new2"}
        [before] = {one.identity for one in presence.look()[many.netns] if one.name == "new0"}
        ip(many, "link", "del", "new0")
        ip(many, "link", "add", "new0", "type", "veth", "peer", "name", "new1")
        [after] = {one.identity for one in presence.look()[many.netns] if one.name == "new0"}
        assert after != before


@contextmanager
def hasty(playground: Playground, monkeypatch: pytest.MonkeyPatch) -> Iterator[KeptSurvey]:
    """A kept survey that looks every 0.6 s at what sends no notifications."""
    monkeypatch.setattr(link_watch.Watch.__init__, "__kwdefaults__", {"slow_poll": 0.6})
    monkeypatch.setattr("xdpchain.observe.kept_survey.MOST_SHARE", 1.0)
    with kept(playground) as found:
        yield found


def late(found: KeptSurvey) -> Counter[str]:
    """What a look costs when the slow poll is due."""
    time.sleep(0.65)
    return cost(found.look)


@pytest.mark.parametrize("linkage", LINKAGES)
def test_at_rest_no_interface_is_read_again(
    many: Playground, samples: Path, monkeypatch: pytest.MonkeyPatch, linkage: Linkage
) -> None:
    change(many, chain_of(samples, "pass", "drop", linkage=linkage))
    with hasty(many, monkeypatch) as found:
        before = found.look()
        made = late(found)
        assert made["netlink requests"] <= 2, "what is attached, and the features"
        assert made["bpf PROG_GET_FD_BY_ID"] >= 1, "the chain is read again"
        assert all(now is then for now, then in zip(found.look(), before, strict=True))


def test_looking_at_what_sends_no_notification_takes_a_bounded_share(
    many: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hasty(many, monkeypatch) as found:
        monkeypatch.setattr("xdpchain.observe.kept_survey.MOST_SHARE", 1e-6)
        assert late(found)
        assert not late(found), "that would be too often"


def test_links_attached_updated_and_gone_are_seen(
    many: Playground, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shown() -> list[tuple[int, bool]]:
        assert late(found)
        return [(one.hooks[0].prog_id, one.chain is not None) for one in found.look() if one.hooks]

    with hasty(many, monkeypatch) as found:
        with attached_by_link(many) as number:
            assert shown() == [(number, False)]
        assert shown() == []
        running = change(many, chain_of(samples, "pass"))
        assert running.hook is not None
        mine = running.hook.prog_id
        with bpf.prog_by_id(mine) as program:
            change(many, Chain())
            with netns.run(many.netns, lambda: bpf.link_create(program, many.ifindex, XDP)) as link:
                assert shown() == [(mine, True)]
                with bpf.prog_load(bpf.ProgType.XDP, RETURN_DROP, name="other", attach_type=XDP) as other:
                    link_update(link, other)
                    assert shown() == [(bpf.prog_info(other).id, False)]


def test_features_that_the_other_end_decides_are_seen(
    many: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    def features() -> frozenset[str] | None:
        return next(one.device.features for one in found.look() if one.interface.name == many.ifname)

    with hasty(many, monkeypatch) as found:
        before = features()
        peer = ["ethtool", "-K", many.peer_ifname, "gro", "on"]
        subprocess.run(["nsenter", f"--net=/run/netns/{many.peer_netns}", *peer], check=True)
        late(found)
        assert features() != before or before is None
        assert agrees(found, many)


def test_another_namespace_of_the_same_name_is_surveyed(root: None) -> None:
    name = f"xdptui-{os.getpid()}-again"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        with KeptSurvey(name) as found:
            assert [one.interface.name for one in found.look()] == ["lo"]
            subprocess.run(["ip", "netns", "del", name], check=True)
            with pytest.raises(NotFound):
                found.look()
            subprocess.run(["ip", "netns", "add", name], check=True)
            subprocess.run(["ip", "-n", name, "link", "add", "new0", "type", "veth"], check=True)
            assert "new0" in [one.interface.name for one in found.look()]
            subprocess.run(["ip", "-n", name, "link", "set", "new0", "name", "new1"], check=True)
            found.wait(5.0)
            assert "new1" in [one.interface.name for one in found.look()]
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False)


@pytest.mark.parametrize("of", ["survey", "presence"])
def test_a_deleted_namespace_is_let_go_at_once(root: None, of: str) -> None:
    """Whoever listens in it keeps it, and with it the other ends of its veth pairs."""
    name, ours, theirs = f"x{os.getpid()}-gone", f"x{os.getpid()}a", f"x{os.getpid()}b"
    with Playground() as playground:
        subprocess.run(["ip", "netns", "add", name], check=True)
        ip(playground, "link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", name)
        try:
            with KeptSurvey(name) if of == "survey" else Presence([name]) as watching:
                watching.look()
                subprocess.run(["ip", "netns", "del", name], check=True)
                began = time.monotonic()
                watching.wait(link_watch.SLOW_POLL)
                assert time.monotonic() - began < 2.5 * link_watch.NAME_POLL
                if isinstance(watching, Presence):
                    assert watching.look() == {name: ()}
                    eventually(
                        lambda: all(one.interface.name != ours for one in survey(playground.netns)), "it goes"
                    )
                else:
                    with pytest.raises(NotFound):
                        watching.look()
        finally:
            subprocess.run(["ip", "netns", "del", name], check=False)


def test_a_name_that_can_not_be_read_any_more_ends_no_wait_with_an_error(
    many: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next look says why, where the service and the terminal program expect it."""

    def refused(name: str | None) -> int:
        raise PermissionDenied("it leads through somebody's link")

    with link_watch.Watch(many.netns) as watch:
        watch.take()
        monkeypatch.setattr(link_watch.namespaces, "inode", refused)
        assert watch.wait(5 * link_watch.NAME_POLL)
        assert watch.take().late


def test_everything_is_read_every_minute(many: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xdpchain.observe.kept_survey.WHOLE_POLL", 0.1)
    with kept(many) as found:
        time.sleep(0.15)
        assert cost(found.look)["netlink messages"] > LINKS


def test_program_arrays_that_change_are_seen(
    many: Playground, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = chain_of(samples, "pass", "drop", "mark", linkage=Linkage.TAILCALL)
    running = change(many, chain)
    with hasty(many, monkeypatch) as found:
        assert running.chain is not None
        toggled = change(many, running.chain.retune(0, actions=ActionSet.parse("PT")))
        assert toggled.hooks == running.hooks, "the same program stays"
        late(found)
        assert agrees(found, many)
        assert toggled.hook is not None
        shutil.rmtree(bpffs.find() / "xdptui" / str(toggled.hook.prog_id))
        eventually(lambda: late(found) and any(one.emptied for one in found.look()), "the arrays are empty")


def test_everything_is_read_again_now_and_then_however_much_changes(
    playground: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    with link_watch.Watch(playground.netns, slow_poll=0.5) as watch:
        assert watch.take() == link_watch.Seen(LinkChanges(everything=True), True)
        deadline = time.monotonic() + 10
        while not watch.take().late:
            ip(playground, "link", "set", playground.ifname, "mtu", str(1300 + int(time.monotonic() * 9) % 9))
            assert time.monotonic() < deadline
