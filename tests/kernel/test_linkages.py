# SPDX-License-Identifier: Apache-2.0
"""The table in docs/linkages.md, row by row: what it says about a linkage holds in both modes, in short
chains and in chains of ten, and each "no" has the reason that the user is given.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.kernel.chains import change, expected, look_at, run_through, scripted_chain
from tests.kernel.test_adopt import COUNTING, attached, plan_of, seen
from tests.kernel.tracing import INCLUDE, settled
from tests.objects.compile import EVERYTHING, compile_file, compile_text
from xdpchain.change.plan import make_plan
from xdpchain.editing import apply
from xdpchain.errors import XdpChainError
from xdpchain.follow import Followed, follow
from xdpchain.maps.globals import with_globals
from xdpchain.model.actions import Action, ActionSet
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.component import Component
from xdpchain.model.interface import Mode
from xdpchain.model.link_layer import ETHERNET
from xdpchain.model.policy import Answer, Policy
from xdpchain.model.running import Owner, Running
from xdpchain.model.slot import Slot
from xdpchain.objects.components import component_of, keep_maps, load_component, programs_of
from xdpchain.observe.counters import open_counters
from xdpchain.sys import bpf
from xdpchain.testing.frames import scripted
from xdpchain.testing.playground import Playground
from xdpchain.trial.packets.builtin import builtin
from xdpchain.trial.packets.frames import Host
from xdpchain.trial.whatif import what_if

TABLE = Path(__file__).parents[2] / "docs" / "linkages.md"
PASS_ON = ActionSet.parse("P")
DROP, PASS = 1, 2


@dataclass(frozen=True)
class Trying:
    """Chains of one linkage and mode on a playground, of so many slots at least."""

    net: Playground
    samples: Path
    folder: Path
    linkage: Linkage
    mode: Mode
    slots: int

    def scripted(self, *actions: str) -> Chain:
        chosen = [ActionSet.parse(text) for text in actions]
        return scripted_chain(self.samples, chosen, self.linkage, self.mode)

    def of(self, component: Component) -> Chain:
        return Chain((Slot.of(component),), self.linkage, self.mode)

    def change(self, chain: Chain) -> Running:
        """Run it with as many slots behind its own as are missing: they return XDP_PASS."""
        return change(self.net, self.filled(chain))

    def filled(self, chain: Chain) -> Chain:
        for number in range(len(chain), self.slots):
            behind = Slot.of(load_component(str(self.samples / "pass.o")), actions=PASS_ON)
            chain = chain.add(behind, number)
        return chain

    def two(self) -> tuple[Running, Chain]:
        running = self.change(self.scripted("P", "P"))
        assert running.chain is not None
        assert len(running.chain) == self.slots
        return running, running.chain

    def through(self, running: Running, frame: bytes) -> bpf.TestRun:
        return run_through(running, frame, arrived=self.mode is Mode.NATIVE)

    def counted(self) -> list[int]:
        """Packets by slot, with nobody looking; then the chain's own, if counted."""
        running = look_at(self.net)
        with open_counters(running, attach=False) or pytest.fail("nothing counts") as reader:
            sample = reader.read()
        verdict = [] if sample.verdict is None else [sample.verdict.total_packets]
        return [*(sample.slots[slot.key].total_packets for slot in running.chain or ()), *verdict]


def lengths(trying: Trying) -> str:
    trying = replace(trying, slots=1)
    for count in range(1, 11):
        running = trying.change(trying.scripted(*["P"] * count))
        got = trying.through(running, scripted(bytes([PASS] * count)))
        assert (got.code, got.data[60:]) == (PASS, b"0123456789"[:count])
    return ""


def modes(trying: Trying) -> str:
    """What comes in from the network, by mode; what the last two return shows that they ran."""
    trying.change(trying.scripted("P", "PD"))
    assert trying.net.send([scripted(bytes((PASS, DROP)))] * 3) == 3
    running = look_at(trying.net)
    assert (running.linkage, running.mode) == (trying.linkage, trying.mode)
    assert [hook.mode for hook in running.hooks] == [trying.mode]
    with open_counters(running, attach=False) or pytest.fail("nothing counts") as reader:
        sample = reader.read()
    slots = [sample.slots[slot.key] for slot in running.chain or ()]
    assert [slot.packets[PASS] for slot in slots] == [3, 0] + [3] * (trying.slots - 2)
    assert [slot.packets[DROP] for slot in slots] == [0, 3] + [0] * (trying.slots - 2)
    assert [slot.total_packets for slot in slots] == [3] * trying.slots
    if sample.verdict is not None:  # no row says that it is counted always
        assert (sample.verdict.packets[PASS], sample.verdict.total_packets) == (3, 3)
    return ""


def order(trying: Trying) -> str:
    running = trying.change(trying.scripted("PD", "none", "P"))
    for script in ((PASS, PASS, DROP), (DROP, DROP, PASS), (3, PASS, PASS), (31, 31, PASS)):
        want = expected([ActionSet.parse(text) for text in ("PD", "none", "P")], script)
        got = run_through(running, scripted(bytes(script)))
        assert (got.code, len(got.data[60:])) == (want.verdict, len(want.returned))
    return ""


