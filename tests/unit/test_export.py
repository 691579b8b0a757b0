# SPDX-License-Identifier: Apache-2.0
"""The exported metrics: names, labels, addresses, and the dashboard that queries them"""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from xdpchain.bytecode.sites import SourceLine, VerdictSite
from xdpchain.errors import InvalidInput
from xdpchain.model.actions import ActionSet
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.component import Component
from xdpchain.model.counts import Sample, SlotCounts
from xdpchain.model.interface import Interface, Mode
from xdpchain.model.running import Device, DispatcherInfo, Hook, Owner, Running
from xdpchain.model.slot import Slot
from xdpchain.observe.site_shares import SlotReasons
from xdptui.commands.arguments import COMMANDS
from xdptui.commands.export import address
from xdptui.export.exposition import Exposition, _amount
from xdptui.export.map_values import numbers
from xdptui.export.metrics import (
    LOST_METRICS,
    MAP_METRICS,
    MAP_VALUE,
    METRICS,
    MOST_SITES,
    SECONDS,
    SITE_METRICS,
    TIME_METRICS,
    Family,
    Row,
    site_values,
    values,
)

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "docs" / "grafana.json"
ALERTS = ROOT / "docs" / "alerts.yml"
EVERY = (*METRICS, *TIME_METRICS, *LOST_METRICS, *MAP_METRICS, *SITE_METRICS)
LABELS = {metric.exported: {*metric.labels} for metric in EVERY}


def running(*keys: str, program: int = 70) -> Running:
    slots = tuple(
        replace(Slot.of(Component("xdp_pass", id=5, tag="00ff"), 10, ActionSet.parse("PD")), key=key)
        for key in keys
    )
    return Running(
        Device(Interface("eth0", 3, "blue"), True, "up", 1500, "veth", None, (0, 0), (0, 0)),
        (Hook(Mode.NATIVE, program, "xdptui_chain", "abcd"),),
        Owner.XDPTUI, Linkage.STATIC, DispatcherInfo(program, 3), Chain(slots), counters_map=6,
    )  # fmt: skip


def sample(**slots: int) -> Sample:
    counted = {
        key: SlotCounts((0, 1, number, 0, 0, 0), (0, 60, 60 * number, 0, 0, 0))
        for key, number in slots.items()
    }
    return Sample(0.0, counted, SlotCounts((0, 2, 5, 0, 0, 0), (0, 120, 300, 0, 0, 0)))


def exported(*read: tuple[Running, Sample | None]) -> dict[tuple[str, ...], float]:
    made: dict[tuple[str, ...], float] = {}
    for metric, all_labels, amounts in values(read, {3: ((10, 640), (1, 64))}):
        for labels, number in zip(all_labels, amounts, strict=True):
            assert len(labels) == len(metric.labels), metric.name
            series = (metric.exported, *labels)
            assert series not in made, "each series once"
            made[series] = number
    return made


def test_counts_by_slot_and_action() -> None:
    made = exported((running("a", "b"), sample(a=3, b=4)))
    where = ("blue", "eth0")
    assert made["xdp_slot_packets_total", *where, "xdp_pass", "a", "XDP_PASS"] == 3
    assert made["xdp_slot_bytes_total", *where, "xdp_pass", "b", "XDP_PASS"] == 240
    assert made["xdp_slot_packets_total", *where, "xdp_pass", "a", "XDP_REDIRECT"] == 0
    assert made["xdp_chain_packets_total", *where, "XDP_DROP"] == 2
    assert made["xdp_interface_receive_packets_total", *where] == 10
    assert made["xdp_chain_counted", *where] == 1
    assert made["xdp_chain_info", *where, "xdptui", "static", "native", "xdptui_chain", "70", "abcd"] == 1
    assert made["xdp_slot_info", *where, "xdp_pass", "b", "1", "10", "DP", "false", "5", "00ff"] == 1


