# SPDX-License-Identifier: Apache-2.0
"""The doctor's judgement on facts that no machine here has, and how findings are presented."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from xdpchain.advice import Do, advise
from xdpchain.doctor import Finding, Level, Topic
from xdpchain.doctor.device import examine_device
from xdpchain.doctor.drivers import SOURCES
from xdpchain.doctor.facts import Facts, Peer, Queues, Switch, Upper
from xdpchain.doctor.hook import examine_hook
from xdpchain.doctor.tools import compare_dispatcher
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.commands import Commands
from xdpchain.model.component import Component
from xdpchain.model.interface import Interface, Mode
from xdpchain.model.running import Device, DispatcherInfo, Hook, Owner, Running
from xdpchain.model.slot import Slot
from xdpchain.observe.owner_evidence import Evidence, Held, judge
from xdptui.render import doctor_text
from xdptui.words.advice import worded
from xdptui.words.doctor_words import summary

ROOT = Path(__file__).parents[2]
FEATURES = frozenset({"basic", "redirect", "ndo-xmit", "rx-sg"})
HERE = Commands(None)
AWAY = Commands("blue")


def device(driver: str = "mlx5_core", mtu: int = 1500, features: frozenset[str] | None = FEATURES) -> Device:
    return Device(Interface("eth7", 7), True, "up", mtu, driver, features)


def facts(driver: str = "mlx5_core", **more: object) -> Facts:
    given: dict[str, object] = {"running": Running(device(driver)), "cpus": 8} | more
    return Facts(**given)  # type: ignore[arg-type]


def of(found: Iterable[Finding], check: str) -> Finding:
    matching = [finding for finding in found if finding.check == check]
    assert len(matching) == 1, (check, list(found))
    return matching[0]


def checks(found: Iterable[Finding]) -> set[str]:
    return {finding.check for finding in found if finding.level is not Level.OK}


def ours(chain: Chain, on: Device, version: int | None = None) -> Running:
    hook = Hook(chain.mode, 40, "xdp_dispatcher", "00")
    info = DispatcherInfo(40, version or 3)
    return Running(on, (hook,), Owner.XDPTUI, chain.linkage, info, chain)


def chain(*frags: bool, mode: Mode = Mode.NATIVE) -> Chain:
    slots = [Slot.of(Component(f"c{i}", id=i, frags=able), i) for i, able in enumerate(frags)]
    return Chain(tuple(slots), mode=mode)


# What drivers require


def test_one_cpu_that_has_nearly_all_packets() -> None:
    four = Queues(4, 4, 4, 4)
    found = of(examine_device(facts(queues=four, packets=(100, 99_900, 0, 0)), HERE), "interface.balance")
    assert (found.level, found.what) == (
        Level.INFO, "CPU 1 handled 100% of 100000 packets, although it has 4 receive queues",
    )  # fmt: skip
    found = of(examine_device(facts(queues=four, packets=(50_000, 49_000)), HERE), "interface.balance")
    assert found.level is Level.OK
    for queues, packets in ((four, (9, 900)), (Queues(1, 1, 1, 1), (0, 99_999)), (four, ())):
        assert "interface.balance" not in checks(examine_device(facts(queues=queues, packets=packets), HERE))


@pytest.mark.parametrize(
    ("driver", "queues", "cpus", "level", "words"),
    [
        ("ena", Queues(8, 8, 8, 8, True), 8, Level.ERROR, "ethtool -L eth7 combined 4"),
        ("ena", Queues(4, 4, 8, 8, True), 8, None, ""),
        ("gve", Queues(4, 2, 16, 16), 8, Level.ERROR, "ethtool -L eth7 rx 8 tx 8"),
        ("gve", Queues(8, 8, 16, 16), 8, None, ""),
        ("bnxt_en", Queues(4, 4, 8, 8), 8, Level.ERROR, "ethtool -L eth7 rx 0 tx 0 combined 4"),
        ("bnxt_en", Queues(4, 4, 8, 8, True), 8, None, ""),
        ("mlx5_core", Queues(4, 4, 63, 63, True), 8, Level.WARN, "ethtool -L eth7 combined 8"),
        ("mlx5_core", Queues(63, 63, 63, 63, True), 96, Level.WARN, "CPUs 0 to 62"),
        ("mlx5_core", Queues(8, 8, 63, 63, True), 8, None, ""),
        ("ixgbe", Queues(8, 8, 63, 63, True), 64, None, ""),
        ("ixgbe", Queues(8, 8, 63, 63, True), 96, Level.WARN, "nr_cpus=64"),
        ("ixgbe", Queues(8, 8, 63, 63, True), 256, Level.ERROR, "nr_cpus=128"),
        ("virtio_net", Queues(1, 1, 1, 1, True), 8, Level.WARN, "queues=16"),
        ("virtio_net", Queues(8, 8, 16, 16, True), 8, None, ""),
        ("i40e", Queues(1, 1, 1, 1, True), 96, None, ""),
    ],
)
def test_queues_that_drivers_want(
    driver: str, queues: Queues, cpus: int, level: Level | None, words: str
) -> None:
    found = examine_device(facts(driver, queues=queues, cpus=cpus), HERE)
    matching = [finding for finding in found if finding.check == "interface.xdp-queues"]
    assert [finding.level for finding in matching] == ([level] if level else [])
    assert all(words in finding.fix and finding.what.startswith(driver) for finding in matching)


@pytest.mark.parametrize(
    ("driver", "offload", "fixed", "level", "words"),
    [
        ("hv_netvsc", "rx-lro", False, Level.ERROR, "-K eth7 lro off"),
        ("mlx5_core", "rx-lro", False, Level.ERROR, "lro off"),
        ("gve", "rx-gro-hw", False, Level.ERROR, "rx-gro-hw off"),
        ("bnx2x", "rx-lro", False, Level.WARN, "lro off"),
        ("virtio_net", "rx-gro-hw", False, Level.INFO, ""),
        ("virtio_net", "rx-gro-hw", True, Level.ERROR, "ctrl_guest_offloads=on"),
    ],
)
def test_cards_that_merge_packets(driver: str, offload: str, fixed: bool, level: Level, words: str) -> None:
    check = {"rx-lro": "interface.lro", "rx-gro-hw": "interface.hw-gro"}[offload]
    finding = of(examine_device(facts(driver, offloads={offload: Switch(True, fixed)}), HERE), check)
    assert finding.level is level
    assert words in finding.fix
    off = examine_device(facts(driver, offloads={offload: Switch(False, fixed)}), HERE)
    assert check not in {one.check for one in off}


def test_the_table_of_drivers_has_its_sources_in_the_docs() -> None:
    text = (ROOT / "docs" / "doctor.md").read_text()
    for driver, sources in SOURCES.items():
        assert f"| {driver} |" in text
        assert sources
        assert all(source.split("(")[0] in text for source in sources if "gve_verify" not in source), sources


# The device


def test_commands_are_for_the_namespace() -> None:
    finding = of(examine_device(facts("ena", queues=Queues(8, 8, 8, 8)), AWAY), "interface.xdp-queues")
    assert finding.fix == "ip netns exec blue ethtool -L eth7 combined 4"
    assert AWAY.ip("link", "set", "dev", "a", "up") == "ip -n blue link set dev a up"
    assert AWAY.xdptui("clean") == "xdptui clean --netns blue"
    assert Commands("a b").ip("link") == "ip -n 'a b' link"


def test_modes() -> None:
    none = replace(facts("bcmgenet"), running=Running(device("bcmgenet", features=frozenset())))
    assert of(examine_device(none, HERE), "interface.native").fix == "xdptui load eth7 OBJ -m generic"
    unknown = replace(none, running=Running(device("bcmgenet", features=None)))
    assert of(examine_device(unknown, HERE), "interface.native").level is Level.INFO
    vlan = replace(none, lower="eth0")
    assert of(examine_device(vlan, HERE), "interface.native").fix == "xdptui load eth0 OBJ"
    generic = facts(running=ours(chain(True, mode=Mode.GENERIC), device()))
    assert "unload eth7 --all" in of(examine_device(generic, HERE), "interface.mode").fix


def mtu_of(running: Running) -> Finding:
    return of(examine_device(facts(running=running), HERE), "interface.mtu")


def test_the_mtu_is_weighed_against_the_chain() -> None:
    jumbo = device(mtu=9000)
    assert mtu_of(Running(device())).level is Level.OK
    assert mtu_of(Running(jumbo)).level is Level.INFO
    assert mtu_of(ours(chain(True, True), jumbo)).level is Level.OK
    lacking = mtu_of(ours(chain(True, False), jumbo))
    assert (lacking.level, "missing in c1" in lacking.what) == (Level.WARN, True)
    assert "ip link set dev eth7 mtu 3498" in lacking.fix
    assert mtu_of(ours(chain(False, mode=Mode.GENERIC), jumbo)).level is Level.INFO
    unable = device(mtu=9000, features=frozenset({"basic"}))
    assert "does not have for XDP" in mtu_of(ours(chain(True), unable)).what


def test_what_it_is_part_of() -> None:
    bonded = facts(master=Upper("bond0", "bond"))
    assert of(examine_device(bonded, HERE), "interface.bond").fix == "xdptui load bond0 OBJ"
    blocked = facts(master=Upper("bond0", "bond", runs_xdp=True))
    assert of(examine_device(blocked, HERE), "interface.upper-program").level is Level.ERROR
    bridged = examine_device(facts(master=Upper("br0", "bridge")), HERE)
    assert of(bridged, "interface.bridge").level is Level.INFO
    tagged = facts(uppers=(Upper("eth7.5", "vlan"),), offloads={"rx-vlan-hw-parse": Switch(True, False)})
    found = examine_device(tagged, HERE)
    assert of(found, "interface.vlan-offload").fix == "ethtool -K eth7 rxvlan off"
    assert "eth7.5 (vlan) is on top of it" in of(found, "interface.uppers").what
    assert checks(examine_device(facts(), HERE)) == set(), "nothing is wrong with a plain device"
    assert "interface.bond-ports" in checks(examine_device(facts(kind="bond", ports=("a", "b")), HERE))


def test_both_ends_of_a_veth() -> None:
    on = Running(device("veth", features=frozenset({"basic", "redirect"})))
    pair = facts(running=on, kind="veth", peer=Peer("far", 9000))
    found = examine_device(pair, HERE)
    assert "ethtool -K far gro on" in of(found, "interface.redirect-target").fix
    assert of(found, "interface.peer-mtu").fix.startswith("`ip link set dev far mtu 3498`; or generic mode")
    capable = replace(pair, running=ours(chain(True), device("veth")))
    assert checks(examine_device(capable, HERE)) == set()


# What runs there


@pytest.mark.parametrize(
    ("version", "installed", "level", "words"),
    [(2, 2, Level.OK, ""), (3, 2, Level.ERROR, "EOPNOTSUPP"), (2, 3, Level.WARN, "EBUSY")],
)
def test_a_dispatcher_of_another_version(version: int, installed: int, level: Level, words: str) -> None:
    running = ours(replace(chain(True), linkage=Linkage.FREPLACE), device(), version)
    (finding,) = compare_dispatcher(running, installed, HERE)
    assert finding.level is level
    assert words in finding.why
    if level is not Level.OK:
        assert finding.fix == f"xdptui relink eth7 --linkage freplace --dispatcher-version {installed}"
    assert list(compare_dispatcher(running, None, HERE)) == []
    assert list(compare_dispatcher(ours(chain(True), device()), 2, HERE)) == [], "a static one is no business"


def evidence(name: str = "theirs", **more: object) -> Evidence:
    return Evidence("eth7", Mode.NATIVE, 9, name, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "who"),
    [
        (evidence("cil_xdp_entry"), "Cilium"),
        (evidence(pins=("/sys/fs/bpf/tc/globals/cilium_calls_xdp",)), "Cilium"),
        (evidence(maps=("cilium_lb4_serv",)), "Cilium"),
        (evidence("balancer_ingres"), "katran"),
        (evidence(maps=("root_array",)), "katran"),
        (evidence(pins=("/run/bpfman/fs/prog_7",)), "bpfman"),
        (evidence("xsk_def_prog", maps=("xsks_map",)), "AF_XDP"),
        (evidence("xdpfilt_dny_all"), "xdp-filter"),
        (evidence("bf_prog", link_id=4), "bpfilter"),
        (evidence("my_chain", link_id=4, maps=("bf_cmap", "bf_pmap")), "bpfilter"),
        (evidence(pins=("/sys/fs/bpf/bpfilter/mine/bf_link",)), "bpfilter"),
        (evidence("xdp_dispatcher", pins=("/sys/fs/bpf/bpfman/xdp/dispatcher_1_2_link",)), "bpfman"),
        (evidence(held=(Held(77, "lbd", "program"),)), "lbd (pid 77)"),
        (evidence(maps=("cilium",)), ""),
        (evidence(), ""),
    ],
)
def test_whose_program_it_is(given: Evidence, who: str) -> None:
    verdict = judge(given, HERE)
    assert (who in verdict.who) if who else not verdict.who


@pytest.mark.parametrize(
    ("given", "how", "fix"),
    [
        (evidence(), "by netlink", "If you have its object file, `xdptui adopt eth7 OBJ`"),
        (replace(evidence(), adoptable=False), "by netlink", "with the tool that put it there"),
        (evidence(link_id=5), "bpf_link 5", "Find its owner first"),
        (
            evidence(link_id=5, link_pins=("/sys/fs/bpf/x",)),
            "pinned at /sys/fs/bpf/x",
            "Find its owner first",
        ),
        (evidence(link_id=5, held=(Held(77, "lbd", "link"),)), "bpf_link 5", "systemctl status 77"),
    ],
)
def test_who_can_change_it(given: Evidence, how: str, fix: str) -> None:
    """It runs, so no advice detaches it."""
    verdict = judge(given, HERE)
    told = worded(verdict.fix)
    assert how in verdict.how
    assert fix in told
    assert not re.search(r"\b(off|detach|rm)\b", told)


def test_a_process_is_named_once() -> None:
    held = (Held(77, "lbd", "program"), Held(77, "lbd", "link"), Held(80, "spy", "program"))
    assert judge(evidence(link_id=5, held=held), HERE).who == "of lbd (pid 77)", (
        "the link's holder keeps it there"
    )


def test_the_program_on_the_hook() -> None:
    hook = Hook(Mode.NATIVE, 9, "theirs", "00")
    foreign = Running(device(), (hook,), Owner.FOREIGN, note="it is no dispatcher")
    (finding,) = examine_hook(foreign, evidence(held=(Held(77, "lbd", "program"),)), HERE)
    assert (finding.level, "held by lbd (pid 77)" in finding.what) == (Level.WARN, True)
    (partly,) = examine_hook(foreign, evidence(complete=False), HERE)
    assert "somebody may hold it" in partly.why
    lost = Running(device(), (hook,), Owner.LIBXDP, Linkage.FREPLACE, note="its pins are gone")
    (unread,) = examine_hook(lost, None, AWAY)
    assert unread.level is Level.ERROR
    assert "Read the chain again" in worded(unread.fix)
    old = replace(lost, todo=advise(Do.DETACH_IDLE, "native", on=lost.interface), note="idle")
    (idle,) = examine_hook(old, evidence("xdp_dispatcher"), AWAY)
    assert idle.level is Level.ERROR
    assert "ip -n blue link set dev eth7 xdpdrv off" in worded(idle.fix, "blue")
    (bpfman,) = examine_hook(replace(lost, owner=Owner.BPFMAN), evidence("xdp_dispatcher"), HERE)
    assert bpfman.level is Level.WARN
    unknown = Running(device(), (Hook(Mode.NATIVE, 9, "?", ""),), Owner.UNKNOWN, note="it can't be read")
    (finding,) = examine_hook(replace(unknown, todo=advise(Do.GET_PERMISSION, "CAP_SYS_ADMIN")), None, HERE)
    assert (finding.level, worded(finding.fix, root=False)) == (Level.WARN, "Run it as root (sudo)")
    assert "CAP_SYS_ADMIN" in worded(finding.fix, root=True), "root already: sudo would not help"
    (fine,) = examine_hook(ours(chain(True), device()), None, HERE)
    assert fine.what == "our chain of 1 slot runs (static linkage)"


# Presentation

FINDINGS = (
    Finding(Level.OK, Topic.KERNEL, "kernel.xdp", "XDP programs load"),
    Finding(Level.WARN, Topic.KERNEL, "kernel.jit", "interpreted", "slow", "sysctl"),
    Finding(Level.ERROR, Topic.INTERFACE, "interface.lro", "merges", "large", "ethtool", "a\x1b[1m"),
    Finding(Level.INFO, Topic.INTERFACE, "interface.queues", "one", "", "", "b"),
)


def test_findings_as_text() -> None:
    lines = doctor_text.text(FINDINGS).splitlines()
    assert lines[:5] == ["kernel:", "  ok    XDP programs load", "  WARN  interpreted", " " * 8 + "slow",
                         " " * 8 + "fix: sysctl"]  # fmt: skip
    assert lines[5] == "interface a\\x1b[1m:"
    assert "interface b:" in lines
    assert lines[-1] == "1 error, 1 warning, 1 note"
    assert summary(FINDINGS[:1]) == "all is fine"


def test_findings_as_a_document() -> None:
    document = json.loads(json.dumps(doctor_text.document(FINDINGS)))
    assert document["counts"] == {"ok": 1, "info": 1, "warn": 1, "error": 1}
    assert document["findings"][2] == {
        "level": "error", "topic": "interface", "check": "interface.lro", "interface": "a\x1b[1m",
        "what": "merges", "why": "large", "fix": "ethtool",
    }  # fmt: skip


def test_the_docs_list_every_check() -> None:
    pattern = re.compile(r'"((?:kernel|settings|bpffs|tools|interface)\.[a-z-]+|permissions)"')
    sources = (ROOT / "core" / "xdpchain" / "doctor").glob("*.py")
    used = {check for path in sources for check in pattern.findall(path.read_text())}
    used |= {f"tools.{name}" for name in ("bpftool", "ip", "ethtool", "xdp-loader")}  # made from their names
    used |= {"interface.bridge", "interface.master"}
    text = (ROOT / "docs" / "doctor.md").read_text()
    listed = set(re.findall(r"`((?:kernel|settings|bpffs|tools|interface)\.[a-z-]+|permissions)`", text))
    assert used == listed
