# SPDX-License-Identifier: Apache-2.0
"""What if: known programs give a known matrix, and what runs is not affected."""

from __future__ import annotations

import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.kernel.chains import LINKAGES, chain_of, change, look_at, run_through
from tests.objects.compile import compile_text
from xdpchain.maps.globals import with_globals
from xdpchain.model.actions import Action, ActionSet
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.running import Running
from xdpchain.model.slot import Slot
from xdpchain.objects.components import component_of, load_component, programs_of
from xdpchain.sys import bpf, netns
from xdpchain.sys.libbpf import Object
from xdpchain.sys.netlink import Netlink
from xdpchain.testing.frames import NEAR, PEER, arp_request, scripted, tcp_syn, udp
from xdpchain.testing.playground import Playground
from xdpchain.trial import whatif
from xdpchain.trial.packets.frames import icmp_echo
from xdpchain.trial.packets.packet import Packet
from xdpchain.trial.packets.sources import builtin_packets
from xdpchain.trial.whatif import what_if
from xdptui.render.whatif_text import whatif_text

WEB = Packet("web", tcp_syn(PEER, NEAR, 80))
SSH = Packet("ssh", tcp_syn(PEER, NEAR, 22))
ARP = Packet("arp", arp_request(PEER, NEAR))
PASS, DROP, TX, REDIRECT = Action.PASS, Action.DROP, Action.TX, Action.REDIRECT


ODD = """
#define SEC(name) __attribute__((section(name), used))
typedef unsigned long long u64;
struct xdp_md { unsigned int data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex; };
static void *(*lookup)(void *, const void *) = (void *)1;
static unsigned (*random)(void) = (void *)7;
static long (*tail_call)(void *, void *, unsigned) = (void *)12;
static long (*redirect)(unsigned, u64) = (void *)23;
static long (*perf_event_output)(void *, void *, u64, void *, u64) = (void *)25;
static long (*adjust_meta)(void *, int) = (void *)54;
struct { int (*type)[3]; int (*max_entries)[1]; unsigned *key, *value; } calls SEC(".maps");
struct { int (*type)[4]; int (*max_entries)[64]; int (*key_size)[4], (*value_size)[4]; } events SEC(".maps");
struct { int (*type)[2]; int (*max_entries)[1]; unsigned *key; u64 *value; } seen SEC(".maps");
static long (*peek)(void *, void *) = (void *)89;
struct { int (*type)[22]; int (*max_entries)[4]; u64 *value; } waiting SEC(".maps");
SEC("xdp") int waiter(struct xdp_md *ctx) { u64 one; return peek(&waiting, &one) ? 2 : 1; }
SEC("xdp") int caller(struct xdp_md *ctx) { tail_call(ctx, &calls, 0); return 2; }
SEC("xdp") int callee(struct xdp_md *ctx) {
    unsigned zero = 0;
    u64 *count = lookup(&seen, &zero);
    if (count) *count += 1;
    return 1;
}
SEC("xdp") int teller(struct xdp_md *ctx) {
    u64 what = 1;
    perf_event_output(ctx, &events, 0xffffffffULL, &what, 8);
    return 2;
}
SEC("xdp") int dice(struct xdp_md *ctx) { return random() & 1 ? 2 : 1; }
SEC("xdp") int where(struct xdp_md *ctx) { return ctx->ingress_ifindex == 1 ? 1 : 2; }
SEC("xdp") int queue(struct xdp_md *ctx) { return ctx->rx_queue_index ? 1 : 2; }
SEC("xdp") int away(struct xdp_md *ctx) { return redirect(1, 0); }
SEC("xdp") int hint(struct xdp_md *ctx) { adjust_meta(ctx, -4); return 2; }
SEC("license") char licence[] = "GPL";
"""


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """Programs that a trial can run only in part; ``tmp_path`` stands for samples."""
    (tmp_path / "odd.o").write_bytes(compile_text(ODD))
    return tmp_path


