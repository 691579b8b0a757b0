# SPDX-License-Identifier: Apache-2.0
"""What a program can return and where, read from object files: no kernel, no root."""

from __future__ import annotations

import contextlib
import json
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xdpchain.bytecode.code_values import Called
from xdpchain.bytecode.opcodes import Helper
from xdpchain.bytecode.sites import SourceLine, SourceMap
from xdpchain.errors import XdpChainError
from xdpchain.objects.elf import Elf
from xdpchain.objects.verdicts import ProgramVerdicts, verdicts_of
from xdptui.cli import main
from xdptui.render.verdicts_text import summary, verdict_facts, verdicts_document, verdicts_text
from xdptui.words.site_words import site_words

SAMPLES = Path(__file__).parents[2] / "build/samples"
FILTER = Path("/usr/lib/x86_64-linux-gnu/bpf/xdpfilt_alw_tcp.o")
SOURCE = Path(__file__).parents[2] / "bpf/samples"


def sample(name: str, program: str) -> ProgramVerdicts:
    return verdicts_of((SAMPLES / f"{name}.o").read_bytes(), program)


def line_of(file: Path, text: str) -> int:
    return next(n for n, line in enumerate(file.read_text().splitlines(), 1) if text in line)


def test_the_firewall_tells_the_condition_of_each_verdict() -> None:
    found = sample("firewall", "xdp_firewall")
    blocked = line_of(SOURCE / "firewall.bpf.c", "if (!bpf_map_lookup_elem(&blocked, &key))")
    drops = [site for site in found.sites if site.word == "DROP"]
    assert [(site.line.file, site.line.number) for site in drops if site.line] == [
        ("firewall.bpf.c", blocked)
    ]
    assert drops[0].condition is not None
    assert {site.word for site in found.sites} == {"PASS", "DROP"}
    assert {site.function for site in found.sites} == {"xdp_firewall"}, "what it calls was inlined"
    assert summary(found.sites) == "passes in 9 places, drops in 1 place"


def test_a_condition_says_which_way_it_went() -> None:
    """The same line lets packets pass and drops them: the line that follows tells which."""
    found = sample("firewall", "xdp_firewall")
    file = SOURCE / "firewall.bpf.c"
    asked = line_of(file, "if (!bpf_map_lookup_elem(&blocked, &key))")
    ways = {site.word: site_words(site) for site in found.sites if site.line and site.line.number == asked}
    start = f"firewall.bpf.c:{asked}  if (!bpf_map_lookup_elem(&blocked, &key))  → "
    kind = line_of(file, "__u32 kind =")
    assert ways["DROP"].startswith(f"{start}{kind}  __u32 kind = ")
    assert ways["PASS"] == f"{start}{file.read_text().splitlines().index('}', asked) + 1}"
    (rate,) = (site for site in sample("ratelimit", "xdp_ratelimit").sites if site.word == "DROP")
    assert rate.leads is not None
    assert rate.leads.number == line_of(SOURCE / "ratelimit.bpf.c", "if (credit < cost)") + 1


@pytest.mark.skipif(not FILTER.exists(), reason="xdp-tools is not installed")
def test_a_common_tail_that_returns_a_variable() -> None:
    """xdp-filter counts first and then returns; its lines have numbers, but no text."""
    found = verdicts_of(FILTER.read_bytes(), "xdpfilt_alw_tcp")
    places = {(site.word, site.line.file, site.line.number) for site in found.sites if site.line}
    # The port's checks in both directions, and what is neither TCP nor UDP.
    assert {("DROP", "xdpfilt_prog.h", 72), ("DROP", "xdpfilt_prog.h", 74)} <= places
    assert ("PASS", "xdpfilt_prog.h", 240) in places
    assert ("ABORTED", "xdp_stats_kern.h", 37) in places


def test_one_code_alone_is_said_in_one_word() -> None:
    found = sample("pass", "xdp_pass")
    assert summary(found.sites) == "always passes"
    returns = SourceLine("pass.bpf.c", line_of(SOURCE / "pass.bpf.c", "return XDP_PASS;"), "return XDP_PASS;")
    assert [(site.condition, site.line) for site in found.sites] == [(None, returns)]


def test_helpers_and_tail_calls_are_named() -> None:
    (site,) = sample("redirect", "redirect_out").sites
    assert (site.code, site.word) == (Called(Helper.REDIRECT_MAP), "helper")
    assert "bpf_redirect_map()" in verdicts_text(sample("redirect", "redirect_out"))
    assert "tail call" in {site.word for site in sample("tailcalls", "xdp_tailcalls").sites}


def test_without_line_information_the_instruction_is_named() -> None:
    found = sample("nobtf", "xdp_nobtf")
    text = verdicts_text(found)
    assert "xdp_nobtf, instruction 4" in text
    assert "build it with clang -g" in text
    (program,) = verdicts_document([found])["programs"]
    assert [(site["line"], site["text"]) for site in program["sites"]] == [(None, "instruction 4")] * 2
    assert all(site["condition"] for site in program["sites"])


def test_the_dialog_shows_the_lines_on_request() -> None:
    found = sample("firewall", "xdp_firewall")
    (line,) = verdict_facts(found, lines=False)
    assert line == "passes in 9 places, drops in 1 place (ctrl+l: which lines decide)"
    assert len(verdict_facts(found, lines=True)) == 11


def test_source_text_of_others_can_not_control_a_terminal() -> None:
    line = SourceLine.clean("a/b\x1b[2J.c", 7, "\treturn \x1b]0;owned\x07 " + "x" * 500)
    assert line.file == "b?[2J.c"
    assert line.text.startswith("return ?]0;owned?")
    assert len(line.text) == 200
    assert SourceMap(((0, "f"),), ((0, line), (3, SourceLine("f.c", 0, "")))).line(5) == line


def test_the_command_needs_nothing_but_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verdicts", str(SAMPLES / "firewall.o")]) == 0
    assert "drops in 1 place" in capsys.readouterr().out
    assert main(["verdicts", str(SAMPLES / "two.o"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["programs"]) == 2
    site = document["programs"][0]["sites"][0]
    assert set(site) == {
        "code",
        "function",
        "file",
        "line",
        "text",
        "condition",
        "return",
        "leads",
        "called_from",
    }
    assert main(["verdicts", str(SAMPLES / "firewall.o"), "-n", "nobody"]) != 0
    assert "has no program or section 'nobody'" in capsys.readouterr().err


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_files_are_refused_in_words(data: st.DataObject) -> None:
    """Whatever is in .BTF.ext and in the code: an answer or an InvalidInput, never a traceback."""
    whole = (SAMPLES / "firewall.o").read_bytes()
    name = data.draw(st.sampled_from([".BTF.ext", "xdp"]))
    section = Elf.parse(whole).section(name)
    assert section is not None
    start = whole.index(bytes(section.data))
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        at = start + data.draw(st.integers(0, len(section.data) - 4)) // 4 * 4
        struct.pack_into("<I", damaged, at, data.draw(st.integers(0, (1 << 32) - 1)))
    with contextlib.suppress(XdpChainError):
        verdicts_of(bytes(damaged), "xdp_firewall")
