# SPDX-License-Identifier: Apache-2.0
"""Plain text and documents from values, without a kernel."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from xdpchain.bytecode.sites import SourceLine, VerdictSite
from xdpchain.change.plan import make_plan
from xdpchain.model.actions import Action, ActionSet
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.component import Component, MapRef, ObjectRef
from xdpchain.model.interface import Interface, Mode
from xdpchain.model.running import Device, DispatcherInfo, Hook, Owner, Running
from xdpchain.model.slot import Slot
from xdpchain.observe.counters import Sample, SlotCounts
from xdpchain.observe.site_shares import SlotReasons
from xdptui.render import documents, features_text
from xdptui.render.plan_text import outcome_text, plan_text
from xdptui.render.quantities import octets
from xdptui.render.status_table import status_table
from xdptui.render.watch_text import reading_document, reading_table
from xdptui.render.why_text import MARK, leads_to, reasons_table
from xdptui.words.rates import Trends, between

DEVICE = Device(Interface("eth0", 2), True, "up", 1500, "veth", frozenset(("basic", "redirect", "bit-9")))
FREE = Running(DEVICE)
FOREIGN = Running(
    DEVICE, (Hook(Mode.GENERIC, 9, "other", "ab"),), Owner.FOREIGN, note="attached by \x1b[1mnetlink"
)


def chain() -> Chain:
    source = ObjectRef("5f" * 32, 1234, "/a/firewall.o")
    first = Component("xdp_firewall", source, "xdp", id=11, tag="aa" * 8, maps=(MapRef("blocked", 5),))
    second = Component("a_program_with_a_very_long_name", id=12)
    actions = ActionSet.of(Action.PASS, Action.DROP)
    return Chain((Slot.of(first, 10, actions), Slot.of(second, 20)), Linkage.STATIC)


def ours(made: Chain) -> Running:
    hook = Hook(Mode.NATIVE, 40, "xdptui_chain", "cc" * 8)
    return Running(DEVICE, (hook,), Owner.XDPTUI, Linkage.STATIC, DispatcherInfo(40, 3), made, 7)


def sample(made: Chain, packets: int, at: float = 1.0) -> Sample:
    counts = SlotCounts((0, packets, 2 * packets, 0, 0, 0), (0, 60 * packets, 120 * packets, 0, 0, 0))
    return Sample(at, {slot.key: counts for slot in made}, counts)


def test_the_table_of_a_chain() -> None:
    made = chain()
    lines = status_table([(ours(made), sample(made, 5)), (FREE, None)]).splitlines()
    assert lines[1].split()[:5] == ["eth0", "xdptui_chain", "native", "40", "cc" * 8]
    assert lines[2] == "    by xdptui, static linkage, dispatcher v3"
    assert lines[3].split() == ["=>", "10", "xdp_firewall", "11", "aa" * 8, "XDP_DROP,XDP_PASS"]
    assert lines[3].startswith(" =>")
    assert lines[4].strip() == "15 packets: 10 XDP_PASS (600 B), 5 XDP_DROP (300 B)"
    # A component whose tag is unknown keeps its columns.
    assert lines[5].split() == ["=>", "20", "a_program_with_a_very_long_name", "12", "-", "XDP_PASS"]
    assert lines[7].strip() == "verdict: 15 packets: 10 XDP_PASS (600 B), 5 XDP_DROP (300 B)"
    assert lines[8].split() == ["eth0", "no", "XDP", "program"]
    # All columns are aligned, however long the names are.
    assert lines[0].index("ID") == lines[3].index("11") == lines[5].index("12") == lines[1].index("40")


def test_the_table_of_common_names_fits_into_80_columns() -> None:
    made = Chain((Slot.of(Component("xdp_ratelimit", id=123456, tag="aa" * 8), 20),), Linkage.STATIC)
    assert max(map(len, status_table([(ours(made), None)]).splitlines())) <= 80


def test_the_table_without_counts() -> None:
    made = chain()
    assert "packet" not in status_table([(ours(made), None)])
    assert "no packets yet" in status_table([(ours(made), sample(made, 0))])


def test_a_foreign_program_and_its_note() -> None:
    table = status_table([(FOREIGN, None)])
    assert "somebody else's" in table
    assert "=>" not in table
    assert "\x1b" not in table


def test_a_chain_that_may_only_be_looked_at_is_shown() -> None:
    made = chain()
    seen = Running(DEVICE, FOREIGN.hooks, Owner.BPFMAN, Linkage.FREPLACE, note="bpfman's", shown=made)
    assert status_table([(seen, None)]).count(" =>") == 2
    document = documents.interface(seen)
    assert [slot["name"] for slot in document["slots"]] == [slot.name for slot in made]
    assert document["editable"] is False


def test_the_document_of_an_interface() -> None:
    made = chain()
    document = json.loads(json.dumps(documents.status([(ours(made), sample(made, 5)), (FREE, None)])))
    first, free = document["interfaces"]
    assert first["slots"][0]["counters"]["XDP_DROP"] == {"packets": 5, "bytes": 300}
    assert first["slots"][0]["maps"] == [{"name": "blocked", "id": 5}]
    assert first["slots"][0]["object"]["path"] == "/a/firewall.o"
    assert first["slots"][1]["object"] is None
    assert first["device"]["features"] == ["basic", "bit-9", "redirect"]
    assert (free["mode"], free["slots"], free["verdict"]) == (None, [], None)
    assert documents.interface(FOREIGN)["note"] == FOREIGN.note


def test_plans_in_words() -> None:
    made = chain()
    plan = make_plan(ours(made), made.move(1, 0))
    text = plan_text(plan)
    assert text.startswith("eth0: static linkage, native mode, counters on\n  ↕ ")
    assert "\nsteps:\n  1. " in text
    assert plan_text(make_plan(ours(made), made)) == "eth0: nothing to change"
    assert outcome_text(make_plan(ours(made), made), ours(made)) == "eth0: nothing to change"
    assert outcome_text(plan, ours(made)).endswith(
        "2 slots run behind dispatcher 40 (static linkage, native mode, counters on)"
    )
    assert outcome_text(make_plan(ours(made), Chain()), FREE).endswith("eth0: no XDP program runs")
    document = documents.plan(plan)
    assert {change["kind"] for change in document["changes"]} >= {"move"}
    assert [slot["slot"] for slot in document["candidate"]["slots"]] == [0, 1]


def test_readings() -> None:
    made = chain()
    running = ours(made)
    first, later = sample(made, 5, 1.0), sample(made, 7, 2.0)
    once = reading_document(running, between(None, first), "")
    assert once["slots"][0]["counters"]["XDP_PASS"] == {"packets": 10, "bytes": 600}
    assert once["slots"][0]["rates"] is None
    twice = reading_document(running, between(first, later), "")
    assert twice["slots"][0]["rates"]["XDP_DROP"] == {"packets": 2, "bytes": 120}
    assert twice["seconds"] == 1
    table = reading_table(running, between(first, later), "")
    assert table.splitlines()[2].split() == ["0", "xdp_firewall", "6", "0", "2", "4", "0", "0", "360", "21"]
    assert max(map(len, table.splitlines())) <= 80
    assert reading_table(running, None, "counters are off").endswith("counters are off")
    nothing = reading_document(running, None, "counters are off")
    assert (nothing["slots"][0]["counters"], nothing["note"]) == (None, "counters are off")


def test_features() -> None:
    text = features_text.device_text(DEVICE)
    assert "NETDEV_XDP_ACT_BASIC:          yes" in text
    assert "NETDEV_XDP_ACT_RX_SG:          no" in text
    assert "NETDEV_XDP_ACT_BIT_9:          yes" in text
    document = features_text.device_document(DEVICE)
    assert (document["native"], document["features"]["rx-sg"]) == (True, False)
    unknown = Device(DEVICE.interface, True, "up", 1500, None, None)
    assert "does not report" in features_text.device_text(unknown)
    assert features_text.device_document(unknown)["native"] is None
    none = Device(DEVICE.interface, True, "up", 1500, "lo", frozenset())
    assert "-m generic" in features_text.device_text(none)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (10**12, "1.0 TB"),
        (2**64, "18446.7 PB"),
    ],
)
def test_octets(size: int, text: str) -> None:
    assert octets(size) == text


CONDITION = SourceLine(
    "firewall.bpf.c", 44, "if (" + " && ".join(f"a_long_condition_{n}" for n in range(9)) + ")"
)


def reasons(made: Chain) -> tuple[SlotReasons, ...]:
    sites = tuple(VerdictSite(code, "main", CONDITION, None, 7) for code in (Action.PASS, Action.DROP))
    return tuple(SlotReasons(index, slot.key, slot.name, sites) for index, slot in enumerate(made))


def test_why_says_where_codes_lead_and_what_the_chain_itself_drops() -> None:
    made = chain()
    before, after = sample(made, 5), sample(made, 16, at=2.0)
    none = SlotCounts((0, 0, 48, 0, 0, 0))
    reading = between(replace(before, verdict=SlotCounts()), replace(after, verdict=none))
    text = reasons_table(ours(made), reasons(made), reading, "", None)
    assert "dropped on eth0: 0/s, 0 packets; arrived: 48" in text
    assert "where, most first:\n" in text
    places = text.split("most first:\n")[1].split("  slot 0 ")[0].splitlines()
    assert [line.split()[1:] for line in places if line] == [
        ["DROP", "slot", "1", made.slots[1].name, "firewall.bpf.c:44"]
    ]
    first, second = text.split("  slot 0 ")[1].split("  slot 1 ")
    drop, passed = (line.split("  ") for line in first.splitlines()[1:])
    assert [drop[2], passed[2]] == ["DROP", "PASS"], "what ends packets comes first"
    assert "continues to slot 1" in drop
    assert "continues to slot 1" in passed
    assert second.count("is the verdict") == 2
    assert "not counted" in reasons_table(
        ours(made), reasons(made), between(None, replace(after, verdict=None)), "", None
    )


def test_where_codes_lead_at_the_end_and_without_a_chain() -> None:
    made = chain()
    last = made.retune(1, actions=ActionSet.of(Action.PASS, Action.DROP))
    assert leads_to(ours(last), 1, Action.DROP) == "ends as PASS"
    assert leads_to(ours(last), 1, Action.TX) == "is the verdict"
    assert leads_to(ours(made.retune(1, off=True)), 0, Action.DROP) == "ends as PASS"
    assert leads_to(FOREIGN, 0, Action.DROP) == "is the verdict"


@pytest.mark.parametrize("width", [20, 55, 74])
def test_why_breaks_lines_and_cuts_none(width: int) -> None:
    made = chain()
    reading = between(sample(made, 5), sample(made, 16, at=2.0))
    running, slots = ours(made), reasons(made)
    text = reasons_table(running, slots, reading, "", None, Trends(), width, made.slots[1].key)
    assert max(map(len, text.splitlines())) <= width
    assert "".join(text.split()).count("a_long_condition_8") == 4
    assert [line[0] == MARK for line in text.splitlines() if " slot " in line[:7]] == [False, True]
