# SPDX-License-Identifier: Apache-2.0
"""Netlink on a real kernel: devices, XDP hooks, refusals, events."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from xdpchain.bytecode.instructions import LET_PASS as PASS
from xdpchain.errors import Busy, KernelRefused, NotFound, PermissionDenied, RaceLost, Unsupported
from xdpchain.sys import bpf, netns
from xdpchain.sys.netlink import (
    HookBusy,
    LinkChanges,
    LinkEvents,
    ModeConflict,
    MtuTooLarge,
    Netlink,
    NoNativeXdp,
    XdpAttachment,
    codec,
    reuse_sockets,
)
from xdpchain.sys.netlink.messages import ACK, ERROR, ack_text, attribute, request
from xdpchain.sys.netlink.transport import Transport
from xdptui.words.advice import worded

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces and XDP take root")

CORE = Path(netns.__file__).parents[2]
BPF_F_XDP_HAS_FRAGS = 1 << 5
BPF_XDP = 37  # enum bpf_attach_type


def fresh() -> str:
    return f"xct-nl-{os.getpid()}-{secrets.token_hex(3)}"


def ip(space: str, *words: str) -> None:
    subprocess.run(["ip", "-n", space, *words], check=True, capture_output=True)


def make(space: str, *words: str) -> None:
    """Make a device, or skip if this kernel lacks the type."""
    done = subprocess.run(["ip", "-n", space, "link", "add", *words], capture_output=True, text=True)
    if "Unknown device type" in done.stderr or "not supported" in done.stderr:
        pytest.skip(f"ip link add {' '.join(words)}: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr


@pytest.fixture
def spaces() -> Iterator[Callable[[], str]]:
    """Makes namespaces, and removes them at the end."""
    made: list[str] = []

    def add() -> str:
        name = fresh()
        made.append(name)
        subprocess.run(["ip", "netns", "add", name], check=True)
        return name

    yield add
    for name in made:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@pytest.fixture
def space(spaces: Callable[[], str]) -> str:
    """A namespace with the veth pair left - right, up."""
    name = spaces()
    ip(name, "link", "add", "left", "type", "veth", "peer", "name", "right")
    ip(name, "link", "set", "left", "up")
    ip(name, "link", "set", "right", "up")
    return name


@pytest.fixture
def nl(space: str) -> Iterator[Netlink]:
    with Netlink(space) as opened:
        yield opened


@pytest.fixture
def program() -> Iterator[Callable[..., bpf.Fd]]:
    """Loads programs that pass everything."""
    with ExitStack() as held:

        def load(flags: int = 0) -> bpf.Fd:
            return held.enter_context(bpf.prog_load(bpf.ProgType.XDP, PASS, name="pass", flags=flags))

        yield load


def number(prog: bpf.Fd) -> int:
    return bpf.prog_info(prog).id


# Reading devices


def test_links_agree_with_ip(space: str, nl: Netlink) -> None:
    ip(space, "link", "set", "left", "mtu", "1400")
    ip(space, "address", "add", "192.0.2.1/24", "dev", "left")
    ip(space, "link", "set", "lo", "up")
    ip(space, "route", "get", "192.0.2.2")
    netns.run(
        space, lambda: subprocess.run(["ping", "-c", "3", "-i", "0.01", "127.0.0.1"], capture_output=True)
    )
    links = {link.name: link for link in nl.links()}
    raw = subprocess.run(
        ["ip", "-n", space, "-s", "-j", "-d", "link"], check=True, capture_output=True
    ).stdout
    told = json.loads(raw)
    assert [one["ifindex"] for one in told] == [link.ifindex for link in nl.links()]
    for one in told:
        link = links[one["ifname"]]
        assert (link.ifindex, link.mtu, link.address) == (one["ifindex"], one["mtu"], one["address"])
        assert link.up == ("UP" in one["flags"])
        assert link.carrier == ("LOWER_UP" in one["flags"])
        assert link.operstate == one["operstate"].lower()
        assert link.kind == one.get("linkinfo", {}).get("info_kind")
        assert (link.num_rx_queues, link.num_tx_queues) == (one["num_rx_queues"], one["num_tx_queues"])
        for way in ("rx", "tx"):
            for counter in ("packets", "bytes", "errors", "dropped"):
                if link.name == "lo":  # the pair still sends IPv6 messages
                    assert getattr(link.stats, f"{way}_{counter}") == one["stats64"][way][counter]
        assert link.xdp == ()
    assert links["lo"].stats.rx_packets > 0
    assert links["left"].mtu == 1400
    assert (links["left"].peer_ifindex, links["left"].peer_netnsid) == (links["right"].ifindex, None)
    assert links["lo"].peer_ifindex is None


def test_a_peer_in_another_namespace_has_the_index_of_there(space: str, spaces: Callable[[], str]) -> None:
    other = spaces()
    ip(space, "link", "set", "right", "netns", other)
    with Netlink(space) as here, Netlink(other) as there:
        assert here.link("left").peer_ifindex == there.link("right").ifindex
        assert here.link("left").peer_netnsid is not None


def test_one_link_by_index_name_and_alternative_name(space: str, nl: Netlink) -> None:
    long = "an-alternative-name-that-is-longer-than-any-name-" + "x" * 60
    ip(space, "link", "property", "add", "dev", "left", "altname", long)
    ip(space, "link", "property", "add", "dev", "left", "altname", "short")
    left = nl.link("left")
    assert left.name == "left"
    assert {nl.link(which).ifindex for which in (left.ifindex, "short", long)} == {left.ifindex}


@pytest.mark.parametrize(
    "which",
    ["nothing", "", 0, -1, 1 << 31, 1 << 40, 999_999, "n" * 500, "nul\0", "\udcff", "über", "eth0; rm"],
)
def test_unknown_links_get_an_error_that_helps(nl: Netlink, space: str, which: int | str) -> None:
    with pytest.raises(NotFound) as caught:
        nl.link(which)
    assert space in caught.value.what
    assert worded(caught.value.todo) == f"`ip -n {space} link` lists the interfaces"


def test_a_name_that_is_no_utf8_is_shown_escaped(space: str, nl: Netlink) -> None:
    subprocess.run(
        ["ip", "-n", space, "link", "add", b"b\xff", "type", "veth", "peer", "name", "p"], check=True
    )
    assert "b\\xff" in {link.name for link in nl.links()}


def test_a_device_without_a_mac_address(space: str, nl: Netlink) -> None:
    done = subprocess.run(
        ["ip", "-n", space, "tuntap", "add", "tun0", "mode", "tun"], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"ip tuntap add: {done.stderr.strip()}")
    assert nl.link("tun0").address is None


def test_drivers(nl: Netlink) -> None:
    assert nl.driver(nl.link("left").ifindex) == "veth"
    assert nl.driver(nl.link("lo").ifindex) is None
    with pytest.raises(NotFound):
        nl.driver(999_999)


def test_xdp_features(nl: Netlink) -> None:
    features = nl.xdp_features()
    if features is None:
        pytest.skip("this kernel has no netdev generic netlink family")
    assert set(features) == {link.ifindex for link in nl.links()}
    assert {"basic", "redirect", "rx-sg"} <= features[nl.link("left").ifindex]
    assert features[nl.link("lo").ifindex] == frozenset()


def test_xdp_features_are_unknown_where_the_kernel_lacks_the_family(
    nl: Netlink, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("_netdev_family", None), ("_netdev_missing", False)):
        monkeypatch.setattr(Netlink, name, value)
    monkeypatch.setattr(
        codec, "encode_get_family", lambda name, real=codec.encode_get_family: real("no-such-one")
    )
    assert nl.xdp_features() is None
    assert nl.xdp_features() is None


# Messages of devices and kernels that are not at hand


def link_message(*xdp: tuple[int, int]) -> bytes:
    """An RTM_NEWLINK with these attributes in IFLA_XDP (linux/if_link.h)."""
    inside = b"".join(
        attribute(kind, bytes([value]) if kind == XDP_ATTACHED else value) for kind, value in xdp
    )
    body = struct.pack("=BxHiII", 0, 1, 7, 0, 0) + attribute(3, "nic") + attribute(4, 1500)
    body += attribute(16, b"\6") + attribute(23, struct.pack("=24Q", *range(24)))
    return request(codec.RTM_NEWLINK, 0, body + attribute(43, inside, nested=True))


XDP_ATTACHED, XDP_PROG_ID, XDP_DRV_PROG_ID, XDP_HW_PROG_ID = 2, 4, 5, 7


def test_native_beside_offload() -> None:
    link = codec.decode_link(link_message((XDP_ATTACHED, 4), (XDP_HW_PROG_ID, 12), (XDP_DRV_PROG_ID, 11)))
    assert link.xdp == (XdpAttachment("native", 11), XdpAttachment("offload", 12))
    assert link.program("offload") == 12
    assert link.program("generic") is None
    assert (link.ifindex, link.name, link.mtu, link.operstate) == (7, "nic", 1500, "up")
    assert (link.num_rx_queues, link.kind, link.address, link.lower) == (1, None, None, None)
    assert (link.stats.rx_packets, link.stats.tx_packets, link.stats.rx_bytes) == (0, 1, 2)
    assert (link.stats.tx_bytes, link.stats.rx_errors, link.stats.tx_errors) == (3, 4, 5)
    assert (link.stats.rx_dropped, link.stats.tx_dropped) == (6, 7)


@pytest.mark.parametrize(("attached", "mode"), [(1, "native"), (2, "generic"), (3, "offload")])
def test_one_id_for_all_modes(attached: int, mode: Any) -> None:
    link = codec.decode_link(link_message((XDP_ATTACHED, attached), (XDP_PROG_ID, 9)))
    assert link.xdp == (XdpAttachment(mode, 9),)


@pytest.mark.parametrize("capped", [True, False])
def test_the_words_of_a_refusal(capped: bool) -> None:
    """The message follows the refused request, or its header alone."""
    refused = request(19, ACK, bytes(21))
    body = struct.pack("=i", -16) + (refused[:16] if capped else refused + bytes(3))
    words = "XDP program already attached"
    flags = 0x200 | (0x100 if capped else 0)
    message = request(ERROR, flags, body + attribute(1, words))
    assert ack_text(message) == words
    assert ack_text(request(ERROR, 0, body)) == ""


# The hook


@pytest.mark.parametrize("mode", ["native", "generic"])
def test_attach_replace_detach(nl: Netlink, program: Callable[..., bpf.Fd], mode: Any) -> None:
    first, second, index = program(), program(), nl.link("left").ifindex
    nl.attach_xdp(index, first, mode, None)
    assert nl.link(index).xdp == (XdpAttachment(mode, number(first)),)
    nl.attach_xdp(index, second, mode, first)
    assert nl.link(index).xdp == (XdpAttachment(mode, number(second)),)
    assert nl.link("right").xdp == ()
    nl.attach_xdp(index, -1, mode, second)
    assert nl.link(index).xdp == ()


def test_ip_sees_the_program(space: str, nl: Netlink, program: Callable[..., bpf.Fd]) -> None:
    prog = program()
    nl.attach_xdp(nl.link("left").ifindex, prog, "generic", None)
    raw = subprocess.run(
        ["ip", "-n", space, "-j", "link", "show", "left"], check=True, capture_output=True
    ).stdout
    seen = json.loads(raw)[0]["xdp"]
    assert (seen["mode"], seen["prog"]["id"]) == (2, number(prog))


def test_a_taken_hook_is_left_alone(nl: Netlink, program: Callable[..., bpf.Fd]) -> None:
    theirs, index = program(), nl.link("left").ifindex
    nl.attach_xdp(index, theirs, "native", None)
    with pytest.raises(
        HookBusy, match=f"program {number(theirs)} already runs there in native mode"
    ) as caught:
        nl.attach_xdp(index, program(), "native", None)
    assert caught.value.detail == "EBUSY: XDP program already attached"
    assert nl.link(index).xdp == (XdpAttachment("native", number(theirs)),)


def test_a_lost_race_names_the_winner(nl: Netlink, program: Callable[..., bpf.Fd]) -> None:
    ours, theirs, index = program(), program(), nl.link("left").ifindex
    nl.attach_xdp(index, theirs, "native", None)
    for new in (program(), -1):
        with pytest.raises(
            RaceLost, match=f"{number(ours)} no longer runs there; program {number(theirs)} does"
        ) as caught:
            nl.attach_xdp(index, new, "native", ours)
        assert caught.value.detail.startswith("EEXIST: ")
    assert nl.link(index).xdp == (XdpAttachment("native", number(theirs)),)


def test_a_race_lost_to_an_empty_hook(nl: Netlink, program: Callable[..., bpf.Fd]) -> None:
    ours, index = program(), nl.link("left").ifindex
    with pytest.raises(RaceLost, match="; nothing does"):
        nl.attach_xdp(index, program(), "native", ours)
    assert nl.link(index).xdp == ()


def test_a_race_lost_to_another_mode(nl: Netlink, program: Callable[..., bpf.Fd]) -> None:
    ours, theirs, index = program(), program(), nl.link("left").ifindex
    nl.attach_xdp(index, theirs, "generic", None)
    with pytest.raises(RaceLost, match=f"; program {number(theirs)} in generic mode does"):
        nl.attach_xdp(index, program(), "native", ours)


@pytest.mark.parametrize(("running", "asked"), [("native", "generic"), ("generic", "native")])
def test_the_modes_exclude_each_other(
    nl: Netlink, program: Callable[..., bpf.Fd], running: Any, asked: Any
) -> None:
    first, index = program(), nl.link("left").ifindex
    nl.attach_xdp(index, first, running, None)
    for expected in (None, first):
        with pytest.raises(
            ModeConflict, match=f"program {number(first)} runs there in {running} mode"
        ) as caught:
            nl.attach_xdp(index, program(), asked, expected)
        assert caught.value.detail.startswith("EEXIST: ")
    assert nl.link(index).xdp == (XdpAttachment(running, number(first)),)


def test_a_bpf_link_is_its_owners(space: str, nl: Netlink, program: Callable[..., bpf.Fd]) -> None:
    held, index = program(), nl.link("left").ifindex
    with netns.run(space, lambda: bpf.link_create(held, index, BPF_XDP)):
        assert nl.link(index).xdp == (XdpAttachment("native", number(held)),)
        with pytest.raises(HookBusy, match="held by a bpf_link"):
            nl.attach_xdp(index, program(), "native", held)
        with pytest.raises(HookBusy, match="already runs there"):
            nl.attach_xdp(index, program(), "native", None)
        assert nl.link(index).xdp == (XdpAttachment("native", number(held)),)
    assert nl.link(index).xdp == ()


def test_a_program_on_a_bridge_shuts_its_ports(
    space: str, nl: Netlink, program: Callable[..., bpf.Fd]
) -> None:
    make(space, "bridge0", "type", "bridge")
    ip(space, "link", "set", "left", "master", "bridge0")
    nl.attach_xdp(nl.link("bridge0").ifindex, program(), "generic", None)
    with pytest.raises(HookBusy) as caught:
        nl.attach_xdp(nl.link("left").ifindex, program(), "native", None)
    assert "upper device" in caught.value.why
    assert "bridge" in worded(caught.value.todo)


def test_packets_too_large_for_a_program_without_frags(
    space: str, nl: Netlink, program: Callable[..., bpf.Fd]
) -> None:
    ip(space, "link", "set", "right", "mtu", "9000")
    ip(space, "link", "set", "left", "mtu", "9000")
    index = nl.link("left").ifindex
    with pytest.raises(MtuTooLarge, match="has MTU 9000") as caught:
        nl.attach_xdp(index, program(), "native", None)
    assert "frags" in worded(caught.value.todo)
    assert "generic mode" in worded(caught.value.todo), "which works with any MTU"
    assert "MTU" in caught.value.detail
    nl.attach_xdp(index, program(BPF_F_XDP_HAS_FRAGS), "native", None)


def test_a_driver_without_native_xdp(nl: Netlink, program: Callable[..., bpf.Fd]) -> None:
    index = nl.link("lo").ifindex
    with pytest.raises(NoNativeXdp) as caught:
        nl.attach_xdp(index, program(), "native", None)
    assert isinstance(caught.value, Unsupported)
    assert caught.value.detail.startswith("EOPNOTSUPP: ")
    assert "generic" in worded(caught.value.todo)
    assert nl.link(index).xdp == ()  # no silent fallback
    nl.attach_xdp(index, program(), "generic", None)


def test_a_device_that_is_gone(space: str, nl: Netlink, program: Callable[..., bpf.Fd]) -> None:
    index = nl.link("left").ifindex
    ip(space, "link", "del", "left")
    with pytest.raises(NotFound):
        nl.attach_xdp(index, program(), "native", None)


def test_what_is_no_program(nl: Netlink) -> None:
    with open(os.devnull) as file, pytest.raises(KernelRefused) as caught:
        nl.attach_xdp(nl.link("left").ifindex, file.fileno(), "native", None)
    assert caught.value.detail


def test_nothing_is_removed_blindly(nl: Netlink) -> None:
    with pytest.raises(ValueError, match="descriptor"):
        nl.attach_xdp(nl.link("left").ifindex, -1, "native", None)


def test_without_capabilities_it_reads_and_says_what_is_missing(program: Callable[..., bpf.Fd]) -> None:
    prog = program()
    os.set_inheritable(int(prog), True)
    code = f"""
