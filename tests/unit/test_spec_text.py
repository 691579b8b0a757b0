# SPDX-License-Identifier: Apache-2.0
"""What `apply` and `plan FILE` say about many interfaces, without a kernel."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.test_render import DEVICE, FREE, chain, ours
from xdpchain.change.plan import make_plan
from xdpchain.errors import NotFound, XdpChainError
from xdpchain.model.interface import Interface
from xdpchain.model.running import Running
from xdptui.commands.spec_report import Result, SpecState, report_document
from xdptui.commands.spec_text import reports, summary


def on(running: Running, name: str, netns: str | None = None) -> Running:
    return replace(running, device=replace(DEVICE, interface=Interface(name, 2, netns)))


def planned(name: str, netns: str | None = None, *, slots: int = 2) -> Result:
    made = chain()
    plan = make_plan(on(FREE, name, netns), replace(made, slots=made.slots[:slots]))
    return Result(name, netns, SpecState.WOULD_CHANGE, plan=plan)


def changed(name: str, dispatcher: int) -> Result:
    now = on(ours(chain()), name)
    assert now.dispatcher is not None
    now = replace(now, dispatcher=replace(now.dispatcher, id=dispatcher))
    return replace(planned(name), state=SpecState.CHANGED, now=now)


def test_what_is_alike_is_said_once() -> None:
    results = [planned(f"eth{number}") for number in range(6)]
    (report,) = reports(results, dry=True)
    assert report.text.startswith("eth0, eth1, eth2 and 3 more (6 interfaces): static linkage, native mode")
    assert "\n  3. attach it to each (native mode), only if the hook is still free" in report.text
    (whole,) = reports(results, dry=True, whole=True)
    assert whole.text.startswith("eth0, eth1, eth2, eth3, eth4, eth5 (6 interfaces): ")


def test_one_interface_is_said_as_ever() -> None:
    (report,) = reports([planned("eth0")], dry=True)
    assert report.text.startswith("eth0: static linkage, native mode")
    assert "attach it to eth0 (native mode)" in report.text


def test_what_differs_is_said_apart_in_the_order_of_the_spec() -> None:
    results = [planned("eth0", slots=1), planned("eth1"), planned("eth2", slots=1)]
    texts = [report.text for report in reports(results, dry=True)]
    assert [text.partition(": ")[0] for text in texts] == ["eth0, eth2 (2 interfaces)", "eth1"]


def test_ids_do_not_part_what_is_alike() -> None:
    (report,) = reports([changed("eth0", 40), changed("eth1", 51)], dry=False)
    assert report.text.startswith("eth0, eth1 (2 interfaces):\n  ")
    assert "each: 2 slots run behind its dispatcher (" in report.text
    (report,) = reports([changed("eth0", 40)], dry=False)
    assert "eth0: 2 slots run behind dispatcher 40 (" in report.text


def test_namespaces_are_named() -> None:
    (report,) = reports([planned("eth0", "web"), planned("eth1", "web")], dry=False)
    assert report.text == "eth0, eth1 (2 interfaces, netns web): not reached, so not changed"
    (report,) = reports([planned("eth0", "web"), planned("eth0", "db"), planned("eth0")], dry=False)
    assert report.text.startswith("eth0 (netns web), eth0 (netns db), eth0 (3 interfaces): ")


def test_a_name_within_a_word_is_no_name() -> None:
    # `e` is in every word of the text, `slots` in some: only whole words are taken for the interface.
    (report,) = reports([planned("e"), planned("native")], dry=False)
    assert report.text == "e, native (2 interfaces): not reached, so not changed"


def failed(name: str, netns: str | None, error: XdpChainError) -> Result:
    return Result(name, netns, SpecState.FAILED, error=error)


def test_warnings_come_once_and_only_of_what_is_reached() -> None:
    results = [planned("eth0"), planned("eth1")]
    mistakes = results[0].mistakes(dry=True)
    assert mistakes
    (report,) = reports(results, dry=True)
    assert report.warnings == tuple(f"eth0, eth1 (2 interfaces): {mistake}" for mistake in mistakes)
    (report,) = reports(results, dry=False)
    assert report.warnings == ()
    document = report_document("spec.toml", results, dry=False)
    assert [entry["warnings"] for entry in document["interfaces"]] == [[], []]


def test_failures_that_differ_only_in_names_come_once() -> None:
    gone = [failed(f"eth{i}", None, NotFound(f"there is no interface eth{i}")) for i in range(2, 8)]
    results = [planned("eth0"), *gone, failed("eth1", None, NotFound("there is no interface eth1", "why"))]
    told = list(reports(results, dry=False))
    assert [str(report.error) for report in told[1:]] == [
        "there is no interface eth2, eth3, eth4 and 3 more (6 interfaces)",
        "there is no interface eth1: why",
    ]
    assert isinstance(told[1].error, NotFound)
    assert summary(results, dry=False) == "8 interfaces: 1 not reached, 7 failed"
    (whole,) = reports(gone, dry=False, whole=True)
    assert "eth5, eth6, eth7 (6 interfaces)" in str(whole.error)


def test_failures_in_namespaces_come_once() -> None:
    todo = "Look with `xdptui status lo`"
    some = [failed("lo", netns, XdpChainError("no program fits lo", todo=todo)) for netns in ("web", "db")]
    (report,) = reports(some, dry=False)
    assert report.error is not None
    assert report.error.what == "no program fits lo (netns web), lo (netns db) (2 interfaces)"
    assert report.error.todo == "Look with `xdptui status each`"
    nowhere = [failed(name, "web", NotFound("No namespace 'web'")) for name in ("eth0", "x*")]
    (report,) = reports(nowhere, dry=False)
    assert str(report.error) == "eth0, x* (2 interfaces, netns web): No namespace 'web'"
    nowhere = [failed("eth0", netns, NotFound(f"No namespace '{netns}'")) for netns in ("web", "db")]
    (report,) = reports(nowhere, dry=False)
    assert str(report.error) == "eth0 (netns web), eth0 (netns db) (2 interfaces): No namespace 'each'"


def test_an_error_names_its_interface_and_namespace() -> None:
    def what(name: str, netns: str | None, text: str) -> str:
        return failed(name, netns, NotFound(text)).named_error.what

    assert what("lo", "web", "no program on lo") == "no program on lo (netns web)"
    assert what("lo", "web", "no program on lo (netns web)") == "no program on lo (netns web)"
    assert what("hv1", "web", "hv10 uses it") == "hv1 (netns web): hv10 uses it"
    assert what("hv1", None, "hv10 uses it") == "hv1: hv10 uses it"
    assert what("hv1", None, "hv1 uses it") == "hv1 uses it"
    named = failed("lo", "web", NotFound("no program on lo"))
    assert isinstance(named.named_error, NotFound), "its kind is kept"
    (told,) = report_document("spec.toml", [named], dry=False)["interfaces"]
    assert told["error"]["what"] == "no program on lo (netns web)"


def test_what_went_wrong_on_one_is_said_of_that_one() -> None:
    results = [planned("eth0"), replace(planned("eth1"), troubles=("eth1: its journal is full",))]
    told = list(reports(results, dry=False))
    assert len(told) == 2
    assert told[1].warnings[-1] == "eth1: its journal is full"
