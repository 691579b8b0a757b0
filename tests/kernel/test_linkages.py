# SPDX-License-Identifier: Apache-2.0
"""The table in docs/linkages.md, row by row: what it says about a linkage holds, and each "no" has the reason
that the user is given.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kernel.chains import LINKAGES, change, expected, look_at, run_through, scripted_chain
from tests.kernel.tracing import INCLUDE, settled
from tests.objects.compile import EVERYTHING, compile_file
from xdpchain.errors import XdpChainError
from xdpchain.follow import Followed, follow
from xdpchain.maps.globals import with_globals
from xdpchain.model.actions import Action, ActionSet
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.interface import Mode
from xdpchain.model.link_layer import ETHERNET
from xdpchain.model.policy import Answer, Policy
from xdpchain.model.running import Running
from xdpchain.model.slot import Slot
from xdpchain.objects.components import component_of, keep_maps, load_component, programs_of
from xdpchain.observe.counters import open_counters
from xdpchain.testing.frames import scripted
from xdpchain.testing.playground import Playground
from xdpchain.trial.packets.builtin import builtin
from xdpchain.trial.packets.frames import Host
from xdpchain.trial.whatif import what_if

TABLE = Path(__file__).parents[2] / "docs" / "linkages.md"
PASS_ON = ActionSet.parse("P")
DROP, PASS = 1, 2


class Trying:
    """Chains of one linkage on a playground."""

    def __init__(self, net: Playground, samples: Path, linkage: Linkage, folder: Path) -> None:
        self.net, self.samples, self.linkage, self.folder = net, samples, linkage, folder

    def scripted(self, *actions: str, mode: Mode = Mode.NATIVE) -> Chain:
        return scripted_chain(self.samples, [ActionSet.parse(text) for text in actions], self.linkage, mode)

    def change(self, chain: Chain) -> Running:
        return change(self.net, chain)

    def two(self) -> tuple[Running, Chain]:
        running = self.change(self.scripted("P", "P"))
        assert running.chain is not None
        return running, running.chain

    def counted(self) -> list[int]:
        """Packets by slot, with nobody looking; then the chain's own, if counted."""
        running = look_at(self.net)
        with open_counters(running, attach=False) or pytest.fail("nothing counts") as reader:
            sample = reader.read()
        verdict = [] if sample.verdict is None else [sample.verdict.total_packets]
        return [*(sample.slots[slot.key].total_packets for slot in running.chain or ()), *verdict]


def lengths(trying: Trying) -> str:
    for count in range(1, 11):
        running = trying.change(trying.scripted(*["P"] * count))
        got = run_through(running, scripted(bytes([PASS] * count)), arrived=True)
        assert (got.code, got.data[60:]) == (PASS, b"0123456789"[:count])
    return ""


def modes(trying: Trying) -> str:
    for mode in (Mode.GENERIC, Mode.NATIVE):
        trying.change(trying.scripted("P", "PD", mode=mode))
        assert trying.net.send([scripted(bytes((PASS, DROP)))] * 3) == 3
        trying.change(Chain(linkage=trying.linkage))
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
    return "" if trying.counted()[:2] == [3, 3] else "not counted"


def lines(trying: Trying) -> str:
    chain = Chain(linkage=trying.linkage)
    chain = chain.add(Slot.of(load_component(str(trying.samples / "firewall.o"))))
    running = trying.change(chain)
    for packet in builtin(Host.number(1), Host.number(2), ETHERNET):
        run_through(running, packet.data)
    with open_counters(running, attach=False) or pytest.fail("nothing counts") as reader:
        sample = reader.read()
    (sites,), (codes,) = sample.sites.values(), sample.slots.values()
    return "" if sum(packets for packets, _ in sites.values()) == codes.total_packets else "by code"


def outcome(trying: Trying) -> str:
    trying.two()
    return "" if len(trying.counted()) == 3 else "counted while somebody looks"


def counts_go_on(trying: Trying) -> str:
    _, chain = trying.two()
    trying.net.send([scripted(bytes((PASS, PASS)))] * 3)
    running = trying.change(chain.move(1, 0).retune(0, actions=ActionSet.parse("PD")))
    old = (running.chain or chain).slots[0]
    again = keep_maps(load_component(str(trying.samples / "scripted.o"), name=old.name), old.component)
    trying.change((running.chain or chain).substitute(0, again))
    trying.net.send([scripted(bytes((PASS, PASS)))] * 2)
    assert trying.counted()[:2] == [5, 5]
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
    running = trying.change(Chain((Slot.of(component),), trying.linkage))
    assert running.chain is not None
    assert running.chain.slots[0].component.globals == component.globals
    return ""


def kept_maps(trying: Trying) -> str:
    path = str(trying.samples / "counter.o")
    running = trying.change(Chain((Slot.of(load_component(path)),), trying.linkage))
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
        seen: list[Followed] = []
        settled(lambda: bool(seen.extend(follower.poll()) or seen))
    return "" if [one.verdict for one in seen] == [PASS] else "not seen"


def in_place(trying: Trying) -> str:
    running, chain = trying.two()
    after = trying.change(chain.retune(0, actions=ActionSet.parse("PD")))
    return "" if after.hook == running.hook else "another program"


def throws(trying: Trying) -> str:
    path = trying.folder / "throwing.o"
    path.write_bytes(compile_file(EVERYTHING.with_name("throwing.bpf.c"), INCLUDE))
    trying.change(Chain((Slot.of(load_component(str(path), name="throwing")),), trying.linkage))
    return ""


def long_lengths(trying: Trying) -> str:
    for count in (11, 20, 32):
        running = trying.change(trying.scripted(*["P"] * count))
        got = run_through(running, scripted(bytes([PASS] * count)), arrived=True)
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
    "components that call bpf_throw": throws,
}


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


@pytest.mark.parametrize("linkage", LINKAGES)
def test_what_the_table_says_is_so(
    playground: Playground, samples: Path, linkage: Linkage, tmp_path: Path
) -> None:
    column = rows()["what"].index(linkage.value)
    trying, wrong = Trying(playground, samples, linkage, tmp_path), []
    for name, probe in ROWS.items():
        said = rows()[name][column]
        try:
            reason = probe(trying)
        except XdpChainError as error:
            reason = f"{error}"
        change(playground, Chain(linkage=linkage))
        if probe is throws and " T bpf_throw\n" not in Path("/proc/kallsyms").read_text():
            continue
        if (said == "yes") != (reason == "") or said.removeprefix("no: ").removeprefix("yes") not in reason:
            wrong.append(f"{name}: the table says {said!r}, found {reason!r}")
    assert not wrong, "\n".join(wrong)