import os, sys
from xdpchain.errors import PermissionDenied
from xdpchain.sys.netlink import LinkEvents, Netlink, codec
os.setresuid(65534, 65534, 65534)
with LinkEvents() as events, Netlink() as nl:
    lo = nl.link("lo")
    assert lo in nl.links() and nl.driver(lo.ifindex) is None
    try:
        nl.attach_xdp(lo.ifindex, {int(prog)}, "generic", None)
    except PermissionDenied as error:
        assert "CAP_NET_ADMIN" in error.why and error.detail.startswith("EPERM"), vars(error)
        sys.exit(error.exit_code)
"""
    # In a separate namespace: if it were permitted after all, it must not touch this machine's loopback.
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", code],
        env={"PYTHONPATH": str(CORE), "PATH": os.environ["PATH"]},
        pass_fds=[int(prog)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == PermissionDenied.exit_code, done.stderr


# The socket


def test_a_missing_namespace_is_not_made() -> None:
    name = fresh()
    for kind in (Netlink, LinkEvents):
        with pytest.raises(netns.NetnsError):
            kind(name)
    assert not (netns.RUN_DIR / name).exists()


def test_works_inside_a_running_event_loop(space: str) -> None:
    async def inside() -> int:
        with Netlink(space) as nl:
            return len(nl.links())

    assert asyncio.run(inside()) == 3


def test_is_shared_by_threads_and_stays_in_its_namespace(nl: Netlink) -> None:
    def ask(turn: int) -> set[str]:
        return {link.name for link in nl.links()} if turn % 2 else {nl.link("left").name, "right", "lo"}

    with ThreadPoolExecutor(8) as pool:
        assert all(names == {"lo", "left", "right"} for names in pool.map(ask, range(80)))


def test_closing_ends_it_and_leaves_no_descriptor(space: str) -> None:
    with Netlink(space) as nl, LinkEvents(space):
        nl.links()
    with pytest.raises(ValueError, match="closed"):
        nl.links()
    nl.close()
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with Netlink(space) as nl, LinkEvents(space):
            nl.links()
            nl.xdp_features()
        with pytest.raises(netns.NetnsError):
            Netlink("no-such-namespace")
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_an_answer_left_over_from_a_broken_off_request_is_skipped(nl: Netlink) -> None:
    stale = bytearray(codec.encode_get_links())
    struct.pack_into("=I", stale, 8, 1)
    nl._route.socket.sendto(stale, (0, 0))
    assert nl.link("left").name == "left"


def interrupt_dumps(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Mark dumps as the kernel does when devices come and go meanwhile (which can't be timed)."""
    real = Transport._receive
    left = [times]

    def receive(self: Transport) -> bytes:
        data = bytearray(real(self))
        if left[0]:
            left[0] -= 1
            data[6] |= 0x10  # NLM_F_DUMP_INTR in the first message
        return bytes(data)

    monkeypatch.setattr(Transport, "_receive", receive)


