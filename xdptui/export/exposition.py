# SPDX-License-Identifier: Apache-2.0
"""The text that Prometheus reads: its own format or OpenMetrics, as the scraper asks."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable
from typing import Any, Final

from prometheus_client.exposition import choose_encoder, gzip_accepted

from xdptui.export.metrics import Family

__all__ = ["Exposition", "make_app"]

Labels = dict[tuple[str, ...], dict[tuple[str, ...], str]]
_COMPRESSION: Final = 1
"""The highest level makes it half as long and takes five times as long."""

_SPECIAL: Final = {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}


class Exposition:
    """Writes families. The labels of a series are written once, and kept while each text has that series:
    they are most of it.
    """

    def __init__(self) -> None:
        self._labels: Labels = {}
        """By the labels' names and their values."""

    def text(self, families: Iterable[Family], *, openmetrics: bool = False) -> str:
        known = self._labels
        kept: Labels = {}
        parts: list[str] = []
        for metric, samples in families:
            name = metric.exported
            head = metric.name if openmetrics else name
            parts.append(f"# HELP {head} {metric.help}\n# TYPE {head} {metric.kind}\n")
            before, labels = known.get(metric.labels, {}), kept.setdefault(metric.labels, {})
            for _, values, number in samples:
                if (shown := labels.get(values)) is None:
                    shown = labels[values] = before.get(values) or _shown(metric.labels, values)
                amount = f"{number}.0" if type(number) is int else _amount(number)
                parts.append(f"{name}{shown} {amount}\n")
        self._labels = kept
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


def _shown(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    pairs = sorted(zip(names, values, strict=True))
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs) + "}" if pairs else ""


def _amount(number: float) -> str:
    shown = repr(float(number))
    return _SPECIAL.get(shown, shown)


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