def block(running: Running, slot: int, port: int, protocol: int = 6) -> None:
    """Put a port into the running firewall's map."""
    assert running.chain is not None
    number = next(ref.id for ref in running.chain.slots[slot].component.maps if ref.name == "blocked")
    with bpf.map_by_id(number) as fd:
        bpf.map_update(fd, struct.pack("<HBx", port, protocol), b"\x01")


def state(running: Running) -> dict[int, list[tuple[bytes, bytes]]]:
    """The contents of all maps of the running chain, its counters included."""
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
        load_component(str(samples / f"{name}.o"), name=program), priority, ActionSet.parse(actions)
    )


@pytest.mark.parametrize("linkage", LINKAGES)
def test_a_known_matrix(playground: Playground, samples: Path, linkage: Linkage) -> None:
    running = change(playground, chain_of(samples, "firewall", "monitor", linkage=linkage))
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
    for crossing in (ssh, arp):
        assert (crossing.old.slots, crossing.old.verdict) == ((PASS, PASS), PASS)
        assert (crossing.new.slots, crossing.new.verdict) == ((PASS, TX), TX)
        assert crossing.old.data == crossing.packet.data
        assert (
            crossing.new.data
            == crossing.packet.data[6:12] + crossing.packet.data[:6] + crossing.packet.data[12:]
        )
        assert crossing.differs is True
    # The MACs 02:78:64:70:00:01 and …:02 differ in the last byte.
    assert ssh.rewritten[1].ranges == ((5, 5), (11, 11))
    assert [(t.old, t.new, t.count) for t in tried.tallies] == [(PASS, TX, 2), (DROP, DROP, 1)]
    assert tried.changed == (ssh, arp)


def test_the_matrix_is_what_the_interface_then_does(playground: Playground, samples: Path) -> None:
    """The candidate's column compared with the same chain when it runs."""
    running = change(playground, chain_of(samples, "firewall"))
    block(running, 0, 80)
    assert running.chain is not None
    candidate = running.chain.add(slot(samples, "mark", "mark_a", 41)).add(
        slot(samples, "meta", "meta_head", 61)
    )
    tried = what_if(running, candidate, [WEB, SSH, ARP])
    now = change(playground, candidate)
    for crossing in tried.crossings:
        real = run_through(now, crossing.packet.data)
        assert (crossing.new.verdict, crossing.new.data) == (Action(real.code), real.data)


@pytest.mark.parametrize("linkage", LINKAGES)
def test_what_runs_notices_nothing(playground: Playground, samples: Path, linkage: Linkage) -> None:
    four = ("firewall", "ratelimit", "counter", "monitor")
    running = change(playground, chain_of(samples, *four, linkage=linkage))
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
    source = programs_of(str(samples / "ratelimit.o"))
    # 50 at once, of which 20 are used up, and then one each second: this machine may be slow.
    slow = with_globals(component_of(source), source, ("packets_per_second=1", "burst=50"))
    running = change(playground, Chain().add(Slot.of(slow)))
    playground.send([WEB.data] * 20)
    assert running.chain is not None
    tried = what_if(running, running.chain.add(slot(samples, "pass", "xdp_pass", 99)), [WEB] * 60)
    old = [crossing.old.verdict for crossing in tried.crossings]
    assert old[0] is PASS
    assert old[-1] is DROP
    assert old.count(PASS) < 50  # fewer than a fresh bucket lets pass
    assert [crossing.new.verdict for crossing in tried.crossings].count(PASS) < 50
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


def takes_ingress(playground: Playground) -> bool:
    """Whether this kernel (5.14 on) can make packets appear to come in on the interface as it is now."""
    code = bytes.fromhex("b7000000020000009500000000000000")  # r0 = XDP_PASS; exit
    with bpf.prog_load(bpf.ProgType.XDP, code, name="passes") as fd:
        try:
            netns.run(playground.netns, lambda: bpf.prog_test_run(fd, bytes(64), ingress=playground.ifindex))
        except bpf.BpfError:
            return False
    return True


