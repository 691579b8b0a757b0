# SPDX-License-Identifier: Apache-2.0
"""Specs <-> TOML: whatever is written reads back the same; what is not understood is reported with
its place.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xdpchain.errors import InvalidInput
from xdpchain.model.actions import Action, ActionSet
from xdpchain.model.chain import Linkage
from xdpchain.model.component import MOST_ENTRIES
from xdpchain.model.interface import WantedMode
from xdpchain.model.labels import checked_labels
from xdpchain.model.map_entries import MapEntry
from xdpchain.model.policy import Answer, Policy
from xdpchain.model.runconfig import MAX_PRIORITY
from xdpchain.spec.places import place_of
from xdpchain.spec.reading import parse
from xdpchain.spec.values import InterfaceSpec, SlotSpec, Spec
from xdpchain.spec.writing import dump

texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=12)
names = st.text(st.sampled_from("abcxyz019-._*?[]!äß"), min_size=1, max_size=15)
hashes = st.text(st.sampled_from("0123456789abcdef"), min_size=64, max_size=64)

policies = st.builds(
    lambda mask, answer: Policy(ActionSet(mask | 0b110), answer), st.integers(0, 31), st.sampled_from(Answer)
)

labels = st.text(st.sampled_from("abz019"), min_size=1, max_size=9)
map_keys = st.text(st.sampled_from("abc01./:"), min_size=1, max_size=9)
map_values = st.text(st.sampled_from('ab01"{}[]=,'), min_size=1, max_size=9)
map_entries = st.dictionaries(map_keys, map_values, min_size=1, max_size=2)

loadable = st.builds(
    SlotSpec,
    object=texts,
    sha256=st.none() | hashes,
    program=st.just("") | texts,
    priority=st.none() | st.integers(0, MAX_PRIORITY),
    actions=st.none() | st.builds(ActionSet, st.integers(0, 31)),
    shadow=st.booleans(),
    off=st.booleans(),
    labels=st.dictionaries(labels, labels, max_size=2).map(checked_labels),
    policy=st.none() | policies,
    globals=st.dictionaries(texts, texts | st.integers(0, 10**20).map(str), max_size=3).map(
        lambda values: tuple(sorted(values.items()))
    ),
    map_entries=st.dictionaries(texts, st.integers(1, MOST_ENTRIES), max_size=3).map(
        lambda entries: tuple(sorted(entries.items()))
    ),
    entries=st.dictionaries(texts, map_entries, max_size=1).map(
        lambda maps: tuple(MapEntry(name, key, value) for name in maps for key, value in maps[name].items())
    ),
    pin_path=st.none() | texts,
    instance=st.none() | texts,
)
kept = st.builds(SlotSpec, program=texts, tag=hashes.map(lambda text: text[:16]))


@st.composite
def linked(draw: st.DrawFn, slots: list[SlotSpec]) -> list[SlotSpec]:
    """With names of their own, and routes to them."""
    named = [
        replace(slot, given_name=f"name {i}") if draw(st.booleans()) else slot for i, slot in enumerate(slots)
    ]
    targets = [slot.given_name for slot in named if slot.given_name]
    if not targets:
        return named
    codes = st.dictionaries(st.none() | st.sampled_from(Action), st.sampled_from(targets), max_size=3)
    routed = []
    for slot in named:
        routes = sorted(draw(codes).items(), key=lambda route: 9 if route[0] is None else route[0])
        routed.append(replace(slot, routes=tuple(routes)))
    return routed


interfaces = st.builds(
    InterfaceSpec,
    names=st.lists(names, min_size=1, max_size=3, unique=True).map(tuple),
    slots=st.lists(loadable | kept, max_size=4).flatmap(lambda slots: linked(slots)).map(tuple),
    netns=st.none() | st.sampled_from(("blue", "/proc/7/ns/net", "pid:7")),
    linkage=st.none() | st.sampled_from(Linkage),
    mode=st.none() | st.sampled_from(WantedMode),
    counters=st.booleans(),
    dispatcher_version=st.sampled_from((None, 2, 3)),
)
specs = st.builds(Spec, st.lists(interfaces, max_size=3).map(tuple))


@settings(deadline=None)
@given(specs)
def test_what_is_written_reads_as_the_same(spec: Spec) -> None:
    assert parse(dump(spec)) == spec


@settings(deadline=None)
@given(specs, st.dictionaries(st.integers(0, 2), st.dictionaries(st.integers(0, 3), texts)))
def test_notes_are_only_comments(spec: Spec, notes: dict[int, dict[int, str]]) -> None:
    plain = {
        i: {j: "".join(c for c in t if c.isprintable()) for j, t in of.items()} for i, of in notes.items()
    }
    assert parse(dump(spec, plain)) == spec


EXAMPLE = """\
# mine
format = 1