def counters(trying: Trying) -> str:
    trying.two()
    trying.net.send([scripted(bytes((PASS, DROP)))] * 3)
    return "" if trying.counted()[: trying.slots] == [3, 3] + [0] * (trying.slots - 2) else "not counted"


def lines(trying: Trying) -> str:
    running = trying.change(trying.of(load_component(str(trying.samples / "firewall.o"))))
    first = (running.chain or Chain()).slots[0].key
    for packet in builtin(Host.number(1), Host.number(2), ETHERNET):
        run_through(running, packet.data)
    with open_counters(running, attach=False) or pytest.fail("nothing counts") as reader:
        sample = reader.read()
    sites, codes = sample.sites.get(first, {}), sample.slots[first]
    return "" if sum(packets for packets, _ in sites.values()) == codes.total_packets > 0 else "by code"


def outcome(trying: Trying) -> str:
    trying.two()
    return "" if len(trying.counted()) == trying.slots + 1 else "counted while somebody looks"


def counts_go_on(trying: Trying) -> str:
    _, chain = trying.two()
    trying.net.send([scripted(bytes((PASS, PASS)))] * 3)
    running = trying.change(chain.move(1, 0).retune(0, actions=ActionSet.parse("PD")))
    old = (running.chain or chain).slots[0]
    again = keep_maps(load_component(str(trying.samples / "scripted.o"), name=old.name), old.component)
    trying.change((running.chain or chain).substitute(0, again))
    trying.net.send([scripted(bytes((PASS, PASS)))] * 2)
    assert trying.counted()[: trying.slots] == [5] * trying.slots
    return ""


def shadow(trying: Trying) -> str:
    _, chain = trying.two()
    running = trying.change(chain.retune(0, shadow=True))
    assert run_through(running, scripted(bytes((DROP, PASS)))).code == PASS
    return ""


def routes(trying: Trying) -> str:
    chain = trying.scripted("P", "P", "P")
    running = trying.change(chain.route(0, Action.TX, chain.slots[2].key))
    assert run_through(running, scripted(bytes((3, DROP, PASS)))).data[60:] == b"02"
    return ""


def policies(trying: Trying) -> str:
    running = trying.change(trying.scripted("P", "P").police(0, Policy(PASS_ON, Answer.DROP)))
    assert run_through(running, scripted(bytes((3, PASS)))).code == DROP
    return ""


def global_values(trying: Trying) -> str:
    source = programs_of(str(trying.samples / "globals.o"))
    component = with_globals(component_of(source), source, ("step=5",))
    running = trying.change(trying.of(component))
    assert running.chain is not None
    assert running.chain.slots[0].component.globals == component.globals
    return ""


def kept_maps(trying: Trying) -> str:
    path = str(trying.samples / "counter.o")
    running = trying.change(trying.of(load_component(path)))
    assert running.chain is not None
    old = running.chain.slots[0].component
    after = trying.change(running.chain.substitute(0, keep_maps(load_component(path), old)))
    assert after.chain is not None
    assert after.chain.slots[0].component.maps == old.maps
    return ""


def tried_first(trying: Trying) -> str:
    running, chain = trying.two()
    answer = what_if(running, chain.move(1, 0), builtin(Host.number(1), Host.number(2), ETHERNET))
    assert all(None not in (crossing.old.verdict, crossing.new.verdict) for crossing in answer.crossings)
    return ""


def followed(trying: Trying) -> str:
    running, _ = trying.two()
    with follow(running, "", count=1) as follower:
        trying.net.send([scripted(bytes((PASS, PASS)))])
        found: list[Followed] = []
        settled(lambda: bool(found.extend(follower.poll()) or found))
    return "" if [one.verdict for one in found] == [PASS] else "not seen"


def in_place(trying: Trying) -> str:
    running, chain = trying.two()
    after = trying.change(chain.retune(0, actions=ActionSet.parse("PD")))
    return "" if after.hook == running.hook else "another program"


def adopted(trying: Trying) -> str:
    path = trying.folder / "counting.o"
    path.write_bytes(compile_text(COUNTING))
    with attached(trying.net, path, trying.mode.value) as foreign:
        trying.net.send([scripted(bytes((PASS,)))] * 3)
        after = apply(plan_of(look_at(trying.net), path, trying.linkage))
    assert (after.owner, after.linkage, after.mode) == (Owner.XDPTUI, trying.linkage, trying.mode)
    after = apply(make_plan(after, trying.filled(after.chain or Chain())))
    chain = after.chain or Chain()
    assert len(chain) == trying.slots
    assert {ref.name: ref.id for ref in chain.slots[0].component.maps} == foreign.maps
    trying.net.send([scripted(bytes((PASS,)))] * 2)
    assert seen(foreign.maps["seen_by_code"]) == {PASS: 5}
    return ""


