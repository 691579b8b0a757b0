# SPDX-License-Identifier: Apache-2.0
"""Labels that operators attach to slots, as ``key=value``, and selectors. Pure.

The character set is small because labels go into metrics, tables and TOML unescaped, and their readers may
not be their authors.
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
"""Most labels per slot."""

_KEY = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?")
_VALUE = re.compile(r"[A-Za-z0-9._/:@+-]{1,63}")


def checked_labels(pairs: Mapping[str, str]) -> Labels:
    """Validate and sort labels. Raises InvalidInput."""
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
    """Parse ``KEY=VALUE`` texts; an empty value removes the label. Raises InvalidInput."""
    labels: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise InvalidInput(f"{text[:70]!r} is not a label", "write KEY=VALUE, such as team=edge")
        if key in labels:
            raise InvalidInput(f"label {key} is given twice")
        labels[key] = value
    checked_labels({key: value or "-" for key, value in labels.items()})
    return labels


def changed_labels(labels: Labels, given: Mapping[str, str]) -> Labels:
    """The labels with these set; empty values remove labels. Raises InvalidInput for too many."""
    after = {**dict(labels), **given}
    return checked_labels({key: value for key, value in after.items() if value})


def labels_change(before: Labels, after: Labels) -> dict[str, str]:
    """The argument of `changed_labels` that turns ``before`` into ``after``."""
    gone = {key: "" for key, _ in before if key not in dict(after)}
    return gone | {key: value for key, value in after if (key, value) not in before}


def has_labels(labels: Labels, wanted: Mapping[str, str]) -> bool:
    """Whether all the ``wanted`` labels are set."""
    return wanted.items() <= dict(labels).items()


def labels_text(labels: Labels) -> str:
    """``team=edge, tier=1``."""
    return ", ".join(f"{key}={value}" for key, value in labels)