def test_an_interrupted_dump_is_repeated(nl: Netlink, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_dumps(monkeypatch, 2)
    assert {link.name for link in nl.links()} == {"lo", "left", "right"}
    assert len(nl.links()) == 3


def test_dumps_that_never_settle_are_not_passed_off_as_whole(
    nl: Netlink, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_dumps(monkeypatch, 1000)
    with pytest.raises(Busy, match="changed 10 times"):
        nl.links()


def test_reading_devices_does_not_import_pyroute2() -> None:
    code = "from xdpchain.sys.netlink import Netlink; Netlink().links(); "
    code += "import sys; sys.exit('pyroute2' in repr(sys.modules))"
    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(CORE)}, check=True)


def test_counters_alone_are_those_of_the_links(space: str, nl: Netlink) -> None:
    ip(space, "link", "set", "lo", "up")
    subprocess.run(["ip", "netns", "exec", space, "ping", "-qc3", "-i.1", "127.0.0.1"], check=True)
    alone = nl.stats()
    assert alone == {link.ifindex: link.stats for link in nl.links()}
    assert alone[1].tx_packets == 6


# Events


def settled(events: LinkEvents) -> None:
    """Wait until the kernel has no more events (IPv6 and carrier changes of new devices)."""
    while events.poll(0.3):
        pass


