# SPDX-License-Identifier: Apache-2.0
"""`xdptui test`: packets through an unattached program, and the lines they reach."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernel.command_line import CommandLine
from xdpchain.model.actions import Action
from xdpchain.objects.components import load_component
from xdpchain.testing import frames
from xdpchain.testing.coverage import cover
from xdpchain.testing.frames import NEAR, PEER
from xdpchain.trial.reached import SiteTrial

SOURCE = Path(__file__).parents[2] / "bpf/samples"
FILTERS = sorted(Path("/usr/lib/x86_64-linux-gnu/bpf").glob("xdpfilt_*.o"))


def line_of(file: str, text: str) -> int:
    lines = (SOURCE / file).read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


def hex_file(path: Path, *packets: bytes) -> str:
    path.write_text("\n".join(packet.hex() for packet in packets) + "\n")
    return str(path)


def test_each_packet_has_its_line_and_what_none_reached_is_listed(cli: CommandLine, tmp_path: Path) -> None:
    short = frames.udp(PEER, NEAR, 9)[:30]
    packets = hex_file(tmp_path / "packets", frames.udp(PEER, NEAR, 9), short, frames.arp_request(PEER, NEAR))
    document = cli.ok("test", cli.sample("firewall"), "--packets", packets).json
    sites = document["sites"]
    lines = [sites[packet["site"]]["line"] for packet in document["packets"]]
    assert lines[0] == line_of("firewall.bpf.c", "if (!bpf_map_lookup_elem(&blocked, &key))")
    assert lines[1] == line_of("../include/transport.h", "if ((void *)(ip + 1) > end)")
    assert [packet["verdict"] for packet in document["packets"]] == ["PASS"] * 3
    assert document["reached"] == 3
    assert sum(site["packets"] for site in sites) == 3
    text = cli("test", cli.sample("firewall"), "--packets", packets).out
    assert "reached 3 of 10 places, never:" in text
    assert text.rstrip().splitlines()[-1].split()[0] == "DROP", "an empty table blocks nothing"


def test_expectations_decide_the_exit_code(cli: CommandLine, tmp_path: Path) -> None:
    packets = hex_file(tmp_path / "packets", frames.udp(PEER, NEAR, 9), frames.arp_request(PEER, NEAR))
    line = line_of("firewall.bpf.c", "if (!bpf_map_lookup_elem(&blocked, &key))")
    expect = tmp_path / "expect"
    expect.write_text(f"1 PASS firewall.bpf.c:{line}  # nothing is blocked\n\n2 XDP_PASS\n")
    arguments = ("test", cli.sample("firewall"), "--packets", packets, "--expect", str(expect))
    good = cli(*arguments)
    assert good.code == 0
    assert "2 of 2 expectations met" in good.out
    expect.write_text("1 DROP\n2 PASS firewall.bpf.c:1\n")
    bad = cli(*arguments)
    assert bad.code == 1
    assert "expected DROP" in bad.out
    assert "0 of 2 expectations met" in bad.out
    for wrong in ("9 DROP", "1 PERHAPS", "one DROP", "1", "1 DROP a:1 b"):
        expect.write_text(wrong)
        refused = cli(*arguments)
        assert refused.code == 7
        assert "NUMBER VERDICT [FILE:LINE]" in refused.err
    assert cli("test", cli.sample("firewall"), "--packets", str(tmp_path / "none")).code == 5
    assert cli("test", cli.sample("refused")).code == 1


def test_a_tail_call_is_where_the_program_decided(cli: CommandLine) -> None:
    document = cli.ok("test", cli.sample("tailcalls"), "-n", "xdp_tailcalls").json
    handed = [
        packet for packet in document["packets"] if document["sites"][packet["site"]]["code"] == "tail call"
    ]
    assert {one["name"] for one in handed} >= {"TCP SYN to port 22", "UDP to port 9"}
    assert {one["verdict"] for one in handed} == {"PASS", "DROP"}


@pytest.mark.parametrize("path", FILTERS, ids=lambda path: path.stem)
def test_xdp_filter_whose_common_tail_returns_a_variable(path: Path) -> None:
    """With empty tables, those that deny let everything pass, and those that allow drop what they look at."""
    with SiteTrial(load_component(str(path))) as trial:
        for packet in (
            frames.udp(PEER, NEAR, 9),
            frames.tcp_syn(PEER, NEAR, 80),
            frames.arp_request(PEER, NEAR),
        ):
            ran = trial.run(packet)
            assert ran.site is not None
            site = trial.sites[ran.site]
            assert site.code == ran.code
            assert site.condition is not None
            assert site.condition.file == "xdpfilt_prog.h", "its own line, not the statistics'"


def test_coverage_for_tests_of_programs(samples: Path) -> None:
    covered = cover(samples / "firewall.o", [frames.udp(PEER, NEAR, 9), frames.arp_request(PEER, NEAR)])
    assert covered.verdicts == [Action.PASS, Action.PASS]
    assert len(covered.missed) == 8
    told = str(covered)
    assert told.startswith("xdp_firewall: reached 2 of 10 places, never: PASS transport.h:")
    where = line_of("firewall.bpf.c", "if (!bpf_map_lookup_elem(&blocked, &key))")
    assert f"DROP firewall.bpf.c:{where}" in told
    assert str(cover(samples / "pass.o", [bytes(20)])) == "xdp_pass: reached 1 of 1 places"