def test_packets_seem_to_come_in_on_the_interface(
    playground: Playground, odd: Path, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = change(playground, chain_of(samples, "pass"))
    candidate = Chain().add(slot(odd, "odd", "where", 1))
    natural = what_if(running, candidate, [WEB])
    monkeypatch.setattr(whatif, "_takes", lambda ifindex: False)
    elsewhere = what_if(running, candidate, [WEB])
    assert elsewhere.crossings[0].new.verdict is DROP
    assert elsewhere.unknown == ("slot 0 (where) may look at the receiving interface: here that was lo",)
    if takes_ingress(playground):
        assert natural.crossings[0].new.verdict is PASS
        assert natural.unknown == ()
    else:
        assert natural == elsewhere


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("dice", "slot 0 (dice) reads random numbers"),
        ("queue", "slot 0 (queue) may look at the receive queue"),
        ("away", "slot 0 (away) redirects to an interface that it chooses itself"),
        ("hint", "slot 0 (hint) passes metadata"),
        ("teller", "slot 0 (teller) sends events to a reader: in a trial nobody receives them"),
        ("caller", "slot 0 (caller) tail-calls programs put into its array at run time"),
    ],
)
def test_what_is_not_known_is_said_where_it_applies(
    playground: Playground, odd: Path, name: str, said: str
) -> None:
    tried = what_if(look_at(playground), Chain().add(slot(odd, "odd", name, 1)), [WEB])
    assert len(tried.unknown) == 1
    assert tried.unknown[0].startswith(said)


def test_state_that_can_not_be_copied_is_named(playground: Playground, odd: Path) -> None:
    running = change(playground, Chain().add(slot(odd, "odd", "waiter", 1)))
    assert running.chain is not None
    with bpf.map_by_id(running.chain.slots[0].component.maps[0].id) as fd:
        bpf.map_update(fd, b"", bytes(8))
    assert run_through(running, WEB.data).code == DROP
    tried = what_if(running, running.chain, [WEB])
    assert tried.crossings[0].old.verdict is PASS  # the copy is empty
    said = "slot 0 (waiter) started with an empty copy of its map waiting: a queue can't be read"
    assert tried.unknown == (said,)


def test_programs_called_at_run_time_are_left_alone(playground: Playground, odd: Path) -> None:
    """Programs in such an array work on the running maps: the trial does not call them."""
    running = change(
        playground, Chain().add(slot(odd, "odd", "callee", 1)).add(slot(odd, "odd", "caller", 0))
    )
    assert running.chain is not None
    caller, callee = running.chain
    numbers = {ref.name: ref.id for one in (caller, callee) for ref in one.component.maps}
    with Object((odd / "odd.o").read_bytes(), "odd") as opened:
        for program in opened.programs():
            program.set_autoload(program.name == "callee")
        for bpf_map in opened.maps():
            if bpf_map.name == "seen":
                with bpf.map_by_id(numbers["seen"]) as seen:
                    bpf_map.reuse(seen)
        opened.load()
        (program,) = (one for one in opened.programs() if one.name == "callee")
        with bpf.map_by_id(numbers["calls"]) as calls:
            bpf.map_update(calls, bytes(4), struct.pack("<i", program.fd))

        def count() -> int:
            with bpf.map_by_id(numbers["seen"]) as fd:
                return int.from_bytes(bpf.map_lookup(fd, bytes(4), 8), "little")

        alone = running.chain.remove([1])
        tried = what_if(running, alone, [WEB])
        assert tried.crossings[0].new.verdict is PASS
        assert count() == 0
        assert run_through(running, WEB.data).code == DROP  # attached, it does
        assert count() == 1


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
    assert [crossing.new.verdict for crossing in tried.crossings] == [DROP, PASS]
    assert not any("tail-calls" in text for text in tried.unknown)
    calls = {n for n in before if _name(n) == "calls"}
    assert calls
    after = state(running)
    assert {n: after[n] for n in calls} == {n: before[n] for n in calls}


def test_a_callee_by_itself(playground: Playground, samples: Path) -> None:
    """Its object has an unused program array, which is left out with its contents."""
    chain = Chain().add(slot(samples, "tailcalls", "callee_tcp", 1))
    assert what_if(look_at(playground), chain, [WEB]).crossings[0].new.verdict is DROP