@pytest.fixture
def events(space: str) -> Iterator[LinkEvents]:
    with LinkEvents(space) as opened:
        settled(opened)
        yield opened


def after(events: LinkEvents, wanted: Callable[[LinkChanges], bool]) -> LinkChanges:
    """Poll until the wanted event arrives, at most 5 s; return everything received until then."""
    total, end = LinkChanges(), time.monotonic() + 5
    while not wanted(total):
        assert time.monotonic() < end, total
        now = events.poll(1)
        assert now is not None
        total = LinkChanges(
            total.changed - now.gone | now.changed,
            total.gone - now.changed | now.gone,
            total.everything or now.everything,
        )
    return total


def test_quiet_means_false(events: LinkEvents) -> None:
    begun = time.monotonic()
    changes = events.poll(0.05)
    assert changes == LinkChanges()
    assert not changes
    assert 0.04 < time.monotonic() - begun < 2
    assert not events.poll(0)


def test_new_changed_and_gone_devices(space: str, nl: Netlink, events: LinkEvents) -> None:
    left = nl.link("left").ifindex
    ip(space, "link", "set", "left", "mtu", "1300")
    assert after(events, lambda seen: left in seen.changed).gone == frozenset()
    settled(events)
    ip(space, "link", "add", "new", "type", "veth", "peer", "name", "wen")
    new = {nl.link("new").ifindex, nl.link("wen").ifindex}
    assert not after(events, lambda seen: new <= seen.changed).everything
    settled(events)
    ip(space, "link", "del", "new")
    assert after(events, lambda seen: new <= seen.gone).changed.isdisjoint(new)


