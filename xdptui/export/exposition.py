# SPDX-License-Identifier: Apache-2.0
"""The text that Prometheus reads: its own format or OpenMetrics, as the scraper asks."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable
from typing import Any, Final

from prometheus_client.exposition import choose_encoder, gzip_accepted

from xdptui.export.metrics import Family, Metric

__all__ = ["Exposition", "make_app"]

_Lines = dict[str, dict[tuple[tuple[str, ...], ...], str]]
"""What to fill the numbers into, by the metric's name, then the labels' values."""
_COMPRESSION: Final = 1
"""The highest level makes it half as long and takes five times as long."""

_SPECIAL: Final = {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}


class Exposition:
    """Writes families. The text of a row but for its numbers is made once, and kept while each text has that
    row: it is most of it. Safe for concurrent scrapes.
    """

    def __init__(self) -> None:
        self._lines: _Lines = {}

    def text(self, families: Iterable[Family], *, openmetrics: bool = False) -> str:
        before = self._lines
        kept: _Lines = {}
        parts: list[str] = []
        for metric, rows in families:
            name = metric.exported
            head = metric.name if openmetrics else name
            parts.append(f"# HELP {head} {metric.help}\n# TYPE {head} {metric.kind}\n")
            known, own = before.get(name, {}), kept.setdefault(name, {})
            whole = metric.whole
            for _, series, numbers in rows:
                own[series] = lines = known.get(series) or _lines(metric, series)
                parts.append(lines % tuple(numbers if whole else map(_amount, numbers)))
        self._lines = kept
        return "".join(parts) + "# EOF\n" * openmetrics


def make_app(collect: Callable[[], Iterable[Family]]) -> Callable[..., Iterable[bytes]]:
    """A WSGI application that answers each GET, whatever its path, with what is collected then."""
    exposition = Exposition()

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] != "GET":
            start_response("405 Method Not Allowed", [("Allow", "GET")])
            return [b""]
        if environ["PATH_INFO"] == "/favicon.ico":
            start_response("404 Not Found", [])
            return [b""]
        _, kind = choose_encoder(environ.get("HTTP_ACCEPT", ""))
        body = exposition.text(collect(), openmetrics="openmetrics" in kind).encode()
        headers = [("Content-Type", kind)]
        if gzip_accepted(environ.get("HTTP_ACCEPT_ENCODING", "")):
            body = gzip.compress(body, _COMPRESSION)
            headers.append(("Content-Encoding", "gzip"))
        start_response("200 OK", headers)
        return [body]

    return app


def _lines(metric: Metric, series: Iterable[tuple[str, ...]]) -> str:
    named = (f"{metric.exported}{_shown(metric.labels, values)}" for values in series)
    number = "%d.0" if metric.whole else "%s"
    return "".join(f"{one.replace('%', '%%')} {number}\n" for one in named)


def _shown(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    pairs = sorted(zip(names, values, strict=True))
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs) + "}" if pairs else ""


def _amount(number: float) -> str:
    shown = repr(float(number))
    return _SPECIAL.get(shown, shown)


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
