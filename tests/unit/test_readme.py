# SPDX-License-Identifier: Apache-2.0
"""docs/keys.md names the keys that exist, the README pictures that exist."""

from __future__ import annotations

import re
from pathlib import Path

from xdptui.view.keys import KEYS, text_in, works

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
KEYS_PAGE = (ROOT / "docs" / "keys.md").read_text()


def test_every_key_is_in_the_table_with_the_modes_in_which_it_works() -> None:
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.*?) \| (.*?) \|$", KEYS_PAGE, re.MULTILINE)
    wanted = []
    for key in KEYS:
        read_only = works(key, read_only=True, replaying=False)
        replay = text_in(key, replaying=True) if works(key, read_only=True, replaying=True) else ""
        wanted.append((key.label, key.text, "yes" * read_only, replay if replay != key.text else "yes"))
    assert [row for row in rows if row[0] != "key"] == wanted


def test_links_and_pictures_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
