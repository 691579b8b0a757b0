# SPDX-License-Identifier: Apache-2.0
"""One change on several interfaces: on all or on none, whatever happens in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.arming import LATER, ROOT, eventually, guardians
from tests.kernel.chains import look_at
from tests.kernel.command_line import CommandLine
from xdpchain.change.confirm.by_hand import confirm, roll_back
from xdpchain.editing import Edited, edit_all
from xdpchain.errors import XdpChainError
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.running import Running
from xdpchain.model.slot import Slot
from xdpchain.objects.components import keep_maps, load_component
from xdpchain.observe.pending_pins import all_pending
from xdpchain.sys import netns
from xdpchain.testing.playground import Playground

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="XDP programs and network namespaces take root")


TWO = [Linkage.STATIC, pytest.param(Linkage.FREPLACE, marks=pytest.mark.vm)]


def names(playground: Playground) -> list[str]:
    return [link.ifname for link in playground.links]


def hooks(playground: Playground) -> list[int | None]:
    """The program id on each interface."""
    found = [look_at(playground, link).hook for link in range(len(playground.links))]
    return [None if hook is None else hook.prog_id for hook in found]


def refuse_native(playground: Playground, link: int = 0) -> None:
    """Make the interface refuse programs without frags support: the MTU of its peer is too large for them."""
    name = playground.links[link].peer_ifname
    subprocess.run(["ip", "-n", playground.peer_netns, "link", "set", name, "mtu", "9000"], check=True)


def load(playground: Playground, sample: Path, linkage: Linkage, **options: Any) -> tuple[Edited, ...]:
    slot = Slot.of(load_component(str(sample)))

    def change(running: Running) -> Chain:
        return (running.chain or Chain()).relink(linkage).add(slot)

    return edit_all(names(playground), change, netns=playground.netns, **options)


def map_ids(running: Running, name: str) -> list[int]:
    return [ref.id for slot in running.chain or () for ref in slot.component.maps if ref.name == name]


@pytest.mark.parametrize("linkage", [Linkage.STATIC, Linkage.TAILCALL])
def test_a_change_is_made_on_all_and_leaves_nothing_behind(
    three: Playground, samples: Path, linkage: Linkage
) -> None:
    load(three, samples / "firewall.o", linkage)
    edited = load(three, samples / "monitor.o", linkage)
    assert all(len(one.running.chain or ()) == 2 for one in edited)
    assert all(one.running.pending is None and one.running.settled is None for one in edited)
    assert not all_pending()
    blocked = [map_ids(one.running, "blocked") for one in edited]
    assert len({ids[0] for ids in blocked}) == 3, "each has its own maps"
    eventually(lambda: not guardians(netns.inode(three.netns)), "the guardian ends")


@pytest.mark.parametrize("linkage", TWO)
def test_what_was_swapped_in_goes_back_if_a_later_one_is_refused(
    three: Playground, samples: Path, linkage: Linkage
) -> None:
    edit_all(
        names(three)[:2],
        lambda running: Chain(linkage=linkage).add(Slot.of(load_component(str(samples / "pass.o")))),
        netns=three.netns,
    )
    refuse_native(three, 2)
    before = hooks(three)
    with pytest.raises(XdpChainError) as caught:
        load(three, samples / "firewall.o", linkage)
    assert names(three)[2] in caught.value.what
    assert hooks(three) == before
    assert all(look_at(three, link).editable and not look_at(three, link).pending for link in range(3))
    assert not all_pending()


@pytest.mark.parametrize(
    ("linkage", "keep"),
    [
        (Linkage.STATIC, False),
        (Linkage.TAILCALL, True),
        pytest.param(Linkage.FREPLACE, False, marks=pytest.mark.vm),
    ],
)
def test_one_decision_ends_them_all(three: Playground, samples: Path, linkage: Linkage, keep: bool) -> None:
    load(three, samples / "pass.o", linkage)
    before = hooks(three)
    edited = load(three, samples / "firewall.o", linkage, confirm=LATER)
    waiting = [one.running.pending for one in edited]
    (guardian,) = {pending.guardian for pending in waiting if pending}
    assert guardian in guardians(netns.inode(three.netns))
    assert [pending.together if pending else () for pending in waiting] == [
        tuple(f"{name} (netns {three.netns})" for name in names(three))
    ] * 3
    after = hooks(three)
    (confirm if keep else roll_back)(names(three)[1], three.netns)
    assert hooks(three) == (after if keep else before)
    assert not all_pending()
    assert all(look_at(three, link).editable for link in range(3))
    eventually(lambda: not guardians(netns.inode(three.netns)), "the guardian ends")


CHILD = """
import os, signal, sys
sys.path[:0] = {path!r}
from xdpchain.editing import edit_all
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.slot import Slot
from xdpchain.objects.components import keep_maps, load_component
netns, sample, linkage, fatal, *names = sys.argv[1:]
steps = []
def progress(step):
    steps.append(step)
    if steps.count("swap it in") == int(fatal):
        os.kill(os.getpid(), signal.SIGKILL)
