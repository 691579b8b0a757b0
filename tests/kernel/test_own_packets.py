# SPDX-License-Identifier: Apache-2.0
"""The packets built for our own ssh connection, compared with those of a real TCP connection."""

from __future__ import annotations

import json
import struct
import subprocess
from pathlib import Path

import pytest

from tests.kernel.chains import chain_of, change, look_at
from tests.kernel.command_line import CommandLine
from tests.kernel.two_hosts import NEAR4, NEAR6, PEER4, PEER6, connection, introduce, ip, masked
from tests.objects.compile import compile_text
from xdpchain.model.actions import Action, ActionSet
from xdpchain.model.chain import Chain
from xdpchain.model.interface import Interface
from xdpchain.model.link_layer import ETHERNET
from xdpchain.model.slot import Slot
from xdpchain.objects.components import load_component
from xdpchain.sys import bpf
from xdpchain.testing.playground import Playground
from xdpchain.trial.packets.describe import describe, flow
from xdpchain.trial.packets.packet import Packet
from xdpchain.trial.packets.sources import own_packets, packets_of
from xdpchain.trial.ssh_guard import Judgement, judge
from xdpchain.trial.whatif import what_if


@pytest.fixture
def ground(playground: Playground, monkeypatch: pytest.MonkeyPatch) -> Playground:
    """Two hosts that can reach each other: addresses and neighbour entries on both sides."""
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    introduce(playground)
    return playground


@pytest.mark.parametrize(("near", "peer"), [(NEAR4, PEER4), (NEAR6, PEER6)], ids=["IPv4", "IPv6"])
def test_they_look_like_those_of_a_real_connection(
    ground: Playground, monkeypatch: pytest.MonkeyPatch, near: str, peer: str
) -> None:
    named, received = connection(ground, near)
    monkeypatch.setenv("SSH_CONNECTION", named)
    supply = own_packets(Interface("xdp0", ground.ifindex, ground.netns))
    assert supply is not None
    assert supply.notes == ()
    data, ack, syn = (packet.data for packet in supply.packets)
    real_syn, _, real_data, real_ack = received
    assert masked(data) == masked(real_data)
    assert masked(ack) == masked(real_ack)
    tcp = 14 + (40 if ":" in near else 20)
    assert syn[tcp : tcp + 2] != real_syn[tcp : tcp + 2]  # a new connection has another port
    again = syn[:tcp] + real_syn[tcp : tcp + 2] + syn[tcp + 2 :]
    assert masked(again) == masked(real_syn)
    assert all(packet.own for packet in supply.packets)


