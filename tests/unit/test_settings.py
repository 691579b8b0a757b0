# SPDX-License-Identifier: Apache-2.0
"""The settings file: what can't be used is reported, and writing keeps comments and order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from xdptui.settings import CHOICES, Settings, load_settings, save_settings, settings_path
from xdptui.view.session import Order, Shown

WRITTEN = """\
# mine
theme = "light"  # at noon
confirm_seconds = 90

refresh_seconds = 2.5
hidden_panes = ["waterfall"]
"""


def test_no_file_is_the_defaults(tmp_path: Path) -> None:
    assert load_settings(tmp_path / "config.toml") == (Settings(), ())
    assert load_settings(None) == (Settings(), ())


def test_where_it_is() -> None:
    assert settings_path({"XDG_CONFIG_HOME": "/c", "HOME": "/h"}) == Path("/c/xdptui/config.toml")
    assert settings_path({"HOME": "/h"}) == Path("/h/.config/xdptui/config.toml")
    assert settings_path({}) is None


def test_it_is_read_and_written_back_with_its_comments(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(WRITTEN)
    found, trouble = load_settings(path)
    assert not trouble
    assert found == Settings(
        theme="light", confirm_seconds=90, refresh_seconds=2.5, hidden_panes=("waterfall",)
    )
    after = replace(found, theme="dark", sort="traffic", hidden_panes=())
    save_settings(path, found, after)
    text = path.read_text()
    assert text.startswith("# mine\n")
    assert '"dark"  # at noon' in text
    assert load_settings(path) == (after, ())
    assert [entry.name for entry in tmp_path.iterdir()] == ["config.toml"], "nothing is left beside it"


def test_a_new_file_has_what_differs_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "config.toml"
    save_settings(path, Settings(), Settings(numbers="bytes"))
    assert 'numbers = "bytes"' in path.read_text()
    assert "theme" not in path.read_text()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('theme = "pink"', "theme is 'pink', and must be one of auto, dark, light, 16"),
        ("confirm_seconds = -1", "must be a number from 0 to 86400"),
        ("refresh_seconds = true", "must be a number from 0.2 to 60"),
        ("mouse = 1", "must be true or false"),
        ('hidden_panes = ["chain"]', "must be a list of interfaces, waterfall, inspector"),
        ("colour = 1", "there is no setting 'colour'"),
    ],
)
def test_what_can_not_be_used_is_said_and_the_rest_holds(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f'{line}\nnumbers = "B/s"\n')
    found, trouble = load_settings(path)
    assert found == Settings(numbers="B/s")
    assert said in trouble[0]


@pytest.mark.parametrize("text", ["theme = ", "\x00", "[a]\n[a]"])
def test_a_file_that_can_not_be_read_is_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    found, trouble = load_settings(path)
    assert found == Settings()
    assert "can't be read" in trouble[0]
    save_settings(path, Settings(), Settings(theme="dark"))
    assert path.read_text() == text


def test_words_are_those_of_the_screen() -> None:
    assert CHOICES["numbers"] == tuple(shown.value for shown in Shown)
    assert CHOICES["sort"] == tuple(order.value for order in Order)
