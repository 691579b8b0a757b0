# SPDX-License-Identifier: Apache-2.0
"""Damaged documents through every decoder: a value or InvalidInput, in bounded time. 20,000 in every run,
more than a million with XDPTUI_SOAK=1; XDPTUI_SEED repeats a run.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.stress.scale import scaled
from tests.unit.test_recording import running
from xdpchain.bytecode.linkable_program import LinkableProgram
from xdpchain.bytecode.sites import SourceLine, VerdictSite
from xdpchain.change.journal.entries import EntryKind, JournalEntry
from xdpchain.change.moment import Moment
from xdpchain.decoding import fields
from xdpchain.errors import InvalidInput
from xdpchain.model.component import GlobalValue
from xdpchain.model.following import Following
from xdpchain.model.interface import Mode
from xdpchain.model.manifest import Author, Manifest
from xdpchain.model.pending_change import ConfirmOutcome, Outcome, PendingChange, Pins
from xdpchain.observe.recording.lines import (
    Happened,
    Header,
    RecordedReading,
    Revision,
    happened_out,
    header_in,
    header_out,
    line_in,
    reading_out,
    revision_out,
)
from xdpchain.observe.site_shares import SlotReasons
from xdpchain.spec.reading import parse

AUTHOR = Author("root", 7, "xdptui load eth0 a.o", 1.5e9)
SLOWEST_S = 5.0
"""The limit for one input, on a busy machine."""

Decoder = Callable[[bytes], object]


def corpus() -> dict[str, tuple[Decoder, list[bytes]]]:
    state = running()
    chain = state.chain
    assert chain is not None
    slot = chain.slots[0]
    value = GlobalValue("limit", ".data", 4, b"\1\2", "513")
    rich = replace(
        chain, slots=(replace(slot, component=replace(slot.component, globals=(value,))), *chain.slots[1:])
    )
    pending = PendingChange(
        "eth0", 3, 4026531840, Mode.NATIVE, 5, 6, 100.5, 60.0, AUTHOR, 77, 88, Pins(True, (1, 2)), Pins()
    )
    moment = Moment(5, "boot", chain)
    entry = JournalEntry(EntryKind.CHANGE, AUTHOR, Moment(None, "boot"), moment, ("load a",), 60.0, moment)
    unit = LinkableProgram(bytes(16), ((0, 1),), b"\x9f\xeb", ((1, "map"),), True, (8, 16), 10, 20)
    site = VerdictSite(1, "f", SourceLine("a.c", 1, "x"), None, 2)
    reasons = SlotReasons(0, "k", "n", (site,))
    spec = (
        b'format = 1\n[[interface]]\nname = "eth0"\n[[interface.slot]]\nobject = "a.o"\nactions = ["pass"]\n'
    )
    return {
        "manifest": (Manifest.decode, [Manifest(rich, AUTHOR, 4, 3, (1, 2)).encode()]),
        "following": (Following.decode, [Following(AUTHOR, "tcp port 80", 9).encode()]),
        "pending change": (PendingChange.decode, [pending.encode()]),
        "outcome": (ConfirmOutcome.decode, [ConfirmOutcome(Outcome.GONE, 1.0, 2, 3, None, AUTHOR).encode()]),
        "journal entry": (lambda data: JournalEntry.decode(data, 1), [entry.encode()]),
        "linkable form": (LinkableProgram.decode, [unit.encode()]),
        "recording": (
            line_in,
            [
                revision_out(Revision(1.0, 2.0, (state,), {1: (reasons,)})),
                reading_out(RecordedReading(1.0, 2.0)),
                happened_out(Happened(1.0, 2.0, {"a": [1]})),
            ],
        ),
        "recording's header": (lambda data: header_in(data, "FILE"), [header_out(Header("ab", 0, 1.0, 1.0))]),
        "spec": (lambda data: parse(data.decode(errors="replace")), [spec]),
        "any": (lambda data: fields(data, "it"), [b'{"a":[1,2,{"b":null}],"c":1.5e3}']),
    }


STRANGE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1 << 31, 1 << 32, 1 << 64, 10**30, 1.5, -0.0, 1e308, "", "x", "\0", "\x1b[2J",
    "é" * 300, [], {}, [[]], [None], {"": {}}, ["x"] * 50, [0] * 5000,
)  # fmt: skip
PIECES = (
    b"[" * 200,
    b'{"a":' * 100,
    b"9" * 400,
    b"1e999",
    b"NaN",
    b"null",
    b'"',
    b"\\",
    b"\xff",
    b"\0" * 64,
    b",",
    b"]}",
)


def with_another_value(random_: random.Random, document: Any) -> Any:
    """With a part replaced, missing, or duplicated."""
    if isinstance(document, dict) and document:
        key = random_.choice(list(document))
        action = random_.random()
        if action < 0.15:
            return {name: value for name, value in document.items() if name != key}
        if action < 0.5:
            return {**document, key: random_.choice(STRANGE)}
        return {**document, key: with_another_value(random_, document[key])}
    if isinstance(document, list) and document:
        place = random_.randrange(len(document))
        changed = with_another_value(random_, document[place])
        return [*document[:place], changed, *document[place + random_.randrange(2) :]]
    return random_.choice(STRANGE)


def damaged(random_: random.Random, data: bytes) -> bytes:
    raw = bytearray(data)
    for _ in range(random_.randint(1, 4)):
        place = random_.randrange(len(raw) + 1)
        match random_.randrange(5):
            case 0 if raw:
                raw[place % len(raw)] ^= 1 << random_.randrange(8)
            case 1:
                del raw[place : place + random_.randint(1, 40)]
            case 2:
                raw[place:place] = random_.choice(PIECES)
            case 3:
                raw[place:place] = raw[place : place + random_.randint(1, 40)]
            case _:
                raw[place:place] = random_.randbytes(random_.randint(1, 8))
    return bytes(raw)


@pytest.mark.timeout(7200)
def test_a_value_or_an_error_of_ours() -> None:
    seed = int(os.environ.get("XDPTUI_SEED", 0)) or random.SystemRandom().randrange(1 << 32)
    random_ = random.Random(seed)
    known = corpus()
    for decode, sound in known.values():
        for data in sound:
            decode(data)  # undamaged, it is readable
    names, refused, longest, count = list(known), 0, 0, scaled(20_000, 1_200_000, 5_000)
    for index in range(count):
        name = random_.choice(names)
        decode, sound = known[name]
        data = random_.choice(sound)
        if data.lstrip()[:1] == b"{" and random_.random() < 0.6:
            document = with_another_value(random_, json.loads(data))
            data = json.dumps(document).encode(errors="replace")
        else:
            data = damaged(random_, data)
        begun = time.monotonic()
        try:
            decode(data)
        except InvalidInput as error:
            refused += 1
            longest = max(longest, len(error.why))
        except BaseException as error:
            raise AssertionError(f"seed {seed}, input {index}, {name}: {data[:300]!r}") from error
        assert time.monotonic() - begun < SLOWEST_S, (seed, index, name)
    assert longest < 2000
    assert count // 3 < refused < count  # some damage is harmless, most is not
