# SPDX-License-Identifier: Apache-2.0
"""A static chain does the same in every form its components can take in the one program: exits that are
jumps, exits that are tested, or calls. The first costs least; the others are for what the kernel refuses in
it, and are reported.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.kernel.chains import chain_of, change, look_at, run_through, scripted_chain
from tests.kernel.command_line import CommandLine
from tests.kernel.test_tailcall import INCLUDE
from tests.objects.compile import compile_text
from xdpchain.linkage import static
from xdpchain.linkage.threaded import Form
from xdpchain.model.actions import Action, ActionSet
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.policy import parse_policy
from xdpchain.model.running import Running
from xdpchain.model.slot import Slot
from xdpchain.objects.components import load_component
from xdpchain.observe.details import describe
from xdpchain.sys import bpf
from xdpchain.testing import frames
from xdpchain.testing.playground import Playground
from xdpchain.trial.run import TrialRow, run_trial
from xdptui.view.detail_lines import overview

WORDS = ["P", "PD", "ADPTR", "none", "TR", "P"]


def scripted(samples: Path) -> Chain:
    chain = scripted_chain(samples, [ActionSet.parse(text) for text in WORDS], Linkage.STATIC)
    return chain.route(0, Action.TX, chain.slots[4].key)


def everything(samples: Path) -> Chain:
    return chain_of(samples, "globals", "subprogs", "loops", "mapinmap", "globalfn", "tailcalls", "firewall")


def tried(chain: Chain) -> list[TrialRow]:
    chance = random.Random(7)
    packets = [
        frames.scripted(bytes(chance.choice((0, 1, 2, 3, 4, 5, 31, 99)) for _ in WORDS)) for _ in range(60)
    ]
    packets += [frames.udp(frames.PEER, frames.NEAR, port) for port in range(7, 12)]
    return list(run_trial(chain, packets).rows)


@pytest.mark.parametrize("make", [scripted, everything])
def test_all_forms_do_the_same(
    root: None, samples: Path, monkeypatch: pytest.MonkeyPatch, make: object
) -> None:
    chain = make(samples)  # type: ignore[operator]
    inside = [(row.slots, row.verdict, row.frame_out) for row in tried(chain)]
    for form in (Form.INLINED, Form.CALLS):
        monkeypatch.setattr(static, "FORMS", (form,))
        assert [(row.slots, row.verdict, row.frame_out) for row in tried(chain)] == inside


def functions(program: int) -> int:
    with bpf.prog_by_id(program) as fd:
        return bpf.prog_info(fd).function_count


def test_what_fits_leaves_no_call_and_what_does_not_stays_a_function(
    playground: Playground, samples: Path, monkeypatch: pytest.MonkeyPatch, cli: CommandLine
) -> None:
    running = change(playground, chain_of(samples, "firewall", "ratelimit", "monitor"))
    assert running.hook is not None
    assert functions(running.hook.prog_id) == 1
    assert (running.form, running.form_reason) == (Form.THREADED, "")
    # Its tail calls must return to the chain.
    running = change(playground, chain_of(samples, "firewall", "tailcalls"))
    assert running.hook is not None
    assert functions(running.hook.prog_id) >= 2
    assert running.form_reason == "called, because it makes tail calls: xdp_tailcalls"
    # The verifier may refuse the single function: then calls divide its work.
    refused: list[int] = []
    load = bpf.prog_load

    def refuse(*words: object, **options: object) -> bpf.Fd:
        if (
            options.get("name") == static.PROGRAM and len(refused) < 6
        ):  # each is tried once more to get its reasons
            refused.append(7)
            raise bpf.BpfError(7, bpf.Command.PROG_LOAD, log="0: (b7) r0 = 2\nBPF program is too large\n")
        return load(*words, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(bpf, "prog_load", refuse)
    running = change(playground, chain_of(samples, "firewall", "ratelimit", "monitor"))
    assert refused
    assert running.hook is not None
    assert functions(running.hook.prog_id) == 4
    assert running.form == Form.CALLS
    assert running.form_reason == "not inlined: the verifier says BPF program is too large"
    (shown,) = cli("status", cli.interface, "--json").json["interfaces"]
    assert (shown["form"], shown["form_reason"]) == (running.form, running.form_reason)
    assert "static linkage (calls)" in cli("status", cli.interface).out
    assert linked(running) == ["calls (not inlined: the verifier says BPF program is too large)"] * 3


def linked(running: Running) -> list[str]:
    """What the details page says of each slot's form."""
    return [
        dict(overview(describe(running, slot), slot, slot))["  linked"] for slot in running.chain or Chain()
    ]


