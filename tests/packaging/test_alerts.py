# SPDX-License-Identifier: Apache-2.0
"""The alert rules as Prometheus reads them: its own promtool checks them, and tests them on series."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ALERTS = Path(__file__).parents[2] / "docs" / "alerts.yml"
WHERE = 'instance="r1",netns="",interface="eth0"'
QUIET = {
    "xdptui_up": ('instance="r1"', "1+0x40"),
    "xdp_chain_slots": (WHERE, "2+0x40"),
    "xdp_interface_receive_packets_total": (WHERE, "0+600x40"),
    "xdp_chain_info": (f'{WHERE},owner="xdptui",program="xdptui_chain"', "1+0x40"),
    "xdp_chain_emptied": (WHERE, "0+0x40"),
    "xdp_change_settled_timestamp_seconds": (f'{WHERE},outcome="confirmed"', "600+0x40"),
    "xdp_change_pending_seconds": (f'{WHERE},state="armed"', "30+0x40"),
    "xdp_slot_packets_total": (f'{WHERE},component="fw",key="a",action="XDP_ABORTED"', "0+0x40"),
    "xdp_lost_packets_total": (f'{WHERE},tracepoint="xdp_exception",reason="XDP_ABORTED"', "0+0x40"),
}
"""A healthy machine, with one sample per minute: by metric, its labels and its values."""

TROUBLE = {
    "XdpNotReadable": ("xdptui_up", 'instance="r1"', "0+0x40"),
    "XdpChainGone": ("xdp_chain_slots", WHERE, "2+0x25 stale"),
    "XdpForeignProgram": ("xdp_chain_info", f'{WHERE},owner="foreign",program="p"', "1+0x40"),
    "XdpChainEmptied": ("xdp_chain_emptied", WHERE, "1+0x40"),
    "XdpChangeRolledBack": (
        "xdp_change_settled_timestamp_seconds", f'{WHERE},outcome="rolled-back"', "1500+0x40",
    ),
    "XdpChangeUnguarded": ("xdp_change_pending_seconds", f'{WHERE},state="unguarded"', "0+0x40"),
    "XdpAborted": (
        "xdp_slot_packets_total", f'{WHERE},component="fw",key="a",action="XDP_ABORTED"', "0+1x40",
    ),
    "XdpPacketsLost": (
        "xdp_lost_packets_total", f'{WHERE},tracepoint="xdp_exception",reason="EINVAL"', "0+1x40",
    ),
}  # fmt: skip
"""By alert: the series that differs from the healthy machine's, at minute 30."""


@pytest.fixture(scope="module")
def promtool(tmp_path_factory: pytest.TempPathFactory) -> str:
    """From Debian's package, which is not installed because that would start a Prometheus on this machine."""
    folder = tmp_path_factory.mktemp("prometheus")
    subprocess.run(["apt-get", "--quiet=2", "download", "prometheus"], cwd=folder, check=True)
    [package] = folder.glob("*.deb")
    subprocess.run(["dpkg-deb", "-x", str(package), str(folder)], check=True)
    return str(folder / "usr/bin/promtool")


def case(fires: str | None, *series: tuple[str, str, str]) -> dict[str, Any]:
    """With these series replacing those of the same names, ``fires`` and no other alert fires at
    minute 30.
    """
    instead = {name for name, _, _ in series}
    every = [*((name, *rest) for name, rest in QUIET.items() if name not in instead), *series]
    return {
        "interval": "1m",
        "input_series": [
            {"series": f"{name}{{{labels}}}", "values": values} for name, labels, values in every
        ],
        "promql_expr_test": [
            {
                "expr": "count by (alertname) (ALERTS{alertstate='firing'})",
                "eval_time": "30m",
                "exp_samples": [{"labels": f'{{alertname="{fires}"}}', "value": 1}] if fires else [],
            }
        ],
    }


@pytest.mark.long
def test_each_alert_fires_in_its_trouble_and_none_when_all_is_well(promtool: str, tmp_path: Path) -> None:
    subprocess.run([promtool, "check", "rules", str(ALERTS)], check=True)
    cases = [case(None), *(case(alert, series) for alert, series in TROUBLE.items())]
    drops = ("xdp_chain_packets_total", f'{WHERE},action="XDP_DROP"')
    passes = ("xdp_chain_packets_total", f'{WHERE},action="XDP_PASS"')
    cases.append(case("XdpMostDropped", (*drops, "0+60x40"), (*passes, "0+40x40")))
    cases.append(case(None, (*drops, "0+40x40"), (*passes, "0+60x40")))
    [group] = yaml.safe_load(ALERTS.read_text())["groups"]
    assert {rule["alert"] for rule in group["rules"]} == {*TROUBLE, "XdpMostDropped"}
    tests = tmp_path / "tests.yml"
    tests.write_text(
        yaml.safe_dump({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": cases})
    )
    done = subprocess.run([promtool, "test", "rules", str(tests)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
