# SPDX-License-Identifier: Apache-2.0
"""What the XDP tracepoints report on packets whose fate is known in advance: each one, with its reason."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.chains import change, scripted_chain
from tests.kernel.mishaps import fill, ip, listeners, live, map_of, redirecting, tallies, to_ifindex
from tests.kernel.tracing import ON_PASS, ROOT, settled
from xdpchain.errors import KernelRefused, PermissionDenied, Unsupported
from xdpchain.model.actions import Action
from xdpchain.model.chain import Linkage
from xdpchain.model.interface import Mode
from xdpchain.observe.tracepoints import (
    Listener,
    Names,
    Sample,
    Scope,
    Tracepoint,
    TracepointTally,
    listen,
    reason,
)
from xdpchain.observe.tracepoints import listener as listening
from xdpchain.sys import bpf, netns
from xdpchain.testing.frames import scripted
from xdpchain.testing.playground import Playground
from xdptui.words.advice import worded

NATIVE_AND_GENERIC = pytest.mark.parametrize("mode", [Mode.NATIVE, Mode.GENERIC])


@pytest.fixture
def net(root: None) -> Iterator[Playground]:
    """xdp0, where packets arrive, and xdp1, where they may leave, whose peer accepts them."""
    with Playground(links=2, peer_takes_xdp=True) as made:
        yield made


@pytest.fixture
def listener(net: Playground) -> Iterator[Listener]:
    """Listens to the playground alone: others may use XDP on this machine meanwhile."""
    try:
        opened = listen(netns=netns.inode(net.netns))
    except Unsupported as error:
        pytest.skip(str(error))
    with opened:
        yield opened


def about(net: Playground, listener: Listener, packets: int) -> Sample:
    """The reports on this playground, once there are ``packets`` of them."""
    inode = netns.inode(net.netns)
    last = []

    def enough() -> bool:
        last.append(listener.read().about(inode))
        return sum(row.tally.sent + row.tally.lost for row in last[-1].rows) >= packets

    assert settled(enough, 5), last[-1]
    found = last[-1]
    events = tuple(event for sample in last for event in sample.events)
    return Sample(found.at, found.rows, events, found.untold, found.unplaced, found.missed)


def lost(packets: int, times: int | None = None) -> TracepointTally:
    return TracepointTally(packets if times is None else times, 0, packets)


@NATIVE_AND_GENERIC
def test_exceptions_by_action(net: Playground, listener: Listener, samples: Path, mode: Mode) -> None:
    running = change(net, scripted_chain(samples, [ON_PASS], Linkage.STATIC, mode))
    frames = [
        scripted(bytes([code])) for code, times in ((0, 5), (77, 3), (1, 4), (2, 6)) for _ in range(times)
    ]
    begun = time.monotonic()
    net.send(frames)
    sample = about(net, listener, 8)
    assert tallies(sample, Tracepoint.EXCEPTION) == {("xdp0", "", 0): lost(5), ("xdp0", "", 77): lost(3)}
    assert len(sample.rows) == 2
    assert {row.place.prog for row in sample.rows} == {running.hook.prog_id if running.hook else 0}
    assert [event.row.place.code for event in sample.events] == [0] * 5 + [77] * 3
    times = [event.at for event in sample.events]
    assert times == sorted(times)
    assert begun <= times[0] <= times[-1] <= time.monotonic()
    assert str(reason(sample.rows[0].place)) in (
        "XDP_ABORTED: a program aborted the packet",
        "code 77: not an XDP action: the packet is dropped",
    )


def test_packets_sent_back_and_what_the_peer_does_not_take(
    net: Playground, listener: Listener, samples: Path
) -> None:
    change(net, scripted_chain(samples, [ON_PASS], Linkage.STATIC))
    back = scripted(bytes([Action.TX]))
    net.send([back] * 7)
    sent = about(net, listener, 7)
    assert sum(tally.sent for tally in tallies(sent, Tracepoint.BULK_TX).values()) == 7
    assert not sent.lost
    assert not sent.events
    # The peer of the other one has no XDP program.
    with Playground() as deaf, listen(netns=netns.inode(deaf.netns)) as listener:
        change(deaf, scripted_chain(samples, [ON_PASS], Linkage.STATIC))
        deaf.send([back] * 4)
        sample = about(deaf, listener, 4)
        assert tallies(sample, Tracepoint.BULK_TX)["xdp0", "", -errno.ENXIO].lost == 4
        assert sum(row.tally.lost for row in sample.rows) == sum(e.row.tally.lost for e in sample.events) == 4


@NATIVE_AND_GENERIC
def test_a_redirect_to_an_interface_that_is_down(net: Playground, listener: Listener, mode: Mode) -> None:
    redirecting(net, "by_ifindex", mode)
    target = net.links[1]
    ip(net.netns, "link", "set", target.ifname, "down")
    net.send([to_ifindex(target.ifindex)] * 6)
    sample = about(net, listener, 6)
    assert [row.tally for row in sample.rows] == [lost(6)]
    (row,) = sample.rows
    assert row.place.kind is Tracepoint.REDIRECT_ERR
    assert row.place.errno == errno.ENETDOWN
    assert str(reason(row.place)) == "ENETDOWN: the target interface is down"
    names = Names(net.netns)
    assert (names.device(row), names.target(row), names.via(row)) == ("xdp0", "xdp1", "")
    seen_from_outside = Names()
    assert seen_from_outside.target(row) == f"xdp1 (netns {net.netns})"
    assert names.program(row.place.prog)


@NATIVE_AND_GENERIC
def test_a_redirect_to_nobody(net: Playground, listener: Listener, mode: Mode) -> None:
    redirecting(net, "by_ifindex", mode)
    net.send([to_ifindex(4711)] * 3)
    sample = about(net, listener, 3)
    assert tallies(sample, Tracepoint.REDIRECT_ERR) == {("xdp0", "", -errno.EINVAL): lost(3)}
    assert Names(net.netns).target(sample.rows[0]) == "ifindex 4711"


def test_a_redirect_to_an_empty_entry(net: Playground, listener: Listener) -> None:
    redirecting(net, "by_devmap")
    net.send([scripted(bytes([3]))] * 5)
    sample = about(net, listener, 5)
    assert [row.tally for row in sample.rows] == [lost(5)]
    assert sample.rows[0].place.kind is Tracepoint.REDIRECT_ERR
    assert "the map's entry is empty" in str(reason(sample.rows[0].place))


def test_a_redirect_through_a_map_names_map_and_target(net: Playground, listener: Listener) -> None:
    running = redirecting(net, "by_devmap")
    target = net.links[1]
    fill(net, running, "ports", 2, target.ifindex)
    net.send([scripted(bytes([2]))] * 9)
    sample = about(net, listener, 9)
    assert [(row.place.kind, row.tally.sent, row.tally.lost) for row in sample.rows] == [
        (Tracepoint.DEVMAP_XMIT, 9, 0)
    ]
    assert tallies(sample, Tracepoint.DEVMAP_XMIT).keys() == {("xdp0", "xdp1", 0)}
    ip(net.netns, "link", "set", target.ifname, "down")
    net.send([scripted(bytes([2]))] * 4)
    failed = about(net, listener, 13).of(Tracepoint.REDIRECT_ERR)
    assert [(row.tally, row.target, row.place.errno) for row in failed] == [(lost(4), "xdp1", errno.ENETDOWN)]
    assert failed[0].place.map == map_of(running, "ports")
    names = Names(net.netns)
    assert (names.via(failed[0]), names.target(failed[0])) == ("ports[2]", "xdp1")


def test_a_packet_longer_than_the_target_allows(net: Playground, listener: Listener) -> None:
    redirecting(net, "by_ifindex")
    target = net.links[1]
    ip(net.netns, "link", "set", target.ifname, "mtu", "600")
    net.send([to_ifindex(target.ifindex, 618)] * 2 + [to_ifindex(target.ifindex, 619)] * 3)
    sample = about(net, listener, 5)
    assert tallies(sample, Tracepoint.REDIRECT_ERR) == {("xdp0", "xdp1", -errno.EMSGSIZE): lost(3)}
    assert sum(tally.sent for tally in tallies(sample, Tracepoint.DEVMAP_XMIT).values()) == 2


def test_what_the_target_drops_when_it_sends(net: Playground, listener: Listener) -> None:
    redirecting(net, "by_ifindex")
    target = net.links[1]
    ip(net.peer_netns, "link", "set", target.peer_ifname, "mtu", "600")
    net.send([to_ifindex(target.ifindex, 100)] * 8 + [to_ifindex(target.ifindex, 1000)] * 5)
    sample = about(net, listener, 13)
    sent = tallies(sample, Tracepoint.DEVMAP_XMIT)
    assert sum(tally.sent for tally in sent.values()) == 8
    assert sum(tally.lost for tally in sent.values()) == sample.lost == 5
    assert sum(event.row.tally.lost for event in sample.events) == 5
    assert "the peer rejects packets of this length" in str(reason(sample.events[0].row.place))


def test_a_target_that_takes_no_xdp_frames(root: None) -> None:
    with Playground(links=2) as net, listen(netns=netns.inode(net.netns)) as listener:
        redirecting(net, "by_ifindex")
        net.send([to_ifindex(net.links[1].ifindex)] * 6)
        sample = about(net, listener, 6)
        assert sample.lost == 6
        (row,) = sample.rows
        # From kernel 6.3 on the redirect fails, before that the sending.
        assert row.place.errno == (
            errno.EOPNOTSUPP if row.place.kind is Tracepoint.REDIRECT_ERR else errno.ENXIO
        )
        assert row.target == "xdp1"
        assert "the target's driver does not accept XDP frames now" in str(reason(row.place))
        assert "veth" in worded(reason(row.place).todo)


def test_a_program_that_never_said_where_to(net: Playground, listener: Listener, samples: Path) -> None:
    change(net, scripted_chain(samples, [ON_PASS], Linkage.STATIC))
    net.send([scripted(bytes([Action.REDIRECT]))] * 4)
    sample = about(net, listener, 4)
    assert [row.tally for row in sample.rows] == [lost(4)]
    assert sample.rows[0].place.errno in (errno.EBADRQC, errno.EINVAL)


def test_a_full_queue_of_a_cpu(net: Playground, listener: Listener) -> None:
    running = redirecting(net, "by_cpumap")
    cpu = min(os.sched_getaffinity(0))
    fill(net, running, "cpus", cpu, 4, 0)  # room for four packets
    cpumap = map_of(running, "cpus")
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})  # the queue's reader can't run during a batch
    try:
        live(net, running, scripted(bytes([cpu])), 64, 64)
    except bpf.BpfError as error:
        pytest.skip(f"this kernel has no test runs with live packets ({error})")
    finally:
        os.sched_setaffinity(0, mine)

    def rows() -> dict[Tracepoint, TracepointTally]:
        found: dict[Tracepoint, TracepointTally] = {}
        for row in listener.read().about(netns.inode(net.netns), None, [cpumap]).rows:
            found[row.place.kind] = found.get(row.place.kind, TracepointTally()).plus(row.tally)
            assert row.place.entry == cpu
        return found

    assert settled(lambda: rows().get(Tracepoint.CPUMAP_KTHREAD, TracepointTally()).sent == 4, 5), rows()
    assert rows()[Tracepoint.CPUMAP_ENQUEUE] == TracepointTally(8, 4, 60)
    assert rows()[Tracepoint.CPUMAP_KTHREAD].lost == 0
    (row,) = listener.read().about(0, None, [cpumap]).of(Tracepoint.CPUMAP_ENQUEUE)
    assert Names(net.netns).target(row) == f"CPU {cpu}"
    assert Names(net.netns).via(row) == "cpus"


def test_a_storm_is_counted_in_full_and_told_in_samples(
    net: Playground, listener: Listener, samples: Path
) -> None:
    change(net, scripted_chain(samples, [ON_PASS], Linkage.STATIC))
    net.send([scripted(bytes([0]))] * 5000)
    sample = about(net, listener, 5000)
    assert tallies(sample, Tracepoint.EXCEPTION) == {("xdp0", "", 0): lost(5000)}
    assert 0 < len(sample.events) < 5000
    assert len(sample.events) + sample.untold == 5000
    assert not sample.unplaced
    assert not sample.missed


def test_more_places_than_rows_are_counted_as_such(net: Playground, listener: Listener) -> None:
    redirecting(net, "by_ifindex")
    net.send([to_ifindex(1_000_000 + n) for n in range(1500)])
    inode = netns.inode(net.netns)
    assert settled(lambda: sum(listener.read().unplaced.values()) > 0)
    sample = listener.read()
    ours = sum(row.tally.lost for row in sample.about(inode).rows)
    assert len(sample.rows) == 1024
    assert ours + sample.unplaced[Tracepoint.REDIRECT_ERR] == 1500


def test_only_failures(net: Playground, samples: Path) -> None:
    with listen(Scope.FAILURES, netns.inode(net.netns)) as listener:
        redirecting(net, "by_ifindex")
        net.send([to_ifindex(net.links[1].ifindex)] * 9 + [to_ifindex(4711)])
        assert [row.tally for row in about(net, listener, 1).rows] == [lost(1)]


def test_listeners_count_from_when_they_were_opened(
    net: Playground, listener: Listener, samples: Path
) -> None:
    change(net, scripted_chain(samples, [ON_PASS], Linkage.STATIC))
    net.send([scripted(bytes([0]))] * 2)
    with listen() as second:  # for the whole machine
        net.send([scripted(bytes([0]))] * 3)
        assert about(net, second, 3).lost == 3
    assert about(net, listener, 5).lost == 5
    with pytest.raises(ValueError, match="closed"):
        second.read()
    second.close()


def test_another_interface_is_another_matter(net: Playground, listener: Listener, samples: Path) -> None:
    for link in (0, 1):
        change(net, scripted_chain(samples, [ON_PASS], Linkage.STATIC), link)
        net.send([scripted(bytes([0]))] * (link + 1), link=link)
    inode = netns.inode(net.netns)
    sample = listener.read()
    assert [sample.about(inode, [one.ifindex]).lost for one in net.links] == [1, 2]
    assert sample.about(inode).lost == 3


def test_closing_leaves_nothing(root: None) -> None:
    before = listeners()
    with listen():
        assert len(listeners() - before) >= 6
    assert settled(lambda: listeners() <= before)


def test_kill_9_leaves_nothing(root: None) -> None:
    before = listeners()
    code = (
        "from xdpchain.observe.tracepoints import listen\nimport time\n"
        "l = listen()\nprint('listening', flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code + "time.sleep(600)"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "core")},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "listening\n"
        assert len(listeners() - before) >= 6
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert settled(lambda: listeners() <= before)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_kernel_that_refuses(root: None, monkeypatch: pytest.MonkeyPatch) -> None:
    before = listeners()

    def refuse(number: int) -> None:
        def attach(*_: object) -> None:
            raise bpf.BpfError(number, bpf.Command.RAW_TRACEPOINT_OPEN)

        monkeypatch.setattr(listening.bpf, "trace_attach", attach)

    refuse(errno.EPERM)
    with pytest.raises(PermissionDenied):
        listen()
    refuse(errno.ENOENT)
    with pytest.raises(Unsupported, match="no tracepoint xdp_exception"):
        listen()
    refuse(errno.ENOMEM)
    with pytest.raises(KernelRefused):
        listen()
    assert settled(lambda: listeners() <= before)
