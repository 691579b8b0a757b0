# SPDX-License-Identifier: Apache-2.0
"""Terminals without UTF-8 get substitutes of the same width; wide characters keep columns aligned."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from xdptui.charset import ascii_only, wants_ascii
from xdptui.view.cells import clip, left, right, size_of


@given(st.text(st.characters(exclude_categories=("Cc", "Cs", "Mn", "Me", "Cf"))))
def test_stand_ins_are_as_wide_as_what_they_stand_for(text: str) -> None:
    shown = ascii_only(text)
    assert shown.isascii()
    assert len(shown) == cell_len(text)


def test_every_sign_of_the_program_has_a_stand_in() -> None:
    for path in (Path(__file__).parents[2] / "xdptui").rglob("*.py"):
        unknown = {c for c in path.read_text() if not c.isascii() and "?" in ascii_only(c)}
        assert not unknown, path


def test_signs_of_the_screen_have_stand_ins() -> None:
    assert ascii_only("▶ 0 → █▄ ≠ ↕ ≡ … ╭─╮│") == "> 0 > #= # | = . +-+|"


@pytest.mark.parametrize(
    ("environ", "ascii"),
    [
        ({"LANG": "en_GB.UTF-8"}, False),
        ({"LANG": "C.utf8"}, False),
        ({"LANG": "C"}, True),
        ({}, True),
        ({"LANG": "de_DE@euro"}, True),
        ({"LC_ALL": "POSIX", "LANG": "C.UTF-8"}, True),
        ({"LC_CTYPE": "en_US.UTF-8"}, False),
        ({"LC_CTYPE": "C.UTF-8", "LANG": "C"}, True),  # set by Python itself
        ({"LC_CTYPE": "C.UTF-8", "LANG": "en_US.UTF-8"}, False),
    ],
)
def test_the_locale_says_what_the_terminal_shows(environ: dict[str, str], ascii: bool) -> None:
    assert wants_ascii(environ) is ascii


@given(st.text(), st.integers(1, 30))
def test_cells_are_exactly_as_wide_as_asked_for(text: str, width: int) -> None:
    assert size_of(clip(text, width)) <= width
    assert size_of(left(text, width).text) == width
    assert size_of(right(text, width).text) == width


def test_wide_names_keep_their_columns() -> None:
    assert left("网卡0", 8).text == "网卡0   "
    assert size_of(left("网卡网卡网卡", 7).text) == 7