def test_an_xdp_program_attached_over_netlink(
    nl: Netlink, events: LinkEvents, program: Callable[..., bpf.Fd]
) -> None:
    index, prog = nl.link("left").ifindex, program()
    nl.attach_xdp(index, prog, "generic", None)
    after(events, lambda seen: index in seen.changed)
    settled(events)
    nl.attach_xdp(index, -1, "generic", prog)
    after(events, lambda seen: index in seen.changed)


def test_other_namespaces_are_not_heard(events: LinkEvents, spaces: Callable[[], str]) -> None:
    ip(spaces(), "link", "add", "one", "type", "veth", "peer", "name", "two")
    assert not events.poll(0.2)


def test_a_port_that_leaves_its_bridge_is_not_gone(space: str, nl: Netlink, events: LinkEvents) -> None:
    make(space, "bridge0", "type", "bridge")
    ip(space, "link", "set", "left", "master", "bridge0")
    settled(events)
    ip(space, "link", "set", "left", "nomaster")
    index = nl.link("left").ifindex
    assert index not in after(events, lambda seen: index in seen.changed).gone


def test_an_overflow_is_reported_and_survived(space: str, nl: Netlink) -> None:
    index = nl.link("left").ifindex
    with LinkEvents(space, receive_buffer=4096) as events:
        settled(events)
        lines = "".join(f"link set left mtu {1300 + turn}\n" for turn in range(60))
        subprocess.run(["ip", "-n", space, "-batch", "-"], input=lines.encode(), check=True)
        after(events, lambda seen: seen.everything)
        settled(events)
        ip(space, "link", "set", "left", "mtu", "1500")
        assert not after(events, lambda seen: index in seen.changed).everything