[[interface]]
name = ["eth0", "lan*"]   # two
mode = "generic"
counters = false

[[interface.slot]]
object = "filter.o"
priority = 5
actions = "PD"

  [[interface.slot]]
  object = "monitor.o"
  actions = []
"""


def test_a_file_of_a_person() -> None:
    slots = (SlotSpec("filter.o", priority=5, actions=ActionSet.parse("PD")), SlotSpec("monitor.o"))
    slots = (slots[0], replace(slots[1], actions=ActionSet()))
    entry = InterfaceSpec(("eth0", "lan*"), slots, mode=WantedMode.GENERIC, counters=False)
    assert parse(EXAMPLE) == Spec((entry,))


ONE = '[[interface]]\nname = "eth0"\n'
SLOT = ONE + '[[interface.slot]]\nobject = "a.o"\n'

REFUSED: dict[str, tuple[str, tuple[int, int] | None, str]] = {
    "a word that is no key": ("frob = 1\n", (1, 1), "unknown key 'frob'"),
    "a slip": (SLOT + "  prority = 1\n", (5, 3), "unknown key 'prority'"),
    "a slip in an inline table": (
        ONE + 'slot = [\n  {object = "a.o", prio = 3},\n]\n', (4, 20), "unknown key 'prio'"),
    "a later format": ("format = 2\n", (1, 1), "format 2"),
    "no name": ("[[interface]]\nslot = []\n", (1, 1), "without a name"),
    "no slots": (ONE, (1, 1), "has no slots"),
    "a table for a list": ('[interface]\nname = "a"\n', (1, 1), "not a list of tables"),
    "slots that are none": (ONE + "slot = 3\n", (3, 1), "not a list of tables"),
    "no object": (ONE + "[[interface.slot]]\npriority = 1\n", (3, 1), "without an object"),
    "a hash alone": (ONE + f'[[interface.slot]]\ntag = "{"a" * 16}"\nprogram = "x"\nsha256 = "{"b" * 64}"\n',
                     (6, 1), "a hash without"),
    "two ways to the program": (SLOT + 'program = "x"\nsection = "xdp"\n', (6, 1), "name the program"),
    "a short hash": (SLOT + 'sha256 = "abc"\n', (5, 1), "sha256"),
    "a priority below zero": (SLOT + "priority = -1\n", (5, 1), "priority = -1"),
    "a priority in quotes": (SLOT + 'priority = "1"\n', (5, 1), "priority"),
    "a yes": (ONE + 'counters = "yes"\nslot = []\n', (3, 1), "counters"),
    "an unknown action": (SLOT + 'actions = ["XDP_MAYBE"]\n', (5, 1), "actions"),
    "actions that are numbers": (SLOT + "actions = [1]\n", (5, 1), "actions"),
    "offload": (ONE + 'mode = "offload"\nslot = []\n', (3, 1), "mode"),
    "magic": (ONE + 'linkage = "magic"\nslot = []\n', (3, 1), "linkage"),
    "the first version": (ONE + "dispatcher_version = 1\nslot = []\n", (3, 1), "dispatcher_version"),
    "an interface twice": ('[[interface]]\nname = ["a", "a"]\nslot = []\n', (2, 1), "name"),
    "a path for a name": ('[[interface]]\nname = "a/b"\nslot = []\n', (2, 1), "name"),
    "a policy without what may be": (SLOT + 'policy = { otherwise = "drop" }\n', (5, 1), "policy"),
    "a policy that allows nothing": (
        SLOT + 'policy = { may = [], otherwise = "drop" }\n', (5, 1), "policy"),
    "a policy's slip": (SLOT + 'policy = { may = ["XDP_PASS"], other = "drop" }\n', (5, 1), "policy"),
    "globals that are a list": (SLOT + "globals = [1]\n", (5, 1), "globals"),
    "a map without entries": (SLOT + "map_entries = { a = 0 }\n", (5, 1), "map_entries"),
    "a fraction": (SLOT + "globals = { a = 1.5 }\n", (5, 1), "globals"),
    "a route of no code": (SLOT + 'routes = { XDP_MAYBE = "x" }\n', (5, 1), "routes"),
    "a code twice": (SLOT + 'routes = { XDP_DROP = "x", DROP = "y" }\n', (5, 1), "routes"),
    "a route to nobody": (SLOT + 'routes = { XDP_DROP = "x" }\n', (5, 1), "no slot is called so"),
    "a route to two": (
        SLOT + 'routes = { XDP_DROP = "x" }\n' + '[[interface.slot]]\nobject = "b.o"\nprogram = "x"\n' * 2,
        (5, 1), "several slots"),
    "a name twice": (
        SLOT + 'name = "x"\n[[interface.slot]]\nobject = "b.o"\nname = "x"\n', (5, 1), "called 'x', too"),
    "33 slots": (ONE + '[[interface.slot]]\nobject = "a.o"\n' * 33, (67, 1), "33 slots"),
    "no end": ('a = "x', (1, 7), "not TOML"),
    "a key twice": ("format = 1\nformat = 1\n", None, "not TOML"),
    "depth": ("a = " + "[" * 100_000, None, "not TOML"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "place", "what"), REFUSED.values(), ids=REFUSED)
def test_refusals_say_where(text: str, place: tuple[int, int] | None, what: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse(text, "x.toml")
    assert what in refused.value.what
    assert refused.value.what.startswith("x.toml")
    if place is not None:
        assert f"line {place[0]}, column {place[1]}:" in refused.value.what


def test_a_slip_is_guessed() -> None:
    with pytest.raises(InvalidInput) as refused:
        parse(SLOT + "prority = 1\n")
    assert refused.value.todo == "Did you mean 'priority'?"


@settings(deadline=None)
@given(st.text(max_size=60) | st.text(st.sampled_from('[]{}"=.\n #a1interfaceslot'), max_size=60))
def test_any_text_is_a_spec_or_an_error(text: str) -> None:
    with contextlib.suppress(InvalidInput):
        assert isinstance(parse(text), Spec)


@settings(deadline=None, max_examples=50)  # tomlkit takes its time
@given(specs)
def test_every_key_has_its_place(spec: Spec) -> None:
    text = dump(spec)
    lines = text.split("\n")
    for i, entry in enumerate(spec.interfaces):
        line, column = place_of(text, ("interface", i, "name")) or (0, 0)
        assert lines[line - 1][column - 1 :].startswith("name = ")
        for j in range(len(entry.slots)):
            line, column = place_of(text, ("interface", i, "slot", j)) or (0, 0)
            assert lines[line - 1][column - 1 :].startswith("[[interface.slot]]")


def test_nothing_has_a_place_in_no_toml() -> None:
    assert place_of("= =", ("a",)) is None
    assert place_of("a = 1", ("b",)) is None
