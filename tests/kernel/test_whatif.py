# SPDX-License-Identifier: Apache-2.0
"""What if: known programs give a known matrix, and nothing that runs notices."""

from __future__ import annotations

import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.kernel.chains import chain_of, change, look_at, run_through
from xdpchain.actions import Action, ActionSet
from xdpchain.chain import Chain, Slot
from xdpchain.components import components_of
from xdpchain.packets.frames import icmp_echo
from xdpchain.packets.packet import Packet
from xdpchain.packets.sources import builtin_packets
from xdpchain.running import Running
from xdpchain.sys import bpf, netns
from xdpchain.sys.netlink import Netlink
from xdpchain.whatif import what_if
from xdptui.demo.frames import NEAR, PEER, arp_request, scripted, tcp_syn, udp
from xdptui.demo.playground import Playground

WEB = Packet("web", tcp_syn(PEER, NEAR, 80))
SSH = Packet("ssh", tcp_syn(PEER, NEAR, 22))
ARP = Packet("arp", arp_request(PEER, NEAR))
PASS, DROP, TX, REDIRECT = Action.PASS, Action.DROP, Action.TX, Action.REDIRECT


def block(running: Running, slot: int, port: int, protocol: int = 6) -> None:
    """Put a port into the running firewall's map."""
    assert running.chain is not None
    number = next(ref.id for ref in running.chain.slots[slot].component.maps if ref.name == "blocked")
    with bpf.map_by_id(number) as fd:
        bpf.map_update(fd, struct.pack("<HBx", port, protocol), b"\x01")


def state(running: Running) -> dict[int, list[tuple[bytes, bytes]]]:
    """What is in all maps of the running chain, its counters included."""
    assert running.chain is not None
    numbers = {ref.id for slot in running.chain for ref in slot.component.maps} | {running.counters_map or 0}
    found = {}
    for number in numbers - {0}:
        with bpf.map_by_id(number) as fd:
            info = bpf.map_info(fd)
            size = info.value_size * (64 if "percpu" in bpf.map_type_name(info.type) else 1)
            found[number] = [(key, bpf.map_lookup(fd, key, size)) for key in bpf.map_keys(fd, info.key_size)]
    return found


def slot(samples: Path, name: str, program: str, priority: int, actions: str = "P") -> Slot:
    return Slot.of(
        components_of(str(samples / f"{name}.o"), name=program), priority, ActionSet.parse(actions)
    )


def test_a_known_matrix(playground: Playground, samples: Path) -> None:
    running = change(playground, chain_of(samples, "firewall", "monitor"))
    block(running, 0, 80)
    assert running.chain is not None
    candidate = running.chain.remove([1]).add(slot(samples, "redirect", "redirect_back", 80))
    tried = what_if(running, candidate, [WEB, SSH, ARP])
    assert tried.old.slots == ("xdp_firewall", "xdp_monitor")
    assert tried.new.slots == ("xdp_firewall", "redirect_back")
    web, ssh, arp = tried.crossings
    assert (web.old.slots, web.old.verdict) == ((DROP, None), DROP)
    assert (web.new.slots, web.new.verdict) == ((DROP, None), DROP)
    assert web.differs is False
    for one in (ssh, arp):
        assert (one.old.slots, one.old.verdict) == ((PASS, PASS), PASS)
        assert (one.new.slots, one.new.verdict) == ((PASS, TX), TX)
        assert one.old.data == one.packet.data
        assert one.new.data == one.packet.data[6:12] + one.packet.data[:6] + one.packet.data[12:]
        assert one.differs is True
    # Of the MACs 02:78:64:70:00:01 and …:02 the last bytes differ.
    assert ssh.rewritten[1].ranges == ((5, 5), (11, 11))
    assert [(t.old, t.new, t.count) for t in tried.tallies] == [(PASS, TX, 2), (DROP, DROP, 1)]
    assert tried.changed == (ssh, arp)


def test_the_matrix_is_what_the_interface_then_does(playground: Playground, samples: Path) -> None:
    """The candidate's column against the same chain when it runs."""
    running = change(playground, chain_of(samples, "firewall"))
    block(running, 0, 80)
    assert running.chain is not None
    candidate = running.chain.add(slot(samples, "mark", "mark_a", 41)).add(
        slot(samples, "meta", "meta_head", 61)
    )
    tried = what_if(running, candidate, [WEB, SSH, ARP])
    now = change(playground, candidate)
    for one in tried.crossings:
        real = run_through(now, one.packet.data)
        assert (one.new.verdict, one.new.data) == (Action(real.code), real.data)


