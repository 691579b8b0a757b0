# SPDX-License-Identifier: Apache-2.0
"""Numbers as text of limited width, so that columns never shift. Pure."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["UNKNOWN", "bar", "percent", "share", "short", "sparkline"]

UNKNOWN = "-"
"""Shown for an unknown number; a zero would be a claim."""

_SUFFIXES = "kMGTPE"
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_LEVELS = " ▁▂▃▄▅▆▇█"


def short(value: float | None) -> str:
    """``value`` in at most five characters: ``0``, ``<1``, ``999``, ``1.23k``, ``12.3M``, ``123G`` (powers of
    1000).
    """
    if value is None:
        return UNKNOWN
    if value <= 0:
        return "0"
    if value < 0.5:
        return "<1"
    if value < 999.5:
        return f"{value:.0f}"
    for suffix in _SUFFIXES:
        value /= 1000
        if value < 9.995:
            return f"{value:.2f}{suffix}"
        if value < 99.95:
            return f"{value:.1f}{suffix}"
        if value < 999.5:
            return f"{value:.0f}{suffix}"
    return "huge"


def percent(part: float, whole: float) -> str:
    """The share in at most four characters; 0 % and 100 % only if it is exactly that."""
    if whole <= 0:
        return UNKNOWN
    share = max(0.0, min(1.0, part / whole)) * 100
    if 0 < share < 1:
        return "<1%"
    if 99 < share < 100:
        return ">99%" if share > 99.5 else "99%"
    return f"{share:.0f}%"


def share(part: float, whole: float) -> str:
    """A share in percent, with two significant digits: ``0.31 %``, ``7.5 %``, ``42 %``. 0 % and 100 % only if
    it is exactly that.
    """
    if whole <= 0:
        return "-"
    percent = 100 * part / whole
    if part and percent < 0.01:
        return "<0.01 %"
    if part < whole and percent > 99.99:
        return ">99.99 %"
    digits = 2 if percent < 1 or percent > 99 else 1 if percent < 10 else 0
    text = f"{percent:.{digits}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} %"


def sparkline(values: Sequence[float], width: int) -> str:
    """The newest ``width`` values, newest on the right, scaled to the largest shown; zero is blank."""
    shown = list(values)[-width:] if width > 0 else []
    top = max(shown, default=0.0)
    marks = [_LEVELS[0] if v <= 0 else _LEVELS[max(1, round(v / top * 8))] for v in shown]
    return "".join(marks).rjust(width)


def bar(part: float, whole: float, width: int) -> str:
    """A bar of ``width`` cells, filled by the share of ``part``, in eighths of a cell; never empty if part >
    0.
    """
    if whole <= 0 or part <= 0 or width <= 0:
        return " " * max(0, width)
    eighths = max(1, round(min(1.0, part / whole) * width * 8))
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(width)
