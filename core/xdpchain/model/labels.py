# SPDX-License-Identifier: Apache-2.0
"""Labels of slots: what operators call them, as ``key=value``; and selectors. Pure.

Who reads them may not have written them, so the letters are few: they go into metrics, tables and TOML as
they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from xdpchain.errors import InvalidInput

__all__ = [
    "MOST",
    "Labels",
    "changed_labels",
    "checked_labels",
    "has_labels",
    "labels_change",
    "labels_text",
    "parse_labels",
]

Labels = tuple[tuple[str, str], ...]
"""Sorted by key, each key once."""

MOST = 16
"""Labels of a slot."""

_KEY = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?")
_VALUE = re.compile(r"[A-Za-z0-9._/:@+-]{1,63}")


def checked_labels(pairs: Mapping[str, str]) -> Labels:
    """Raises InvalidInput for what can't be labels."""
    for key, value in pairs.items():
        if not _KEY.fullmatch(key):
            raise InvalidInput(
                f"{key[:70]!r} is not a valid label key",
                "a key has up to 63 letters, digits and . _ / -, and begins and ends with a letter or digit",
            )
        if not _VALUE.fullmatch(value):
            raise InvalidInput(
                f"{value[:70]!r} is not a valid value for label {key}",
                "a value has 1 to 63 letters, digits and . _ / : @ + -",
            )
    if len(pairs) > MOST:
        raise InvalidInput(f"a slot can't have {len(pairs)} labels", f"the maximum is {MOST}")
    return tuple(sorted(pairs.items()))


def parse_labels(texts: Iterable[str]) -> dict[str, str]:
    """``KEY=VALUE`` each; the value is empty where a label is to go. Raises InvalidInput."""
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise InvalidInput(f"{text[:70]!r} is not a label", "write KEY=VALUE, such as team=edge")
        if key in found:
            raise InvalidInput(f"label {key} is given twice")
        found[key] = value
    checked_labels({key: value or "-" for key, value in found.items()})
    return found


def changed_labels(labels: Labels, given: Mapping[str, str]) -> Labels:
    """With these set, and those gone whose value is empty. Raises InvalidInput for too many."""
    after = {**dict(labels), **given}
    return checked_labels({key: value for key, value in after.items() if value})


def labels_change(before: Labels, after: Labels) -> dict[str, str]:
    """What makes ``after`` of ``before`` when it is given to `changed_labels`."""
    gone = {key: "" for key, _ in before if key not in dict(after)}
    return gone | {key: value for key, value in after if (key, value) not in before}


def has_labels(labels: Labels, wanted: Mapping[str, str]) -> bool:
    """Whether all that are ``wanted`` are there."""
    return wanted.items() <= dict(labels).items()


def labels_text(labels: Labels) -> str:
    """``team=edge, tier=1``."""
    return ", ".join(f"{key}={value}" for key, value in labels)
