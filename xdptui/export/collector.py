# SPDX-License-Identifier: Apache-2.0
"""What Prometheus asks for, read from the kernel when it asks."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from xdpchain.errors import XdpChainError
from xdpchain.model.counts import Sample
from xdpchain.model.running import Running
from xdpchain.observe.discover import survey
from xdptui.export.metrics import METRICS, SECONDS, UP, Metric, Value, values
from xdptui.words.advice import told
from xdptui.workers.meter import Meter, open_missing
from xdptui.workers.readings import counts_already

__all__ = ["ChainCollector"]

Family = CounterMetricFamily | GaugeMetricFamily


class ChainCollector(Collector):
    """Reads each interface once a scrape; counters stay open between scrapes. Safe for several at once.

    ``interfaces``: only these (empty: all); ``trace``: also count, from outside, what has no counters of its
    own, for as long as this lives.
    """

    def __init__(
        self, netns: str | None = None, interfaces: Collection[str] = (), *, trace: bool = False
    ) -> None:
        self._netns, self._interfaces, self._trace = netns, frozenset(interfaces), trace
        self._meter = Meter()
        self._lock = threading.Lock()
        self.trouble = ""
        """Why the kernel could not be read the last time; empty if it could."""

    def collect(self) -> Iterator[Family]:
        began = time.monotonic()
        found: list[Value] = []
        with self._lock:
            try:
                found += values(self._read())
                self.trouble = ""
            except (XdpChainError, OSError) as error:
                found.clear()
                self.trouble = told(error)
            found.append(Value(UP, (), float(not self.trouble)))
        found.append(Value(SECONDS, (), time.monotonic() - began))
        families = {metric: _family(metric) for metric in METRICS}
        for one in found:
            families[one.metric].add_metric(one.labels, one.value)
        yield from families.values()

    def close(self) -> None:
        with self._lock:
            self._meter.close()

    def _read(self) -> list[tuple[Running, Sample | None]]:
        runnings = survey(self._netns)
        if self._interfaces:
            runnings = tuple(one for one in runnings if one.interface.name in self._interfaces)
        counting = [one for one in runnings if self._trace or counts_already(one)]
        self._meter.sync(counting, open_missing(counting, self._meter.known, attach=self._trace))
        read: list[tuple[Running, Sample | None]] = []
        for running in runnings:
            index = running.interface.ifindex
            read.append((running, self._meter.sample(index) if self._meter.read(index) else None))
        return read


def _family(metric: Metric) -> Family:
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    return kind(metric.name, metric.help, labels=metric.labels)
