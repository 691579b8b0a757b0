# SPDX-License-Identifier: Apache-2.0
"""With freplace linkage, components count what they return by themselves, whoever builds the dispatcher."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.kernel.arming import LATER, arm, no_guardian_survives
from tests.kernel.chains import chain_of, change, look_at, run_through, scripted_chain
from tests.kernel.loaders import xdp_loader
from tests.kernel.tracing import EVERY_CASE, ON_PASS, coded_object, counts, load, model, unload, unloading
from xdpchain.change.confirm.by_hand import roll_back
from xdpchain.change.journal.undoing import undo_of
from xdpchain.change.plan import make_plan
from xdpchain.errors import InvalidInput, LinkRefused
from xdpchain.model.actions import ActionSet
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.counts import Sample, SlotCounts
from xdpchain.model.policy import Answer, Policy
from xdpchain.model.running import Owner, Running
from xdpchain.model.slot import Slot
from xdpchain.objects.components import keep_maps, load_component
from xdpchain.observe.counters import open_counters
from xdpchain.observe.violations import open_violations
from xdpchain.sys import bpf
from xdpchain.testing.frames import scripted
from xdpchain.testing.playground import Playground
from xdptui.render import documents
from xdptui.render.status_table import status_table

pytestmark = [pytest.mark.vm, pytest.mark.usefixtures("own_bpffs")]

FREPLACE = Linkage.FREPLACE
PASS, DROP, TX = 2, 1, 3


@pytest.fixture
def net(playground: Playground) -> Iterator[Playground]:
    with unloading(playground), no_guardian_survives(playground):
        yield playground


def chain_in(running: Running) -> Chain:
    assert running.chain is not None, running.note
    return running.chain


def read(running: Running) -> Sample:
    """What is counted without anybody looking."""
    with open_counters(running, attach=False) or pytest.fail("nothing counts") as reader:
        return reader.read()


def by_name(running: Running) -> dict[str, SlotCounts]:
    sample = read(running)
    return {slot.name: sample.slots[slot.key] for slot in chain_in(running) if slot.key in sample.slots}


def tags(running: Running) -> list[str | None]:
    return [slot.component.tag for slot in chain_in(running)]


@pytest.mark.parametrize("slots", [1, 3])
def test_every_packet_counts_with_its_length_and_nobody_looks(
    net: Playground, samples: Path, slots: int
) -> None:
    running = change(net, scripted_chain(samples, [ON_PASS] * slots, FREPLACE))
    assert running.form_reason == ""
    net.send(EVERY_CASE)
    expected, _ = model(range(slots), EVERY_CASE, appending=True)
    assert list(by_name(running).values()) == expected
    assert read(running).verdict is None
    # To libxdp it is a chain like any other.
    rows = [line.split() for line in xdp_loader(net, "status").splitlines() if line.startswith(" =>")]
    assert [(row[2], int(row[3]), row[4]) for row in rows] == [
        (slot.name, slot.id, slot.component.tag) for slot in chain_in(running)
    ]


def test_counts_go_on_through_edits_of_ours_and_of_libxdp(net: Playground, samples: Path) -> None:
    running = change(net, scripted_chain(samples, [ON_PASS] * 2, FREPLACE))
    ids = {slot.id for slot in chain_in(running)}
    frame = scripted(bytes((PASS, PASS)), length=100)
    sent = 0

    def send(now: Running) -> None:
        nonlocal sent
        net.send([frame] * 3)
        sent += 3
        assert {name: one.packets[PASS] for name, one in by_name(now).items()} == {
            "scripted_0": sent,
            "scripted_1": sent,
        }

    send(running)
    running = change(net, chain_in(running).move(1, 0).retune(0, actions=ActionSet.parse("PD")))
    send(running)
    load(net, 2)  # libxdp builds the dispatcher, and its component is not counted
    running = look_at(net)
    assert running.owner is Owner.LIBXDP
    theirs = next(slot for slot in chain_in(running) if slot.name == "coded_2")
    assert theirs.key not in read(running).slots
    send(running)
    unload(net, "--id", str(theirs.id))
    send(look_at(net))
    # Through shadow, where what it would have done is not distinguished from what it did.
    running = change(net, chain_in(look_at(net)).retune(0, shadow=True))
    shaded = chain_in(running).slots[0]
    assert shaded.key not in read(running).slots
    net.send([frame])
    sent += 1
    running = change(net, chain_in(running).retune(0, shadow=False))
    assert {slot.id for slot in chain_in(running)} == ids
    send(running)
    # Another program in the same slot counts in the same map.
    old = chain_in(running).slots[0]
    again = keep_maps(load_component(str(samples / "scripted.o"), name=old.name), old.component)
    running = change(net, chain_in(running).substitute(0, again))
    assert {slot.id for slot in chain_in(running)} != ids
    send(running)
    # A removed slot takes its counts along, and the undo says so: even if its program is still there.
    with bpf.prog_by_id(chain_in(running).slots[0].id or 0):
        change(net, chain_in(running).remove([0]))
        undo = undo_of(look_at(net))
        assert old.name in undo.recounted
        back = change(net, undo.candidate)
    assert [by_name(back)[slot.name].packets[PASS] for slot in chain_in(back)] == [0, sent]


def test_counts_go_on_from_one_linkage_to_another(net: Playground, samples: Path) -> None:
    frame = scripted(bytes((PASS, DROP)), length=100)
    running = change(net, scripted_chain(samples, [ON_PASS] * 2, Linkage.STATIC))
    for number, linkage in enumerate((FREPLACE, Linkage.STATIC), 1):
        net.send([frame] * 5)
        running = change(net, chain_in(running).relink(linkage))
        packets = [one.packets for one in by_name(running).values()]
        assert packets == [(0, 0, 5 * number, 0, 0, 0), (0, 5 * number, 0, 0, 0, 0)]
    pending = arm(net, chain_in(running).relink(FREPLACE), LATER)
    net.send([frame] * 5)
    roll_back(net.ifname, net.netns)
    back = look_at(net)
    assert (pending.linkage, back.linkage) == (FREPLACE, Linkage.STATIC)
    assert [sum(one.packets) for one in by_name(back).values()] == [15, 15]


def test_counters_off_loads_plain_programs(net: Playground, samples: Path) -> None:
    chain = Chain(linkage=FREPLACE)
    for name in ("coded_0", "coded_1"):
        chain = chain.add(Slot.of(load_component(str(coded_object()), name=name)))
    off = change(net, replace(chain, counters=False))
    assert not chain_in(off).counters
    assert open_counters(off, attach=False) is None
    on = change(net, replace(chain_in(off), counters=True))
    assert chain_in(on).counters
    frame = bytes(14) + bytes((PASS, PASS)) + bytes(60)
    net.send([frame] * 4)
    assert [one.total_packets for one in by_name(on).values()] == [4, 4]
    assert not set(tags(on)) & set(tags(off))
    unload(net, "--all")
    # As libxdp loads them.
    load(net, 0, 1)
    theirs = look_at(net)
    assert sorted(map(str, tags(theirs))) == sorted(map(str, tags(off)))
    assert tags(change(net, replace(chain_in(theirs), counters=False))) == tags(theirs)


def test_a_policy_stays_with_its_component_through_edits_of_libxdp(net: Playground, samples: Path) -> None:
    policy = Policy(ActionSet.parse("P"), Answer.DROP)
    running = change(net, scripted_chain(samples, [ON_PASS] * 2, FREPLACE).police(0, policy))
    frame = scripted(bytes((TX, PASS)), length=100)
    load(net, 2)
    running = look_at(net)
    assert running.owner is Owner.LIBXDP
    assert [slot.policy for slot in chain_in(running)] == [policy, None, None]
    assert run_through(running, frame).code == DROP
    with open_violations(running) or pytest.fail("nothing is reported") as reader:
        assert [(one.name, one.code) for one in reader.read()] == [("scripted_0", TX)]
        # What was loaded by others can't be policed, and says so; ours next to it can.
        theirs = next(i for i, slot in enumerate(chain_in(running)) if slot.name == "coded_2")
        with pytest.raises(InvalidInput, match="coded_2 can't have a policy: another tool loaded it"):
            make_plan(running, chain_in(running).police(theirs, policy))
        running = change(net, chain_in(running).police(1, Policy(ActionSet.parse("D"))))
        run_through(running, scripted(bytes((PASS, PASS, PASS)), length=100))
        assert reader.read() == []
    with open_violations(running) or pytest.fail("nothing is reported") as reader:
        assert [(one.name, one.code) for one in reader.read()] == [("scripted_1", PASS)]
    # In shadow nothing is answered, and what is counted is what it returned.
    shaded = change(net, chain_in(running).retune(0, shadow=True))
    with open_counters(shaded) or pytest.fail("nothing counts") as counters:
        net.send([frame])
        assert counters.read().slots[chain_in(shaded).slots[0].key].packets[TX] == 1
    back = change(net, chain_in(shaded).retune(0, shadow=False))
    assert run_through(back, frame).code == DROP
    undone = change(net, undo_of(back).candidate)
    assert [slot.policy for slot in chain_in(undone)][:2] == [policy, Policy(ActionSet.parse("D"))]


def test_a_policy_that_can_not_be_kept_is_refused(net: Playground, samples: Path) -> None:
    running = look_at(net)
    policed = chain_of(samples, "hugestack", linkage=FREPLACE).police(0, Policy(ActionSet.parse("P")))
    with pytest.raises(LinkRefused, match=r"can't keep to a policy: .*stack"):
        change(net, policed)
    assert look_at(net).hook is running.hook is None


def test_a_policy_is_rolled_back_with_its_component(net: Playground, samples: Path) -> None:
    plain = change(net, scripted_chain(samples, [ON_PASS] * 2, FREPLACE))
    frame = scripted(bytes((TX, PASS)), length=100)
    pending = arm(net, chain_in(plain).police(0, Policy(ActionSet.parse("P"), Answer.DROP)), LATER)
    net.send([frame] * 3)
    assert run_through(pending, frame).code == DROP
    roll_back(net.ifname, net.netns)
    back = look_at(net)
    assert run_through(back, frame).code == TX
    assert chain_in(back).slots[0].policy is None
    assert by_name(back)["scripted_0"].packets[TX] == 5, "counted by both"


def test_what_is_not_counted_is_not_zero(net: Playground, samples: Path) -> None:
    load(net, 0)
    running = change(net, chain_in(look_at(net)).add(Slot.of(load_component(str(samples / "pass.o")), 60)))
    net.send([bytes(14) + bytes((PASS,)) + bytes(60)] * 3)
    sample = read(running)
    assert [sample.slots[key].packets[PASS] for key in sample.slots] == [3]
    shown = status_table([(running, sample)])
    assert shown.count("not counted until somebody looks") == 2  # theirs, and the chain's own
    document = documents.interface(running, sample)
    assert document["verdict"] is None
    assert [slot["counters"] is None for slot in document["slots"]] == [True, False]
    # A viewer counts those too, and only those.
    with open_counters(running) or pytest.fail("nothing counts") as reader:
        net.send([bytes(14) + bytes((PASS,)) + bytes(60)] * 2)
        seen = reader.read()
    assert [seen.slots[slot.key].packets[PASS] for slot in chain_in(running)] == [2, 5]
    assert seen.verdict == counts(*[(PASS, 75)] * 2)


def test_what_cannot_count_is_loaded_as_it_is_and_says_so(net: Playground, samples: Path) -> None:
    running = change(net, chain_of(samples, "hugestack", linkage=FREPLACE))
    assert running.form_reason.startswith("xdp_hugestack is counted while somebody looks: ")
    assert "stack" in running.form_reason.partition(":")[2]
    assert open_counters(running, attach=False) is None
    assert chain_in(running).counters, "it was meant to count"


@pytest.mark.parametrize("name", ["subprogs", "tailcalls", "frags"])
def test_programs_of_all_kinds_return_what_they_return_unwoven(
    net: Playground, samples: Path, name: str
) -> None:
    chain = chain_of(samples, name, linkage=FREPLACE)
    plain = change(net, replace(chain, counters=False))
    before = [run_through(plain, frame) for frame in EVERY_CASE[:5]]
    woven = change(net, replace(chain_in(plain), counters=True))
    after = [run_through(woven, frame) for frame in EVERY_CASE[:5]]
    assert [(run.code, run.data) for run in after] == [(run.code, run.data) for run in before]
    (found,) = by_name(woven).values()
    assert found.total_packets == 5
    with bpf.prog_by_id(chain_in(woven).slots[0].id or 0) as program:
        assert bpf.prog_info(program).gpl
