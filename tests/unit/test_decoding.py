# SPDX-License-Identifier: Apache-2.0
"""A single decoder for JSON that others may have written: a value of the right type, or InvalidInput."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from xdpchain.bytecode.linkable_program import LinkableProgram
from xdpchain.change.journal.entries import JournalEntry
from xdpchain.decoding import DEPTH, SIZE, Fields, decode, fields
from xdpchain.errors import InvalidInput
from xdpchain.model.following import Following
from xdpchain.model.manifest import Manifest
from xdpchain.model.pending_change import ConfirmOutcome, PendingChange
from xdpchain.observe.recording.lines import header_in, line_in
from xdpchain.spec.reading import parse

HOSTILE = {
    "nested lists": b"[" * 20_000,
    "nested lists, closed": b"[" * 20_000 + b"]" * 20_000,
    "nested just too deep": b"[" * (DEPTH + 2) + b"]" * (DEPTH + 2),
    "nested objects": b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    "a number of 4000 digits": b'{"format":' + b"9" * 4000 + b"}",
    "a number of 5000 digits": b'{"format":' + b"9" * 5000 + b"}",
    "infinite": b'{"format":1e999}',
    "NaN": b'{"format":NaN}',
    "Infinity": b'{"format":-Infinity}',
    "not UTF-8": b'{"format":"\xff\xfe"}',
    "nothing": b"",
    "zeros": bytes(5000),
    "another type": b"[1,2,3]",
    "a text": b'"text"',
    "too large": b" " * (SIZE + 1),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_it_is_the_answer_is_an_error_of_ours(name: str) -> None:
    data = HOSTILE[name]
    begun = time.monotonic()
    with pytest.raises(InvalidInput):
        fields(data, "the document")
    for read in (Manifest.decode, Following.decode, PendingChange.decode, ConfirmOutcome.decode, line_in):
        with pytest.raises(InvalidInput):
            read(data)
    with pytest.raises(InvalidInput):
        JournalEntry.decode(data, 1)
    with pytest.raises(InvalidInput):
        header_in(data, "FILE")
    head = len(data).to_bytes(4, "little")
    with pytest.raises(InvalidInput):
        LinkableProgram.decode(b"XDPU" + (1).to_bytes(4, "little") + head + bytes(12) + data)
    assert time.monotonic() - begun < 5


def test_depth_is_counted_to_the_last_level() -> None:
    assert decode("[" * DEPTH + "]" * DEPTH, "it") is not None
    with pytest.raises(InvalidInput, match=f"deeper than {DEPTH}"):
        decode("[" * (DEPTH + 2) + "]" * (DEPTH + 2), "it")


@pytest.mark.parametrize(
    ("method", "good", "bad"),
    [
        ("text", "abc", [1, None, True, [], {}, "x" * 5000]),
        ("integer", 7, [-1, 1 << 64, 1.0, True, "7", None, []]),
        ("number", 1.5, [1e16, -1e16, True, "1", None]),
        ("flag", True, [1, 0, "true", None]),
        ("fields", {"a": 1}, [[], 1, "x", None]),
    ],
)
def test_fields_are_of_the_type_that_was_asked_for(method: str, good: Any, bad: list[Any]) -> None:
    getattr(fields(json.dumps({"it": good}), "the document"), method)("it")
    for value in bad:
        with pytest.raises(InvalidInput, match=r"the document.* can't be read"):
            getattr(fields(json.dumps({"it": value}), "the document"), method)("it")
    with pytest.raises(InvalidInput):
        getattr(Fields({}, "the document"), method)("it")


def test_lists_are_bounded() -> None:
    document = Fields({"it": [1, 2, 3]}, "the document")
    assert document.integers("it", most=3) == (1, 2, 3)
    for refused in (
        lambda: document.integers("it", most=2),
        lambda: document.integers("it", most=3, greatest=2),
        lambda: document.texts("it", most=3),
        lambda: document.objects("it", most=3),
    ):
        with pytest.raises(InvalidInput):
            refused()


@pytest.mark.parametrize(
    "text",
    [
        "a" + ".a" * 200_000 + " = 1",
        "[" + "a." * 5_000 + "a]",
        "x = { a" + " . a" * 5_000 + " = 1 }",
        "x = " + "[" * 50_000,
        "x = " + "9" * 5_000,
        "#" * 300_000,
        "a" * 200_000,
        "a " * 100_000,
    ],
    ids=["dotted", "header", "inline", "nested", "digits", "comment", "word", "words"],
)
def test_a_spec_that_is_only_large_is_refused_soon(text: str) -> None:
    begun = time.monotonic()
    with pytest.raises(InvalidInput) as caught:
        parse(text)
    assert time.monotonic() - begun < 5
    assert len(str(caught.value)) < 1000