slot = Slot.of(load_component(sample))
edit_all(names, lambda running: (running.chain or Chain()).relink(Linkage(linkage)).add(slot), netns=netns,
         progress=progress)
"""


def killed(playground: Playground, sample: Path, linkage: Linkage, fatal: int, path: Sequence[str]) -> None:
    """A change on all interfaces by a process that is killed before its swap number ``fatal``."""
    code = CHILD.format(path=list(path))
    words = (playground.netns, str(sample), linkage.value, str(fatal), *names(playground))
    done = subprocess.run([sys.executable, "-c", code, *words], check=False)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize("linkage", TWO)
def test_who_is_killed_between_two_swaps_leaves_all_as_they_were(
    three: Playground, samples: Path, linkage: Linkage
) -> None:
    """At once, since the guardian then waits for no deadline."""
    load(three, samples / "pass.o", linkage)
    before = hooks(three)
    killed(three, samples / "firewall.o", linkage, 3, [str(ROOT / "core"), str(ROOT)])
    eventually(lambda: not guardians(netns.inode(three.netns)), "the guardian ends")
    assert hooks(three) == before
    assert not all_pending()
    assert all(look_at(three, link).editable for link in range(3))
    load(three, samples / "monitor.o", linkage)  # nothing blocks the next change


@pytest.mark.parametrize("linkage", TWO)
def test_shared_maps_stay_shared_through_edits(three: Playground, samples: Path, linkage: Linkage) -> None:
    edited = load(three, samples / "firewall.o", linkage, share_maps=True)
    (shared,) = {map_ids(one.running, "blocked")[0] for one in edited}
    edited = load(three, samples / "monitor.o", linkage)
    assert {map_ids(one.running, "blocked")[0] for one in edited} == {shared}
    new = load_component(str(samples / "firewall.o"), instance="a new version")

    def replaced(running: Running) -> Chain:
        assert running.chain is not None
        index = next(i for i, slot in enumerate(running.chain) if slot.name == "xdp_firewall")
        return running.chain.substitute(index, keep_maps(new, running.chain.slots[index].component))

    edited = edit_all(names(three), replaced, netns=three.netns)
    assert {map_ids(one.running, "blocked")[0] for one in edited} == {shared}


def test_the_command_line_takes_several_and_globs(many: CommandLine) -> None:
    first, second, third = names(many.playground)
    both = f"{first},{second}"
    planned = many("plan", "load", both, many.sample("firewall"), "--linkage", "static", "--json")
    assert (planned.code, planned.json["dry_run"]) == (2, True)
    assert [interface["interface"] for interface in planned.json["interfaces"]] == [first, second]
    assert hooks(many.playground) == [None] * 3
    made = many.ok("load", both, many.sample("firewall"), "--linkage", "static", "--share-maps")
    shared = [interface["running"]["slots"][0]["maps"] for interface in made.json["interfaces"]]
    assert made.json["changed"]
    assert shared[0] == shared[1]
    pending = many.ok("unload", f"{first[:-1]}*", "--all", "--confirm", "600")
    states = [
        (interface["changed"], interface["running"]["armed"] is not None)
        for interface in pending.json["interfaces"]
    ]
    assert states == [(True, True), (True, True), (False, False)]
    assert f"together with {second}" in many("status", first).out
    assert many("confirm", f"{first},{third}").code == 5, "nothing waits on the third"
    assert hooks(many.playground) == [None] * 3
    undone = many.ok("undo", both)
    assert [interface["running"]["slots"][0]["name"] for interface in undone.json["interfaces"]] == [
        "xdp_firewall"
    ] * 2
    logs = [many.ok("log", name).json["entries"] for name in (first, second)]
    assert [[entry["kind"] for entry in log] for log in logs] == [[e["kind"] for e in logs[0]]] * 2


def test_what_one_of_several_can_not_do_stops_them_all(many: CommandLine) -> None:
    first, second, _ = names(many.playground)
    many.ok("load", first, many.sample("firewall"), "--linkage", "static")
    before = hooks(many.playground)
    refused = many("unload", f"{first},{second}", "xdp_firewall", "--json")
    assert refused.code == 5
    assert second in refused.error["what"]
    assert hooks(many.playground) == before
    for words, code in ((("none*", "--all"), 5), ((f"{first},,", "--all"), 7)):
        assert many("unload", *words).code == code
    assert many("load", first, many.sample("pass"), "--share-maps").code == 64


def test_the_mode_on_the_command_line(many: CommandLine, tmp_path: Path) -> None:
    first, second, _ = names(many.playground)
    refuse_native(many.playground, 1)
    best = many("load", f"{first},{second}", many.sample("pass"), "-m", "best", "--linkage", "static")
    assert best.code == 0
    assert "generic mode, since native is not possible" in best.err
    found = {interface["name"]: interface["mode"] for interface in many.ok("status").json["interfaces"]}
    assert (found[first], found[second]) == ("native", "generic")
    assert "generic mode, since native" in many("log", second).out
    moved = many("set", first, "--mode", "generic")
    assert moved.code == 0
    assert "mode native → generic" in moved.out
    assert "no program runs" in moved.err
    file = tmp_path / "spec.toml"
    spec = f'[[interface]]\nname = "{first}"\nmode = "native"\n'
    spec += f'[[interface.slot]]\nobject = "{many.sample("pass")}"\n'
    file.write_text(spec)
    assert many("plan", str(file)).code == 2
    assert many.ok("apply", str(file)).json["interfaces"][0]["running"]["mode"] == "native"
    file.write_text(spec.replace('"native"', '"best"'))
    assert many("plan", str(file)).code == 0


def test_a_spec_shares_maps_also_with_who_comes_later(many: CommandLine, tmp_path: Path) -> None:
    first, second, third = names(many.playground)
    file, saved = tmp_path / "spec.toml", tmp_path / "saved.toml"
    spec = 'linkage = "static"\nshare_maps = true\n[[interface.slot]]\n'
    spec += f'object = "{many.sample("firewall")}"\n'
    file.write_text(f'[[interface]]\nname = ["{first}", "{second}"]\n{spec}')
    many.ok("apply", str(file))
    file.write_text(f'[[interface]]\nname = "{first[:-1]}*"\n{spec}')
    many.ok("apply", str(file))
    shared = {map_ids(look_at(many.playground, link), "blocked")[0] for link in range(3)}
    assert len(shared) == 1
    assert many("plan", str(file)).code == 0
    many.ok("save", first, second, third, "-o", str(saved))
    assert "share_maps = true" in saved.read_text()
    many.ok("unload", f"{first},{second},{third}", "--all")
    many.ok("apply", str(saved))
    assert len({map_ids(look_at(many.playground, link), "blocked")[0] for link in range(3)}) == 1