@pytest.mark.parametrize("timeout", [None, 60.0])
def test_closing_wakes_a_waiting_thread(space: str, timeout: float | None) -> None:
    events = LinkEvents(space)
    settled(events)
    answers: list[LinkChanges | None] = []
    waiter = threading.Thread(target=lambda: answers.append(events.poll(timeout)))
    waiter.start()
    time.sleep(0.1)
    begun = time.monotonic()
    events.close()
    waiter.join(5)
    assert not waiter.is_alive()
    assert time.monotonic() - begun < 1
    assert answers == [None]
    assert events.poll(1) is None
    events.close()


def test_sockets_are_used_again_as_long_as_the_name_stands_for_the_same_namespace() -> None:
    name = fresh()
    subprocess.run(["ip", "netns", "add", name], check=True)
    before = len(os.listdir("/proc/self/fd"))
    try:
        with reuse_sockets():
            with Netlink(name) as first, Netlink(name) as second:  # at the same time: each has its own
                first_socket, cookie = first._route.socket.fileno(), first.cookie()
                assert second._route.socket.fileno() != first_socket
                assert first.link("lo").ifindex == second.link("lo").ifindex == 1
            with pytest.raises(ValueError, match="closed"):
                first.link("lo")
            first.close()
            with Netlink(name) as again, Netlink(name) as other:
                assert {again._route.socket.fileno(), other._route.socket.fileno()} >= {first_socket}
                assert again.link("lo").name == "lo"
            subprocess.run(["ip", "netns", "del", name], check=True)
            subprocess.run(["ip", "netns", "add", name], check=True)
            with Netlink(name) as another:
                assert another.cookie() != cookie
            kept = len(os.listdir("/proc/self/fd"))
            if not os.fork():  # the copy must not talk over our sockets
                os._exit(len(os.listdir("/proc/self/fd")) >= kept)
            assert os.wait()[1] == 0
        assert len(os.listdir("/proc/self/fd")) == before
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)