def _name(number: int) -> str:
    with bpf.map_by_id(number) as fd:
        return bpf.map_info(fd).name


JUMBO = Packet("jumbo", icmp_echo(PEER, NEAR, payload=bytes(8000)))


def test_packets_longer_than_a_page(playground: Playground, samples: Path) -> None:
    long, short = what_if(look_at(playground), chain_of(samples, "pass"), [JUMBO, WEB]).crossings
    assert long.new.verdict is None
    assert "a chain without multi-buffer support never receives it" in long.new.why
    assert long.differs is None
    assert short.new.verdict is PASS


def test_packets_longer_than_a_page_in_fragments(playground: Playground, samples: Path) -> None:
    (long,) = what_if(look_at(playground), chain_of(samples, "frags"), [JUMBO]).crossings
    if "EINVAL" in long.new.why:  # before kernel 5.18
        pytest.skip(long.new.why)
    assert long.new.verdict is PASS
    assert long.new.data[: len(JUMBO.data)] == JUMBO.data


def test_packets_that_can_not_be_tried_stand_for_themselves(playground: Playground, samples: Path) -> None:
    free = look_at(playground)
    tried = what_if(free, chain_of(samples, "pass"), [Packet("short", bytes(13)), WEB])
    assert tried.crossings[0].new.why == "it has 13 bytes; the minimum is 14"
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
        assert any("(foreign) is not ours" in text for text in tried.unknown)
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
    assert made_up.notes == ("xdp0 has no IPv4 or IPv6 address: such packets use a made-up one",)
    for words in (
        "addr add 203.0.113.2/24 dev xdp0",
        "neigh add 203.0.113.9 lladdr 02:00:00:00:00:99 dev xdp0",
        "neigh add 203.0.113.7 lladdr 02:00:00:00:00:77 dev xdp0",
        "route add default via 203.0.113.7",
    ):
        subprocess.run(["ip", "-n", playground.netns, *words.split()], check=True)
    supply = builtin_packets(where)
    ping = next(packet.data for packet in supply.packets if packet.name == "ICMP echo request")
    # From the gateway, by its MAC in the neighbour table, to the interface's own MAC and address.
    assert ping[:12].hex(":") == "02:78:64:70:00:01:02:00:00:00:00:77"
    assert ping[26:34] == bytes((203, 0, 113, 7, 203, 0, 113, 2))
    assert supply.notes == ("xdp0 has no IPv6 address: such packets use a made-up one",)
    # An interface may happen to have the very address that is made up elsewhere.
    for words in ("addr flush dev xdp0", "addr add 192.0.2.1/24 dev xdp0"):
        subprocess.run(["ip", "-n", playground.netns, *words.split()], check=True)
    assert builtin_packets(where).notes == supply.notes


def test_frames_of_a_set_are_tried_quickly(playground: Playground, samples: Path) -> None:
    many = [replace(WEB, data=udp(PEER, NEAR, n % 65535 + 1)) for n in range(500)]
    tried = what_if(look_at(playground), chain_of(samples, "pass", "monitor"), many)
    assert all(crossing.new.verdict is PASS for crossing in tried.crossings)


def test_the_line_that_decided_before_and_after(playground: Playground, samples: Path) -> None:
    """Also which places of the new chain no packet reached, in middle slots too."""
    running = change(playground, chain_of(samples, "pass"))
    candidate = chain_of(samples, "firewall", "pass")
    tried = what_if(running, candidate, [WEB, SSH])
    web, _ = tried.crossings
    (old,) = web.old.sites
    first, second = web.new.sites
    assert old is not None
    assert first is not None
    assert tried.old.sites[0][old].line == tried.new.sites[1][second or 0].line
    asked = tried.new.sites[0][first]
    assert asked.word == "PASS"
    assert asked.line is not None
    assert "bpf_map_lookup_elem(&blocked, &key)" in asked.line.text
    assert [dict(mapping) for mapping in tried.reached] == [{first: 2}, {0: 2}]
    assert "xdp_firewall: reached 1 of 10 places, never: " in " ".join(whatif_text(tried).split())