def throws(trying: Trying) -> str:
    if " T bpf_throw\n" not in Path("/proc/kallsyms").read_text():
        pytest.skip("this kernel has no bpf_throw")
    path = trying.folder / "throwing.o"
    path.write_bytes(compile_file(EVERYTHING.with_name("throwing.bpf.c"), INCLUDE))
    trying.change(trying.of(load_component(str(path), name="throwing")))
    return ""


def long_lengths(trying: Trying) -> str:
    for count in (11, 20, 32):
        running = trying.change(trying.scripted(*["P"] * count))
        got = trying.through(running, scripted(bytes([PASS] * count)))
        assert (got.code, len(got.data[60:])) == (PASS, count)
    return ""


ROWS: dict[str, Callable[[Trying], str]] = {
    "1 to 10 slots": lengths,
    "11 to 32 slots": long_lengths,
    "native and generic mode": modes,
    "order, actions, XDP_PASS after the last slot": order,
    "slots count with nobody looking": counters,
    "each line that decides is counted with nobody looking": lines,
    "what the chain returns is counted with nobody looking": outcome,
    "counts go on through edits and replacements": counts_go_on,
    "shadow": shadow,
    "routes": routes,
    "policies": policies,
    "global variables": global_values,
    "a new version keeps the maps": kept_maps,
    "what-if on copies": tried_first,
    "following packets": followed,
    "an action is switched with no new program": in_place,
    "a running single program is taken into the chain": adopted,
    "components that call bpf_throw": throws,
}
OF_ANY_LENGTH = [probe for probe in ROWS.values() if probe not in (lengths, long_lengths)]
CASES = [
    pytest.param(
        row, linkage, mode, slots, id=f"{linkage}-{mode}-{slots}-{row}", marks=[pytest.mark.vm] * libxdp
    )
    for linkage in Linkage
    for libxdp in (linkage.facts.libxdp,)
    for mode in (Mode.NATIVE, Mode.GENERIC)
    for slots in ((2,) if libxdp else (2, 10))  # the lab's kernels are slow
    for row, probe in ROWS.items()
    if slots == 2 or probe in OF_ANY_LENGTH
]


def rows() -> dict[str, list[str]]:
    """The document's first table: the cells of each linkage by subject."""
    table, _, _ = TABLE.read_text().partition("\n## With libxdp's tools")
    found_lines = re.findall(r"^\| (?!\|)(.+?) \|$", table, re.MULTILINE)
    found = {
        cells[0]: cells[1:] for line in found_lines if len(cells := line.split(" | ")) == 1 + len(Linkage)
    }
    return {name: cells for name, cells in found.items() if name in ROWS or set(name) - {"-", " "}}


def test_the_table_has_every_row() -> None:
    assert list(rows()) == ["what", *ROWS]


@pytest.mark.parametrize(("row", "linkage", "mode", "slots"), CASES)
def test_what_the_table_says_is_so(
    playground: Playground, samples: Path, tmp_path: Path, row: str, linkage: Linkage, mode: Mode, slots: int
) -> None:
    said = rows()[row][rows()["what"].index(linkage.value)]
    try:
        reason = ROWS[row](Trying(playground, samples, tmp_path, linkage, mode, slots))
    except XdpChainError as error:
        reason = f"{error}"
    assert (said == "yes") == (reason == ""), f"the table says {said!r}, found {reason!r}"
    assert said.removeprefix("no: ").removeprefix("yes") in reason, f"the table says {said!r}, not {reason!r}"


LOOPING = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
int looping(struct xdp_md *ctx);
struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 1); __uint(key_size, 4);
         __array(values, int(void *)); } again SEC(".maps") = { .values = { [0] = (void *)&looping } };
int left;
SEC("xdp") int looping(struct xdp_md *ctx) { if (--left > 0) bpf_tail_call(ctx, &again, 0); return XDP_PASS; }
SEC("xdp") int under_test(struct xdp_md *ctx) { left = OWN; bpf_tail_call(ctx, &again, 0); return XDP_PASS; }
char _license[] SEC("license") = "GPL";
"""


@pytest.mark.parametrize(("own", "reached"), [(23, True), (24, True), (25, False), (33, False)])
def test_ten_slots_are_safe_with_a_component_that_makes_23_tail_calls(
    playground: Playground, samples: Path, tmp_path: Path, own: int, reached: bool
) -> None:
    """The last of ten drops. To it the chain makes nine of the 33: the component's 25th is one too many."""
    path = tmp_path / "looping.o"
    path.write_bytes(compile_text(LOOPING, INCLUDE, f"-DOWN={own}"))
    trying = Trying(playground, samples, tmp_path, Linkage.TAILCALL, Mode.NATIVE, 9)
    chain = trying.filled(trying.of(load_component(str(path), name="under_test")))
    running = trying.change(chain.add(Slot.of(load_component(str(samples / "drop.o"))), 9))
    assert len(running.chain or ()) == 10
    code = run_through(running, bytes(64)).code
    if not reached and code == DROP:
        pytest.skip("this kernel counts the tail calls that functions make apart (before 6.12, 116e04ba1459)")
    assert code == (DROP if reached else PASS)