def test_counts_by_line_of_source_are_bounded() -> None:
    lines = [SourceLine("a.c", index, "if (x)") for index in range(1, 100)]
    sites = tuple(VerdictSite(1, "f", line, None, line.number) for line in lines)
    counted = {(n, 1): (1, 60) for n in range(99)}
    one = replace(sample(a=3), slots={"a": SlotCounts((0, 101, 3, 0, 0, 0))}, sites={"a": counted})
    reasons = [SlotReasons(0, "a", "xdp_pass", sites)]
    found = {row.series[0][4:]: row.numbers[0] for row in site_values(running("a"), one, reasons)}
    assert found["XDP_DROP", "f", "a.c", "1"] == 1
    assert found["XDP_PASS", "", "", "others"] == 3
    assert sum(number for labels, number in found.items() if labels[0] == "XDP_DROP") == 101
    assert len(found) <= MOST_SITES + 2


def test_an_edit_makes_no_new_counter_series() -> None:
    """The order, the dispatcher and a priority changed: only the info metrics show it."""
    before = exported((running("a", "b"), sample(a=3, b=4)))
    after = exported((running("b", "a", program=99), sample(a=3, b=4)))
    counters = {series for series in before if series[0].endswith("_total")}
    assert counters == {series for series in after if series[0].endswith("_total")}
    assert {series for series in before if "info" in series[0]} != {
        series for series in after if "info" in series[0]
    }


def test_what_is_not_counted_says_so() -> None:
    made = exported((running("a"), None))
    assert made["xdp_chain_counted", "blue", "eth0"] == 0
    assert not any(series[0].startswith("xdp_slot_packets") for series in made)
    free = replace(running(), hooks=(), chain=None, owner=None, linkage=None, dispatcher=None)
    assert not any(series[0].startswith("xdp_chain") for series in exported((free, None)))


def test_metric_names_follow_the_rules() -> None:
    assert len(LABELS) == len(EVERY)
    for metric in EVERY:
        assert re.fullmatch(r"(xdp|xdptui)_[a-z_]+", metric.name)
        assert not metric.name.endswith("_total")
        assert metric.help.endswith(".")
        assert len(set(metric.labels)) == len(metric.labels)


def families(*read: tuple[Running, Sample | None]) -> list[Family]:
    found = list(values(read, {}))
    return [Family(metric, [row for row in found if row.metric is metric]) for metric in METRICS]


def test_the_text_is_what_prometheus_reads() -> None:
    odd = replace(running("a"), device=replace(running().device, interface=Interface('q"\\\n', 4)))
    wanted = families((running("a", "b"), sample(a=3, b=1 << 53)), (odd, None))
    wanted.append(Family(MAP_VALUE, [Row.of(MAP_VALUE, tuple("abcd%s%"), 0.5)]))
    next(found for found in wanted if found.metric is SECONDS).rows.append(Row.of(SECONDS, (), 1e300))
    series = {
        (metric.exported, *sorted(zip(metric.labels, labels, strict=True))): float(number)
        for family in wanted
        for metric in (family.metric,)
        for labels, number in family.samples.items()
    }
    for openmetrics, parse in ((False, text_string_to_metric_families), (True, openmetrics_families)):
        text = Exposition().text(wanted, openmetrics=openmetrics)
        read = {family.name: family for family in parse(text)}
        assert {
            (one.name, *sorted(one.labels.items())): one.value
            for family in read.values()
            for one in family.samples
        } == series
        for metric, _ in wanted:
            assert (read[metric.name].type, read[metric.name].documentation) == (metric.kind, metric.help)
    assert [_amount(number) for number in (math.inf, -math.inf, math.nan)] == ["+Inf", "-Inf", "NaN"]


def test_text_is_kept_as_long_as_its_row_and_no_longer() -> None:
    other = replace(running("b"), device=replace(running().device, interface=Interface("eth1", 4)))
    exposition = Exposition()
    exposition.text(families((running("a"), sample(a=3)), (other, sample(b=4))))
    both = exposition._lines["xdp_slot_packets_total"]
    exposition.text(families((running("a"), sample(a=5))))
    [(series, lines)] = exposition._lines["xdp_slot_packets_total"].items()
    assert both[series] is lines
    assert len(both) == 2
    exposition.text([])
    assert not exposition._lines


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:9435", ("127.0.0.1", 9435)),
        ("9435", ("127.0.0.1", 9435)),
        ("[::1]:80", ("::1", 80)),
        ("localhost:0", ("localhost", 0)),
        ("0.0.0.0:9435", ("0.0.0.0", 9435)),
    ],
)
def test_addresses(text: str, expected: tuple[str, int]) -> None:
    assert address(text) == expected