def test_what_runs_notices_nothing(playground: Playground, samples: Path) -> None:
    running = change(playground, chain_of(samples, "firewall", "ratelimit", "counter", "monitor"))
    block(running, 0, 80)
    playground.send([WEB.data, SSH.data] * 3)
    before = state(running)
    assert len(before) > 4
    programs = look_at(playground).hooks
    assert running.chain is not None
    what_if(running, running.chain.remove([1]), [WEB, SSH, ARP] * 20)
    assert state(running) == before
    assert look_at(playground).hooks == programs


def test_both_sides_begin_with_the_state_that_runs_and_go_on_from_there(
    playground: Playground, samples: Path
) -> None:
    running = change(playground, chain_of(samples, "ratelimit"))
    playground.send([WEB.data] * 20)  # of 50 at once
    assert running.chain is not None
    tried = what_if(running, running.chain.add(slot(samples, "pass", "xdp_pass", 99)), [WEB] * 60)
    old = [one.old.verdict for one in tried.crossings]
    assert old[0] is PASS
    assert old[-1] is DROP
    assert old.count(PASS) < 50  # not as many as a fresh bucket lets pass
    assert [one.new.verdict for one in tried.crossings].count(PASS) < 50
    assert any("slot 0 (xdp_ratelimit) reads a clock" in text for text in tried.unknown)


def test_nothing_runs_and_nothing_will(playground: Playground, samples: Path) -> None:
    free = look_at(playground)
    tried = what_if(free, chain_of(samples, "drop"), [WEB])
    assert tried.old.empty
    assert (tried.crossings[0].old.verdict, tried.crossings[0].new.verdict) == (PASS, DROP)
    running = change(playground, chain_of(samples, "drop"))
    back = what_if(running, Chain(), [WEB])
    assert back.new.empty
    assert (back.crossings[0].old.verdict, back.crossings[0].new.verdict) == (DROP, PASS)


def test_packets_seem_to_come_in_on_the_interface(playground: Playground, samples: Path) -> None:
    """Only while a program is attached in native mode does veth prepare its queues for that."""
    free = look_at(playground)
    candidate = Chain().add(slot(samples, "redirect", "redirect_back", 80))
    ingress = [one for one in what_if(free, candidate, [WEB]).unknown if "here that was lo" in one]
    assert ingress == []  # it does not look
    running = change(playground, chain_of(samples, "pass"))
    asked: list[int] = []
    original = bpf.prog_test_run

    def watched(program: bpf.Fd, data: bytes, repeat: int = 1, ingress: int = 0) -> bpf.TestRun:
        asked.append(ingress)
        return original(program, data, repeat, ingress)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bpf, "prog_test_run", watched)
        what_if(running, candidate, [WEB])
    assert set(asked) == {playground.ifindex}


def test_a_redirect_names_its_targets(samples: Path) -> None:
    with Playground(links=2) as playground:
        running = change(playground, Chain().add(slot(samples, "redirect", "redirect_out", 81)))
        assert running.chain is not None
        number = next(ref.id for ref in running.chain.slots[0].component.maps if ref.name == "out")
        with bpf.map_by_id(number) as fd:
            target = struct.pack("<I", playground.links[1].ifindex)
            netns.run(playground.netns, lambda: bpf.map_update(fd, bytes(4), target))
        tried = what_if(running, running.chain, [WEB])
        assert tried.crossings[0].new.verdict is REDIRECT
        said = "slot 0 (redirect_out) redirects to xdp1 by its map out: whether packets arrive"
        assert sum(text.startswith(said) for text in tried.unknown) == 1
        assert len(tried.unknown) == 1
        passed = what_if(running, Chain().add(slot(samples, "pass", "xdp_pass", 1)), [WEB])
        (text,) = (text for text in passed.unknown if "redirects" in text)
        assert text.startswith("slot 0 (redirect_out) of what runs redirects to xdp1")


def test_tail_calls_of_the_object_are_followed_and_leave_no_trace(
    playground: Playground, samples: Path
) -> None:
    running = change(playground, chain_of(samples, "tailcalls"))
    before = state(running)
    assert running.chain is not None
    tried = what_if(running, running.chain.add(slot(samples, "pass", "xdp_pass", 99)), [WEB, ARP])
    assert [one.new.verdict for one in tried.crossings] == [DROP, PASS]
    assert not any("tail-calls" in text for text in tried.unknown)
    calls = {n for n in before if _name(n) == "calls"}
    assert calls
    after = state(running)
    assert {n: after[n] for n in calls} == {n: before[n] for n in calls}


