# SPDX-License-Identifier: Apache-2.0
"""`xdptui export`: real packets, scraped; through edits, and to a clean end"""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.kernel.chains import chain_of, change, look_at
from tests.kernel.command_line import CommandLine
from xdpchain.testing import frames
from xdpchain.testing.playground import Playground
from xdptui.export.collector import ChainCollector
from xdptui.export.metrics import METRICS

UDP = frames.udp(frames.PEER, frames.NEAR, 53, payload=bytes(58))
Series = dict[tuple[str, ...], float]


def parsed(text: str) -> Series:
    """By name and the values of the labels that tests check."""
    made: Series = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            words = (sample.labels.get(name, "") for name in ("interface", "component", "action"))
            made[sample.name, *words] = sample.value
    return made


@contextmanager
def serving(cli: CommandLine, *words: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    process = cli.process(
        "export", "--listen", "127.0.0.1:0", *words, run=subprocess.Popen, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[0], process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def scrape(url: str) -> Series:
    with urllib.request.urlopen(url, timeout=20) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        return parsed(answer.read().decode())


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_known_packets_through_an_edit(
    cli: CommandLine, playground: Playground, samples: Path, end: int
) -> None:
    change(playground, chain_of(samples, "drop", "monitor").retune(0, actions=None))
    with serving(cli) as (url, process):
        name = playground.ifname
        first = scrape(url)
        assert first["xdptui_up", "", "", ""] == 1
        assert first["xdp_slot_packets_total", name, "xdp_drop", "XDP_DROP"] == 0
        playground.send([UDP] * 11)
        second = scrape(url)
        assert second["xdp_slot_packets_total", name, "xdp_drop", "XDP_DROP"] == 11
        assert second["xdp_slot_bytes_total", name, "xdp_drop", "XDP_DROP"] == 1100
        assert second["xdp_chain_packets_total", name, "", "XDP_DROP"] == 11
        assert second["xdp_slot_packets_total", name, "xdp_monitor", "XDP_PASS"] == 0
        chain = look_at(playground).chain
        assert chain is not None
        change(playground, chain.move(1, 0))
        playground.send([UDP] * 4)
        third = scrape(url)
        assert third["xdp_slot_packets_total", name, "xdp_drop", "XDP_DROP"] == 15
        assert third["xdp_slot_packets_total", name, "xdp_monitor", "XDP_PASS"] == 4
        assert third.keys() == second.keys()
        process.send_signal(end)
        assert process.wait(timeout=20) == 0


def test_scrapes_at_the_same_time_agree(cli: CommandLine, playground: Playground, samples: Path) -> None:
    change(playground, chain_of(samples, "pass"))
    playground.send([UDP] * 9)
    with serving(cli, playground.ifname) as (url, _):
        found: list[Series] = []
        threads = [threading.Thread(target=lambda: found.append(scrape(url))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 8
        assert {one["xdp_chain_packets_total", playground.ifname, "", "XDP_PASS"] for one in found} == {9}


def test_once(cli: CommandLine, playground: Playground, samples: Path) -> None:
    change(playground, chain_of(samples, "pass"))
    playground.send([UDP] * 2)
    made = parsed(cli("export", "--once").out)
    assert made["xdp_chain_packets_total", playground.ifname, "", "XDP_PASS"] == 2
    assert ("xdp_interface_receive_packets_total", "lo", "", "") in made
    only = parsed(cli("export", playground.ifname, "--once").out)
    assert ("xdp_interface_receive_packets_total", "lo", "", "") not in only


def test_counts_by_line_of_source(cli: CommandLine, playground: Playground, samples: Path) -> None:
    change(playground, chain_of(samples, "firewall"))
    playground.send([UDP] * 6)
    text = cli("export", playground.ifname, "--once", "--sites").out
    lines = [line for line in text.splitlines() if line.startswith("xdp_site_packets_total{")]
    assert len(lines) == 10
    assert [line for line in lines if line.endswith(" 6.0")] == [
        line for line in lines if not line.endswith(" 0.0")
    ]
    assert 'action="XDP_PASS"' in next(line for line in lines if line.endswith(" 6.0"))
    assert "xdp_site_packets" not in cli("export", playground.ifname, "--once").out


def test_every_metric_is_exported_and_none_else(playground: Playground, samples: Path) -> None:
    change(playground, chain_of(samples, "pass").label(0, {"team": "edge"}))
    collector = ChainCollector(playground.netns)
    families = list(collector.collect())
    collector.close()
    assert [family.name for family in families] == [metric.name for metric in METRICS]
    confirmed = {"xdp_change_pending_seconds", "xdp_change_settled_timestamp_seconds"}  # no change waited
    assert {family.name for family in families if not family.samples} == confirmed


def test_a_namespace_that_went_away_is_down_and_no_error(playground: Playground) -> None:
    collector = ChainCollector("xdptui-there-is-none")
    families = {family.name: family for family in collector.collect()}
    assert families["xdptui_up"].samples == {(): 0}
    assert "xdptui-there-is-none" in collector.trouble


def test_what_can_not_be_listened_on(cli: CommandLine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = cli("export", "--listen", f"127.0.0.1:{port}")
        assert result.code == 4
        assert "another program" in result.err
    assert cli("export", "--listen", "192.0.2.1:9435").code == 7
    assert cli("export", "--listen", "nowhere").code == 7
    assert cli("export", "nowhere", "--once").code == 5


def test_reading_costs_little(playground: Playground, samples: Path) -> None:
    change(playground, chain_of(samples, "firewall", "monitor"))
    collector = ChainCollector(playground.netns)
    list(collector.collect())
    began = time.monotonic()
    for _ in range(10):
        list(collector.collect())
    assert (time.monotonic() - began) / 10 < 0.5
    collector.close()