@pytest.mark.parametrize("linkage", [Linkage.STATIC, Linkage.TAILCALL])
@pytest.mark.parametrize(
    ("names", "form", "reason"),
    [
        (("firewall", "monitor"), Form.THREADED, ""),
        (("tailcalls",), Form.CALLS, "called, because it makes tail calls: xdp_tailcalls"),
    ],
)
def test_status_and_the_details_page_show_the_form_and_why(
    playground: Playground,
    samples: Path,
    cli: CommandLine,
    linkage: Linkage,
    names: tuple[str, ...],
    form: Form,
    reason: str,
) -> None:
    running = change(playground, chain_of(samples, *names, linkage=linkage))
    for options in ((), ("-v",)):
        lines = cli("status", cli.interface, *options).out.splitlines()
        assert f"by xdptui, {linkage} linkage ({form})" in lines[2]
        assert (f"    {reason}" in lines) == bool(reason), lines
        assert ("called" in "".join(lines)) == bool(reason)
    (shown,) = cli("status", cli.interface, "--json").json["interfaces"]
    assert (shown["form"], shown["form_reason"]) == (form, reason)
    assert linked(running) == [f"{form} ({reason})" if reason else f"{form}"] * len(names)


R8 = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("xdp") int under_test(struct xdp_md *ctx)
{
	int verdict = 1;
	asm volatile("r8 = 1; r8 += 1; %0 = r8" : "=r"(verdict) : : "r8");
	return verdict;
}
char _license[] SEC("license") = "GPL";
"""


def test_registers_that_nobody_set_are_not_kept(
    playground: Playground, samples: Path, tmp_path: Path
) -> None:
    (tmp_path / "r8.o").write_bytes(compile_text(R8, *INCLUDE))
    chain = Chain(linkage=Linkage.STATIC).add(Slot.of(load_component(str(tmp_path / "r8.o"))))
    running = change(playground, chain.add(chain_of(samples, "drop").slots[0]))
    assert (running.form, running.form_reason) == (Form.THREADED, "")
    assert run_through(running, bytes(64)).code == Action.DROP


def test_a_slot_that_no_code_leads_to_is_no_part_of_the_program(
    playground: Playground, samples: Path
) -> None:
    """Its maps stay all the same: an edit may make packets reach it again."""
    chain = chain_of(samples, "counter", "drop", linkage=Linkage.STATIC)
    running = change(playground, chain.move(1, 0))
    assert run_through(running, bytes(64)).code == Action.DROP
    assert running.chain is not None
    maps = running.chain.slots[1].component.maps
    assert maps
    for ref in maps:
        bpf.map_by_id(ref.id).close()
    running = change(playground, running.chain.retune(0, actions=ActionSet.parse("PD")))
    assert run_through(running, bytes(64)).code == Action.PASS
    assert running.chain is not None
    assert running.chain.slots[1].component.maps == maps
    assert look_at(playground).form == Form.THREADED


def test_a_policy_holds_in_every_form(root: None, samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = scripted(samples).police(0, parse_policy("PASS,TX", "drop")).police(2, parse_policy("PASS"))
    found = []
    for form in Form:
        monkeypatch.setattr(static, "FORMS", (form,))
        found.append([(row.slots, row.verdict, row.frame_out) for row in tried(chain)])
    assert found[0] == found[1] == found[2]