def test_a_callee_by_itself(playground: Playground, samples: Path) -> None:
    """Its object has a program array that it does not use, and that is left out with all that is in it."""
    chain = Chain().add(slot(samples, "tailcalls", "callee_tcp", 1))
    assert what_if(look_at(playground), chain, [WEB]).crossings[0].new.verdict is DROP


def _name(number: int) -> str:
    with bpf.map_by_id(number) as fd:
        return bpf.map_info(fd).name


def test_packets_longer_than_a_page(playground: Playground, samples: Path) -> None:
    long = Packet("jumbo", icmp_echo(PEER, NEAR, payload=bytes(8000)))
    free = look_at(playground)
    no, yes = (what_if(free, chain_of(samples, name), [long, WEB]).crossings for name in ("pass", "frags"))
    assert no[0].new.verdict is None
    assert "a chain without frags never gets it" in no[0].new.why
    assert no[0].differs is None
    assert no[1].new.verdict is PASS
    assert yes[0].new.verdict is PASS
    assert yes[0].new.data[: len(long.data)] == long.data


def test_packets_that_can_not_be_tried_stand_for_themselves(playground: Playground, samples: Path) -> None:
    free = look_at(playground)
    tried = what_if(free, chain_of(samples, "pass"), [Packet("short", bytes(13)), WEB])
    assert tried.crossings[0].new.why == "it has 13 bytes, and 14 are the least"
    assert tried.crossings[1].new.verdict is PASS


def test_a_program_of_somebody_else(playground: Playground, samples: Path) -> None:
    with bpf.prog_load(
        bpf.ProgType.XDP, bytes.fromhex("b7000000010000009500000000000000"), name="foreign"
    ) as fd:
        with Netlink(playground.netns) as netlink:
            netlink.attach_xdp(playground.ifindex, fd, "native", None)
        running = look_at(playground)
        tried = what_if(running, chain_of(samples, "pass"), [WEB])
        assert tried.crossings[0].old.verdict is None
        assert tried.crossings[0].differs is None
        assert any("(foreign) is somebody else's" in text for text in tried.unknown)
        with Netlink(playground.netns) as netlink:
            netlink.attach_xdp(playground.ifindex, -1, "native", fd)


def test_a_candidate_that_can_not_be_linked_says_why(playground: Playground, samples: Path) -> None:
    free = look_at(playground)
    tried = what_if(free, chain_of(samples, "bigstack", "hugestack"), [WEB])
    assert tried.new.why
    assert tried.crossings[0].new.verdict is None
    assert any(text.startswith("what would run can't be tried") for text in tried.unknown)


def test_a_code_that_is_no_action(playground: Playground, samples: Path) -> None:
    chain = Chain().add(slot(samples, "scripted", "scripted_0", 1))
    tried = what_if(look_at(playground), chain, [Packet("odd", scripted(bytes([9])))])
    assert tried.crossings[0].new.verdict == 9
    assert tried.crossings[0].differs is True


def test_the_builtin_set_takes_the_addresses_of_the_interface(playground: Playground) -> None:
    where = look_at(playground).interface
    made_up = builtin_packets(where)
    assert made_up.notes == ("xdp0 has no IPv4 or IPv6 address: such packets go to one that is made up",)
    for words in (
        "addr add 203.0.113.2/24 dev xdp0",
        "neigh add 203.0.113.9 lladdr 02:00:00:00:00:99 dev xdp0",
        "neigh add 203.0.113.7 lladdr 02:00:00:00:00:77 dev xdp0",
        "route add default via 203.0.113.7",
    ):
        subprocess.run(["ip", "-n", playground.netns, *words.split()], check=True)
    supply = builtin_packets(where)
    ping = next(one.data for one in supply.packets if one.name == "ICMP echo request")
    # From the gateway, by its MAC in the neighbour table, to the interface's own MAC and address.
    assert ping[:12].hex(":") == "02:78:64:70:00:01:02:00:00:00:00:77"
    assert ping[26:34] == bytes((203, 0, 113, 7, 203, 0, 113, 2))
    assert supply.notes == ("xdp0 has no IPv6 address: such packets go to one that is made up",)


def test_frames_of_a_set_are_tried_quickly(playground: Playground, samples: Path) -> None:
    many = [replace(WEB, data=udp(PEER, NEAR, n % 65535 + 1)) for n in range(500)]
    tried = what_if(look_at(playground), chain_of(samples, "pass", "monitor"), many)
    assert all(one.new.verdict is PASS for one in tried.crossings)
