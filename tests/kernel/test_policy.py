# SPDX-License-Identifier: Apache-2.0
"""What a slot may not return is counted as returned and answered as the policy says, with real packets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.kernel.chains import LINKAGES, chain_of, change, look_at, run_through, scripted_chain
from xdpchain.change.kernel_warnings import with_kernel_warnings
from xdpchain.change.plan import make_plan
from xdpchain.errors import InvalidInput
from xdpchain.model.actions import Action, ActionSet
from xdpchain.model.chain import Linkage
from xdpchain.model.policy import Answer, Policy
from xdpchain.objects.verdicts import verdicts_of
from xdpchain.observe.counters import open_counters
from xdpchain.observe.violations import open_violations
from xdpchain.testing.frames import scripted
from xdpchain.testing.playground import Playground
from xdpchain.trial.run import run_trial
from xdptui.words.packet_event_documents import packet_events_table
from xdptui.workers.listening import Listening
from xdptui.workers.trial_frames import NAMED_FRAMES

PASS_ON = ActionSet.parse("P")
FIREWALL = ActionSet.parse("PD")
CODES = (0, 1, 2, 3, 4, 5, 31, 32, 200)


@pytest.fixture(params=LINKAGES)
def linkage(request: pytest.FixtureRequest) -> Linkage:
    return Linkage(request.param)


@pytest.mark.parametrize("otherwise", list(Answer))
@pytest.mark.parametrize("routed", [False, True])
def test_a_forbidden_code_is_answered(
    playground: Playground, samples: Path, linkage: Linkage, otherwise: Answer, routed: bool
) -> None:
    chain = scripted_chain(samples, [PASS_ON] * 3, linkage).police(0, Policy(FIREWALL, otherwise))
    if routed:
        chain = chain.route(0, Action.DROP, chain.slots[2].key)
    if routed and linkage is Linkage.FREPLACE:
        with pytest.raises(InvalidInput, match="routes"):
            make_plan(look_at(playground), chain)
        return
    running = change(playground, chain)
    for code in CODES:
        counted = code
        if code not in FIREWALL and otherwise.action is not None:
            counted = otherwise.action
        if counted in (Action.PASS, 31):
            want = (2, "012")
        elif routed and counted == Action.DROP:
            want = (2, "02")
        else:
            want = (counted, "0")
        got = run_through(running, scripted(bytes((code, 2, 2))))
        assert (got.code, got.data[60:].decode()) == want, code


def test_what_is_forbidden_is_counted_as_what_it_was(
    playground: Playground, samples: Path, linkage: Linkage
) -> None:
    chain = scripted_chain(samples, [PASS_ON] * 2, linkage).police(0, Policy(FIREWALL, Answer.DROP))
    running = change(playground, chain)
    assert running.chain is not None
    with open_counters(running) as reader:  # type: ignore[union-attr]
        before = reader.read()
        playground.send([scripted(b"\2\2")] * 4 + [scripted(b"\0\2")] * 3 + [scripted(b"\1\2")] * 2)
        after = reader.read()
    first, second = (after.slots[s.key].since(before.slots[s.key]).packets for s in running.chain)
    assert first == (3, 2, 4, 0, 0, 0)
    assert second == (0, 0, 4, 0, 0, 0)
    assert after.verdict.since(before.verdict).packets == (0, 5, 4, 0, 0, 0)


def test_the_kernel_remembers_policies_and_lifting_them_leaves_no_code(
    playground: Playground, samples: Path, linkage: Linkage
) -> None:
    plain = change(playground, scripted_chain(samples, [PASS_ON] * 2, linkage))
    policy = Policy(FIREWALL, Answer.PASS)
    assert plain.chain is not None
    change(playground, plain.chain.police(1, policy))
    found = look_at(playground).chain
    assert found is not None
    assert [slot.policy for slot in found] == [None, policy]
    lifted = change(playground, found.police(1, None))
    assert lifted.hook is not None
    assert lifted.chain is not None
    assert plain.hook is not None
    before, after = plain.hook.tag, lifted.hook.tag
    if linkage is Linkage.FREPLACE:  # the components have the policies
        before, after = plain.chain.slots[1].component.tag, lifted.chain.slots[1].component.tag
        assert found.slots[1].component.tag != before
        assert found.slots[0].id == plain.chain.slots[0].id == lifted.chain.slots[0].id
    assert after == before, "the same instructions as before"


def test_what_can_not_keep_a_policy_refuses_it(playground: Playground, samples: Path) -> None:
    chain = scripted_chain(samples, [PASS_ON] * 2, Linkage.FREPLACE).police(0, Policy(FIREWALL))
    theirs = replace(chain.slots[0], component=replace(chain.slots[0].component, object=None))
    with pytest.raises(InvalidInput, match="another tool loaded it"):
        make_plan(look_at(playground), replace(chain, slots=(theirs, *chain.slots[1:])))
    uncounted = scripted_chain(samples, [PASS_ON], Linkage.STATIC, counters=False).police(0, Policy(FIREWALL))
    with pytest.raises(InvalidInput, match="counters"):
        make_plan(look_at(playground), uncounted)


def test_the_answer_need_not_be_allowed(playground: Playground, samples: Path, linkage: Linkage) -> None:
    policy = Policy(PASS_ON, Answer.DROP)
    running = change(playground, scripted_chain(samples, [PASS_ON], linkage).police(0, policy))
    assert [run_through(running, scripted(bytes([code]))).code for code in (2, 1, 3, 9)] == [2, 1, 1, 1]
    with pytest.raises(InvalidInput, match="return something"):
        Policy(ActionSet())


def test_a_trial_keeps_the_policy(playground: Playground, samples: Path, linkage: Linkage) -> None:
    chain = scripted_chain(samples, [PASS_ON] * 2, linkage).police(0, Policy(FIREWALL, Answer.PASS))
    (row,) = run_trial(chain, [scripted(b"\3\1")]).rows
    assert row.slots == (Action.TX, Action.DROP)
    assert row.verdict is Action.DROP


def test_each_breach_is_reported_with_the_packets_head(
    playground: Playground, samples: Path, linkage: Linkage
) -> None:
    chain = scripted_chain(samples, [PASS_ON] * 2, linkage).police(0, Policy(FIREWALL, Answer.DROP))
    running = change(playground, chain)
    assert running.chain is not None
    frames = [scripted(bytes((code, 2))) for code in (0, 2, 3, 200)]
    with open_violations(running) as reader:  # type: ignore[union-attr]
        assert reader.read() == []
        playground.send(frames)
        # An edit hands on the ring: earlier reports are not lost, and later ones arrive.
        edited = change(playground, running.chain.retune(1, actions=FIREWALL))
        playground.send([scripted(b"\4\2")])
        found = reader.read()
    assert [violation.code for violation in found] == [Action.ABORTED, Action.TX, 200, Action.REDIRECT]
    assert {(violation.name, violation.ifindex) for violation in found} == {
        ("scripted_0", playground.ifindex)
    }
    assert [violation.head for violation in found[:3]] == [frame + b"0" for frame in (frames[0], *frames[2:])]
    assert all(violation.length == 61 for violation in found)
    assert [violation.at for violation in found] == sorted(violation.at for violation in found)
    assert edited.chain is not None
    assert edited.chain.slots[0].key == found[0].slot


def test_reports_that_nobody_reads_cost_nothing_but_themselves(
    playground: Playground, samples: Path, linkage: Linkage
) -> None:
    chain = scripted_chain(samples, [PASS_ON], linkage).police(0, Policy(FIREWALL, Answer.PASS))
    running = change(playground, chain)
    for _ in range(2000):  # more than the ring has room for
        assert run_through(running, scripted(b"\3")).code == Action.PASS
    with open_violations(running) as reader:  # type: ignore[union-attr]
        assert 400 < len(reader.read()) < 600
        run_through(running, scripted(b"\3"))
        assert len(reader.read()) == 1
    plain = change(playground, chain.police(0, None))
    assert open_violations(plain) is None


def test_breaches_are_told_among_the_events(playground: Playground, samples: Path, linkage: Linkage) -> None:
    chain = scripted_chain(samples, [PASS_ON] * 2, linkage).police(0, Policy(FIREWALL, Answer.DROP))
    running = change(playground, chain)
    with Listening(playground.netns, playground.ifindex) as listening:
        listening.follow([running])
        playground.send([scripted(b"\3\2")] * 2 + [scripted(b"\1\2")])
        found = listening.read()
        assert [(event.interface, event.via, event.name) for event in found.events] == [
            (playground.ifname, "scripted_0", "XDP_TX")
        ] * 2
        assert found.fresh == 2
        assert found.events[0].head == (scripted(b"\3\2") + b"0").hex()
        (line,) = [
            line for line in packet_events_table(found, 120).splitlines() if "forbidden to scripted_0" in line
        ]
        assert "2 × XDP_TX" in line
        # Another chain replaces it: the previous chain's reports are not lost.
        playground.send([scripted(b"\0\2")])
        assert running.chain is not None
        listening.follow([change(playground, running.chain.remove([1]))])
        assert [event.name for event in listening.read().events[2:]] == ["XDP_ABORTED"]


def test_the_plan_names_the_lines_that_return_what_is_forbidden(
    playground: Playground, samples: Path, linkage: Linkage
) -> None:
    chain = chain_of(samples, "firewall", linkage=linkage).police(0, Policy(PASS_ON, Answer.PASS))
    plan = make_plan(look_at(playground), chain)
    drops = {
        site.place
        for site in verdicts_of((samples / "firewall.o").read_bytes(), "xdp_firewall").sites
        if site.code == Action.DROP
    }
    assert drops
    (told,) = [warning.text for warning in plan.warnings if "may not return" in warning.text]
    assert told.startswith("xdp_firewall may not return XDP_DROP, but does at firewall.bpf.c:")
    assert told.endswith("it is reported, and becomes XDP_PASS")
    assert all(place in told for place in drops)
    # Of one that runs the kernel has the object.
    running = change(playground, chain)
    assert running.chain is not None
    again = make_plan(running, running.chain.police(0, Policy(PASS_ON)))
    assert "may not return XDP_DROP" in " ".join(w.text for w in with_kernel_warnings(again).warnings)


def test_a_program_of_its_own_keeps_its_policy_when_it_is_called_and_when_an_action_is_toggled(
    playground: Playground, samples: Path
) -> None:
    """A component that makes tail calls remains a function; changing an action in place changes no
    program.
    """
    chain = chain_of(samples, "tailcalls", "pass", linkage=Linkage.TAILCALL)
    policed = chain.police(0, Policy(PASS_ON, Answer.PASS)).retune(0, actions=PASS_ON)
    running = change(playground, policed)
    assert running.chain is not None
    packets = [frame for _, frame in NAMED_FRAMES]
    plain = change(playground, running.chain.police(0, None))
    codes = {run_through(plain, frame).code for frame in packets}
    assert Action.DROP in codes, "or nothing is forbidden"
    assert {run_through(change(playground, policed), frame).code for frame in packets} == {Action.PASS}
    running = change(playground, scripted_chain(samples, [PASS_ON] * 2, Linkage.TAILCALL))
    assert running.chain is not None
    policed = change(playground, running.chain.police(0, Policy(FIREWALL, Answer.DROP)))
    assert policed.chain is not None
    toggled = change(playground, policed.chain.retune(0, actions=FIREWALL))
    assert toggled.hook == policed.hook
    for code, want in ((2, b"01"), (1, b"01"), (3, b"01"), (0, b"01")):  # DROP, the answer, continues by now
        assert run_through(toggled, scripted(bytes((code, 1)))).data[60:] == want
