# SPDX-License-Identifier: Apache-2.0
"""docs/glossary.md: one meaning per word; the help and the key table use these words."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from xdptui.commands.arguments import command_parser
from xdptui.view.keys import KEYS

GLOSSARY = Path(__file__).parents[2] / "docs" / "glossary.md"


@dataclass(frozen=True)
class Term:
    """``used_by``: the options, commands and keys whose help uses the word."""

    word: str
    meaning: str
    instead_of: tuple[str, ...]
    used_by: tuple[str, ...]


def read() -> list[Term]:
    found = []
    for line in GLOSSARY.read_text().splitlines():
        if line.startswith("- "):
            match = re.fullmatch(r"- \*\*(.+?)\*\*: (.+?)\.(?: \*not\* (.+?)\.)?((?: `[^`]+`)*)", line)
            assert match, line
            others = tuple(word.strip() for word in (match[3] or "").split(",") if word)
            found.append(Term(match[1], match[2], others, tuple(re.findall("`(.+?)`", match[4]))))
    return found


TERMS = read()


def helps() -> dict[str, list[str]]:
    """Option, command or key -> its help texts, wherever it exists."""
    said: dict[str, list[str]] = {}

    def collect(parser: argparse.ArgumentParser) -> None:
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for choice in action._choices_actions:
                    said.setdefault(choice.dest, []).append(f"{choice.dest} {choice.help}")
                for below in dict.fromkeys(action.choices.values()):
                    collect(below)
            for option in action.option_strings:
                words = f"{' '.join(action.option_strings)} {action.help} {action.choices or ''}"
                said.setdefault(option, []).append(words)

    collect(command_parser())
    for key in KEYS:
        for label in key.label.split():
            said.setdefault(label, []).append(key.text)
    return said


HELPS = helps()


def test_each_word_once_in_order() -> None:
    words = [term.word for term in TERMS]
    assert words == sorted(set(words), key=str.lower)
    assert len(words) > 40


def test_no_word_is_what_another_is_not() -> None:
    words = {term.word for term in TERMS}
    assert not words & {other for term in TERMS for other in term.instead_of}


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term.word)
def test_the_help_uses_the_word(term: Term) -> None:
    for name in term.used_by:
        assert name in HELPS, f"there is no option, command or key {name}"
        for text in HELPS[name]:
            for part in term.word.split():
                assert re.search(rf"\b{part[:-1]}", text, re.IGNORECASE), f"{name}: {text}"


@pytest.mark.parametrize("term", [term for term in TERMS if term.instead_of], ids=lambda term: term.word)
def test_the_help_uses_no_other_word_for_it(term: Term) -> None:
    for name, texts in HELPS.items():
        for text in texts:
            for other in term.instead_of:
                assert not re.search(rf"\b{other}\b", text, re.IGNORECASE), (
                    f"{name} says {other!r}, and means {term.word!r}: {text}"
                )