@pytest.mark.parametrize(
    "text", ["", ":", "x", ":9435", "::1:9435", "[x]:1", "1.2.3.4:", "1.2.3.4:65536", "1.2.3.4:-1"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(InvalidInput, match="not an address"):
        address(text)


def test_the_numbers_in_a_value() -> None:
    value = {"packets": 3, "by_port": [{"bytes": 7, "name": "dns"}, {"bytes": 2.5, "name": ""}], "on": True}
    assert dict(numbers(value)) == {"packets": 3, "by_port[0].bytes": 7, "by_port[1].bytes": 2.5, "on": 1}
    assert list(numbers(9)) == [("", 9)]
    assert list(numbers("0a000001")) == list(numbers(None)) == []


# -- the dashboard and the alerts ----------------------------------------------------------------------------


def dashboard() -> Any:
    return json.loads(GRAFANA.read_text())


def queries(document: Any) -> list[str]:
    """Everything queried from Prometheus: by panels, variables, annotations."""
    found = [target["expr"] for panel in document["panels"] for target in panel["targets"]]
    found += [one["definition"] for one in document["templating"]["list"] if one["type"] == "query"]
    return found + [one["expr"] for one in document["annotations"]["list"]]


def alerts() -> list[dict[str, Any]]:
    [group] = yaml.safe_load(ALERTS.read_text())["groups"]
    return list(group["rules"])


def everything_asked() -> list[str]:
    return queries(dashboard()) + [rule["expr"] for rule in alerts()]


def metrics_in(query: str) -> set[str]:
    return set(re.findall(r"\bxdp(?:tui)?_[a-z_]+", query))


def test_every_metric_that_is_asked_for_is_exported() -> None:
    for query in everything_asked():
        assert metrics_in(query), query
        assert metrics_in(query) <= LABELS.keys(), query
    asked = set().union(*map(metrics_in, queries(dashboard())))
    assert LABELS.keys() - asked <= {
        "xdp_interface_receive_bytes_total",
        "xdp_interface_transmit_packets_total",
        "xdp_interface_transmit_bytes_total",
    }, "and what is exported is shown"


def test_labels_that_are_asked_for_are_there() -> None:
    for query in everything_asked():
        for name, selector in re.findall(r"\b(xdp[a-z_]+)\{([^}]*)\}", query):
            for label in re.findall(r"([a-z_]+)(?:=~|=|!=)", selector):
                assert label in LABELS[name], query
        there = set().union(*(LABELS[name] for name in metrics_in(query))) | {"instance"}
        for by in re.findall(r"\b(?:by|on) \(([^)]*)\)", query):
            assert {word.strip() for word in by.split(",")} <= there, query


def test_alerts_say_what_they_know() -> None:
    rules = alerts()
    assert {
        "XdpChangeRolledBack",
        "XdpForeignProgram",
        "XdpChainEmptied",
        "XdpMostDropped",
        "XdpPacketsLost",
    } <= {rule["alert"] for rule in rules}
    for rule in rules:
        by = re.findall(r"\bby \(([^)]*)\)", rule["expr"])
        kept = (
            {word.strip() for word in by[0].split(",")} if by else LABELS[sorted(metrics_in(rule["expr"]))[0]]
        )
        said = " ".join(rule["annotations"].values())
        assert set(re.findall(r"\$labels\.(\w+)", said)) <= kept | {"instance"}, rule["alert"]
        assert rule["labels"]["severity"] in ("warning", "critical")
        for command in re.findall(r"`xdptui (\w+)", said):
            assert command in COMMANDS


def test_its_form_is_grafanas() -> None:
    document = dashboard()
    assert {"title", "uid", "schemaVersion", "panels", "templating", "time", "annotations"} <= document.keys()
    assert document["schemaVersion"] >= 36
    variables = {one["name"] for one in document["templating"]["list"]}
    panels = document["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        assert {"type", "title", "gridPos", "targets", "datasource", "fieldConfig"} <= panel.keys()
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, f"{panel['title']} lies over another panel"
        taken |= cells
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    for query in queries(document):
        assert query.count("(") == query.count(")")
        assert query.count("{") == query.count("}")
        used = set(re.findall(r"\$(\w+)", query)) - {"__rate_interval", "__interval"}
        assert used <= variables, query