def test_an_ipv4_connection_to_an_ipv6_socket(ground: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    where = Interface("xdp0", ground.ifindex, ground.netns)
    monkeypatch.setenv("SSH_CONNECTION", f"{PEER4} 50022 {NEAR4} 22")
    plain = own_packets(where)
    monkeypatch.setenv("SSH_CONNECTION", f"::ffff:{PEER4} 50022 ::ffff:{NEAR4} 22")
    assert own_packets(where) == plain


def test_behind_a_gateway_they_come_from_its_mac(ground: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    ip(ground.netns, f"route add default via {PEER4}")
    monkeypatch.setenv("SSH_CONNECTION", f"198.51.100.5 50022 {NEAR4} 22")
    supply = packets_of("ssh", Interface("xdp0", ground.ifindex, ground.netns))
    assert {packet.data[6:12].hex(":") for packet in supply.packets} == {"02:78:64:70:00:02"}
    assert describe(supply.packets[0].data, ETHERNET) == "TCP 198.51.100.5:50022 > 22 ACK"
    ip(ground.netns, f"neigh del {PEER4} dev xdp0")
    unknown = packets_of("ssh", Interface("xdp0", ground.ifindex, ground.netns))
    assert f"the MAC of {PEER4}" in unknown.notes[0]


def test_under_a_vlan_they_are_tagged(ground: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    add = [
        "ip",
        "-n",
        ground.netns,
        "link",
        "add",
        "link",
        "xdp0",
        "name",
        "xdp0.7",
        "type",
        "vlan",
        "id",
        "7",
    ]
    made = subprocess.run(add, capture_output=True, text=True)
    if "Unknown device type" in made.stderr:
        pytest.skip(f"{' '.join(add)}: {made.stderr.strip()}")
    ip(
        ground.netns,
        "link set xdp0.7 up",
        "addr add 198.51.100.2/24 dev xdp0.7",
        "neigh add 198.51.100.9 lladdr 02:00:00:00:00:99 dev xdp0.7",
    )
    monkeypatch.setenv("SSH_CONNECTION", "198.51.100.9 50022 198.51.100.2 22")
    supply = own_packets(Interface("xdp0", ground.ifindex, ground.netns))
    assert supply is not None
    tagged = [packet for packet in supply.packets if packet.name.endswith("VLAN 7")]
    assert len(tagged) == 3
    assert all(packet.data[12:16] == bytes((0x81, 0, 0, 7)) for packet in tagged)
    assert tagged[0].data[6:12].hex(":") == "02:00:00:00:00:99"
    # veth removes the tag before XDP sees the packet, so it may arrive without one.
    assert [packet.data for packet in supply.packets[3:]] == [p.data[:12] + p.data[16:] for p in tagged]


@pytest.fixture
def own(ground: Playground, monkeypatch: pytest.MonkeyPatch) -> Playground:
    monkeypatch.setenv("SSH_CONNECTION", f"{PEER4} 50022 {NEAR4} 22")
    return ground


def block(playground: Playground, port: int) -> None:
    running = look_at(playground)
    assert running.chain is not None
    number = next(r.id for s in running.chain for r in s.component.maps if r.name == "blocked")
    with bpf.map_by_id(number) as fd:
        bpf.map_update(fd, struct.pack("<HBx", port, 6), b"\x01")


def test_what_a_change_does_to_the_connection(own: Playground, samples: Path) -> None:
    free = look_at(own)
    safe = judge(free, chain_of(samples, "firewall", "monitor"))
    assert safe is not None
    assert (safe.lost, safe.unchecked) == ((), "")
    for name, verdict, word in (
        ("drop", Action.DROP, "XDP_DROP by slot 0 (xdp_drop)"),
        ("redirect", Action.TX, "XDP_TX by slot 0 (redirect_back)"),
        ("meta", Action.PASS, "rewritten for another receiver by slot 0 (meta_head)"),
    ):
        found = judge(free, chain_of(samples, name))
        assert found is not None
        assert [lost.verdict for lost in found.lost] == [verdict] * 3
        assert found.text == f"data, ACK, SYN to reconnect: {word}"
    assert judge(free, Chain()) is not None
    # An append lands behind the datagram, where nobody looks.
    marked = judge(free, chain_of(samples, "mark"))
    assert marked is not None
    assert marked.lost == ()


def test_state_of_the_running_chain_counts(own: Playground, samples: Path) -> None:
    """The firewall's map blocks port 22, but the slot before it lets that pass, until it is removed."""
    skip = load_component(str(samples / "pass.o"))
    first = Slot.of(skip, 1, ActionSet.parse("none"))
    chain = Chain().add(first).add(Slot.of(load_component(str(samples / "firewall.o"))))
    running = change(own, chain)
    block(own, 22)
    assert running.chain is not None
    found = judge(running, running.chain.remove([0]))
    assert found is not None
    assert found.text == "data, ACK, SYN to reconnect: XDP_DROP by slot 0 (xdp_firewall)"
    other = judge(running, running.chain.remove([1]))
    assert other is not None
    assert other.lost == ()


def test_a_slot_in_shadow_cuts_nothing(own: Playground, samples: Path) -> None:
    drop = Slot.of(load_component(str(samples / "drop.o")), 1, shadow=True)
    found = judge(look_at(own), Chain().add(drop).add(Slot.of(load_component(str(samples / "meta.o")))))
    assert found is not None
    assert found.text.endswith("rewritten for another receiver")
    alone = judge(look_at(own), Chain().add(drop))
    assert alone is not None
    assert alone.lost == ()


TO_A_CPU = """
#define SEC(name) __attribute__((section(name), used))
struct xdp_md { unsigned int data, data_end; };
static long (*redirect_map)(void *, unsigned, unsigned long long) = (void *)51;
struct { int (*type)[16]; int (*max_entries)[1]; int (*key_size)[4], (*value_size)[4]; } cpus SEC(".maps");
SEC("xdp") int to_a_cpu(struct xdp_md *ctx) { return redirect_map(&cpus, 0, 2); }
SEC("license") char licence[] = "GPL";
"""


def test_what_goes_to_another_cpu_arrives(own: Playground, samples: Path, tmp_path: Path) -> None:
    (tmp_path / "cpu.o").write_bytes(compile_text(TO_A_CPU))
    running = change(own, Chain().add(Slot.of(load_component(str(tmp_path / "cpu.o")))))
    assert running.chain is not None
    with bpf.map_by_id(running.chain.slots[0].component.maps[0].id) as fd:
        bpf.map_update(fd, bytes(4), struct.pack("<I", 192))  # the length of its queue
    candidate = running.chain.add(Slot.of(load_component(str(samples / "firewall.o")), 1))
    tried = what_if(running, candidate, packets_of("ssh", running.interface).packets)
    assert {crossing.new.verdict for crossing in tried.crossings} == {Action.REDIRECT}
    assert any("to another CPU by its map cpus, and on to the network stack" in one for one in tried.unknown)
    assert judge(running, candidate) == Judgement("xdp0")


def test_what_the_trial_gets_wrong_now_decides_nothing(own: Playground, samples: Path) -> None:
    """The connection is alive, whatever a trial says about what runs."""
    running = change(own, chain_of(samples, "drop"))
    assert running.chain is not None
    found = judge(running, running.chain.add(Slot.of(load_component(str(samples / "monitor.o")))))
    assert found is not None
    assert found.lost == ()
    assert "what runs now would lose them too" in found.unchecked


def test_what_can_not_be_linked_is_not_judged(own: Playground, samples: Path) -> None:
    found = judge(look_at(own), chain_of(samples, "bigstack", "hugestack"))
    assert found is not None
    assert found.lost == ()
    assert found.unchecked


def test_a_connection_through_another_interface(ground: Playground, samples: Path) -> None:
    assert judge(look_at(ground), chain_of(samples, "drop")) is None
    assert own_packets(look_at(ground).interface) is None


# The command line


@pytest.fixture
def cli(own: Playground, capsys: pytest.CaptureFixture[str], samples: Path) -> CommandLine:
    return CommandLine(own, capsys, samples)


def test_a_change_that_would_cut_it_is_refused(cli: CommandLine) -> None:
    cli.load("monitor")
    before = cli.status()["programs"]
    words = ("load", cli.interface, cli.sample("drop"))
    refused = cli(*words)
    assert (refused.code, refused.out) == (8, "")
    assert "would cut your own ssh connection, which arrives through xdp0" in refused.err
    assert "--confirm 60" in refused.err
    assert "--even-if-ssh-dies" in refused.err
    assert cli(*words, "--json").error["kind"] == "ConnectionLost"
    assert cli.status()["programs"] == before

    planned = cli("plan", *words)
    assert planned.code == 2
    assert "would cut your own ssh connection" in planned.err
    ssh = cli("plan", *words, "--json").json["ssh"]
    assert (ssh["interface"], ssh["unchecked"]) == ("xdp0", "")
    # Their priorities are 90 and 70: the drop comes first.
    assert ssh["lost"][0] == {"packet": "your ssh: data", "verdict": "XDP_DROP", "by": "slot 0 (xdp_drop)"}

    done = cli(*words, "--even-if-ssh-dies")
    assert done.code == 0
    assert "warning: this would cut your own ssh connection" in done.err
    assert [slot["name"] for slot in cli.status()["slots"]] == ["xdp_drop", "xdp_monitor"]


def test_a_change_that_takes_itself_back_is_made_with_a_warning(cli: CommandLine) -> None:
    cli.load("monitor")
    done = cli("load", cli.interface, cli.sample("drop"), "--confirm", "60")
    assert done.code == 0
    assert "warning: this would cut your own ssh connection" in done.err
    assert cli.status()["armed"]["state"] == "armed"
    assert cli("rollback", cli.interface).code == 0


def test_a_change_that_does_not_cut_it_says_what_goes(cli: CommandLine) -> None:
    done = cli("load", cli.interface, cli.sample("monitor"), "--linkage", "static")
    assert done.code == 0
    assert "--confirm 60 rolls back a change that cuts it" in done.err
    same = cli("set", cli.interface, "0", "-P", "90", "--json")
    assert same.code == 0


def test_a_check_that_fails_is_not_a_check_that_passed(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xdpchain.errors import KernelRefused
    from xdpchain.trial import whatif

    def refuse(*_: object) -> None:
        raise KernelRefused("it can't be tried", "of a fault that was put here")

    monkeypatch.setattr(whatif, "Trial", refuse)
    words = ("load", cli.interface, cli.sample("drop"))
    refused = cli(*words)
    assert refused.code == 8
    assert (
        "could not check whether this would cut your own ssh connection through xdp0: it can't" in refused.err
    )
    assert cli.status()["programs"] == []
    done = cli(*words, "--even-if-ssh-dies")
    assert done.code == 0
    assert "could not check whether this would cut your own ssh connection through xdp0: it can't" in done.err


def test_the_matrix_on_the_command_line(cli: CommandLine, tmp_path: Path) -> None:
    cli.load("monitor")
    words = ("plan", "load", cli.interface, cli.sample("drop"), "--linkage", "static", "--what-if")
    shown = cli(*words)
    assert shown.code == 2
    assert "what if: 23 packets: 23 PASS → DROP" in shown.out
    assert "! your ssh: data " in shown.out
    table = shown.out[shown.out.index("what if") :].splitlines()
    assert max(map(len, table)) <= 80

    (tmp_path / "one.hex").write_text("020000000001 020000000002 88b5 " + "00" * 46)
    found = json.loads(cli(*words, str(tmp_path / "one.hex"), "--json").out)["what_if"]
    assert found["old"] == {"slots": ["xdp_monitor"], "shadow": [], "why": ""}
    assert found["new"]["slots"] == ["xdp_drop", "xdp_monitor"]
    assert found["summary"] == [
        {"old": "XDP_PASS", "new": "XDP_DROP", "differs": True, "rewritten": False, "packets": 1}
    ]
    (packet,) = found["packets"]
    assert packet["name"] == "ethertype 0x88b5"
    assert packet["new"]["slots"] == ["XDP_DROP", None]

    missing = cli(*words, str(tmp_path / "none.pcap"))
    assert (missing.code, missing.out) == (5, "")
    (tmp_path / "bad.pcap").write_bytes(bytes.fromhex("d4c3b2a1") + bytes(3))
    assert cli(*words, str(tmp_path / "bad.pcap")).code == 7
    assert cli(*words, "ssh").out.count("your ssh") == 3


def test_packets_of_a_pipe(cli: CommandLine) -> None:
    words = ("plan", "load", cli.interface, cli.sample("drop"), "--linkage", "static", "--what-if", "-")
    done = cli.process(*words, input="020000000001 020000000002 88b5 0000", capture_output=True)
    assert done.returncode == 2, done.stderr
    assert "what if: 1 packet: 1 PASS → DROP" in done.stdout
    none = cli.process(*words, input="", capture_output=True)
    assert (none.returncode, none.stdout) == (7, "")
    assert "standard input has no packets" in none.stderr


def test_the_matrix_of_a_change_that_is_made(cli: CommandLine) -> None:
    done = cli("load", cli.interface, cli.sample("monitor"), "--linkage", "static", "--what-if", "builtin")
    assert done.code == 0
    assert "what if: 23 packets: 23 as before" in done.out
    bare = cli("unload", cli.interface, "--all", "--json")
    assert bare.json["what_if"] is None


def test_names_of_packets_match_what_is_tried(own: Playground) -> None:
    supply = packets_of("builtin", look_at(own).interface)
    assert len({packet.name for packet in supply.packets}) == len(supply.packets) == 23
    assert [packet.name for packet in supply.packets if packet.own] == [
        "your ssh: data",
        "your ssh: ACK",
        "your ssh: SYN to reconnect",
    ]
    assert all(isinstance(packet, Packet) and flow(packet.data, ETHERNET) for packet in supply.packets[-3:])
